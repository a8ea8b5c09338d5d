"""A mixture of diagonal normals whose samples have gradients."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Categorical, Normal, constraints
from torch.nn.functional import pad
from torch.special import log_ndtr


class DiagonalNormalMixture(TorchDistribution):
    """q(z) = sum_k pi_k prod_i Normal(z_i; loc_ki, scale_ki), with pathwise gradients of its samples.

    A sample is drawn exactly (a component, then its normal), and its derivative by each parameter is a velocity v
    that moves samples as the density moves, d q / d theta = - div(q v) (Jankowiak & Karaletsos 2018, "Pathwise
    derivatives for multivariate distributions", arXiv 1806.01856). With r_k = pi_k N_k(z) / q(z):

        loc_k, scale_k   r_k, and r_k (z - loc_k) / scale_k: each component carries its share of the sample
        pi_k             mass goes from all components m to k, in proportion pi_m, one dimension i after the other:
                         v_i = sum_m pi_m  prod_{j<i} N_kj  prod_{j>i} N_mj  (Phi_mi - Phi_ki) / q

    Unbiased for all three. The derivative by the weights has a large variance where components lie far apart, since
    little of q lies between them: clip gradients. First derivatives only. Ratios of densities are taken in logarithms.
    Pyro's own `MixtureOfDiagNormals` (1.9.2) underflows to NaN from about 100 dimensions on, has no case of one
    dimension, and its derivative by the weights is not that of the integral for three components of scale 1.

    Args:
        logits: of the weights pi, float [..., K].
        locs, scales: of the components, float [..., K, D].
    """

    arg_constraints = {
        "logits": constraints.real_vector,
        "locs": constraints.independent(constraints.real, 2),
        "scales": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, logits: Tensor, locs: Tensor, scales: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.locs, self.scales = logits, locs, scales
        super().__init__(logits.shape[:-1], locs.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiagonalNormalMixture":
        """The same mixture with another batch shape; nothing is copied."""
        batch_shape = Size(batch_shape)
        logits = self.logits.expand(batch_shape + self.logits.shape[-1:])
        components = batch_shape + self.locs.shape[-2:]
        return DiagonalNormalMixture(
            logits, self.locs.expand(components), self.scales.expand(components), self._validate_args
        )

    @property
    def mean(self) -> Tensor:
        """sum_k pi_k loc_k, float [..., D]."""
        return (self._weights * self.locs).sum(-2)

    @property
    def variance(self) -> Tensor:
        """sum_k pi_k (scale_k^2 + loc_k^2) - mean^2, float [..., D]."""
        return (self._weights * (self.scales**2 + (self.locs - self.mean.unsqueeze(-2)) ** 2)).sum(-2)

    @property
    def _weights(self) -> Tensor:
        """pi, float [..., K, 1]."""
        return self.logits.softmax(-1).unsqueeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Args: float [..., D]. Returns: log q(z), float [...]."""
        return (self.logits.log_softmax(-1) + self._component_log_probs(value).sum(-1)).logsumexp(-1)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """Samples, float [*sample_shape, ..., D], whose gradients are those of the class's docstring."""
        with torch.no_grad():
            component = Categorical(logits=self.logits, validate_args=False).sample(Size(sample_shape))[..., None, None]
            shape = component.shape[:-1] + self.event_shape
            index = component.expand(shape)
            loc, scale = (x.expand(*shape[:-2], *x.shape[-2:]).gather(-2, index) for x in (self.locs, self.scales))
            z = torch.normal(loc, scale).squeeze(-2)
        parameters = (self.logits, self.locs, self.scales)
        return self._with_gradients(z) if torch.is_grad_enabled() and any(p.requires_grad for p in parameters) else z

    def _component_log_probs(self, z: Tensor) -> Tensor:
        """log N_ki, float [..., K, D]."""
        return Normal(self.locs, self.scales, validate_args=False).log_prob(z.unsqueeze(-2))

    def _with_gradients(self, z: Tensor) -> Tensor:
        """z, as a function of the parameters: each `moved(theta)` is 0, with derivative 1."""

        def moved(theta: Tensor) -> Tensor:
            return theta - theta.detach()

        with torch.no_grad():
            log_probs = self._component_log_probs(z)
            joint = self.logits.log_softmax(-1) + log_probs.sum(-1)
            log_q = joint.logsumexp(-1, keepdim=True)
            share = (joint - log_q).exp().unsqueeze(-1)
            white = (z.unsqueeze(-2) - self.locs) / self.scales
        z = z + (share * (moved(self.locs) + white * moved(self.scales))).sum(-2)
        if self.logits.requires_grad:
            z = z + (self._weight_velocity(log_probs, log_q, white) * moved(self._weights)).sum(-2)
        return z

    @torch.no_grad()
    def _weight_velocity(self, log_probs: Tensor, log_q: Tensor, white: Tensor) -> Tensor:
        """The velocity by pi_k.

        Args: log N_ki and (z - loc) / scale, float [..., K, D]; log q, float [..., 1]. Returns: float [..., K, D].
        """
        before, after = _sum_before(log_probs), _sum_before(log_probs.flip(-1)).flip(-1)
        log_path = before.unsqueeze(-2) + after.unsqueeze(-3) - log_q[..., None, None]  # [..., k, m, D]
        to, origin = white.unsqueeze(-2), white.unsqueeze(-3)
        # Phi(a) - Phi(b) = Phi(-b) - Phi(-a): of the two, the one in which the tails are small numbers, not near 1.
        side = torch.where(to + origin > 0, -1.0, 1.0).to(white.dtype)
        difference = (log_path + log_ndtr(side * origin)).exp() - (log_path + log_ndtr(side * to)).exp()
        return (self._weights.unsqueeze(-3) * side * difference).sum(-2)


def _sum_before(x: Tensor) -> Tensor:
    """For each entry of the last axis the sum of those before it; [..., D] -> [..., D]."""
    return pad(x[..., :-1], (1, 0)).cumsum(-1)
