"""A prior without parameters."""

import pyro.distributions as dist
import torch
from torch import Tensor

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import Family


class StandardNormal(Family):
    """z ~ Normal(0, 1), whatever the features: the prior of a plain variational auto-encoder.

    For a prior only. It has no parameters and does not depend on the image: p(y | x_I) then learns from the image
    through the likelihood's own view of the features, or not at all.

    Args:
        in_features: width of the features, of which it takes the number of rows.
        latent_dim: D.
    """

    prior_only = True

    def __init__(self, in_features: int, latent_dim: int) -> None:
        super().__init__()
        self.in_features, self.latent_dim = in_features, latent_dim

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        loc = full_precision(features).new_zeros(len(features), self.latent_dim)
        return dist.Normal(loc, torch.ones_like(loc)).to_event(1)
