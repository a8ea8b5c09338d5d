"""An image encoder that stays as it was pretrained, and a small network on its features, which is what is trained."""

from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.image import ImageEncoder, encode
from vkd_pyro.utils.errors import check_count, check_probability
from vkd_pyro.utils.precision import full_precision
from vkd_pyro.utils.serialization import describe, hash_of_weights


def projection(features_dim: int, width: int, dropout: float, input_dropout: float) -> nn.Sequential:
    """The small network on a backbone's features; float [B, features_dim] -> [B, width]."""
    return nn.Sequential(
        nn.BatchNorm1d(features_dim, affine=False),
        nn.Dropout(input_dropout),
        nn.Linear(features_dim, width),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class FrozenImageEncoder(ImageEncoder):
    """features = network(backbone(x_I)), of which the backbone is never trained.

        network: batch normalisation without parameters, dropout, Linear, ReLU, dropout

    As the backbone does not change, its features can be computed once for all: `vkd prepare --features` writes them, of
    each image and of augmented versions of it, and a training then takes seconds an epoch. Images and features are
    taken alike, so what was trained on features reads images.

    Args:
        backbone: a pretrained image encoder.
        width: of the features.
        dropout: probability, on the features.
        input_dropout: probability, on the backbone's features.
    """

    def __init__(
        self, backbone: ImageEncoder, width: int = 256, dropout: float = 0.5, input_dropout: float = 0.2
    ) -> None:
        super().__init__()
        check_count("FrozenImageEncoder.width", width)
        check_probability("FrozenImageEncoder.dropout", dropout)
        check_probability("FrozenImageEncoder.input_dropout", input_dropout)
        self.backbone = backbone.requires_grad_(False).eval()
        self.width = self.features_dim = width
        self.dropout, self.input_dropout = dropout, input_dropout
        self.network = projection(backbone.features_dim, width, dropout, input_dropout)

    def train(self, mode: bool = True) -> Self:
        """The backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1], or features of them, float [B, F]. Returns: [B, width]."""
        features = images if images.dim() == 2 else self.backbone(images)
        return full_precision(self.network(features))

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """The backbone's features. Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, F]."""
        return encode(self.backbone, images)

    @cached_property
    def feature_preparation(self) -> dict[str, Any]:
        """What the backbone's features depend on, for JSON: a store of features serves encoders with the same only."""
        weights = hash_of_weights(self.backbone.state_dict())
        of_class = {"backbone": describe(self.backbone)["class_path"], "weights": weights}
        return of_class | self.backbone.feature_options
