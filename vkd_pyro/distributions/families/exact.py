"""Densities that neither autocast nor single precision touch."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions.utils import _standard_normal, lazy_property


class Exact:
    """Put before a normal whose density solves systems of equations: it is computed in float64, whatever autocast says.

    In float32 the density of a low-rank normal of scale 1e-4 and 512 dimensions is wrong by thousands of nats, since
    the large terms that cancel in it have seven digits. Draws, moments and densities come in the type of the parameters
    that it was made from.

    Args: those of the normal, of any floating type.
    """

    dtype: torch.dtype

    def __init__(self, *parameters: Tensor, **arguments: Any) -> None:
        tensors = [x for x in (*parameters, *arguments.values()) if isinstance(x, Tensor)]
        self.dtype = tensors[0].dtype
        with torch.autocast(tensors[0].device.type, enabled=False):
            super().__init__(*map(_double, parameters), **{key: _double(x) for key, x in arguments.items()})

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same with another batch shape."""
        new: Self = type(self).__new__(type(self)) if _instance is None else _instance
        new.dtype = self.dtype
        super().expand(batch_shape, new)  # type: ignore[misc]
        return new

    @property
    def mean(self) -> Tensor:
        """loc, float [..., D]."""
        return super().mean.to(self.dtype)  # type: ignore[misc]

    @lazy_property
    def variance(self) -> Tensor:
        """The variance of each dimension, float [..., D]."""
        return super().variance.to(self.dtype)  # type: ignore[misc]

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """Reparametrised samples, float [*sample_shape, ..., D]; of the noise that single precision would draw."""
        shape = self._extended_shape(sample_shape)  # type: ignore[attr-defined]
        with torch.autocast(self.loc.device.type, enabled=False):  # type: ignore[attr-defined]
            return self.of_noise(lambda width: self._noise(shape[:-1], width)).to(self.dtype)

    def of_noise(self, draw: Callable[[int], Tensor]) -> Tensor:
        """A sample from standard normal noise: `draw(width)` is float64 [..., width]."""
        raise NotImplementedError

    def _noise(self, shape: torch.Size, width: int) -> Tensor:
        device = self.loc.device  # type: ignore[attr-defined]
        return _standard_normal((*shape, width), dtype=self.dtype, device=device).double()

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the density. Args: float [..., D]. Returns: float [...]."""
        with torch.autocast(value.device.type, enabled=False):
            return super().log_prob(value.double()).to(self.dtype)  # type: ignore[misc]


def _double(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) else x
