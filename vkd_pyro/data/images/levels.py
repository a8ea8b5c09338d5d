"""Pictures that have hardly any gray levels: read wrongly, as a rule, with a scale of more bits than they have."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FEWEST_LEVELS = 32
"""X-rays have a hundred and more; 12 bits that are shown as 16 bits have 16."""
SHARE = 0.99
"""Share of the pixels whose levels count: burnt-in letters are no picture."""


def gray_levels(pixels: NDArray[np.uint8]) -> int:
    """How many gray levels, the most frequent first, make up nearly all of a picture."""
    row = np.ascontiguousarray(pixels).reshape(1, -1)
    counts = np.sort(Image.fromarray(row).histogram())[::-1]  # in half the time of a bincount
    return int(np.searchsorted(counts.cumsum(), SHARE * pixels.size)) + 1


def is_flat(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture has hardly any gray levels, or is all the same: there is nothing to be seen in it.

    Of less than 256 pixels, which have no room for as many levels, as many as an eighth of them are enough.
    """
    return gray_levels(pixels) < min(FEWEST_LEVELS, pixels.size // 8)
