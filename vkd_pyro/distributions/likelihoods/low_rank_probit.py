"""Labels that go together given z."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.special import log_ndtr, ndtr

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.distributions.likelihoods.base import Head, NetworkLikelihood
from vkd_pyro.utils.errors import check_count


class LowRankProbit(TorchDistribution):
    """y_k = 1[loc_k + (L u)_k + e_k > 0], u ~ Normal(0, I_r), e_k ~ Normal(0, 1): binary labels that share causes u.

        p(y) = E_u prod_k Phi((2 y_k - 1)(loc_k + (L u)_k)),   p(y_k = 1) = Phi(loc_k / sqrt(1 + |L_k|^2))

    The expectation is taken by Gauss-Hermite quadrature with num_nodes^r nodes. Whatever their number, p(y) sums to 1
    over all y; its error grows with |L_k| and with how much labels contradict each other. The largest error of log p(y)
    for 14 findings, loc -1 and rank 1, loadings of either sign (of one sign alone it is up to ten times less): with 64
    nodes 6e-5 at |L_k| = 1, 0.015 at 1.5, 0.8 at 3; with 24 nodes 0.04, 0.4 and 3.4. Marginals are exact. A label that
    is not known is left out of the product, which integrates it out: `.mask` could not, since labels are dependent.

    Args:
        loc: float [..., K].
        loadings: L, float [K, r].
        known: bool, broadcastable to loc; None is all known.
        num_nodes: of the quadrature, along each dimension of u.
    """

    arg_constraints = {"loc": constraints.real_vector, "loadings": constraints.independent(constraints.real, 2)}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(
        self,
        loc: Tensor,
        loadings: Tensor,
        known: Tensor | None = None,
        num_nodes: int = 64,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.loadings, self.known, self.num_nodes = loc, loadings, known, num_nodes
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LowRankProbit":
        """The same with another batch shape; nothing is copied."""
        loc = self.loc.expand(Size(batch_shape) + self.event_shape)
        return LowRankProbit(loc, self.loadings, self.known, self.num_nodes, self._validate_args)

    @property
    def mean(self) -> Tensor:
        """p(y_k = 1), float [..., K]."""
        return ndtr(self.loc / (1 + self.loadings.square().sum(-1)).sqrt())

    @property
    def variance(self) -> Tensor:
        """p(y_k = 1) (1 - p(y_k = 1)), float [..., K]."""
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Float [*sample_shape, ..., K] of 0 and 1; of unknown labels as well."""
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            u = torch.randn(*shape, self.loadings.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
            return torch.bernoulli(ndtr(self.loc + self._shared(u)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p of the known labels, float [...]."""
        if self._validate_args:
            self._validate_sample(value)
        nodes, log_weights = (torch.as_tensor(array).to(self.loc) for array in _quadrature(self.num_nodes, self.rank))
        sign = (2 * value - 1).unsqueeze(-2)
        terms = log_ndtr(sign * (self.loc.unsqueeze(-2) + self._shared(nodes)))  # [..., nodes, K]
        if self.known is not None:
            terms = torch.where(self.known.unsqueeze(-2), terms, 0.0)
        return (log_weights + terms.sum(-1)).logsumexp(-1)

    @property
    def rank(self) -> int:
        """r."""
        return self.loadings.shape[-1]

    def _shared(self, u: Tensor) -> Tensor:
        """L u: float [..., r] -> float [..., K]; by sums, which autocast leaves in full precision."""
        return (self.loadings * u.unsqueeze(-2)).sum(-1)


@lru_cache
def _quadrature(num_nodes: int, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes of u ~ Normal(0, I_r), float64 [num_nodes^r, r], and the logarithms of their weights, which sum to 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    log_weights = np.log(weights / weights.sum())
    grid, log_weights_of_grid = (
        np.stack(np.meshgrid(*[axis] * rank, indexing="ij"), axis=-1).reshape(-1, rank) for axis in (nodes, log_weights)
    )
    return grid, log_weights_of_grid.sum(-1)


class LowRankProbitLikelihood(NetworkLikelihood):
    """Labels that go together given z: `LowRankProbit` with loc = f([features, z]) and one matrix L for all studies.

    Soft targets are refused: the expected log-probability of dependent labels is a sum over all their combinations.

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        head: settings of f.
        rank: r, the number of causes that labels share: 1 or 2.
        num_nodes: of the quadrature, along each dimension; the cost grows with num_nodes^rank, so take 24 for rank 2.

    Raises:
        UserError: another rank, or less than 2 nodes.
    """

    independent_given_z = False

    def __init__(
        self,
        latent_dim: int,
        num_findings: int,
        features_dim: int = 0,
        head: Head = Head(),
        rank: int = 1,
        num_nodes: int = 64,
    ) -> None:
        super().__init__(latent_dim, num_findings, features_dim, head)
        check_count("LowRankProbitLikelihood.rank", rank, most=2)  # the quadrature's nodes grow as num_nodes^rank
        check_count("LowRankProbitLikelihood.num_nodes", num_nodes, least=2)
        self.rank, self.num_nodes = rank, num_nodes
        self.loadings = nn.Parameter(0.3 * torch.randn(num_findings, rank))  # at 0 there is no gradient

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """Labels given z: batch shape [..., B], event shape [K]."""
        loc = self.outputs(z, features)
        return LowRankProbit(loc, full_precision(self.loadings), known, self.num_nodes)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""
        return self(z, features).mean

    def none_probability(self, z: Tensor, findings: Sequence[int], features: Tensor | None = None) -> Tensor:
        """p(none of these findings | z, features), float [..., B] in [0, 1], the causes they share integrated out."""
        asked = torch.zeros(self.num_findings, dtype=torch.bool, device=z.device)
        asked[list(findings)] = True
        return self.forward(z, features, asked).log_prob(z.new_zeros(self.num_findings)).exp()
