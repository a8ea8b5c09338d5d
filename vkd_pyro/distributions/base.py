"""What families, likelihoods and divergences share: the type of a distribution, full precision, a check."""

import pyro.distributions as dist
import torch
from torch import Tensor

from vkd_pyro.utils.errors import UserError

Distribution = dist.TorchDistribution


def full_precision(x: Tensor) -> Tensor:
    """At least float32: half precision is for networks, not for densities."""
    return x if x.dtype == torch.float64 else x.float()


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products on the device of x keep the precision of their arguments."""
    return torch.autocast(x.device.type, enabled=False)


def check_probability(name: str, value: object) -> None:
    """Raises `UserError` where a setting is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name}: found {value!r}, expected a probability from 0 to 1")
