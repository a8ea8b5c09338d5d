"""Masks as runs of pixels, as COCO writes them: plain lists of lengths, and the same as text.

The runs go down the columns, one after the other, and are in turn outside and inside of the mask. As text a length has
five bits a character, least first; from the fourth on, the difference to the length two before it stands in its place
(Lin et al. 2014, "Microsoft COCO"; its API's maskApi).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.utils.errors import UserError

FIRST, BITS = 48, 5
"""The character of the value 0, and the bits of a length in a character; the sixth says that more follow."""
MAX_PIXELS = 100_000_000
"""Of a mask; the largest radiograph has half as many."""


def decode(counts: str | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask of runs, bool [height, width].

    Args:
        counts: lengths, or text of them.

    Raises:
        UserError: the lengths are none, or not those of so many pixels.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise UserError(f"a mask of {height} x {width} pixels, expected 1 to {MAX_PIXELS:,} of them")
    lengths = lengths_of(counts)
    if min(lengths, default=-1) < 0 or sum(lengths) != height * width:
        raise UserError(f"a mask whose runs are not those of {height} x {width} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def encode(mask: NDArray[np.bool_]) -> str:
    """The text of a mask's runs; `decode` undoes it."""
    flat = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff([0, *changes, mask.size]).tolist()
    return "".join(_written(n - lengths[i - 2] if i > 2 else n) for i, n in enumerate(lengths))


def lengths_of(counts: Any) -> list[int]:
    """The lengths of the runs; raises `UserError` where they are neither whole numbers nor text of such."""
    if isinstance(counts, str):
        return _read(counts)
    if not isinstance(counts, Sequence) or not all(type(n) is int for n in counts):
        raise UserError("a mask's counts are neither text nor whole numbers")
    return list(counts)


def _read(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        six = ord(character) - FIRST
        if not 0 <= six < 1 << (BITS + 1) or shift > 12 * BITS:
            raise UserError("a mask's counts have characters that are none of COCO's")
        value |= (six & 31) << shift
        shift += BITS
        if six & 32:
            continue
        if six & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    if shift:
        raise UserError("a mask's counts end within a number; is the file whole?")
    return lengths


def _written(value: int) -> str:
    text = ""
    while True:
        five, value = value & 31, value >> BITS
        if value == (-1 if five & 16 else 0):
            return text + chr(FIRST + five)
        text += chr(FIRST + five + 32)
