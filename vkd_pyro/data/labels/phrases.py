"""What radiologists name: the phrases of the labeller, in small letters, without hyphens.

After Irvin et al. 2019. What denies and hedges them is in `cues`. A finding is here because the text says it by name;
scars, granulomas, blunted angles, surgical clips and deformed vertebrae are no finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from vkd_pyro.data.labels.findings import ABSENT, PRESENT, UNCERTAIN


def _each(*slots: str) -> list[str]:
    """Takes one alternative of each slot in every way: _each("no", "|new", "change") -> no change, no new change."""
    return [" ".join(" ".join(words).split()) for words in product(*(slot.split("|") for slot in slots))]


FINDINGS: dict[str, list[str]] = {
    "Enlarged Cardiomediastinum": [
        *_each("mediastinal|cardiomediastinal", "widening|enlargement|prominence|fullness"),
        *_each("paratracheal", "widening|prominence|fullness"),
        "enlarged cardiomediastinum",
    ],
    "Cardiomegaly": [
        *_each("cardiomegaly|large heart"),
        *_each("cardiac|heart|ventricular|biventricular|chamber|cardiac silhouette", "enlargement"),
    ],
    "Lung Opacity": [
        *_each("|nodular|masslike|mass like", "opacity|opacities|density|densities"),
        *_each("opacification|opacifications|opacified|infiltrate|infiltrates|infiltration|infiltrative"),
        *_each("airspace|air space|alveolar|parenchymal|interstitial lung", "disease|process|processes|changes"),
        *_each("interstitial", "marking|markings|pattern|prominence|thickening|disease|process|changes"),
        *_each("interstitial", "abnormality|infiltrates"),
        *_each("reticular|reticulonodular|reticular nodular", "markings|pattern|changes|opacity|opacities"),
        *_each("reticulation|ground glass|groundglass|haziness"),
        *_each("peribronchial|bronchial wall", "thickening|cuffing"),
    ],
    "Lung Lesion": [
        *_each("nodular|masslike|mass like", "opacity|opacities|density|densities"),
        *_each("nodule|nodules|nodularity|mass|masses|lump"),
        *_each("|lung|pulmonary|parenchymal|cavitary|focal", "lesion|lesions"),
        *_each("cavity|cavities|cavitation|cavitations|neoplasm|neoplasms|tumor|tumors|malignancy|malignancies"),
        *_each("carcinoma|metastasis|metastases|metastatic disease|lung cancer|neoplastic process"),
    ],
    "Edema": [
        *_each("edema|oedema|cephalization|kerley b lines|kerley lines|perihilar haze|congestive changes"),
        *_each("|pulmonary|central|vascular|pulmonary vascular|venous|pulmonary venous|central vascular", "congestion"),
        *_each("|pulmonary", "vascular|venous", "engorgement|prominence|redistribution|indistinctness"),
        *_each("fluid|volume", "overload"),
        *_each("pulmonary", "venous hypertension"),
        *_each("chf|heart failure|congestive failure|cardiac failure|cardiac decompensation|early failure"),
    ],
    "Consolidation": _each("consolidation|consolidations|consolidative|consolidated"),
    "Pneumonia": [
        *_each("pneumonia|pneumonias|pneumonic|pneumonitis|bronchopneumonia|infection|infections"),
        *_each("infectious", "|process|processes|etiology|consolidation|infiltrate"),
    ],
    "Atelectasis": _each("atelectasis|atelectases|atelectatic|collapse|collapsed"),
    "Pneumothorax": [
        *_each("pneumothorax|pneumothoraces|pneumothoraxes|hydropneumothorax|hemopneumothorax|ptx"),
        *_each("pleural air", "|collection"),
    ],
    "Pleural Effusion": [
        *_each("|pleural|parapneumonic", "effusion|effusions"),
        *_each("pleural|fissural|loculated|layering", "fluid|fluid collection"),
        *_each("pleural and pericardial", "effusion|effusions"),
        *_each("fluid", "in|within|along", "the", "|minor|major|right|left", "fissure|fissures"),
        *_each("hydrothorax|hemothorax|empyema|hydropneumothorax|hemopneumothorax"),
    ],
    "Pleural Other": [
        *_each("pleural", "thick|thickened"),
        *_each("pleural|pleuroparenchymal", "thickening|plaque|plaques|calcification|calcifications|fibrosis"),
        *_each("pleural|pleuroparenchymal|pleural parenchymal|pleuro parenchymal", "scar|scars|scarring"),
        *_each("thickening of the pleura|fibrothorax|apical cap|apical capping|pleural capping|fissural thickening"),
    ],
    "Fracture": _each("fracture|fractures|fractured|broken rib|broken ribs"),
    "Support Devices": [
        *_each("|pulmonary artery|swan ganz|central venous|dialysis|pigtail|pleural|central", "catheter|catheters"),
        *_each("|et|endotracheal|chest|thoracostomy|tracheostomy|ng|og|nasogastric|orogastric|enteric", "tube|tubes"),
        *_each("|feeding|drainage|dobbhoff|gastrostomy", "tube|tubes"),
        *_each("central|venous|central venous|picc|port|ij|jugular|subclavian|femoral|hemodialysis", "line|lines"),
        *_each("dialysis|arterial|intravenous|iv|support|monitoring|vascular", "line|lines"),
        *_each("lines", "and|or", "tubes"),
        *_each("picc|piccs|ett|ng|ngt|dobbhoff|swan ganz|tracheostomy|port|ivc filter"),
        *_each("mediport|port a cath|port a catheter|portacath|medport|chest port"),
        *_each("pacemaker|pacemakers|pacer|icd|aicd|defibrillator|generator|stimulator|neurostimulator"),
        *_each("loop recorder|lvad|rvad|bivad|iabp|ecmo|impella|tandemheart|tavr|tavi|mitraclip|watchman|micra|pleurx"),
        *_each("ventricular assist device|assist device|introducer|cordis|hickman|broviac|groshong|quinton|permacath"),
        *_each("dobhoff|keofeed|corpak|blakemore|ekos|vp shunt|nerve stimulator|intubated|intubation"),
        *_each("ng|og|et", "tubes"),
        *_each("line", "tip|tips|placement|insertion"),
        *_each("right|left", "ij", "|catheter|line|sheath|central line|venous catheter"),
        *_each("temperature", "probe|probes"),
        *_each("|pacemaker|pacer|pacing|icd|aicd|dual|single", "lead|leads"),
        *_each("pacing", "wire|wires|device"),
        *_each("balloon pump|shunt|shunts|tubing|coil|coils|device|devices|drain|drains"),
        *_each("cannula|sheath|stent|stents|electrode|electrodes"),
        *_each("hardware|prosthesis|arthroplasty|arthroplasties|plate|screw|screws|fixation|rods|endograft"),
        *_each("valve", "replacement|prosthesis|repair"),
        *_each("prosthetic|mechanical|artificial|replaced", "|heart|aortic|mitral|pulmonic|tricuspid", "valve|valves"),
    ],
}
"""Finding -> its names. A name that stands under two findings says both."""

HEART_FAILURE: frozenset[str] = frozenset(_each("chf|heart failure|congestive failure|cardiac failure"))
"""Said of the heart, these leave open whether it is enlarged."""

LOOKALIKES: list[str] = [
    *_each("|pacer|pacemaker|pacing|icd", "lead", "fracture|fractures"),
    *_each("wire|wires|catheter|hardware|screw|rod|rods|device|sternal wire|line|stent", "fracture|fractures"),
    *_each("fractured|fracture of the", "lead|leads|wire|wires|catheter|screw|rod|rods|hardware|sternal wire"),
    *_each("fractured|broken", "|median", "sternotomy|sternal", "wire|wires"),
    *_each("left to right|right to left", "shunt|shunts"),
    *_each("kink or fracture|kinking or fracture|fracture or kink|fracture or kinking"),
    *_each("pericardial|joint", "effusion|effusions"),
    *_each("subcutaneous|soft tissue|chest wall", "edema"),
    *_each("|rounded", "calcific|calcified", "density|densities"),
    *_each("bone|bony|osseous|bone mineral|metallic|breast", "density|densities"),
    *_each("soft tissue|radiopaque|sclerotic|fat", "density|densities"),
    *_each("thoracic|pleural|oral", "cavity"),
    *_each("breast|chest wall", "carcinoma|mass"),
    *_each("bone|bony|osseous|lytic|sclerotic", "nodule|nodules|mass|masses|lesion|lesions"),
    *_each("breast|skin|soft tissue|thyroid", "nodule|nodules|mass|masses|lesion|lesions"),
    *_each("body|muscle", "mass"),
    *_each("vertebral|vertebral body|compression|tracheal|airway", "collapse"),
    *_each("collapse of the", "|t1|t2|t3|t4|t5|t6|t7|t8|t9|t10|t11|t12|l1|l2", "vertebra|vertebral|vertebral body"),
    *_each("end", "plate|plates"),
    *_each("|old|prior|previous|remote", "granulomatous", "infection|infections|disease|process"),
    *_each(
        "old|prior|previous|remote", "|tb|tuberculous|histoplasmosis|fungal", "infection|infectious process|pneumonia"
    ),
    *_each("scar|scars|scarring|fibrosis|aspiration"),
    *_each("lung|pulmonary", "volume|volumes|base|bases|apex|apices|markings|parenchyma"),
    *_each("heart|cardiac", "border|borders|apex|valve|surgery|catheterization|monitor"),
    *_each("retrocardiac", "space|region|area"),
    *_each("retrosternal", "|clear", "space"),
    *_each("adrenal|renal|hepatic|liver|splenic", "nodule|nodules|mass|masses|lesion|lesions"),
    *_each("mediastinal shift|mass effect|plate like|lead to|leads to|not clear|not normal"),
]
"""Names that contain a finding's or an organ's and mean something else."""


ARTEFACTS: list[str] = [
    *_each("skin", "fold|folds"),
    *_each("artifact|artifacts|artefact|artefacts|artifactual|artefactual|projectional"),
    *_each("nipple", "|shadow|shadows|marker"),
    *_each("summation|composite|overlapping|overlying|superimposed", "shadow|shadows"),
    *_each("summation"),
    *_each("overlapping|overlying|superimposed|superimposition of", "rib|ribs|structures|tissue|tissues|vessels|bones"),
    *_each("overlapping|overlying|superimposed", "soft tissue|soft tissues|breast tissue|vascular structures|clothing"),
    *_each("summation of shadows|costal cartilage|ekg lead|ecg lead|companion shadow|vessel on end"),
]
"""What is taken for a finding."""


NO_NAMES: list[str] = _each("clear", "of|from")
"""Words that name nothing, though a part of them would."""


@dataclass(frozen=True)
class Organ:
    """An organ that is named whether or not anything is wrong with it: what is said of it decides.

    Args:
        findings: what its being abnormal says.
        names: the organ.
        said: what is said of it -> PRESENT, ABSENT or UNCERTAIN.
    """

    findings: tuple[str, ...]
    names: list[str]
    said: dict[str, float]


def _said(normal: list[str], abnormal: Sequence[str] = (), borderline: Sequence[str] = ()) -> dict[str, float]:
    values = ((normal, ABSENT), (abnormal, PRESENT), (borderline, UNCERTAIN))
    return {phrase: value for phrases, value in values for phrase in phrases}


_NORMAL = [
    *_each("normal|normally|unremarkable|within normal limits|within normal range|normal limits|normal in size"),
    *_each("|upper", "limits|limit", "of", "normal"),
    *_each("top normal|upper normal|high normal|upper limits normal"),
]
_LARGE = [
    *_each("|mildly|moderately|severely|markedly|massively|slightly|significantly", "enlarged"),
    *_each("mildly|moderately|markedly|slightly", "prominent|large|increased"),
    *_each("enlargement of|prominent|prominence of|increased in size"),
    *_each("is|are|appears|remains", "large"),
]
_BORDERLINE = [
    *_each(
        "normal|limits of normal|upper limits normal|upper normal|upper limits of normal|upper limit of normal|"
        "limits normal|top normal",
        "to|or",
        "mildly|slightly|minimally|borderline",
        "enlarged",
    ),
    *_each("borderline", "|enlarged|in size|enlargement|prominent|large|size"),
]
_CONGESTED = _each("engorged|engorgement of|congested|indistinct|indistinctness of")
_WIDE = _each("widened|widening of|wide|fullness of")

ORGANS: dict[str, Organ] = {
    "heart": Organ(
        findings=("Cardiomegaly",),
        names=[
            *_each("heart|cardiac", "|size|silhouette|shadow|contour|contours"),
            *_each("size of the heart|heart and cardiac silhouette"),
        ],
        said=_said(_NORMAL, _LARGE, _BORDERLINE),
    ),
    "mediastinum": Organ(
        findings=("Enlarged Cardiomediastinum",),
        names=[
            *_each("|superior|upper", "mediastinum|mediastinal"),
            *_each("|superior|upper", "mediastinal", "silhouette|contour|contours|structures|size|width"),
            "paratracheal stripe",
        ],
        said=_said(_NORMAL, _LARGE + _WIDE, _BORDERLINE),
    ),
    "heart and mediastinum": Organ(
        findings=("Enlarged Cardiomediastinum", "Cardiomegaly"),
        names=[
            *_each("cardiomediastinal|cardio mediastinal", "|silhouette|contour|contours|size|structures|shadow"),
            "cardiomediastinum",
        ],
        said=_said(_NORMAL, _LARGE + _WIDE, _BORDERLINE),
    ),
    "lungs": Organ(
        findings=("Lung Opacity",),
        names=_each("|both|right|left", "lung|lungs|lung fields|lung zones"),
        said=_said(_each("clear")),
    ),
    "pulmonary vessels": Organ(
        findings=("Edema",),
        names=[
            *_each("|pulmonary|central|central pulmonary|lung", "vasculature|vascularity|vessels|vascular markings"),
            *_each("pulmonary vascular", "|pattern|caliber"),
        ],
        said=_said(_NORMAL, [*_CONGESTED, *_each("|mildly", "prominent|increased"), "prominence of"]),
    ),
    "pleura": Organ(
        findings=("Pleural Effusion",),
        names=_each("|lateral|posterior", "costophrenic", "angle|angles|sulci|sulcus|recesses")
        + _each("pleural", "space|spaces|surfaces|surface")
        + _each("pleura|pleurae|cp angle|cp angles|cp sulci"),
        said=_said(_each("clear|sharp|normal|unremarkable")),
    ),
    "bones": Organ(
        findings=("Fracture",),
        names=_each("bones") + _each("bony|osseous|skeletal", "structures|thorax|structure|elements"),
        said=_said(_each("intact")),
    ),
}

FURTHER_ORGANS: list[str] = _each(
    "aorta|aortic|thoracic aorta|hilum|hila|hilar|spine|diaphragm|hemidiaphragm|arteries|trachea"
)
"""Organs that no finding belongs to: what is said after them is said of them."""


def every_phrase() -> list[str]:
    """All of the above."""
    named = [name for names in FINDINGS.values() for name in names]
    organs = [phrase for organ in ORGANS.values() for phrase in (*organ.names, *organ.said)]
    return [*named, *organs, *LOOKALIKES, *ARTEFACTS, *FURTHER_ORGANS]
