"""A family of divergences with KL at its end."""

import math

from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Normal

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence, base_of
from vkd_pyro.utils.errors import UserError


class Renyi(Divergence):
    """D_alpha(q || p) = log E_q[(q / p)^(alpha - 1)] / (alpha - 1), which is KL(q || p) as alpha goes to 1.

    A smaller alpha forgives a posterior that is wider than the prior (Li & Turner 2016, "Renyi divergence variational
    inference", arXiv 1602.02311). Closed form for diagonal normals (Gil et al. 2013), else the logarithm of a mean
    over the draws, which is biased: with one draw it is the estimate of the KL.

    Args:
        alpha: in (0, 1).
    """

    def __init__(self, alpha: float = 0.5) -> None:
        if not 0 < alpha < 1:
            raise UserError(
                f"Renyi.alpha: found {alpha}, expected between 0 and 1; at 1 it is KL, and above it is infinite where "
                "the posterior is wider than the prior"
            )
        self.alpha = alpha

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        alpha, q_base, p_base = self.alpha, base_of(q), base_of(p)
        if isinstance(q_base, Normal) and isinstance(p_base, Normal):
            variance = alpha * p_base.variance + (1 - alpha) * q_base.variance
            log_scales = (1 - alpha) * q_base.scale.log() + alpha * p_base.scale.log() - variance.log() / 2
            squares = (q_base.loc - p_base.loc).square() / variance
            return sum_rightmost(alpha * squares / 2 + log_scales / (alpha - 1), len(q.event_shape))
        log_ratios = (alpha - 1) * (q.log_prob(z) - p.log_prob(z))
        return (log_ratios.logsumexp(0) - math.log(len(z))) / (alpha - 1)
