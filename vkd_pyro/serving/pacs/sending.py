"""Sending an answer to the archive, by C-STORE or STOW-RS; it is sent when the archive says that it has all of it.

UIDs of an answer are always the same, so sending one again, after a crash or a lost acknowledgement, changes nothing.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import requests
from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE

from vkd_pyro.serving.pacs.settings import Dicom, PacsSettings, Web
from vkd_pyro.serving.pacs.web import FAILURES, client

log = logging.getLogger(__name__)

DUPLICATE = 0x0111
"""The archive has an instance of this UID, which is this one."""
WARNINGS = (0xB000, 0xB006, 0xB007)
"""It was stored, and something was coerced or dropped (PS3.4, B.2.3)."""


class Unreachable(Exception):
    """The archive does not answer; why, without a URL or a UID."""


class NotTaken(Exception):
    """The archive answers, and did not take a document; why."""


class Send(Protocol):
    """Sends documents."""

    def __call__(self, documents: Sequence[Path]) -> None:
        """Sends files; raises `Unreachable` or `NotTaken`."""


def sender(settings: PacsSettings) -> Send:
    """What sends to the archive of the settings."""
    if settings.send_dicom is not None:
        return DicomSender(settings.send_dicom)
    assert settings.send_web is not None  # by PacsSettings
    return WebSender(settings.send_web)


class DicomSender:
    """Sends by C-STORE."""

    def __init__(self, archive: Dicom) -> None:
        self.archive = archive

    def __call__(self, documents: Sequence[Path]) -> None:
        """Sends files in one association."""
        archive, entity = self.archive, AE(self.archive.calling_ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = archive.timeout_seconds
        entity.connection_timeout = archive.timeout_seconds
        for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            entity.add_requested_context(sop_class)
        association = entity.associate(archive.host, archive.port, ae_title=archive.ae_title)
        if not association.is_established:
            why = "the association was rejected" if association.is_rejected else "no connection"
            raise Unreachable(why)
        try:
            for document in documents:
                self._store(association, dcmread(document))
        finally:
            association.release()

    @staticmethod
    def _store(association: object, document: Dataset) -> None:
        try:
            status = association.send_c_store(document)  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise Unreachable("the connection was lost") from error
        except ValueError as error:
            raise NotTaken(f"the archive accepts no {document.SOPClassUID.name}") from error
        found = status.get("Status")
        if found is None:
            raise Unreachable("the connection was lost")
        if found not in (0, DUPLICATE, *WARNINGS):
            raise NotTaken(f"status 0x{found:04X}")


class WebSender:
    """Sends by STOW-RS."""

    def __init__(self, archive: Web) -> None:
        self.archive = archive

    def __call__(self, documents: Sequence[Path]) -> None:
        """Sends files in one request."""
        try:
            answer = client(self.archive).store_instances([dcmread(document) for document in documents])
        except FAILURES as error:
            response = getattr(error, "response", None)
            if response is None:
                raise Unreachable(f"no connection ({type(error).__name__})") from error
            answer = _refusal(response, error)
        reasons = [int(item.get("FailureReason") or 0) for item in answer.get("FailedSOPSequence") or []]
        if failed := [reason for reason in reasons if reason != DUPLICATE]:
            raise NotTaken(f"failure reason 0x{failed[0]:04X}")


def _refusal(response: requests.Response, error: Exception) -> Dataset:
    """What a response of status 409 says of each document; any other status, or none that says it, is raised."""
    status = response.status_code
    if status in (401, 403, 404) or status >= 500:
        raise Unreachable(f"HTTP status {status}") from error
    try:
        answer = Dataset.from_json(response.json())
        if status == 409 and answer.get("FailedSOPSequence"):
            return answer
    except Exception:  # whatever is in it, it is no answer in DICOM's JSON
        log.debug("HTTP status %d without a list of failures", status)
    raise NotTaken(f"HTTP status {status}") from error
