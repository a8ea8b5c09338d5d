"""What an answer says of patient and study: what the images say, and nothing that an answer does not need.

Of the patient: name, id with its issuer, birth date, sex. Of the study: UID, id, date, time, accession number,
description, referring physician. An archive files an answer by them. Nothing else of an image's header is copied.
"""

from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import DA, TM

from vkd_pyro.data.images.dicom.file import blame, load

TEXTS = {
    "PatientName": "",
    "PatientID": "",
    "IssuerOfPatientID": None,
    "StudyID": "",
    "AccessionNumber": "",
    "StudyDescription": None,
    "ReferringPhysicianName": "",
}
"""Copied as they are; what is absent is blank where the standard wants it there, else absent."""
DATES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O")
REFERENCES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
UTF_8 = "ISO_IR 192"


def study_header(path: Path) -> Dataset:
    """Patient, study and references of an image, in UTF-8; a date that is none, or a sex unknown, is blank.

    Raises:
        UserError: the file is damaged.
    """
    with blame(path, "header"):
        found = load(path, (*TEXTS, *DATES, "PatientSex", *REFERENCES, "SpecificCharacterSet"))
        header = Dataset()
        header.SpecificCharacterSet = UTF_8
        for tag, absent in TEXTS.items():
            value = found.get(tag)
            if value is not None or absent is not None:
                setattr(header, tag, str(value if value is not None else absent))
        for tag, kind in DATES.items():
            setattr(header, tag, _date(found.get(tag), kind))
        sex = str(found.get("PatientSex") or "")
        header.PatientSex = sex if sex in SEXES else ""
        for tag in REFERENCES:
            setattr(header, tag, str(found.get(tag)))
        return header


def _date(value: Any, kind: Any) -> str:
    """A date or time as DICOM writes it; "" where it is none."""
    try:
        return str(value) if value and kind(str(value)) else ""
    except ValueError:
        return ""


def copy_study_tags(source: Dataset, document: Dataset) -> None:
    """Puts into a document what it shares with its study and highdicom does not copy."""
    for tag in ("IssuerOfPatientID", "StudyDescription"):
        if tag in source:
            setattr(document, tag, source.get(tag))
