"""The noise of z, without PyTorch: the numbers that its generator gives for a seed, so that an export says what the
bundle says.

PyTorch takes 32 random bits at a time from a Mersenne twister. Uniform numbers have 24 of them; normal ones are pairs
by Box and Muller (1958, "A note on the generation of random normal deviates"), of fewer than `FEW` in float64, one pair
after the other, else in float32, sixteen at a time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FEW = 16


@dataclass(frozen=True)
class Part:
    """Some columns of the noise.

    Attributes:
        kind: standard normal, or uniform in (-1, 1).
        width: how many.
    """

    kind: Literal["normal", "uniform"]
    width: int


def drawn(parts: tuple[Part, ...], num_samples: int, seed: int) -> Array:
    """The noise that `common_draws` uses for each image under this seed; float32 [num_samples, E]."""
    generator = Generator(seed)
    columns = [getattr(generator, part.kind)(num_samples * part.width) for part in parts]
    return np.concatenate([column.reshape(num_samples, -1) for column in columns], axis=1)


class Generator:
    """PyTorch's of the CPU, of this seed."""

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed % 2**32)
        self._spare: NDArray[np.float64] = np.empty(0)  # of a pair of few, the one that was not asked for

    def uniform(self, number: int) -> Array:
        """float32 [number], in (-1, 1), as `uniform_(eps - 1, 1)`."""
        low = float(np.finfo(np.float32).eps) - 1
        return (self._unit(number) * np.float64(1 - low) + low).astype(np.float32)  # rounded once, as it does

    def normal(self, number: int) -> Array:
        """float32 [number], standard normal, as `randn`."""
        if number < FEW:
            return self._few(number)
        uniform, whole = self._unit(number), number - number % FEW
        found = np.empty(number, np.float32)
        found[:whole] = _sixteens(uniform[:whole])
        if whole < number:
            found[-FEW:] = _sixteens(self._unit(FEW))  # drawn again, over some of those before
        return found

    def _few(self, number: int) -> Array:
        pairs = max(0, number - len(self._spare) + 1) // 2
        high, low = self._bits(4 * pairs).astype(np.uint64).reshape(-1, 2).T
        angle, radius = ((high << np.uint64(32) | low) % 2**53 * 2.0**-53).reshape(-1, 2).T
        new = _polar(np.sqrt(-2 * np.log1p(-radius)), 2 * np.pi * angle)
        found = np.concatenate([self._spare, new.T.ravel()])
        self._spare = found[number:]
        return found[:number].astype(np.float32)

    def _unit(self, number: int) -> Array:
        """float32 [number], in [0, 1)."""
        return (self._bits(number) % 2**24).astype(np.float32) * np.float32(2**-24)

    def _bits(self, number: int) -> NDArray[np.uint32]:
        return np.frombuffer(self._twister.bytes(4 * number) if number else b"", "<u4")  # of no bytes it draws too


def _sixteens(uniform: Array) -> Array:
    """Normal numbers of as many uniform ones: the first eight of each sixteen are radii, the others angles."""
    radius, angle = uniform.reshape(-1, 2, FEW // 2).swapaxes(0, 1)
    pairs = _polar(np.sqrt(-2 * np.log(1 - radius)), np.float32(2 * np.pi) * angle)
    return pairs.swapaxes(0, 1).ravel()


def _polar(radius: NDArray, angle: NDArray) -> NDArray:
    """Both coordinates of points, [2, ...]."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)])
