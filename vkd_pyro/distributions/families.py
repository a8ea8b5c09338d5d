"""Families of one mode over z, each a network from features to a Pyro distribution.

=================  =======================================  =====================================================
family             z given the features                     parameters a dimension, beside the network
=================  =======================================  =====================================================
`DiagonalNormal`   Normal, independent dimensions           2
`LowRankNormal`    Normal, covariance of rank r + diagonal  2 + r
`FullNormal`       Normal, any covariance (D <= 64)         1 + (D + 1) / 2
`Laplace`          Laplace, independent dimensions          2
`StudentT`         Student's t, independent dimensions      2, or 3 with learned degrees of freedom
`StandardNormal`   Normal(0, 1), whatever the features      0; for a prior
=================  =======================================  =====================================================

Mixtures and flows have files of their own.
"""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import MIN_SCALE, Distribution, Family, NetworkFamily, full_precision, no_autocast
from vkd_pyro.utils.errors import UserError

MAX_FULL_DIM = 64


class LocScaleFamily(NetworkFamily):
    """A family of a location and a scale for each dimension, read off the features; scale = softplus(raw) + 1e-4.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def __init__(
        self, in_features: int, latent_dim: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5
    ) -> None:
        super().__init__(in_features, latent_dim, hidden, dropout)
        self.loc_and_scale = nn.Linear(self.hidden[-1], 2 * latent_dim)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Args: float [B, in_features]. Returns: loc and scale, float [B, latent_dim] each."""
        loc, raw_scale = full_precision(self.loc_and_scale(self.network(features))).chunk(2, dim=-1)
        return loc, softplus(raw_scale) + MIN_SCALE


class DiagonalNormal(LocScaleFamily):
    """z ~ Normal(loc(features), scale(features)), independent over dimensions (paper, Sec. 3.4).

    Two hidden layers to loc and scale; scale = softplus(raw) + 1e-4. Dropout follows each hidden layer, not the last.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        return dist.Normal(*self.parameters_of(features)).to_event(1)


class LowRankNormal(NetworkFamily):
    """z ~ Normal(loc, W W^T + diag(scale^2)): the few directions in which dimensions vary together.

    loc, scale and W, [D, rank], are read off the features. The density costs O(D rank^2).

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
        rank: columns of W.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        hidden: Sequence[int] = (512, 512),
        dropout: float = 0.5,
        rank: int = 8,
    ) -> None:
        super().__init__(in_features, latent_dim, hidden, dropout)
        if rank < 1:
            raise UserError(f"LowRankNormal.rank: found {rank}, expected at least 1; without W it is DiagonalNormal")
        self.rank = rank
        self.loc_scale_and_factor = nn.Linear(self.hidden[-1], (2 + rank) * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_scale_and_factor(self.network(features)))
        loc, raw_scale, factor = raw.split([self.latent_dim, self.latent_dim, self.rank * self.latent_dim], dim=-1)
        with no_autocast(raw):  # the constructor factorises I + W^T diag(scale)^-2 W
            return ExactLowRankNormal(
                loc, factor.unflatten(-1, (self.latent_dim, self.rank)), (softplus(raw_scale) + MIN_SCALE).square()
            )


class FullNormal(NetworkFamily):
    """z ~ Normal(loc, L L^T), L lower triangular: every dimension may vary with every other.

    The last layer alone has hidden[-1] D (D + 3) / 2 weights, and the density costs O(D^2): so D is at most 64.

    Args:
        in_features: width of the features.
        latent_dim: D, at most 64.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def __init__(
        self, in_features: int, latent_dim: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5
    ) -> None:
        if latent_dim > MAX_FULL_DIM:
            weights = tuple(hidden)[-1] * latent_dim * (latent_dim + 3) // 2
            raise UserError(
                f"FullNormal: latent_dim is {latent_dim}, and a full covariance of it needs {weights:,} weights; "
                f"at most {MAX_FULL_DIM}: set model.latent_dim lower, or take LowRankNormal"
            )
        super().__init__(in_features, latent_dim, hidden, dropout)
        self.loc_and_tril = nn.Linear(self.hidden[-1], latent_dim + latent_dim * (latent_dim + 1) // 2)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_and_tril(self.network(features)))
        loc, entries = raw[..., : self.latent_dim], raw[..., self.latent_dim :]
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, device=raw.device)
        tril = raw.new_zeros(*loc.shape, self.latent_dim)
        tril[..., rows, columns] = torch.where(rows == columns, softplus(entries) + MIN_SCALE, entries)
        return ExactNormal(loc, scale_tril=tril)


class _Exact:
    """Draws and densities in full precision, under autocast as well: they hold matrix products."""

    loc: Tensor

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """See `torch.distributions.Distribution`."""
        with no_autocast(self.loc):
            return super().rsample(sample_shape)  # type: ignore[misc]

    def log_prob(self, value: Tensor) -> Tensor:
        """See `torch.distributions.Distribution`."""
        with no_autocast(self.loc):
            return super().log_prob(value)  # type: ignore[misc]


class ExactLowRankNormal(_Exact, dist.LowRankMultivariateNormal):
    """A low-rank normal that autocast leaves alone."""


class ExactNormal(_Exact, dist.MultivariateNormal):
    """A full normal that autocast leaves alone."""


class Laplace(LocScaleFamily):
    """z ~ Laplace(loc(features), scale(features)), independent over dimensions: a peak, and tails of e^-|z|.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Laplace, batch shape [B], event shape [latent_dim]."""
        return dist.Laplace(*self.parameters_of(features)).to_event(1)


class StudentT(NetworkFamily):
    """z ~ StudentT(df, loc(features), scale(features)), independent over dimensions: heavy tails.

    More than four degrees of freedom, so that mean, variance and the spread of the variance's estimate are finite.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
        df: degrees of freedom, above 4; None reads them off the features, a number a dimension.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        hidden: Sequence[int] = (512, 512),
        dropout: float = 0.5,
        df: float | None = None,
    ) -> None:
        super().__init__(in_features, latent_dim, hidden, dropout)
        if df is not None and df <= 4:
            raise UserError(f"StudentT.df: found {df}, expected more than 4, or null to learn it")
        self.df = df
        self.loc_scale_and_df = nn.Linear(self.hidden[-1], (3 if df is None else 2) * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: StudentT, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_scale_and_df(self.network(features)))
        loc, raw_scale, *raw_df = raw.split(self.latent_dim, dim=-1)
        df = 4 + MIN_SCALE + softplus(raw_df[0]) if self.df is None else torch.full_like(loc, self.df)
        return dist.StudentT(df, loc, softplus(raw_scale) + MIN_SCALE).to_event(1)


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


def product(z: Distribution, group: Tensor) -> Distribution:
    """The normalised product of the distributions of each group, given to every row of it (a product of experts).

    Args:
        z: independent normals, batch shape [B], event shape [D].
        group: int64 [B], in 0 .. number of groups - 1.

    Raises:
        UserError: a family whose product is no member of it.
    """
    base = getattr(z, "base_dist", None)
    if not isinstance(base, torch.distributions.Normal):
        raise UserError(f"fusion: 'product' is known for the prior DiagonalNormal only, found {z}; use mean")
    precision = base.scale**-2
    shape = (int(group.max()) + 1, precision.shape[-1])
    total = precision.new_zeros(shape).index_add(0, group, precision)
    loc = precision.new_zeros(shape).index_add(0, group, precision * base.loc) / total
    return dist.Normal(loc[group], total[group] ** -0.5).to_event(1)
