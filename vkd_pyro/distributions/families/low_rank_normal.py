"""Normals whose dimensions vary together in a few directions."""

from collections.abc import Callable

import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.distributions.families.exact import Exact
from vkd_pyro.utils.errors import check_count


class LowRankNormal(NetworkFamily):
    """z ~ Normal(loc, W W^T + diag(scale^2)): the few directions in which dimensions vary together.

    loc, scale and W, [D, rank], are read off the features. The density costs O(D rank^2).

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
        rank: columns of W.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        rank: int = 8,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        check_count("LowRankNormal.rank", rank)
        self.rank = rank
        self.loc_scale_and_factor = nn.Linear(mlp.out_features(in_features), (2 + rank) * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_scale_and_factor(self.network(features)))
        loc, raw_scale, factor = raw.split([self.latent_dim, self.latent_dim, self.rank * self.latent_dim], dim=-1)
        scale = softplus(raw_scale.double()) + MIN_SCALE
        return ExactLowRankNormal(loc, factor.unflatten(-1, (self.latent_dim, self.rank)), scale.square())


class ExactLowRankNormal(Exact, dist.LowRankMultivariateNormal):
    """A low-rank normal in float64."""

    def of_noise(self, draw: Callable[[int], Tensor]) -> Tensor:
        """loc + W e_1 + scale e_2, float64 [..., D]."""
        shared, own = draw(self.cov_factor.shape[-1]), draw(self.event_shape[0])
        return self.loc + (self.cov_factor @ shared.unsqueeze(-1)).squeeze(-1) + self.cov_diag.sqrt() * own
