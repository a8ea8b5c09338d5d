"""Polling a DICOMweb archive: which studies have new radiographs (QIDO-RS), and these (WADO-RS).

A study whose number of instances has not changed since it was looked through is passed over.
"""

import io
import logging
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from dicomweb_client import DICOMwebClient
from pydicom import dcmwrite

from vkd_pyro.data.images.dicom.header import MODALITIES, DicomHeader, mismatches
from vkd_pyro.serving.pacs.identifiers import in_logs, is_uid
from vkd_pyro.serving.pacs.intake import Intake
from vkd_pyro.serving.pacs.ledger import GONE
from vkd_pyro.serving.pacs.selection import FOR_PRESENTATION, OUT_OF_RESOURCES, Instance, Refused
from vkd_pyro.serving.pacs.settings import Polling
from vkd_pyro.serving.pacs.web import FAILURES, TooLong, client

log = logging.getLogger(__name__)

PAGE, MOST_STUDIES = 100, 10_000
"""Studies asked for at once, and looked at in one poll, at most."""
STUDY, SERIES, INSTANCE, SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
NUMBER_OF_INSTANCES, MODALITY, BODY_PART, VIEW = "00201208", "00080060", "00180015", "00185101"
Item = dict[str, Any]


class Poller:
    """Asks an archive for new radiographs, and hands them to the intake."""

    def __init__(self, settings: Polling, intake: Intake) -> None:
        self.settings, self.intake = settings, intake

    def poll(self) -> int:
        """Fetches what is new. Returns: how many instances were fetched.

        Raises:
            one of `FAILURES`: the archive cannot be searched. Of a study that fails, the log says it, and it is asked
            for again.
        """
        searching = client(self.settings.archive)
        fetching = client(self.settings.archive, self.settings.max_megabytes << 20)
        fetched = 0
        for study, number in self._studies(searching).items():
            if number is not None and self.intake.ledger.polled(study) == number:
                continue
            try:
                found, whole = self._fetch(searching, fetching, study)
            except FAILURES as error:
                log.warning("%s: cannot be fetched now (%s)", in_logs(study), type(error).__name__)
                continue
            fetched += found
            if number is not None and whole:
                self.intake.ledger.note_polled(study, number)
        return fetched

    def _studies(self, archive: DICOMwebClient) -> dict[str, int | None]:
        """StudyInstanceUIDs of recent radiographs, with the number of their instances; None where it is not said."""
        today, found = date.today(), {}
        first, last = today - timedelta(self.settings.days), today + timedelta(1)  # clocks differ
        for modality in MODALITIES:
            filters = {"StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}", "ModalitiesInStudy": modality}
            for item in _pages(archive, filters):
                study, number = _text(item, STUDY), _text(item, NUMBER_OF_INSTANCES)
                if is_uid(study):
                    found[study] = int(number) if number.isdecimal() else None
        return found

    def _fetch(self, searching: DICOMwebClient, fetching: DICOMwebClient, study: str) -> tuple[int, bool]:
        """Fetches the new instances of a study. Returns: how many, and whether none is left for later."""
        known = self.intake.ledger.of_study(study)
        items = [
            item
            for item in searching.search_for_instances(study_instance_uid=study, fields=[BODY_PART, VIEW])
            if _text(item, SOP_CLASS) in FOR_PRESENTATION
            and all(is_uid(_text(item, tag)) for tag in (SERIES, INSTANCE))
        ]
        new = [item for item in items if _text(item, INSTANCE) not in known and not self._left_out(study, item)]
        if new:  # an answer to these is one to all: what was deleted since is fetched again
            new += [item for item in items if known.get(_text(item, INSTANCE)) == GONE]
        done = [self._fetch_one(fetching, study, item) for item in new]
        return sum(done), all(done)

    def _fetch_one(self, archive: DICOMwebClient, study: str, item: Item) -> bool:
        """Fetches an instance; what is too large, or damaged, is left out. Returns: whether that is settled."""
        uid, content = _text(item, INSTANCE), io.BytesIO()
        try:
            found = archive.retrieve_instance(study, _text(item, SERIES), uid, (("application/dicom", "*"),))
            dcmwrite(content, found)
            self.intake.take(uid, content.getvalue(), _text(item, SOP_CLASS))
            return True
        except TooLong:
            reason = f"larger than {self.settings.max_megabytes} MB"
        except FAILURES as error:
            log.warning("%s: an instance cannot be fetched now (%s)", in_logs(study), type(error).__name__)
            return False
        except Refused as refused:
            if refused.status == OUT_OF_RESOURCES:
                log.warning("%s: an instance cannot be taken now: %s", in_logs(study), refused.reason)
                return False
            reason = refused.reason
        except Exception as error:  # pydicom raises nearly any for damaged bytes
            reason = f"no DICOM image, or damaged ({type(error).__name__})"
        self._leave_out(study, item, reason)
        return True

    def _left_out(self, study: str, item: Item) -> bool:
        """Whether it is no chest radiograph by what the archive's list says; then it is noted, and not fetched."""
        header = DicomHeader(*(_text(item, tag).upper() for tag in (MODALITY, BODY_PART, VIEW)))
        reason = "; ".join(mismatches(header, self.intake.views))
        if reason:
            self._leave_out(study, item, reason)
        return bool(reason)

    def _leave_out(self, study: str, item: Item, reason: str) -> None:
        instance = Instance(_text(item, INSTANCE), study, _text(item, SERIES), _text(item, SOP_CLASS), reason)
        self.intake.ledger.take(instance, "")
        log.info("%s: instance left out: %s", in_logs(study), reason)


def _pages(archive: DICOMwebClient, filters: dict[str, str]) -> Iterator[Item]:
    """Studies, page by page; ends where a page has none that is new, as of an archive that knows no pages."""
    seen: set[str] = set()
    while len(seen) < MOST_STUDIES:
        page = archive.search_for_studies(
            search_filters=filters, fields=[NUMBER_OF_INSTANCES], limit=PAGE, offset=len(seen)
        )
        new = [item for item in page if _text(item, STUDY) not in seen]
        yield from new
        seen |= {_text(item, STUDY) for item in new}
        if len(new) < PAGE:
            return


def _text(item: Item, tag: str) -> str:
    """The first value of a tag in DICOM's JSON, as text; "" where there is none."""
    values = (item.get(tag) or {}).get("Value") or [""]
    return str(values[0]).strip()
