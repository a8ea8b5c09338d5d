"""Where in an image radiologists saw a finding: boxes, or a mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd_pyro.data import rle

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the image: the first pixel reaches from 0 to 1."""

HALF = 0.5
"""A pixel of the resized image belongs to a region that covers so much of it."""


@dataclass(frozen=True)
class Region:
    """Where in an image a finding is.

    Attributes:
        height, width: of the image whose pixels are counted, as it is stored.
        boxes: of each reader, several where the finding is in several places.
        votes: readers who must have a place in their boxes for it to be of the region.
        counts: runs of a mask, as of `rle.decode`, in place of boxes.
    """

    height: int
    width: int
    boxes: tuple[tuple[Box, ...], ...] = ()
    votes: int = 1
    counts: str | Sequence[int] | None = None

    def resized(self, size: int) -> NDArray[np.bool_]:
        """The region in the square that `ImageTransform(size)` makes of the image, bool [size, size].

        The whole image becomes the whole square, whatever its shape. A pixel is of the region where this covers at
        least half of it; of a smaller region, the pixel of which it covers most. Empty where too few readers agree.

        Raises:
            UserError: the runs are not those of a mask of this height and width.
        """
        if self.counts is not None:
            mask = Image.fromarray(rle.decode(self.counts, self.height, self.width).astype(np.uint8) * 255)
            return _covered(np.asarray(mask.resize((size, size), Image.Resampling.BOX), np.float32) / 255)
        readers = [np.any([self._box(box, size) for box in boxes], axis=0) for boxes in self.boxes if boxes]
        return np.sum(readers, axis=0) >= self.votes if readers else np.zeros((size, size), np.bool_)

    def _box(self, box: Box, size: int) -> NDArray[np.bool_]:
        left, top, right, bottom = box
        return _covered(_overlap(top, bottom, self.height, size)[:, None] * _overlap(left, right, self.width, size))


def _overlap(start: float, end: float, length: int, size: int) -> NDArray[np.floating]:
    """The share of each of `size` equal parts of a length that lies between two places of it."""
    edges = np.arange(size + 1) * (length / size)
    return (np.clip(end, edges[:-1], edges[1:]) - np.clip(start, edges[:-1], edges[1:])).astype(np.float32) * (
        size / length
    )


def _covered(shares: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Pixels of which at least half is covered; of a region that covers half of none, the one that it covers most."""
    largest = shares.max()
    return shares >= min(HALF, largest) if largest > 0 else np.zeros(shares.shape, np.bool_)
