"""The interface of a family of z, and the network in front of most of them."""

import abc
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from vkd_pyro.distributions.base import Distribution

MIN_SCALE = 1e-4


def mlp(in_features: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers, each followed by ReLU and dropout; [..., in_features] -> [..., hidden[-1]]."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((in_features, *hidden), hidden, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


class Family(nn.Module, abc.ABC):
    """A conditional distribution over z. A subclass keeps its constructor's arguments as attributes.

    Attributes:
        prior_only: whether it does not depend on the features, so that a report could teach it nothing.
    """

    prior_only: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a distribution, batch shape [B], event shape [latent_dim]."""


class NetworkFamily(Family):
    """A family whose parameters are read off a network's last hidden layer.

    Dropout follows each hidden layer; a subclass adds the layer that comes last, which has none.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def __init__(
        self, in_features: int, latent_dim: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.in_features, self.latent_dim, self.hidden, self.dropout = in_features, latent_dim, tuple(hidden), dropout
        self.network = mlp(in_features, self.hidden, dropout)
