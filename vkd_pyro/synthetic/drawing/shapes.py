"""Soft edges, bumps, random fields and blur: what the structures of a chest are drawn with."""

from functools import lru_cache

import numpy as np

Array = np.ndarray

GRAIN = 64
"""Cosine frequencies along an axis in noise and lung texture; the noise is thus the same at every image size."""


def soft(distance: Array, width: float) -> Array:
    """Smooth step: 0 below -width/2, 1 above width/2."""
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(distance: Array | float, width: Array | float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-np.square(distance / width))


def direction(side: str) -> float:
    """Direction of a side in the image: the patient's left is to the right."""
    return {"left": 1.0, "right": -1.0}[side]


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres x [1, size] and y [size, 1], float32 in (0, 1)."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centres[None, :], centres[:, None]


@lru_cache(maxsize=1)
def frequencies() -> Array:
    """Length of the wave vector of each cosine pair, float32 [GRAIN, GRAIN], from 1 on."""
    k = np.arange(GRAIN, dtype=np.float32)
    return 1.0 + np.hypot(k[:, None], k[None, :])


def field(size: int, spectrum: Array) -> Array:
    """A random field [size, size] from cosine coefficients [GRAIN, GRAIN]; coefficient k has k half-waves.

    The Fourier transform stands in for two matrix products: those would wake the threads of the linear algebra
    library for every image, which costs far more than the image itself.
    """
    return (2.0 / GRAIN * _waves(_waves(spectrum, size).T, size).T).astype(np.float32)


def _waves(coefficients: Array, size: int) -> Array:
    """Sums of cosines at the pixel centres, [size, N] from [K, N]."""
    shifted = coefficients * np.exp(0.5j * np.pi / size * np.arange(len(coefficients)))[:, None]
    return 2.0 * size * np.fft.ifft(shifted, n=2 * size, axis=0)[:size].real


def blurred(image: Array, sigma: float) -> Array:
    """`image` [H, W] under a Gaussian blur of `sigma` image widths; beyond its edges the image is constant."""
    reach = int(np.ceil(3.0 * sigma * len(image)))
    taps = bump(np.arange(-reach, reach + 1) / len(image), np.sqrt(2.0) * sigma).astype(np.float32)
    return _smeared(_smeared(image, taps / taps.sum()).T, taps / taps.sum()).T


def _smeared(image: Array, taps: Array) -> Array:
    """Weighted sum of copies of `image` [H, W] shifted along its first axis, one a tap."""
    reach = len(taps) // 2
    padded = np.pad(image, ((reach, reach), (0, 0)), mode="edge")
    smeared = np.zeros_like(image)
    for shift, tap in enumerate(taps):
        smeared += tap * padded[shift : shift + len(image)]
    return smeared
