"""The family of the paper: independent normals."""

import pyro.distributions as dist
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.families.loc_scale import LocScaleFamily


class DiagonalNormal(LocScaleFamily):
    """z ~ Normal(loc(features), scale(features)), independent over dimensions (paper, Sec. 3.4).

    Two hidden layers to loc and scale; scale = softplus(raw) + min_scale. Dropout follows each hidden layer, and the
    last has none.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
        min_scale: the floor of the scale, above 0: of a posterior that no KL holds, the scale would fall freely.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        return dist.Normal(*self.parameters_of(features)).to_event(1)
