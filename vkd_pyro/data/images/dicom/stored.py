"""From what a decoder gives to stored values: how many bits they have, whether they have a sign, which are padding.

The bits of a pixel beside those that `BitsStored` and `HighBit` say are not the image's: overlays were kept there.
Where header and codestream disagree, the reading whose neighbouring pixels differ least is the picture. Read with a
sign that it does not have, or without the one it has, a picture is torn where it passes through middle gray.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.codestream import Codestream
from vkd_pyro.data.images.dicom.numbers import number
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

END = 16
"""Black is the lowest sixteenth of the range, white the highest; a tear is between neighbours, a black and a white one.
"""
GRADED = 0.01
"""Share of the pixels that are black, and white, in a picture that is torn; without the most frequent value of each, as
masks and letters have."""
ROUGHER = 2
"""How many times as rough the low bits are, at least, where the picture is in the high ones; each by its spread."""
TEARS = 10
"""How many times as many tears the wrong reading has as the right one; it has one in every second row, at least."""

STORED_TAGS = ("HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True)
class Layout:
    """What a header says of the bits of a pixel.

    Attributes:
        allocated: 8 or 16.
        bits: that are stored.
        signed: whether the highest of them is a sign.
        shift: how many bits lie below them.
    """

    allocated: int
    bits: int
    signed: bool
    shift: int

    @classmethod
    def of(cls, dataset: "Dataset") -> "Layout":
        """By the tags of a file; a high bit that cannot be is as if absent."""
        allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
        high = dataset.get("HighBit")
        shift = high - bits + 1 if isinstance(high, int) and bits <= high < allocated else 0
        return cls(allocated, bits, bool(dataset.PixelRepresentation), shift)


@dataclass(frozen=True)
class Stored:
    """Stored values of an image.

    Attributes:
        values: int32 [height, width].
        bits, signed: what values there could be.
        padding: bool [height, width], pixels that are outside the image; None where all are inside.
    """

    values: NDArray[np.int32]
    bits: int
    signed: bool
    padding: NDArray[np.bool_] | None

    @property
    def possible(self) -> tuple[int, int]:
        """The least and the greatest value that could be stored."""
        least = _least(self.bits, self.signed)
        return least, least + (1 << self.bits) - 1


def stored_values(
    path: Path, dataset: "Dataset", layout: Layout, codestream: Codestream | None, pixels: NDArray[Any]
) -> Stored:
    """Stored values of what a decoder gave.

    Args:
        path: of the file, for errors.
        dataset: with `STORED_TAGS`, as far as the file has them.
        layout: by the header.
        codestream: of a compressed image; None where the pixels are as the file has them.
        pixels: integers [height, width], with all bits that the decoder gave.

    Raises:
        UserError: pixels have more bits than the header says, and these are no overlay.
    """
    raw, bits, signed, shift = pixels.astype(np.int32), layout.bits, layout.signed, layout.shift
    if codestream is not None:
        bits, shift = min(codestream.precision, bits), shift if codestream.precision == layout.allocated else 0
    values = _interpreted(raw >> shift, bits, signed)
    if (raw & ((1 << shift) - 1)).any():  # an overlay below the pixels; or they are not where the high bit says
        unshifted = _interpreted(raw, bits, signed)
        if _relative_roughness(unshifted) < ROUGHER * _relative_roughness(values):
            values, shift = unshifted, 0
    whole = _interpreted(raw, layout.allocated, signed) if codestream is None else raw
    if not shift and _smoother(whole, values):
        if codestream is None:
            raise UserError(
                f"{path}: pixel values up to {whole.max()}, more than BitsStored {bits} can hold"
                f"{' with a sign' if signed else ''}; correct the header"
            )
        # The codestream knows better than the header how many bits were coded, or that they have a sign.
        values, bits, signed = raw, codestream.precision, codestream.signed
    if _has_wrong_sign(values, bits, signed):
        values, signed = _interpreted(values, bits, not signed), not signed
    allocated = layout.allocated if bits <= layout.allocated else 16
    return Stored(values, bits, signed, _padding(path, dataset, allocated, raw, values, bits, signed))


def _interpreted(raw: NDArray[np.int32], bits: int, signed: bool) -> NDArray[np.int32]:
    """The low bits of each number, as a number of their own."""
    low = raw & ((1 << bits) - 1)
    return low - ((low >> (bits - 1)) << bits) if signed else low


def _has_wrong_sign(values: NDArray[np.int32], bits: int, signed: bool) -> bool:
    """Whether a picture is torn, white beside black, where the other reading of its sign has it whole.

    A right picture too has black beside white, at masks and letters. But these have few grays; and one that has as many
    as are asked for here also passes through its middle, where the other reading would be torn.
    """
    least, end = _least(bits, signed), (1 << bits) // END
    if bits < 8 or values.min() >= least + end or values.max() < least + (END - 1) * end:
        return False
    if (tears := _tears(values, bits, signed)) <= len(values) // 2:
        return False
    counts = np.bincount((values - least).ravel(), minlength=1 << bits)
    if min(part.sum() - part.max() for part in (counts[:end], counts[-end:])) < GRADED * values.size:
        return False
    return tears > TEARS * _tears(_interpreted(values, bits, not signed), bits, not signed)


def _tears(values: NDArray[np.int32], bits: int, signed: bool) -> int:
    """How many neighbours in a row lie at opposite ends of the range."""
    least, end = _least(bits, signed), (1 << bits) // END
    ends = (values >= least + (END - 1) * end).astype(np.int8) - (values < least + end)
    return int((np.abs(np.diff(ends)) == 2).sum())


def _least(bits: int, signed: bool) -> int:
    return -(1 << (bits - 1)) if signed else 0


def _smoother(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    """Whether neighbours differ less in one reading of an image than in the other."""
    return not np.array_equal(one, other) and _roughness(one) < _roughness(other)


def _roughness(values: NDArray[np.int32]) -> int:
    return int(np.abs(np.diff(values.ravel())).sum(dtype=np.int64))


def _relative_roughness(values: NDArray[np.int32]) -> float:
    """To compare readings of other scales: 4/3 of noise, far less of a picture, infinite where all is the same."""
    spread = np.abs(values - values.mean()).sum()
    return float(_roughness(values) / spread) if spread else np.inf


def _padding(
    path: Path,
    dataset: "Dataset",
    allocated: int,
    raw: NDArray[np.int32],
    values: NDArray[np.int32],
    bits: int,
    signed: bool,
) -> NDArray[np.bool_] | None:
    """Pixels from the padding value to the limit of its range, whichever way round; None where none or all are.

    A padding value is written with or without its sign, and with or without the bits that are not stored. One that
    fits the stored bits is looked for among values, another among whole pixels.
    """
    first = number(path, dataset, "PixelPaddingValue", "padding", whole=True)
    if first is None:
        return None
    last = number(path, dataset, "PixelPaddingRangeLimit", "padding", whole=True)
    ends = np.array([first, first if last is None else last]).astype(np.int64) & ((1 << allocated) - 1)
    above = set((ends >> bits).tolist())
    fits = above <= {0, (1 << (allocated - bits)) - 1 if signed else 0}
    where, width = (values, bits) if fits else (_interpreted(raw, allocated, signed), allocated)
    least, most = sorted(_interpreted(ends.astype(np.int32), width, signed).tolist())
    padding = (where >= least) & (where <= most)
    return padding if padding.any() and not padding.all() else None
