"""Half precision is for networks: what they give, and densities, have at least float32."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype == torch.float64 else x.float()
