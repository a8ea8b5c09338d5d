"""Lookup tables of DICOM files, which often say of themselves what they are not."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class LookupTable:
    """A lookup table.

    Attributes:
        first: the value that the first entry is for.
        entries: uint16 [N]; the last is for all greater values too.
        white: what stands for white: all bits that the descriptor says, if the greatest entry needs them all. Else the
            descriptor is wrong, as Agfa's of 16 bits for entries of 12, and white is the greatest entry.
    """

    first: int
    entries: NDArray[np.uint16]
    white: int

    @classmethod
    def of(cls, path: Path, dataset: "Dataset", item: "Dataset", possible: tuple[float, float]) -> "LookupTable":
        """A table of a file.

        Args:
            path: of the file, for errors.
            dataset: of the file.
            item: the table, of a sequence there.
            possible: the least and the greatest value that could be looked up.

        Raises:
            UserError: it has no entries, fewer than it says, or other than 8 to 16 bits.
        """
        try:
            described, data = item.LUTDescriptor, item.LUTData
            little = dataset.original_encoding[1] is not False
            if isinstance(described, bytes):
                described = np.frombuffer(described, "<u2" if little else ">u2")
            count, first, bits = (int(number) for number in described)
            count = count % 0x10000 or 0x10000  # as DICOM writes what does not fit 16 bits
            entries = _entries(data, count, little)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: damaged lookup table; expected a descriptor and entries") from error
        if len(entries) < count or not 8 <= bits <= 16:
            raise UserError(
                f"{path}: a lookup table that says {count:,} entries of {bits} bits, and has {len(entries):,}; "
                "expected as many, of 8 to 16 bits"
            )
        most = int(entries.max())
        white = (1 << bits) - 1 if most.bit_length() == bits else max(most, 1)
        return cls(_first(first, count, possible), entries, white)

    def for_pydicom(self) -> "Dataset":
        """As pydicom reads any: entries as little-endian words.

        Of a file, pydicom reads neither bytes packed two to a word nor, of a modality table, entries of 9 to 15 bits,
        and it counts the entries of a VOI table of 8 bits in 8 bits.
        """
        from pydicom import Dataset

        words = Dataset()
        words.LUTDescriptor = [len(self.entries) % 0x10000, self.first, 16]
        words.add_new("LUTData", "OW", self.entries.astype("<u2").tobytes())
        return words


def _entries(data: Any, count: int, little: bool) -> NDArray[np.uint16]:
    """Entries: words, or bytes packed two to a word, the first one low, where there are too few words."""
    if isinstance(data, bytes):
        words = np.frombuffer(data + b"\0" * (len(data) % 2), "<u2" if little else ">u2").astype("<u2")
    else:
        words = np.atleast_1d(np.asarray(data, np.int64)).astype("<u2")
    return (words if len(words) >= count else words.view("u1"))[:count].astype(np.uint16)


def _first(written: int, count: int, possible: tuple[float, float]) -> int:
    """The first value, with the sign that brings the table where values can be: many files have it wrong."""
    least, most = possible
    candidates = (written % 0x10000, written % 0x10000 - 0x10000)
    overlaps = [min(most, first + count - 1) - max(least, first) for first in candidates]
    return candidates[int(np.argmax(overlaps))]
