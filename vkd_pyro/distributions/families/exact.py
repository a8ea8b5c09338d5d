"""Densities that autocast leaves alone."""

from typing import Any

import torch
from torch import Tensor

from vkd_pyro.distributions.base import no_autocast


class Exact:
    """Put before a normal whose draws and densities hold matrix products: autocast leaves those in full precision."""

    loc: Tensor

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """Reparametrised samples."""
        with no_autocast(self.loc):
            return super().rsample(sample_shape)  # type: ignore[misc]

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the density."""
        with no_autocast(self.loc):
            return super().log_prob(value)  # type: ignore[misc]
