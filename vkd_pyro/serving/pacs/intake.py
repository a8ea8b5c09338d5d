"""The one door for instances, however they come: checked, spooled, noted; only then may they be acknowledged."""

import hashlib
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vkd_pyro.prediction.studies import MOST_IMAGES
from vkd_pyro.serving.pacs.identifiers import in_logs, is_uid
from vkd_pyro.serving.pacs.ledger import GONE, ON_DISK, Ledger
from vkd_pyro.serving.pacs.selection import (
    CANNOT_UNDERSTAND,
    MISMATCH,
    OUT_OF_RESOURCES,
    Instance,
    Refused,
    read_instance,
)
from vkd_pyro.serving.pacs.spool import SpoolFolder
from vkd_pyro.utils.errors import UserError

log = logging.getLogger(__name__)


class Intake:
    """Takes instances.

    Args:
        spool, ledger: where they go.
        views: that the model knows.
    """

    def __init__(self, spool: SpoolFolder, ledger: Ledger, views: Sequence[str]) -> None:
        self.spool, self.ledger, self.views = spool, ledger, tuple(views)

    def take(self, uid: str, content: bytes, sop_class: str | None = None) -> Instance:
        """Takes an instance, or leaves it out; on disk and in the ledger when this returns.

        Args:
            uid: SOPInstanceUID, as who sends it says.
            content: a DICOM file.
            sop_class: as who sends it says; None where nothing is said.

        Raises:
            Refused: it is damaged, not what was said, or there is no room; nothing of it is kept.
        """
        if not is_uid(uid):
            raise Refused(CANNOT_UNDERSTAND, "SOPInstanceUID is no UID")
        with self.spool.lock:
            try:
                with self.spool.new(uid, content) as file:
                    instance = self._checked(file.path, uid, sop_class)
                    file.keep = not instance.left_out
                is_new = self.ledger.take(instance, hashlib.sha256(content).hexdigest())
            except UserError as error:  # a damaged file, or a full disk, as the message says
                status = OUT_OF_RESOURCES if "disk is full" in str(error) else CANNOT_UNDERSTAND
                reason = "the disk is full" if status == OUT_OF_RESOURCES else "no DICOM image, or damaged"
                raise Refused(status, reason) from error
            except (OSError, sqlite3.Error) as error:
                raise Refused(OUT_OF_RESOURCES, f"the spool cannot be written ({type(error).__name__})") from error
        what = f"left out: {instance.left_out}" if instance.left_out else "new" if is_new else "known"
        log.info("%s: instance %s", in_logs(instance.study), what)
        return instance

    def _checked(self, path: Path, uid: str, sop_class: str | None) -> Instance:
        instance = read_instance(path, self.views)
        if instance.uid != uid:
            raise Refused(MISMATCH, "the SOPInstanceUID in it is another than was said")
        if sop_class is not None and instance.sop_class != sop_class:
            raise Refused(MISMATCH, "the SOPClassUID in it is another than was said")
        known = self.ledger.of_study(instance.study)
        others = sum(what in (ON_DISK, GONE) for other, what in known.items() if other != uid)
        if not instance.left_out and others >= MOST_IMAGES:
            return replace(instance, left_out=f"more than {MOST_IMAGES} images of one study")
        return instance
