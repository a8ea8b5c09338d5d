"""The spool: instances and answers as files, on disk before anybody is told that they are there.

folder/
  ledger.sqlite        what became of each
  instances/HASH       an instance as it came, named after the hash of its SOPInstanceUID
  answers/HASH/000...  the documents of an answer, in the order in which they are sent; the report is the last
"""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vkd_pyro.serving.pacs.identifiers import file_name
from vkd_pyro.utils.files import private_folder, written, written_folder


@dataclass
class NewFile:
    """A file that is on disk and has no name yet.

    Attributes:
        path: where it is meanwhile.
        keep: whether it shall have its name; else it, and what had the name, is removed.
    """

    path: Path
    keep: bool = True


class SpoolFolder:
    """The folder; only its owner may enter.

    Attributes:
        lock: to be held while a file and the ledger are changed together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.instances, self.answers = folder, folder / "instances", folder / "answers"
        for each in (folder, self.instances, self.answers):
            private_folder(each)
            each.chmod(0o700)
        self.lock = threading.RLock()

    def instance(self, uid: str) -> Path:
        """The file of an instance."""
        return self.instances / file_name(uid)

    @contextmanager
    def new(self, uid: str, content: bytes) -> Iterator[NewFile]:
        """Writes an instance, which has its name, and that on disk, when the block ends without an error.

        Args:
            uid: SOPInstanceUID.
            content: of the file.

        Raises:
            UserError: the disk is full.
        """
        path = self.instance(uid)
        with written(path) as unfinished:
            _write(unfinished, content)
            file = NewFile(unfinished)
            yield file
        if not file.keep:
            path.unlink(missing_ok=True)
        _sync(path.parent)

    def put_answer(self, uid: str, documents: Iterable[bytes]) -> None:
        """Writes the documents of an answer, in their order, whole and durably; what was there before is replaced."""
        path = self.answers / file_name(uid)
        shutil.rmtree(path, ignore_errors=True)
        with written_folder(path) as unfinished:
            for number, content in enumerate(documents):
                _write(unfinished / f"{number:03}", content)
            _sync(unfinished)
        path.chmod(0o700)
        _sync(self.answers)

    def documents(self, uid: str) -> list[Path]:
        """The documents of an answer, in the order in which they are sent."""
        folder = self.answers / file_name(uid)
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def remove(self, instances: Sequence[str], answers: Sequence[str]) -> None:
        """Deletes what is no longer needed."""
        for uid in instances:
            self.instance(uid).unlink(missing_ok=True)
        for uid in answers:
            shutil.rmtree(self.answers / file_name(uid), ignore_errors=True)

    def remove_others(self, instances: Iterable[str], answers: Iterable[str]) -> None:
        """Deletes what a killed process wrote and noted nowhere, so acknowledged to nobody: all but these."""
        for folder, known in ((self.instances, instances), (self.answers, answers)):
            names = {file_name(uid) for uid in known}
            for path in folder.iterdir():
                if path.name not in names:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Puts the names in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
