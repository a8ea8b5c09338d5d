"""PadChest's terms, and what they say of CheXpert's findings.

The terms are those of its label trees (Bustos et al. 2020), in small letters. A finding is present where one of its own
terms is named, unknown where only one near it is, else absent.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, NO_ABNORMALITY, PRESENT, abnormalities

NORMAL, NOTHING_NEW, POOR = "normal", "unchanged", "suboptimal study"
EXCLUDE = "exclude"

ATELECTASES = {
    *("atelectasis", "laminar atelectasis", "lobar atelectasis", "segmental atelectasis", "total atelectasis"),
    *("round atelectasis", "atelectasis basal"),
}
MASSES = {"nodule", "multiple nodules", "pulmonary mass", "lung metastasis", "lepidic adenocarcinoma"}
TUBES = {
    *("nsg tube", "endotracheal tube", "tracheostomy tube", "chest drain tube", "ventriculoperitoneal drain tube"),
    *("gastrostomy tube", "nephrostomy tube", "double j stent", "catheter", "central venous catheter"),
    *("central venous catheter via jugular vein", "central venous catheter via subclavian vein"),
    *("central venous catheter via umbilical vein", "reservoir central venous catheter"),
}
ELECTRICAL = {"electrical device", "pacemaker", "dai", "dual chamber device", "single chamber device"}
VALVES = {"artificial heart valve", "artificial mitral heart valve", "artificial aortic heart valve"}

OWN: dict[str, set[str]] = {
    "Enlarged Cardiomediastinum": {"mediastinal enlargement", "superior mediastinal enlargement"},
    "Cardiomegaly": {"cardiomegaly"},
    "Lung Opacity": {
        *("infiltrates", "increased density", "consolidation", "air bronchogram", "alveolar pattern"),
        *("ground glass pattern", "interstitial pattern", "reticular interstitial pattern"),
        *("reticulonodular interstitial pattern", "miliary opacities"),
    },
    "Lung Lesion": MASSES,
    "Edema": {"pulmonary edema"},
    "Consolidation": {"consolidation"},
    "Pneumonia": {"pneumonia", "atypical pneumonia"},
    "Atelectasis": ATELECTASES,
    "Pneumothorax": {"pneumothorax", "hydropneumothorax"},
    "Pleural Effusion": {
        *("pleural effusion", "loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax"),
    },
    "Pleural Other": {
        *("pleural thickening", "apical pleural thickening", "calcified pleural thickening", "pleural plaques"),
        *("calcified pleural plaques", "pleural mass", "fissure thickening", "major fissure thickening"),
        *("minor fissure thickening",),
    },
    "Fracture": {
        *("fracture", "rib fracture", "callus rib fracture", "clavicle fracture", "humeral fracture"),
        *("vertebral fracture",),
    },
    "Support Devices": TUBES | ELECTRICAL | VALVES,
}
"""Finding -> terms of which one is enough."""

NEAR: dict[str, set[str]] = {
    "Enlarged Cardiomediastinum": {"mediastinal mass", "mediastinic lipomatosis", "aortic aneurysm"},
    "Cardiomegaly": {"pericardial effusion", "heart insufficiency"},
    "Lung Opacity": {"pneumonia", "atypical pneumonia", "pulmonary edema", "cavitation"} | ATELECTASES | MASSES,
    "Lung Lesion": {"mass", "granuloma", "calcified granuloma", "cavitation", "cyst", "abscess", "miliary opacities"},
    "Edema": {
        *("kerley lines", "heart insufficiency", "vascular redistribution", "central vascular redistribution"),
        *("hilar congestion", "pulmonary venous hypertension"),
    },
    "Consolidation": {"air bronchogram", "alveolar pattern"},
    "Atelectasis": {"volume loss", "hypoexpansion", "hypoexpansion basal"},
    "Pleural Effusion": {"costophrenic angle blunting", "empyema"},
    "Pleural Other": {"costophrenic angle blunting", "empyema", "asbestosis signs"},
    "Fracture": {"vertebral compression", "vertebral anterior compression"},
    "Support Devices": {
        *("metal", "sternotomy", "suture material", "osteosynthesis material", "prosthesis", "endoprosthesis"),
        *("aortic endoprosthesis", "humeral prosthesis", "abnormal foreign body", "external foreign body", "surgery"),
        *("surgery heart", "surgery lung"),
    },
}
"""Finding -> terms by which it may be there."""

OTHERS = {
    *("adenopathy", "air fluid level", "air trapping", "aortic atheromatosis", "aortic button enlargement"),
    *("aortic elongation", "ascendent aortic elongation", "axial hyperostosis", "azygoesophageal recess shift"),
    *("azygos lobe", "blastic bone lesion", "bone cement", "bone metastasis", "breast mass", "bronchiectasis"),
    *("bronchovascular markings", "bullas", "calcified adenopathy", "calcified densities", "calcified fibroadenoma"),
    *("calcified mediastinal adenopathy", "cervical rib", "chilaiditi sign", "chronic changes", "copd signs"),
    *("costochondral junction hypertrophy", "descendent aortic elongation", "dextrocardia"),
    *("diaphragmatic eventration", "emphysema", "end on vessel", "esophagic dilatation", "fibrotic band"),
    *("flattened diaphragm", "goiter", "gynecomastia", "heart valve calcified", "hemidiaphragm elevation"),
    *("hemothorax", "hiatal hernia", "hilar enlargement", "hyperinflated lung", "kyphosis", "lipomatosis"),
    *("lung vascular paucity", "lymphangitis carcinomatosa", "lytic bone lesion", "mammary prosthesis", "mastectomy"),
    *("mediastinal shift", "nipple shadow", "non axial articular degenerative changes", "obesity", "osteopenia"),
    *("osteoporosis", "pectum carinatum", "pectum excavatum", "pneumomediastinum", "pneumoperitoneo"),
    *("post radiotherapy changes", "pseudonodule", "pulmonary artery enlargement", "pulmonary artery hypertension"),
    *("pulmonary fibrosis", "pulmonary hypertension", "respiratory distress", "right sided aortic arch"),
    *("sclerotic bone lesion", "scoliosis", "soft tissue mass", "sternoclavicular junction hypertrophy"),
    *("subacromial space narrowing", "subcutaneous emphysema", "supra aortic elongation", "surgery breast"),
    *("surgery humeral", "surgery neck", "thoracic cage deformation", "tracheal shift", "tuberculosis"),
    *("tuberculosis sequelae", "vascular hilar enlargement", "vertebral degenerative changes"),
}
"""The other terms of the label trees, which say nothing of CheXpert's findings."""
KNOWN = {NORMAL, NOTHING_NEW, POOR, EXCLUDE}.union(OTHERS, *OWN.values(), *NEAR.values())
"""All terms. A report none of whose terms is among them, as in a table that was translated, says nothing."""


def labels_of_terms(terms: Collection[str]) -> NDArray[np.float32]:
    """What the terms of a report say of the 14, float32 [14]: 1, 0, or NaN where they say nothing."""
    named = set(terms)
    unsaid = np.nan if not named & KNOWN or named & {NOTHING_NEW, POOR} else ABSENT
    labels = {
        finding: PRESENT if named & own else np.nan if named & NEAR.get(finding, set()) else unsaid
        for finding, own in OWN.items()
    }
    values = [labels.get(finding, np.nan) for finding in CHEXPERT_FINDINGS]
    number = CHEXPERT_FINDINGS.index(NO_ABNORMALITY[0])
    if any(values[k] == PRESENT for k in abnormalities(CHEXPERT_FINDINGS)):
        values[number] = ABSENT
    elif NORMAL in named and named <= {NORMAL} | OWN["Support Devices"]:
        values[number] = PRESENT
    return np.array(values, np.float32)
