"""UIDs that follow from what they name, and names of studies for logs and files."""

import hashlib
import re
import uuid
from collections.abc import Iterable

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
"""Of what comes from outside; components with leading zeros are against the standard, but happen."""
SPACE = uuid.UUID("6f0e7d3c-52c4-5f2b-9a0b-1d2f4c8e7a31")
"""The namespace of this node's UIDs."""


def is_uid(text: str) -> bool:
    """Whether it is a DICOM UID: digits and dots, at most 64."""
    return len(text) <= 64 and UID.fullmatch(text) is not None


def uid_of(*parts: str) -> str:
    """The UID of what these parts name: 2.25 and a name-based UUID (PS3.5, B.2), so the same again for the same."""
    return f"2.25.{uuid.uuid5(SPACE, chr(10).join(parts)).int}"


def report_uid(bundle: str, study: str, instances: Iterable[str]) -> str:
    """SOPInstanceUID of the report of a bundle (its hash) on these instances of a study, whatever their order."""
    return uid_of("report", bundle, study, *sorted(instances))


def file_name(uid: str) -> str:
    """A file's name for a UID, from which no path can escape."""
    return hashlib.sha256(uid.encode()).hexdigest()


def in_logs(study: str) -> str:
    """A study in logs and messages: eight digits of the hash of its UID."""
    return f"study {file_name(study)[:8]}"
