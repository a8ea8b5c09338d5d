"""How far the posterior q(z | x_T) is from the prior p(z | x_I): what the objective charges for the report.

To add one: a file like `reverse_kl.py`.

================  =====================================  ============================================================
divergence        closed form                            otherwise, by Monte Carlo
================  =====================================  ============================================================
`KL`              normals, Laplace; any q with an        unbiased, draws of q
                  entropy to a diagonal normal p
`ReverseKL`       the same, q and p exchanged            unbiased, draws of p
`BalancedKL`      as `KL`                                as `KL`
`FreeBits`        as its inner divergence                as its inner divergence; a dimension each needs independent
                                                         dimensions
`JensenShannon`   none                                   unbiased, draws of both
`Renyi`           diagonal normals                       biased towards `KL` with few draws
`Wasserstein2`    diagonal normals                       refused
`MMD`             none                                   unbiased, draws of both, at least two
================  =====================================  ============================================================

Draws are as many as the objective's `num_auxiliary_particles`; all gradients go through reparametrised draws.
"""

from vkd_pyro.distributions.divergences.balanced_kl import BalancedKL
from vkd_pyro.distributions.divergences.base import Divergence
from vkd_pyro.distributions.divergences.free_bits import FreeBits
from vkd_pyro.distributions.divergences.jensen_shannon import JensenShannon
from vkd_pyro.distributions.divergences.kl import KL
from vkd_pyro.distributions.divergences.mmd import MMD
from vkd_pyro.distributions.divergences.renyi import Renyi
from vkd_pyro.distributions.divergences.reverse_kl import ReverseKL
from vkd_pyro.distributions.divergences.wasserstein2 import Wasserstein2

__all__ = [
    "KL",
    "MMD",
    "BalancedKL",
    "Divergence",
    "FreeBits",
    "JensenShannon",
    "Renyi",
    "ReverseKL",
    "Wasserstein2",
]
