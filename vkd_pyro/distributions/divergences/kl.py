"""The divergence of the paper."""

from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vkd_pyro.distributions.base import Distribution, no_autocast
from vkd_pyro.distributions.divergences.base import Divergence, base_of


class KL(Divergence):
    """KL(q || p), summed over dimensions: analytic where known, else the mean over z ~ q of log q(z) - log p(z)."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        with no_autocast(z):
            for closed_form in (kl_divergence, _kl_to_diagonal_normal):
                try:
                    return closed_form(q, p)
                except NotImplementedError:
                    continue
            return (q.log_prob(z) - p.log_prob(z)).mean(0)


def _kl_to_diagonal_normal(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) = - H(q) - log p(E_q z) + sum Var_q z / (2 Var p), for any q whose entropy H is known."""
    if not isinstance(base_of(p), Normal):
        raise NotImplementedError
    entropy = q.entropy()  # first: where there is none, the moments may be dear
    return sum_rightmost(q.variance / (2 * p.variance), len(p.event_shape)) - p.log_prob(q.mean) - entropy
