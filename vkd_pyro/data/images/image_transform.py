"""From an image file to what a model reads, the same way in training and in deployment."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd_pyro.data.images.dicom.header import is_dicom
from vkd_pyro.data.images.dicom.pixels import read_dicom
from vkd_pyro.data.images.raster import read_raster
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 40_000_000
MAX_SIZE = 2048
"""Side of the square that a model reads, at most: DenseNet-121 takes about a GiB for one such image."""


@dataclass(frozen=True)
class ImageTransform:
    """Reads an X-ray as gray and resizes it to a square; the aspect ratio is not kept.

    Attributes:
        size: side of the result, in pixels.
        scaled_jpeg: decode a JPEG file at the smallest half, quarter or eighth whose sides are twice `size` or more.
            Five megapixels are read 1.4 times as fast at 224; gray values differ by one or two from those of the whole.

    Raises:
        UserError: a size that is none, or above `MAX_SIZE`.
    """

    size: int = 224
    scaled_jpeg: bool = False

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise UserError(f"image_size: found {self.size!r}, expected pixels, 1 to {MAX_SIZE}")

    def __call__(self, image: Path | NDArray[np.uint8]) -> "Tensor":
        """As `array`, as a tensor."""
        import torch  # seconds, which an export is predicted without

        return torch.from_numpy(self.array(image))

    def array(self, image: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Args: an image file (PNG, JPEG or DICOM), or uint8 [height, width]. Returns: uint8 [1, size, size].

        Raises:
            UserError: the file is missing, truncated, not an image, of another type, or too large; or the array
                is not gray bytes.
        """
        if not isinstance(image, np.ndarray):
            gray = read_gray(Path(image), 2 * self.size if self.scaled_jpeg else None)
        elif image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            raise UserError(f"image: found {image.dtype} {list(image.shape)}; expected uint8 [height, width]")
        elif image.shape == (self.size, self.size):  # of a prepared store
            return np.array(image)[None]
        else:
            gray = Image.fromarray(image)
        if gray.size != (self.size, self.size):
            gray = gray.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.array(gray)[None]


def read_gray(path: Path, least_side: int | None = None) -> Image.Image:
    """An image file as gray bytes (mode L); upright, as any viewer shows it; a JPEG smaller as `read_raster` says.

    Raises:
        UserError: the file is missing, truncated, not an image, of another type, or too large.
    """
    if is_dicom(path):
        return Image.fromarray(read_dicom(path, MAX_PIXELS))
    return read_raster(path, MAX_PIXELS, least_side)
