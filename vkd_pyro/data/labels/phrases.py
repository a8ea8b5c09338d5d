"""What radiologists write: the phrases of the labeller, in small letters, without hyphens.

After Irvin et al. 2019: findings and what names them, words that deny and words that hedge. A finding is here because
the text says it by name; scars, granulomas, blunted angles, surgical clips and deformed vertebrae are no finding.
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
        *_each("hydrothorax|hemothorax|empyema|hydropneumothorax|hemopneumothorax"),
    ],
    "Pleural Other": [
        *_each("pleural|pleuroparenchymal", "thickening|plaque|plaques|calcification|calcifications|fibrosis"),
        *_each("pleural|pleuroparenchymal|pleural parenchymal|pleuro parenchymal", "scar|scars|scarring"),
        *_each("thickening of the pleura|fibrothorax|apical cap|apical capping|pleural capping|fissural thickening"),
    ],
    "Fracture": _each("fracture|fractures|fractured"),
    "Support Devices": [
        *_each("|pulmonary artery|swan ganz|central venous|dialysis|pigtail|pleural|central", "catheter|catheters"),
        *_each("|et|endotracheal|chest|thoracostomy|tracheostomy|ng|og|nasogastric|orogastric|enteric", "tube|tubes"),
        *_each("|feeding|drainage|dobbhoff|gastrostomy", "tube|tubes"),
        *_each("central|venous|central venous|picc|port|ij|jugular|subclavian|femoral|hemodialysis", "line|lines"),
        *_each("dialysis|arterial|intravenous|iv|support|monitoring|vascular", "line|lines"),
        *_each("lines", "and|or", "tubes"),
        *_each("picc|piccs|ett|ng|ngt|dobbhoff|swan ganz|tracheostomy|port|ivc filter"),
        *_each("mediport|port a cath|portacath|medport|chest port"),
        *_each("pacemaker|pacemakers|pacer|icd|aicd|defibrillator|generator|stimulator|neurostimulator"),
        *_each("loop recorder|lvad|iabp"),
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
    *_each("pericardial|joint", "effusion|effusions"),
    *_each("subcutaneous|soft tissue|chest wall", "edema"),
    *_each("|rounded", "calcific|calcified", "density|densities"),
    *_each("bone|bony|osseous|bone mineral|metallic|nipple|breast", "density|densities"),
    *_each("soft tissue|radiopaque|sclerotic|fat", "density|densities"),
    *_each("thoracic|pleural|oral", "cavity"),
    *_each("breast|chest wall", "carcinoma|mass"),
    *_each("bone|bony|osseous|lytic|sclerotic", "nodule|nodules|mass|masses|lesion|lesions"),
    *_each("breast|skin|soft tissue|thyroid|nipple", "nodule|nodules|mass|masses|lesion|lesions"),
    *_each("body|muscle", "mass"),
    *_each("vertebral|vertebral body|compression|tracheal|airway", "collapse"),
    *_each("collapse of the", "|t1|t2|t3|t4|t5|t6|t7|t8|t9|t10|t11|t12|l1|l2", "vertebra|vertebral|vertebral body"),
    *_each("end", "plate|plates"),
    *_each("|old|prior|previous|remote", "granulomatous", "infection|infections|disease|process"),
    *_each("old|prior|previous|remote", "infection|infectious process|pneumonia"),
    *_each("scar|scars|scarring|fibrosis|aspiration"),
    *_each("lung|pulmonary", "volume|volumes|base|bases|apex|apices|markings|parenchyma"),
    *_each("heart|cardiac", "border|borders|apex|valve|surgery|catheterization|monitor"),
    *_each("retrocardiac", "space|region|area"),
    *_each("mediastinal shift|mass effect|plate like|lead to|leads to|not clear|not normal"),
]
"""Names that contain a finding's or an organ's and mean something else."""


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
    *_each("mildly|moderately|markedly|slightly", "prominent|large"),
    *_each("enlargement of|prominent|prominence of|increased in size"),
    *_each("is|are|appears|remains", "large"),
]
_BORDERLINE = [
    *_each(
        "normal|limits of normal|limits normal|top normal", "to|or", "mildly|slightly|minimally|borderline", "enlarged"
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
        + _each("pleural", "space|spaces"),
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

_CHANGE = "change|changes|increase|decrease|improvement|worsening|progression|difference"
_DEGREE = "|significant|interval|significant interval|definite|appreciable|substantial|relevant|further|other|acute"
_EXCLUDED = "exclude|excluded|be excluded|rule out|ruled out|be ruled out"
_CLEARLY = "|entirely|completely|definitely|definitively|reliably"

_PSEUDO = [
    *_each("no|without", _DEGREE + "|new|evident|large|apparent", _CHANGE),
    *_each(
        "not", "|significantly|appreciably|substantially|yet", "changed|increased|decreased|improved|resolved|worsened"
    ),
    *_each("not", "only|necessarily|certain|well|fully|optimally|completely|entirely|adequately|included|longer"),
    *_each("not", _CLEARLY, _EXCLUDED),
    *_each("not", "seen|present|identified|visualized|noted", "on|in", "|the", "prior|previous"),
    *_each("compatible|consistent"),  # with which no new clause begins
    *_each("no longer|may not|might not|with or without|with and without"),
    *_each(
        "nearly|almost|partially|incompletely|almost completely|near completely|nearly completely", "resolved|cleared"
    ),
    *_each("near|nearly|partial|near complete|nearly complete|incomplete|almost complete", "resolution of"),
    *_each("cannot|can not|could not", _CLEARLY, _EXCLUDED),
]
_NEW_CLAUSE = [
    *_each(
        "other than|but|although|though|however|except|nevertheless|yet|which|otherwise|;|aside from|apart from|with"
    ),
    *_each("|and|,", "there", "is|are|has been|have been"),
    *_each(",|and|, and", "stable|unchanged|mild|small|moderate|persistent|improved|the|a|an|also|again"),
    *_each("after|following|status post|s p|despite|since|heart size is|heart is"),
]
_DOUBT = "possible|possibly|probable|probably|likely|suspected|questionable|perhaps|may|could|might"

DENIED: dict[str, list[str]] = {
    "preceding_negations": [
        *_each("resolved", "interstitial|pulmonary|right|left|bilateral|pleural|edema|pneumonia|effusion|effusions"),
        *_each("no|not|without|nor|neither|never|isn't|aren't|wasn't|doesn't|denies|excludes|ruled out"),
        *_each("negative for|free of|clear of|absence of|lack of|devoid of|rather than|instead of"),
        *_each("|complete", "resolution of"),
    ],
    "following_negations": [
        *_each(
            "not|no longer", "|definitely|clearly", "seen|identified|evident|present|demonstrated|visualized|visible"
        ),
        *_each(
            "is|are", "no longer", "|definitely|clearly", "seen|identified|evident|present|visualized|visible|apparent"
        ),
        *_each("not", "appreciated|detected|apparent|observed|noted|found|confirmed|suspected"),
        "within limits of normal",
        *_each("absent|unlikely|excluded|ruled out|resolved|has cleared|have cleared|is excluded"),
    ],
    "pseudo_negations": _PSEUDO,
    "termination": [*_NEW_CLAUSE, *_each(_DOUBT + "|secondary to|due to")],
}
"""negspacy's four lists for what is not there."""

HEDGED: dict[str, list[str]] = {
    "preceding_negations": [
        *_each(_DOUBT + "|potential|potentially|presumed|presumably|apparent|?|suspect|suspects|borderline|uncertain"),
        *_each("suspicious|suspicion|concern|concerning|worrisome|evaluate|assess|worry", "for|of"),
        *_each("suggest|suggests|suggesting|suggestive of|suggestion of|suspicion for|questioned|equivocal"),
        *_each("cannot|can not|could not|not|difficult to|to", _CLEARLY, "exclude|rule out"),
        *_each(
            "less likely|history of|if any|favor|favors|favored|favoring|consider|considered|differential|thought to"
        ),
        *_each("possibility|evaluation", "of|for"),
        *_each("question|correlate|symptoms of|considerations|in question"),
        *_each("in the", "appropriate|right|proper|correct", "clinical", "setting|context|situation"),
    ],
    "following_negations": [
        *_each("cannot|can not|could not|not|cannot be|can not be|could not be|not be", _CLEARLY, "excluded|ruled out"),
        *_each("is|are|remains|remain", "possible|probable|suspected|questioned|likely present|less likely|uncertain"),
        *_each("possible|probable|likely|suspected", "."),
        *_each("difficult|hard|impossible", "to exclude"),
        *_each("may|could|might|should", "|also", "be", "present|considered|excluded"),
        *_each("in the", "appropriate|right|proper|correct", "clinical", "setting|context|situation"),
        *_each("may not be", "seen|visible|visualized|demonstrated|apparent|evident"),
        *_each("a|another", "consideration"),
        *_each("in the differential|if any|less likely|in question|?"),
    ],
    "pseudo_negations": _each("not likely|compatible|consistent"),
    "termination": [*_NEW_CLAUSE, *_each("no|without|rather than|instead of|, and")],
}
"""The same for what is not sure."""

_FINDING_NOT_DEVICE = "pneumothorax|effusion|effusions|consolidation|pneumonia|complication|complications|infiltrate"
REMOVED: dict[str, list[str]] = {
    "preceding_negations": _each("no|without|removal of|removed|absence of|discontinuation of"),
    "following_negations": _each("removed|removal|discontinued|no longer|is no longer|are no longer|absent|pulled"),
    "pseudo_negations": _PSEUDO,
    "termination": [*_NEW_CLAUSE, *_each(",|placement of|insertion of|new|" + _FINDING_NOT_DEVICE)],
}
"""The same for devices that are not there: a list of findings that are denied never goes on to a device."""

ALTERNATIVE: frozenset[str] = frozenset(_each("or|versus|vs|vs."))
"""Between two findings: either may be it."""
