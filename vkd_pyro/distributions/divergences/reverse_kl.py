"""KL the other way round."""

from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence, draws_of
from vkd_pyro.distributions.divergences.kl import KL


class ReverseKL(Divergence):
    """KL(p || q): the posterior covers the prior, rather than settle within it. Draws are of p."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        return KL()(p, q, draws_of(p, len(z)))
