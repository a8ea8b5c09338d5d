"""Opening a DICOM file: some of its tags, never the patient's, and one line where it is damaged.

Only tags that are named are read, so that nothing about the patient is ever in memory, let alone in an error.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.utils.errors import UserError, one_line

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

MAGIC = b"DICM"  # after 128 bytes that mean nothing
DEFLATED = "1.2.840.10008.1.2.1.99"


def require_pydicom(path: Path) -> None:
    """Raises `UserError`, naming the file to be read, where there is no pydicom 3."""
    try:
        import pydicom.pixels  # noqa: F401  (new in pydicom 3)
    except ImportError as error:
        raise UserError(f"{path}: reading DICOM needs pydicom 3 or newer; pip install 'vkd-pyro[dicom]'") from error


def has_magic(path: Path) -> bool:
    """Whether a file begins as DICOM does."""
    with path.open("rb") as file:
        return file.read(132)[128:] == MAGIC


def load(path: Path, tags: Sequence[str], pixels: bool = False) -> "Dataset":
    """Some tags of a file; its transfer syntax is guessed from its bytes if it says none."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    # To read any tag of a deflated file is to inflate all of it, to who knows what size.
    if has_magic(path) and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise UserError(f"{path}: a deflated DICOM file; export it with another transfer syntax")
    dataset = dcmread(path, stop_before_pixels=not pixels, force=True, specific_tags=list(tags))
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(*dataset.original_encoding)
    return dataset


def _guessed_syntax(implicit: bool, little: bool) -> "UID":
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


@contextmanager
def blame(path: Path, part: str, quote: bool = False) -> Iterator[None]:
    """Makes whatever pydicom trips over a `UserError` that names file and part, and silences its warnings.

    Args:
        path: the file.
        part: of the file, as the error names it.
        quote: whether the error repeats pydicom's words. Those on headers may hold the header's text.
    """
    try:
        with quiet_readers():
            yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    # pydicom, and the decoders behind it, name no classes of exception for damaged bytes and raise nearly any.
    except Exception as error:
        found = (
            f"{type(error).__name__}: {one_line(error)[:200]}" if quote and str(error).strip() else type(error).__name__
        )
        raise UserError(f"{path}: damaged DICOM {part} ({found}); expected a whole DICOM file") from error


def code(value: object) -> str:
    """A code string: the first if several, upper case, at most the 16 characters that DICOM allows."""
    first = value if isinstance(value, str) else next(iter(value), "") if isinstance(value, Sequence) else ""
    return printable(first, 16).strip().upper()


def printable(value: object, length: int) -> str:
    """Text of a file made fit for one line of a terminal."""
    return "".join(character for character in str(value) if character.isprintable())[:length]
