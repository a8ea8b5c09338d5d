"""A prior of several modes that are learned, whatever the features."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, Family
from vkd_pyro.distributions.families.diagonal_normal_mixture import DiagonalNormalMixture
from vkd_pyro.utils.errors import check_count


class VampPrior(Family):
    """z ~ 1/C sum_c Normal(loc(u_c), scale(u_c)): what a network makes of C learned pseudo-features u.

    For a prior only, and it does not depend on the image: it learns where posteriors lie on the whole. After Tomczak &
    Welling 2018, "VAE with a VampPrior" (arXiv 1705.07120), whose network is the posterior's own; the report branch is
    not part of the image-only model, so here it is one of the prior's.

    Args:
        in_features: width of the features, and of the pseudo-features.
        latent_dim: D.
        mlp: the network's settings.
        num_components: C.
    """

    prior_only = True

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        num_components: int = 50,
    ) -> None:
        super().__init__()
        self.in_features, self.latent_dim, self.mlp = in_features, latent_dim, mlp
        check_count("VampPrior.num_components", num_components)
        self.num_components = num_components
        self.pseudo_features = nn.Parameter(torch.randn(num_components, in_features))
        self.network = mlp.build(in_features)
        self.loc_and_scale = nn.Linear(mlp.out_features(in_features), 2 * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: one mixture B times, batch shape [B], event shape [latent_dim]."""
        locs, raw_scales = full_precision(self.loc_and_scale(self.network(self.pseudo_features))).chunk(2, dim=-1)
        mixture = DiagonalNormalMixture(locs.new_zeros(len(locs)), locs, softplus(raw_scales) + MIN_SCALE)
        return mixture.expand((len(features),))
