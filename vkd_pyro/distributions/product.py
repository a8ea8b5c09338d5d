"""Products of experts: several images of a study say one thing about z."""

import pyro.distributions as dist
import torch
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.utils.errors import UserError


def product(z: Distribution, group: Tensor) -> Distribution:
    """The normalised product of the distributions of each group, given to every row of it (a product of experts).

    Args:
        z: independent normals, batch shape [B], event shape [D].
        group: int64 [B], in 0 .. number of groups - 1.

    Raises:
        UserError: a family whose product is no member of it.
    """
    base = getattr(z, "base_dist", None)
    if not isinstance(base, torch.distributions.Normal):
        raise UserError(f"fusion: 'product' is known for the prior DiagonalNormal only, found {z}; use mean")
    precision = base.scale**-2
    shape = (int(group.max()) + 1, precision.shape[-1])
    total = precision.new_zeros(shape).index_add(0, group, precision)
    loc = precision.new_zeros(shape).index_add(0, group, precision * base.loc) / total
    return dist.Normal(loc[group], total[group] ** -0.5).to_event(1)
