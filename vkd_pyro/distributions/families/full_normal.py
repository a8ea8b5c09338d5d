"""Normals of any covariance."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.distributions.families.exact import Exact
from vkd_pyro.utils.errors import UserError

MAX_FULL_DIM = 64


class FullNormal(NetworkFamily):
    """z ~ Normal(loc, L L^T), L = diag(scale) (I + A), A below the diagonal: every dimension may vary with every other.

    The scale of a dimension multiplies its whole row: where it gets small the correlations stay what they are, and the
    equations of the density stay well posed. The last layer alone has H D (D + 3) / 2 weights, H the width before it,
    and the density costs O(D^2): so D is at most 64.

    Args:
        in_features: width of the features.
        latent_dim: D, at most 64.
        mlp: the network's settings.
    """

    def __init__(self, in_features: int, latent_dim: int, mlp: MLP = MLP()) -> None:
        if latent_dim > MAX_FULL_DIM:
            weights = mlp.out_features(in_features) * latent_dim * (latent_dim + 3) // 2
            raise UserError(
                f"FullNormal: latent_dim is {latent_dim}, and a full covariance of it needs {weights:,} weights; "
                f"at most {MAX_FULL_DIM}: set latent_dim lower, or take LowRankNormal"
            )
        super().__init__(in_features, latent_dim, mlp)
        self.loc_and_tril = nn.Linear(mlp.out_features(in_features), latent_dim + latent_dim * (latent_dim + 1) // 2)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        raw = full_precision(self.loc_and_tril(self.network(features)))
        loc, entries = raw[..., : self.latent_dim], raw[..., self.latent_dim :]
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, device=raw.device)
        unit = torch.zeros(*loc.shape, self.latent_dim, dtype=torch.float64, device=raw.device)
        unit[..., rows, columns] = torch.where(rows == columns, 1.0, entries.double())
        scale = softplus(entries[..., rows == columns].double()) + MIN_SCALE
        return ExactNormal(loc, scale_tril=scale.unsqueeze(-1) * unit)


class ExactNormal(Exact, dist.MultivariateNormal):
    """A full normal in float64."""

    def of_noise(self, draw: Callable[[int], Tensor]) -> Tensor:
        """loc + L e, float64 [..., D]."""
        return self.loc + (self.scale_tril @ draw(self.event_shape[0]).unsqueeze(-1)).squeeze(-1)
