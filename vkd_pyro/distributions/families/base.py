"""The interface of a family of z, and the network in front of most of them."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.utils.errors import UserError, check_probability

MIN_SCALE = 1e-4


@dataclass(frozen=True)
class MLP:
    """The network in front of a family: Linear, ReLU and dropout, once for each hidden layer.

    The layer that comes last, to the family's parameters, is the family's own and has no dropout.

    Args:
        hidden: widths of the hidden layers; none at all leaves the family's own layer, which is linear.
        dropout: probability.

    Raises:
        UserError: a width or probability that is none.
    """

    hidden: tuple[int, ...] = (512, 512)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        widths = self.hidden
        if not isinstance(widths, list | tuple) or not all(type(w) is int and w > 0 for w in widths):
            raise UserError(f"MLP.hidden: found {widths!r}, expected widths of layers, such as [512, 512], or []")
        check_probability("MLP.dropout", self.dropout)
        object.__setattr__(self, "hidden", tuple(widths))  # a list, from JSON

    def out_features(self, in_features: int) -> int:
        """Width of the last hidden layer; without any, of the features."""
        return self.hidden[-1] if self.hidden else in_features

    def build(self, in_features: int) -> nn.Sequential:
        """New layers with new weights; [..., in_features] -> [..., out_features]."""
        layers: list[nn.Module] = []
        for inputs, outputs in zip((in_features, *self.hidden), self.hidden, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(self.dropout)]
        return nn.Sequential(*layers)


class Family(nn.Module):
    """A conditional distribution over z. A subclass keeps its constructor's arguments as attributes.

    Attributes:
        prior_only: whether it does not depend on the features, so that a report could teach it nothing.
    """

    prior_only: ClassVar[bool] = False

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a distribution, batch shape [B], event shape [latent_dim]."""
        raise NotImplementedError


class NetworkFamily(Family):
    """A family whose parameters are read off a network's last hidden layer; a subclass adds the layer that comes last.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
    """

    def __init__(self, in_features: int, latent_dim: int, mlp: MLP = MLP()) -> None:
        super().__init__()
        self.in_features, self.latent_dim, self.mlp = in_features, latent_dim, mlp
        self.network = mlp.build(in_features)
