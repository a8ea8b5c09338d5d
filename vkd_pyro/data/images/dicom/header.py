"""Whether a file is DICOM, and whether what it says it shows is a chest X-ray of the wanted view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.images.dicom.file import BARE_STARTS, MAGIC, blame, code, load, require_pydicom, shown
from vkd_pyro.data.images.dicom.pixels import NEEDED_TAGS
from vkd_pyro.data.images.files import opened
from vkd_pyro.utils.errors import UserError

HEADER_TAGS = ("Modality", "BodyPartExamined", "ViewPosition")
MODALITIES = ("CR", "DX", "RG")
CHEST_WORDS = ("CHEST", "THORAX", "TORAX", "TORACE", "LUNG")
BLANK = ("UNKNOWN", "NONE", "N/A", "NA", "OTHER", "UNDEFINED", "-", ".")
"""What is written where nothing is known."""


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says it shows; "" where a tag is absent or blank.

    Attributes:
        modality: "DX", "CT", ...
        body_part: "CHEST", ...
        view: "PA", "LATERAL", ...
    """

    modality: str
    body_part: str
    view: str


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
        dataset = load(path, HEADER_TAGS)
        return DicomHeader(*(code(dataset.get(tag)) for tag in HEADER_TAGS))


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
    reasons = []
    if header.modality and header.modality not in MODALITIES:
        reasons.append(f"modality {shown(header.modality)} is not an X-ray ({', '.join(MODALITIES)})")
    if header.body_part not in ("", *BLANK) and not any(word in header.body_part for word in CHEST_WORDS):
        reasons.append(f"body part {shown(header.body_part)} is not the chest")
    if header.view not in ("", *BLANK) and (view := view_of(header.view)) not in views:
        kind = "neither frontal nor lateral" if view == "unknown" else view
        reasons.append(f"view position {shown(header.view)} is {kind}, not {' or '.join(views)}")
    return reasons
