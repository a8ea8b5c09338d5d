"""Several modes, all read off the features."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.distributions.families.diagonal_normal_mixture import DiagonalNormalMixture
from vkd_pyro.utils.errors import check_count


class NormalMixture(NetworkFamily):
    """z ~ sum_k pi_k Normal(loc_k, scale_k): weights and components all read off the features.

    Components are independent over dimensions. Gradients: see `DiagonalNormalMixture`. The components start a few
    standard deviations apart, whatever D is: near enough to exchange mass, and not all the same.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
        num_components: K.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        num_components: int = 5,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        check_count("NormalMixture.num_components", num_components)
        self.num_components = num_components
        self.locs_and_scales = nn.Linear(mlp.out_features(in_features), 2 * num_components * latent_dim)
        self.logits = nn.Linear(mlp.out_features(in_features), num_components)
        nn.init.normal_(self.locs_and_scales.bias[: num_components * latent_dim], std=2 / latent_dim**0.5)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a mixture, batch shape [B], event shape [latent_dim]."""
        hidden = self.network(features)
        raw = full_precision(self.locs_and_scales(hidden)).unflatten(-1, (2, self.num_components, self.latent_dim))
        locs, raw_scales = raw.unbind(-3)
        return DiagonalNormalMixture(full_precision(self.logits(hidden)), locs, softplus(raw_scales) + MIN_SCALE)
