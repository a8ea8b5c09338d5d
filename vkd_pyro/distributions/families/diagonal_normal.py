"""The family of the paper: independent normals."""

import pyro.distributions as dist
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.families.loc_scale import LocScaleFamily


class DiagonalNormal(LocScaleFamily):
    """z ~ Normal(loc(features), scale(features)), independent over dimensions (paper, Sec. 3.4).

    Two hidden layers to loc and scale; scale = softplus(raw) + 1e-4. Dropout follows each hidden layer, not the last.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        return dist.Normal(*self.parameters_of(features)).to_event(1)
