"""A family of any shape: independent normals, bent by splines."""

from torch import Tensor

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.families.base import MLP, NetworkFamily
from vkd_pyro.distributions.families.coupling_flow import Couplings, zuko
from vkd_pyro.utils.errors import check_count


class SplineFlow(NetworkFamily):
    """z = loc + scale c_1(... c_T(e)), e ~ Normal(0, 1): a coupling maps every other dimension by a monotonic spline.

    The splines are rational quadratics on [-5, 5], the identity outside (Durkan et al. 2019, "Neural spline flows",
    arXiv 1906.04032), so that fewer couplings than in `Flow` reach several modes. They cost about ten times as much.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: settings of the network of the features; the couplings have no dropout.
        num_couplings: T.
        coupling_width: of the hidden layer of a coupling.
        num_bins: pieces of a spline.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        num_couplings: int = 2,
        coupling_width: int = 128,
        num_bins: int = 8,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        check_count("SplineFlow.num_couplings", num_couplings)
        check_count("SplineFlow.coupling_width", coupling_width)
        check_count("SplineFlow.num_bins", num_bins, least=2)
        self.num_couplings, self.coupling_width, self.num_bins = num_couplings, coupling_width, num_bins
        shapes = [(num_bins,), (num_bins,), (num_bins - 1,)]  # widths, heights, slopes
        self.flow = Couplings(
            latent_dim,
            mlp.out_features(in_features),
            num_couplings,
            coupling_width,
            univariate=zuko.transforms.MonotonicRQSTransform,
            shapes=shapes,
        )

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a flow, batch shape [B], event shape [latent_dim]."""
        return self.flow(full_precision(self.network(features)))
