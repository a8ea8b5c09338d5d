"""What is fitted to: probabilities and known labels, checked."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.utils.errors import UserError

Array = NDArray[np.float64]

DIGITS = 3
"""Digits kept of a probability of the validation split: of it, or of what it is short of 1."""

ROUNDINGS = {"down": ROUND_FLOOR, "up": ROUND_CEILING, "nearest": ROUND_HALF_EVEN}

MIN_PER_CLASS = 5
"""Known positives, and known negatives, below which nothing is fitted."""


def as_probabilities(values: ArrayLike, findings: Sequence[str]) -> Array:
    """Probabilities of K findings as float64, [..., K].

    Raises:
        UserError: another number of findings, or a value outside [0, 1].
    """
    p = np.asarray(values, float)
    if p.ndim == 0 or p.shape[-1] != len(findings):
        raise UserError(f"probabilities: found shape {list(p.shape)}, expected a last axis of {len(findings)} findings")
    if (outside := p[(p < 0) | (p > 1)]).size:
        raise UserError(f"probabilities: found {outside[0]:g}, expected numbers in [0, 1]; of logits, give the sigmoid")
    return p


def checked(probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> tuple[Array, Array]:
    """Probabilities and labels as float64, [N, K] both.

    Args: probabilities [N, K] in [0, 1], NaN no prediction; labels [N, K], 1 / 0, NaN unknown; K names.

    Raises:
        UserError: shapes that do not fit, probabilities outside [0, 1], other labels.
    """
    p, y = as_probabilities(probabilities, findings), np.asarray(labels, float)
    if p.ndim != 2 or y.shape != p.shape:
        raise UserError(
            f"labels: found shape {list(y.shape)} for probabilities {list(p.shape)}, expected [N, K] of both"
        )
    check_labels(y)
    return p, y


def check_labels(labels: Array) -> None:
    """Raises `UserError` where a label is none of 1, 0 and NaN."""
    if (other := labels[~(np.isnan(labels) | (labels == 0) | (labels == 1))]).size:
        raise UserError(f"labels: found {other[0]:g}, expected 1, 0, or NaN where unknown")


def known_pairs(probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> list[tuple[Array, Array]]:
    """Probabilities and labels of each finding where both are known; args and errors as of `checked`."""
    p, y = checked(probabilities, labels, findings)
    known = ~(np.isnan(p) | np.isnan(y))
    return [(p[rows, k], y[rows, k]) for k, rows in enumerate(known.T)]


def check_share(name: str, share: float) -> None:
    """Raises `UserError` where a share is not between 0 and 1."""
    if not 0 < share < 1:
        raise UserError(f"{name}: found {share}, expected a number above 0 and below 1")


def decimal(share: float) -> Fraction:
    """The share as it was written: 0.29 * 100 is 28.999999999999996, and would be rounded the wrong way."""
    return Fraction(str(float(share)))


def rounded(probability: float, towards: Literal["down", "up", "nearest"]) -> float:
    """A probability in [0, 1] to `DIGITS` digits: what is kept says nothing of the one image that it was taken from.

    Digits count from the nearer end: 0.0012345 becomes 0.00123 or 0.00124, and 0.9987655 becomes 0.99876 or 0.99877.
    """
    p = Decimal(repr(float(probability)))
    near = min(p, 1 - p)
    if near <= 0:
        return float(p)
    return float(p.quantize(Decimal(1).scaleb(near.adjusted() - DIGITS + 1), ROUNDINGS[towards]))
