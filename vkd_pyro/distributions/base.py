"""What families, likelihoods and divergences share: the type of a distribution, full precision."""

import pyro.distributions as dist
import torch
from torch import Tensor

Distribution = dist.TorchDistribution


def full_precision(x: Tensor) -> Tensor:
    """At least float32: half precision is for networks, not for densities."""
    return x if x.dtype == torch.float64 else x.float()


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products on the device of x keep the precision of their arguments."""
    return torch.autocast(x.device.type, enabled=False)
