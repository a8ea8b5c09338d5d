"""Small random changes of images, each a pure function of a seed."""

import torch
from torch import Tensor
from torch.nn import functional

from vkd_pyro.utils.errors import UserError


class Augmentation:
    """Small random rotation, shift, scale, brightness and contrast of gray images; never a flip (the heart is left).

    Args:
        degrees: largest rotation, in [0, 180].
        shift: largest shift, as a share of the side, in [0, 1].
        scale: largest relative change of size, in [0, 0.9].
        contrast: largest relative change of contrast, and of brightness, in [0, 1].

    Raises:
        UserError: one of them is outside its range.
    """

    def __init__(self, degrees: float = 10.0, shift: float = 0.06, scale: float = 0.1, contrast: float = 0.2) -> None:
        self.degrees, self.shift, self.scale, self.contrast = degrees, shift, scale, contrast
        for name, most in {"degrees": 180, "shift": 1, "scale": 0.9, "contrast": 1}.items():
            if not 0 <= getattr(self, name) <= most:
                raise UserError(
                    f"data.loading.augmentation.{name}: found {getattr(self, name):g}, expected 0 to {most}"
                )
        self._middle = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
        self._largest = torch.tensor([degrees, shift, shift, scale, contrast, contrast])

    def parameters(self, seed: int) -> Tensor:
        """float32 [6], what is done to an image, each uniform in its range; a pure function of the seed.

        The angle, in degrees, clockwise; the shifts to the right and down, in sides; the scale; the factors of
        brightness and of contrast.
        """
        uniform = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        return torch.addcmul(self._middle, self._largest, uniform.mul_(2).sub_(1))

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Each image by its own parameters, about its middle; what comes from outside the image is black.

        Args:
            images: float [B, 1, size, size] in [0, 1].
            parameters: float [B, 6], see `parameters`; on the same device.

        Returns:
            The same shape and range. On a CPU an image is the same to the bit, whatever else is in the batch.
        """
        moved = functional.grid_sample(images, _grid(parameters, images.shape[-1]), align_corners=False)
        brightness, contrast = parameters[:, 4:, None, None, None].unbind(1)
        bright = moved.mul_(brightness).clamp_(0, 1)
        # The mean row by row: summed at once, its last bit would depend on the number of threads.
        mean = bright.mean(-1, keepdim=True).mean(-2, keepdim=True)
        return bright.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """One random version of an image, float [1, size, size] in [0, 1]; a pure function of image and seed.

        Of several images, [..., 1, size, size], all are changed alike.
        """
        images = image.reshape(-1, *image.shape[-3:])
        parameters = self.parameters(seed).to(image.device).expand(len(images), -1)
        return self.apply(images, parameters).reshape(image.shape)


def _grid(parameters: Tensor, size: int) -> Tensor:
    """float [B, size, size, 2], where each pixel comes from: (x, y), in [-1, 1] from edge to edge.

    `affine_grid` does it by a matrix product, which a GPU may round to 10 bits: a tenth of a pixel.
    """
    degrees, right, down, scale = parameters[:, :4, None].unbind(1)
    cos, sin = degrees.deg2rad().cos() / scale, degrees.deg2rad().sin() / scale
    places = (torch.arange(size, device=parameters.device) * 2 + 1) / size - 1
    x, y = places - 2 * right, places - 2 * down  # [B, size]
    columns = torch.stack((cos * x, -sin * x), -1)[:, None, :]
    rows = torch.stack((sin * y, cos * y), -1)[:, :, None]
    return columns + rows
