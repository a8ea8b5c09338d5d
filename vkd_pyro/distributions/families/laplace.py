"""Independent dimensions with a peak and heavier tails than the normal's."""

import pyro.distributions as dist
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.families.loc_scale import LocScaleFamily


class Laplace(LocScaleFamily):
    """z ~ Laplace(loc(features), scale(features)), independent over dimensions: a peak, and tails of e^-|z|.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Laplace, batch shape [B], event shape [latent_dim]."""
        return dist.Laplace(*self.parameters_of(features)).to_event(1)
