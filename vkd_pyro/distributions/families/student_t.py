"""Independent dimensions with heavy tails."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.utils.errors import check_number


class StudentT(NetworkFamily):
    """z ~ StudentT(df, loc(features), scale(features)), independent over dimensions: heavy tails.

    More than four degrees of freedom, so that mean, variance and the spread of the variance's estimate are finite.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
        df: degrees of freedom, above 4; None reads them off the features, a number a dimension.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        df: float | None = None,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        if df is not None:  # null learns it
            check_number("StudentT.df", df, above=4)
        self.df = df
        self.loc_scale_and_df = nn.Linear(mlp.out_features(in_features), (3 if df is None else 2) * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: StudentT, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_scale_and_df(self.network(features)))
        loc, raw_scale, *raw_df = raw.split(self.latent_dim, dim=-1)
        df = 4 + MIN_SCALE + softplus(raw_df[0]) if self.df is None else torch.full_like(loc, self.df)
        return dist.StudentT(df, loc, softplus(raw_scale) + MIN_SCALE).to_event(1)
