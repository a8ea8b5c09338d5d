"""Families of a location and a scale."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import full_precision
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.utils.errors import check_number


class LocScaleFamily(NetworkFamily):
    """A family of a location and a scale for each dimension, read off the features; scale = softplus(raw) + floor.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: the network's settings.
        min_scale: the floor of the scale, above 0.

    Raises:
        UserError: a floor that is none.
    """

    def __init__(self, in_features: int, latent_dim: int, mlp: MLP = MLP(), min_scale: float = MIN_SCALE) -> None:
        super().__init__(in_features, latent_dim, mlp)
        check_number(f"{type(self).__name__}.min_scale", min_scale, above=0)
        self.min_scale = min_scale
        self.loc_and_scale = nn.Linear(mlp.out_features(in_features), 2 * latent_dim)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Args: float [B, in_features]. Returns: loc and scale, float [B, latent_dim] each."""
        loc, raw_scale = full_precision(self.loc_and_scale(self.network(features))).chunk(2, dim=-1)
        return loc, softplus(raw_scale) + self.min_scale
