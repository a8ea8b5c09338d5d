"""Opening a DICOM file: some of its tags, never the patient's, and one line where it is damaged.

Only tags that are named are read, so that nothing about the patient is ever in memory, let alone in an error.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from vkd_pyro.data.images.files import opened
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

MAGIC = b"DICM"  # after 128 bytes that mean nothing
BARE_STARTS = (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08")
"""How a file without the magic may begin: with a tag on the file, or on what it shows; little or big-endian."""
CODE = re.compile(r"[A-Z0-9 _.,/()-]{1,16}")
"""DICOM's code strings, and what is often written in their place."""
PIXEL_DATA = 0x7FE00010
MAX_READS = 100_000
"""Reads of a file by pydicom, at most: one or two for each tag, however deep it lies in sequences."""


def require_pydicom(path: Path) -> None:
    """Raises `UserError`, naming the file to be read, where there is no pydicom 3."""
    try:
        import pydicom.pixels  # noqa: F401  (new in pydicom 3)
    except ImportError as error:
        raise UserError(f"{path}: reading DICOM needs pydicom 3 or newer; pip install 'vkd-pyro[dicom]'") from error


def load(path: Path, tags: Sequence[str], pixels: bool = False) -> "Dataset":
    """Some tags of a file; its transfer syntax is guessed from its bytes if it says none.

    Args:
        path: of the file.
        tags: by their keywords; nothing behind the pixels is read.
        pixels: whether `PixelData` is among them.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import BaseTag, Tag

    last = PIXEL_DATA if pixels else PIXEL_DATA - 1
    with opened(path) as file:
        source = cast(BinaryIO, _Source(path, file))
        wanted: list[BaseTag | int] = [Tag(tag) for tag in tags]
        dataset = read_partial(source, lambda tag, vr, length: tag > last, force=True, specific_tags=wanted)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(*dataset.original_encoding)
    return dataset


class _Source:
    """A file as pydicom reads it, in so many parts at most: a damaged one may have millions of tags."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.left = path, file, MAX_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if size < 0:  # To read any tag of such a file is to inflate all of it, to who knows what size.
            raise UserError(f"{self.path}: a deflated DICOM file; export it with another transfer syntax")
        self.left -= 1
        if self.left < 0:
            raise UserError(f"{self.path}: more tags than a DICOM image has; export it without those that are private")
        return self.file.read(size)


def _guessed_syntax(implicit: bool, little: bool) -> "UID":
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


@contextmanager
def blame(path: Path, part: str) -> Iterator[None]:
    """Makes whatever pydicom trips over a `UserError` that names file and part, and silences its warnings.

    pydicom's words are not repeated, since they may hold text of the header: in a damaged file the patient's too.

    Args:
        path: the file.
        part: of the file, as the error names it.
    """
    try:
        with quiet_readers():
            yield
    except UserError:
        raise
    # pydicom, and the decoders behind it, name no classes of exception for damaged bytes and raise nearly any.
    except Exception as error:
        found = type(error).__name__
        raise UserError(f"{path}: damaged DICOM {part} ({found}); expected a whole DICOM file") from error


def code(value: object) -> str:
    """A code string: the first if several, upper case."""
    first = value if isinstance(value, str) else next(iter(value), "") if isinstance(value, Sequence) else ""
    return str(first).strip().upper()


def shown(text: str) -> str:
    """A code string to be repeated in an error; what is none, as in a damaged file, is not repeated."""
    return text if CODE.fullmatch(text) else "that is no code"
