"""Which instances are taken: chest radiographs, as `vkd predict` decides; and which are no DICOM image at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vkd_pyro.data.images.dicom.file import blame, load, require_pydicom
from vkd_pyro.data.images.dicom.header import HEADER_TAGS, DicomHeader, header_of, mismatches
from vkd_pyro.serving.pacs.identifiers import is_uid

FOR_PRESENTATION = ("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1")
"""Computed Radiography, and Digital X-Ray for presentation: images as a radiologist sees them."""
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""Digital X-Ray for processing: heard, so that who sends whole studies meets no error, and left out."""

CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES = 0xC000, 0xA900, 0xA700
"""Statuses of a C-STORE that is refused (PS3.4, B.2.3)."""

IDENTIFIERS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID")


class Refused(Exception):
    """An instance that is not accepted: the DICOM status, and a reason without anything of the patient."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Instance:
    """An instance by its UIDs, and why it is left out; "" where it is taken."""

    uid: str
    study: str
    series: str
    sop_class: str
    left_out: str


def read_instance(path: Path, views: Sequence[str]) -> Instance:
    """What a file is, by its header; nothing of the patient is read.

    Args:
        path: of the file.
        views: that the model knows.

    Raises:
        Refused: its UIDs are none, or missing.
        UserError: it is no DICOM file, or damaged; or pydicom is not installed.
    """
    require_pydicom(path)
    with blame(path, "header"):
        dataset = load(path, (*IDENTIFIERS, *HEADER_TAGS))
        identifiers = [str(dataset.get(tag) or "").strip() for tag in IDENTIFIERS]
        header = header_of(dataset)
    for tag, uid in zip(IDENTIFIERS, identifiers, strict=True):
        if not is_uid(uid):
            raise Refused(CANNOT_UNDERSTAND, f"{tag} is no UID")
    uid, study, series, sop_class = identifiers
    return Instance(uid, study, series, sop_class, _why_left_out(sop_class, header, views))


def _why_left_out(sop_class: str, header: DicomHeader, views: Sequence[str]) -> str:
    if sop_class == FOR_PROCESSING:
        return "an image for processing, not for presentation"
    if sop_class not in FOR_PRESENTATION:
        return "not of a class of radiographs"
    return "; ".join(mismatches(header, views))
