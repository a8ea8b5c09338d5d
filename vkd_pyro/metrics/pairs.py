"""Which (study, finding) pairs count: those with a label and a prediction."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def known_pairs(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities and labels of the pairs that have both, flat.

    Args: probabilities, NaN where there is no prediction, and labels, 1 / 0 / NaN unknown, [N] or [N, K] both.
    Returns: two of [M], M pairs.
    """
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    known = ~(np.isnan(probabilities) | np.isnan(labels))
    return probabilities[known], labels[known]


def one_class(labels: NDArray) -> bool:
    """Whether known labels [M] lack a class, or there are none."""
    return len(np.unique(labels)) < 2


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the smallest; equal ones share the mean of their ranks. As scipy.stats.rankdata, which is slow to import.

    Args: [N], none NaN.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
