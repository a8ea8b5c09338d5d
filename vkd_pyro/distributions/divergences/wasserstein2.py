"""How far mass has to be moved."""

from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Normal

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence, base_of, name_of
from vkd_pyro.utils.errors import UserError


class Wasserstein2(Divergence):
    """The squared 2-Wasserstein distance of diagonal normals, |loc_q - loc_p|^2 + |scale_q - scale_p|^2.

    Not in nats, so `kl_scale` means something else. Dowson & Landau 1982, "The Frechet distance between multivariate
    normal distributions".
    """

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Squared distance of each study, not in nats; float [B]."""
        q_base, p_base = base_of(q), base_of(p)
        for family, base in ((q, q_base), (p, p_base)):
            if not isinstance(base, Normal):
                raise UserError(
                    f"Wasserstein2: known for diagonal normals only, found {name_of(family)}; "
                    "take DiagonalNormal, or MMD"
                )
        squares = (q_base.loc - p_base.loc).square() + (q_base.scale - p_base.scale).square()
        return sum_rightmost(squares, len(q.event_shape))
