"""The files of a request: in a folder of their own, under numbers for names, while it is answered."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import UploadFile

from vkd_pyro.utils.text import printable

LONGEST_NAME = 255


@dataclass(frozen=True)
class Uploads:
    """Files of a request.

    Attributes:
        folder: that only this user may enter.
        names: as the client gave them, of files 0, 1, ...; for the answer alone.
    """

    folder: Path
    names: tuple[str, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files are."""
        return tuple(self.folder / str(number) for number in range(len(self.names)))

    def name_of(self, path: Path) -> str:
        """What the client calls a file."""
        return self.names[int(path.name)]

    def cleaned(self, text: object) -> str:
        """An error or note without a path of the server, and with this service's names of options."""
        shorter = str(text)
        for path in sorted(self.paths, key=lambda path: -len(path.name)):
            shorter = shorter.replace(f"{path}: ", "").replace(str(path), "the file")
        return printable(shorter.replace("--on_mismatch warn", "on_mismatch=warn"))


@contextmanager
def stored(files: Sequence[UploadFile], parent: Path) -> Iterator[Uploads]:
    """The files on disk; gone when the block ends."""
    with TemporaryDirectory(dir=parent) as folder:
        uploads = Uploads(Path(folder), tuple(shown_name(file.filename, n) for n, file in enumerate(files)))
        for path, file in zip(uploads.paths, files, strict=True):
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
        yield uploads


def shown_name(name: str | None, number: int) -> str:
    """The last part of a client's name of a file, without codes that are not shown; "image 1" where there is none."""
    last = re.split(r"[/\\]", name or "")[-1]
    return printable(last)[:LONGEST_NAME] or f"image {number + 1}"
