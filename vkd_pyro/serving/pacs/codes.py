"""Coded terms: SNOMED CT and DICOM's own where they say what is meant, else this project's scheme, 99VKD.

A finding without a code of SNOMED CT or DICOM has in 99VKD the value "F" and 12 hexadecimal digits of the SHA-256 of
its name in lower case, so whoever knows the names of the findings knows the codes.
"""

import hashlib

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

SCHEME = "99VKD"
MAX_MEANING = 64
"""Characters of a code's meaning (VR LO)."""

SNOMED: dict[str, tuple[str, str]] = {
    "Atelectasis": ("46621007", "Atelectasis"),
    "Cardiomegaly": ("8186001", "Cardiomegaly"),
    "Consolidation": ("95436008", "Lung consolidation"),
    "Edema": ("19242006", "Pulmonary edema"),
    "Effusion": ("60046008", "Pleural effusion"),
    "Emphysema": ("87433001", "Pulmonary emphysema"),
    "Fibrosis": ("51615001", "Fibrosis of lung"),
    "Fracture": ("125605004", "Fracture of bone"),
    "Hernia": ("39839004", "Diaphragmatic hernia"),
    "Mass": ("4147007", "Mass"),
    "Nodule": ("27925004", "Nodule"),
    "Pleural Effusion": ("60046008", "Pleural effusion"),
    "Pneumonia": ("233604007", "Pneumonia"),
    "Pneumothorax": ("36118008", "Pneumothorax"),
}
DICOM: dict[str, tuple[str, str]] = {
    "Infiltration": ("112121", "Infiltrate"),
    "Lung Opacity": ("112001", "Opacity"),
}
"""Of context group 6102, findings of chest images."""


def private(value: str, meaning: str) -> CodedConcept:
    """A term of this project's own."""
    return CodedConcept(value, SCHEME, meaning[:MAX_MEANING])


def finding(name: str) -> CodedConcept:
    """The term for a finding, by the name that the model has for it."""
    if name in SNOMED:
        value, meaning = SNOMED[name]
        return CodedConcept(value, "SCT", meaning)
    if name in DICOM:
        value, meaning = DICOM[name]
        return CodedConcept(value, "DCM", meaning)
    return private(f"F{hashlib.sha256(name.lower().encode()).hexdigest()[:12]}", name)


YES, NO = CodedConcept("373066001", "SCT", "Yes"), CodedConcept("373067005", "SCT", "No")
UNKNOWN = CodedConcept("261665006", "SCT", "Unknown")
REFER = private("REFER", "Refer to a reader")
ANSWERS = {"yes": YES, "no": NO, "refer": REFER, "unknown": UNKNOWN}
"""For the answers of a prediction."""

CHEST_X_RAY = CodedConcept("399208008", "SCT", "Plain chest X-ray")
COMMENT = CodedConcept("121106", "DCM", "Comment")
NO_UNITS = CodedConcept("1", "UCUM", "no units")

PROBABILITY = private("PROBABILITY", "Probability")
LOW, HIGH = private("INTERVAL_LOW", "Lower end of interval"), private("INTERVAL_HIGH", "Upper end of interval")
THRESHOLD = private("THRESHOLD", "Threshold of the decision")
DECISION = private("DECISION", "Decision")
RECALIBRATED = private("RECALIBRATED", "Recalibrated on validation data")
RAW = private("RAW", "As the model gives it, not recalibrated")
WHOLE_STUDY = private("STUDY", "The study as a whole")
IMAGES = private("IMAGES", "Number of images judged")
OOD_FLAG = private("OOD_FLAG", "Unlike the images learned from")
OOD_P = private("OOD_P", "Share of usual images that are as unlike")


def schemes() -> list[CodingSchemeIdentificationItem]:
    """What 99VKD is, for a document that uses it."""
    return [
        CodingSchemeIdentificationItem(
            designator=SCHEME, name="vkd_pyro", responsible_organization="vkd_pyro", version="1"
        )
    ]
