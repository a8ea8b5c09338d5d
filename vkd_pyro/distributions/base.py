"""What families, likelihoods and divergences share: the type of a distribution, full precision."""

import pyro.distributions as dist
import torch
from torch import Tensor

from vkd_pyro.utils.precision import full_precision as full_precision

Distribution = dist.TorchDistribution


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products on the device of x keep the precision of their arguments."""
    return torch.autocast(x.device.type, enabled=False)
