"""A bounded divergence."""

import math

import torch
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence, draws_of
from vkd_pyro.utils.errors import UserError


class JensenShannon(Divergence):
    """(1 - w) KL(q || m) + w KL(p || m), with m = (1 - w) q + w p: bounded, and defined wherever q and p lie.

    By Monte Carlo, for any two families (Lin 1991, "Divergence measures based on the Shannon entropy"). At most log 2
    for w = 1/2, and flat near that: where q and p lie far apart, as they soon do in many dimensions, it hardly pulls.

    Args:
        weight: w, the share of the prior.
    """

    def __init__(self, weight: float = 0.5) -> None:
        if not 0 < weight < 1:
            raise UserError(f"JensenShannon.weight: found {weight}, expected a share between 0 and 1")
        self.weight = weight

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        from_q, from_p = self._log_ratios(q, p, z)[0], self._log_ratios(q, p, draws_of(p, len(z)))[1]
        return ((1 - self.weight) * from_q + self.weight * from_p).mean(0)

    def _log_ratios(self, q: Distribution, p: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
        """log q/m and log p/m at z, float [L, B]."""
        log_q, log_p = q.log_prob(z), p.log_prob(z)
        log_m = torch.logaddexp(log_q + math.log(1 - self.weight), log_p + math.log(self.weight))
        return log_q - log_m, log_p - log_m
