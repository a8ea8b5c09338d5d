"""Whether a file is DICOM, and whether what it says it shows is a chest X-ray of the wanted view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.images.dicom.file import BARE_STARTS, MAGIC, blame, code, load, require_pydicom, shown
from vkd_pyro.data.images.dicom.pixels import NEEDED_TAGS
from vkd_pyro.data.images.files import opened
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

HEADER_TAGS = (
    *("Modality", "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence"),
    *("SOPClassUID", "PresentationIntentType", "ImageType"),
)
MODALITIES = ("CR", "DX", "RG")
CHEST_WORDS = ("CHEST", "THORAX", "TORAX", "TORACE", "LUNG")
CLASSES = ("ComputedRadiography", "DigitalXRayImage", "SecondaryCapture", "MultiFrame")
"""Beginnings of the keywords of SOP classes that a chest radiograph may have."""
CODES = {
    **dict.fromkeys(("51185008", "T-D3000", "39607008", "T-28000"), "CHEST"),
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("399033003", "R-10214"), "PA"),
    **dict.fromkeys(("399173006", "R-10236", "399198007", "R-10232"), "LATERAL"),
}
"""SNOMED's codes of the chest and its views (PS3.16, CID 4009 and 4010), whatever language their meaning is in."""
BLANK = ("UNKNOWN", "NONE", "N/A", "NA", "OTHER", "UNDEFINED", "-", ".")
"""What is written where nothing is known."""


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says it shows; "" where a tag is absent or blank.

    Attributes:
        modality: "DX", "CT", ...
        body_part: "CHEST", ...
        view: "PA", "LATERAL", ...
        other: what else it is by its class, its intent or its type, if no radiograph to be looked at.
    """

    modality: str
    body_part: str
    view: str
    other: str = ""


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM magic, or begins with tags and has those of an image; not if it cannot be opened.

    Raises:
        UserError: the file begins with tags, lacks the magic, and there is no pydicom to look closer.
    """
    try:
        with opened(path) as file:
            head = file.read(132)
    except (UserError, OSError):
        return False
    if head[128:] == MAGIC:
        return True
    if not head.startswith(BARE_STARTS):
        return False
    require_pydicom(path)
    try:
        with blame(path, "header"):
            dataset = load(path, NEEDED_TAGS)
            return all(dataset.get(tag) is not None for tag in NEEDED_TAGS)
    except UserError:  # not even a damaged one: whoever reads it as another type will say so
        return False


def read_header(path: Path) -> DicomHeader:
    """The tags that tell a chest X-ray from something else; none of the patient's.

    Raises:
        UserError: pydicom is not installed, or the file is missing or damaged.
    """
    require_pydicom(path)
    with blame(path, "header"):
        return header_of(load(path, HEADER_TAGS))


def header_of(dataset: "Dataset") -> DicomHeader:
    """What the tags say; where one is blank, the code sequence beside it says it (PS3.3, C.8.11.5)."""
    body_part, view = code(dataset.get("BodyPartExamined")), code(dataset.get("ViewPosition"))
    return DicomHeader(
        code(dataset.get("Modality")),
        body_part if body_part not in ("", *BLANK) else _coded(dataset.get("AnatomicRegionSequence")) or body_part,
        view if view not in ("", *BLANK) else _coded(dataset.get("ViewCodeSequence")) or view,
        _other(dataset),
    )


def _coded(sequence: object) -> str:
    """What the first item of a code sequence says, in English where the code is known."""
    item = next(iter(sequence), None) if isinstance(sequence, Sequence) else None
    if item is None:
        return ""
    return CODES.get(str(item.get("CodeValue") or "").strip()) or code(item.get("CodeMeaning"))


def _other(dataset: "Dataset") -> str:
    from pydicom.uid import UID

    sop_class = UID(str(dataset.get("SOPClassUID") or ""))
    if code(dataset.get("PresentationIntentType")) == "FOR PROCESSING" or sop_class.keyword.endswith("ForProcessing"):
        return "an image for processing"
    if sop_class.keyword.endswith("Storage") and not sop_class.keyword.startswith(CLASSES):
        return sop_class.name
    kinds = dataset.get("ImageType")
    return "a localizer" if not isinstance(kinds, str) and "LOCALIZER" in [code(kind) for kind in kinds or ()] else ""


def study_of(path: Path) -> str:
    """The StudyInstanceUID of a DICOM file, which tells its images from others' and is to be shown nowhere; "" where it
    has none.

    Raises:
        UserError: as of `read_header`.
    """
    require_pydicom(path)
    with blame(path, "header"):
        return str(load(path, ("StudyInstanceUID",)).get("StudyInstanceUID") or "").strip()


def mismatches(header: DicomHeader, views: Sequence[str] = ("frontal", "lateral")) -> list[str]:
    """Reasons, in plain words, why this is no chest X-ray of the wanted views; empty if there is none.

    An absent tag is no reason: body part and view position are often left blank, or filled with a word for that.

    Args:
        header: of the file.
        views: the kinds of view that the model was trained on, of "frontal" and "lateral".
    """
    reasons = [f"{header.other}, no radiograph for presentation"] if header.other else []
    if header.modality and header.modality not in MODALITIES:
        reasons.append(f"modality {shown(header.modality)} is not an X-ray ({', '.join(MODALITIES)})")
    if header.body_part not in ("", *BLANK) and not any(word in header.body_part for word in CHEST_WORDS):
        reasons.append(f"body part {shown(header.body_part)} is not the chest")
    if header.view not in ("", *BLANK) and (view := view_of(header.view)) not in views:
        kind = "neither frontal nor lateral" if view == "unknown" else view
        reasons.append(f"view position {shown(header.view)} is {kind}, not {' or '.join(views)}")
    return reasons
