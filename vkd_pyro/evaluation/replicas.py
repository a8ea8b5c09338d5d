"""Label vectors drawn from the posterior predictive, to be compared with those that were observed.

    z^(r) of a study's own draws, each as likely;  y^(r) ~ p(y | x_I, z^(r)),  r = 1..R

All labels of a vector share their z, and studies are drawn independently of each other. What is drawn for a study
depends on it and the seed alone.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_REPLICAS = 200
"""R."""

BITS = 48
"""Labels in one number: a float64 holds 53, also after a mean of equal ones."""


def replicate(samples: NDArray[np.float64], names: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Replicated label vectors of B studies, packed as numbers.

    Args:
        samples: p(y_k = 1 | x_I, z^(s)), [S, B, K] in [0, 1].
        names: of the studies, B; rows of one name get the same noise.
        seed: of the draws.
    Returns: float [B, R * ceil(K / 48)], for `unpack`.
    """
    draws, _, findings = samples.shape
    weights = 2.0 ** np.arange(BITS)
    packed = []
    for row, name in enumerate(names):
        digest = hashlib.sha256(str(name).encode()).digest()
        generator = np.random.default_rng([seed % 2**63, int.from_bytes(digest[:8], "big")])
        p = samples[generator.integers(draws, size=NUM_REPLICAS), row]
        labels = generator.random(p.shape) < p
        numbers = [labels[:, k : k + BITS] @ weights[: min(BITS, findings - k)] for k in range(0, findings, BITS)]
        packed.append(np.stack(numbers, axis=1).ravel() if numbers else np.zeros(0))
    return np.stack(packed)


def unpack(packed: NDArray[np.float64], findings: int) -> NDArray[np.bool_]:
    """The label vectors that `replicate` packed, bool [R, N, K]. Args: float [N, R * ceil(K / 48)]; K."""
    numbers = packed.reshape(len(packed), NUM_REPLICAS, -1).astype(np.int64)
    bits = [(numbers[..., k // BITS] >> (k % BITS)) & 1 for k in range(findings)]
    return np.stack(bits, axis=-1).astype(bool).swapaxes(0, 1)
