"""KL with a weight for each side."""

from pyro.distributions.util import detach
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence
from vkd_pyro.distributions.divergences.kl import KL
from vkd_pyro.utils.errors import check_number


class BalancedKL(Divergence):
    """KL balancing: w_prior KL(stop(q) || p) + w_posterior KL(q || stop(p)).

    Its value is (w_prior + w_posterior) KL(q || p); the two weights say how hard the prior is pulled to the posterior
    and the posterior to the prior (Hafner et al. 2021, "Mastering Atari with discrete world models", Sec. 2.2).
    A stopped distribution is a copy whose every tensor is detached, the weights of a flow's networks as well.
    """

    def __init__(self, prior_weight: float = 0.8, posterior_weight: float = 0.2) -> None:
        check_number("BalancedKL.prior_weight", prior_weight)
        check_number("BalancedKL.posterior_weight", posterior_weight)
        self.prior_weight, self.posterior_weight = prior_weight, posterior_weight

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        kl = KL()
        pull_prior = kl(detach(q), p, z.detach())
        pull_posterior = kl(q, detach(p), z)
        return self.prior_weight * pull_prior + self.posterior_weight * pull_posterior
