"""The label vocabularies, in their canonical order, and what a label may be."""

from collections import Counter
from collections.abc import Sequence

from vkd_pyro.utils.errors import UserError

PRESENT, ABSENT, UNCERTAIN, UNMENTIONED = 1.0, 0.0, -1.0, -2.0
"""A label as a corpus gives it; NaN is never labelled. A blank of CheXpert's labeller is `UNMENTIONED`: it read the
report and found nothing of the finding. A `LabelPolicy` makes targets of these."""

CHEXPERT_FINDINGS: tuple[str, ...] = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 findings of CheXpert (Irvin et al. 2019), in the order of its own CSV header."""

NO_ABNORMALITY = ("No Finding", "Support Devices")
"""Labels that are no abnormality of the patient."""


def abnormalities(findings: Sequence[str]) -> list[int]:
    """The numbers of the findings that are an abnormality."""
    return [number for number, finding in enumerate(findings) if finding not in NO_ABNORMALITY]


CHESTXRAY14_SHARED: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": ("Cardiomegaly",),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
}
"""CheXpert finding -> the names of ChestX-ray14 that mean the same."""

CHESTXRAY14_WIDER: dict[str, tuple[str, ...]] = {
    "Lung Opacity": ("Infiltration",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Pleural Other": ("Pleural_Thickening",),
}
"""CheXpert finding -> the names of ChestX-ray14 that are near it, for those who want them."""

CHESTXRAY14_FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings of ChestX-ray14 (Wang et al. 2017), as its files spell them."""


def check_findings(argument: str, findings: Sequence[str]) -> tuple[str, ...]:
    """The names of K labels; raises `UserError` where there are none, or one occurs twice."""
    if isinstance(findings, str) or not findings or not all(isinstance(name, str) and name for name in findings):
        raise UserError(f"{argument}: found {findings!r}, expected names of labels, such as [Edema, Pneumothorax]")
    if twice := [name for name, count in Counter(findings).items() if count > 1]:
        raise UserError(f"{argument}: found {twice[0]!r} {Counter(findings)[twice[0]]} times, expected it once")
    return tuple(findings)
