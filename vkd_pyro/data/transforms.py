"""From an image file to a tensor, the same way in training and in deployment; and augmentation."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from vkd_pyro.errors import UserError

MAX_PIXELS = 40_000_000
READABLE_FORMATS = ("PNG", "JPEG")


@dataclass(frozen=True)
class ImageTransform:
    """Reads an X-ray as gray and resizes it to a square; the aspect ratio is not kept.

    Attributes:
        size: side of the result, in pixels.
    """

    size: int = 224

    def __call__(self, image: Path | NDArray[np.uint8]) -> Tensor:
        """Args: an image file (PNG or JPEG), or uint8 [height, width]. Returns: uint8 [1, size, size].

        Raises:
            UserError: the file is missing, truncated, not an image, of another type, or too large.
        """
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else _open_gray(image)
        if picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(picture, dtype=np.uint8))[None]


def _open_gray(path: Path) -> Image.Image:
    try:
        with (
            warnings.catch_warnings(
                action="ignore", category=Image.DecompressionBombWarning
            ),  # the limit below is lower
            Image.open(path, formats=READABLE_FORMATS) as picture,
        ):
            if picture.width * picture.height > MAX_PIXELS:
                raise UserError(
                    f"{path}: {picture.width} x {picture.height} pixels, more than the limit of {MAX_PIXELS:,}; "
                    "make it smaller"
                )
            if picture.mode.startswith("I"):  # 16 bit: PIL's own conversion to gray would clip, not scale
                pixels = np.asarray(picture, dtype=np.float32)
                return Image.fromarray((pixels / 65535 * 255).round().clip(0, 255).astype(np.uint8))
            # By way of RGBA, since PIL warns where a palette has transparency.
            return (picture.convert("RGBA") if picture.mode == "P" else picture).convert("L")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        found = f"{type(error).__name__}: {error}" if str(path) not in str(error) else "not a PNG or JPEG"
        raise UserError(f"{path}: unreadable or truncated image ({found}); expected a whole PNG or JPEG") from error


class Augmentation:
    """Small random rotation, shift, scale, brightness and contrast of a gray image; never a flip (the heart is left).

    Args:
        degrees: largest rotation.
        shift: largest shift, as a share of the side.
        scale: largest relative change of size.
        contrast: largest relative change of contrast, and of brightness.
    """

    def __init__(self, degrees: float = 10.0, shift: float = 0.06, scale: float = 0.1, contrast: float = 0.2) -> None:
        self.degrees, self.shift, self.scale, self.contrast = degrees, shift, scale, contrast
        self._transform = v2.Compose(
            [
                v2.RandomAffine(
                    degrees,
                    translate=(shift, shift),
                    scale=(1 - scale, 1 + scale),
                    interpolation=v2.InterpolationMode.BILINEAR,
                ),
                v2.ColorJitter(brightness=contrast, contrast=contrast),
            ]
        )

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """One random version of an image, float [1, size, size] in [0, 1]; a pure function of image and seed."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._transform(image)
