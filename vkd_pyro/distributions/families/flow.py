"""A family of any shape: independent normals, bent by affine couplings."""

from torch import Tensor

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MLP, NetworkFamily
from vkd_pyro.distributions.families.coupling_flow import Couplings
from vkd_pyro.utils.errors import check_count


class Flow(NetworkFamily):
    """z = loc + scale c_1(... c_T(e)), e ~ Normal(0, 1): a coupling scales and shifts every other dimension of z.

    (Dinh et al. 2017, "Density estimation using Real NVP", arXiv 1605.08803.) loc, scale and couplings all see the
    features. With latent_dim 1 there is nothing else for a coupling to look at. Sampling and density each cost T small
    networks; mean and variance are estimates.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: settings of the network of the features; the couplings have no dropout.
        num_couplings: T.
        coupling_width: of the hidden layer of a coupling.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        num_couplings: int = 4,
        coupling_width: int = 128,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        check_count("Flow.num_couplings", num_couplings)
        check_count("Flow.coupling_width", coupling_width)
        self.num_couplings, self.coupling_width = num_couplings, coupling_width
        self.flow = Couplings(latent_dim, mlp.out_features(in_features), num_couplings, coupling_width)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a flow, batch shape [B], event shape [latent_dim]."""
        return self.flow(full_precision(self.network(features)))
