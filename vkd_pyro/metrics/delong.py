"""DeLong's intervals and test of areas under the ROC curve, for independent patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from vkd_pyro.metrics.intervals import Interval, check_level, tails
from vkd_pyro.metrics.pairs import average_ranks, one_class
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class DeLongDifference:
    """Difference of two AUCs on the same patients.

    Attributes:
        difference: of a less b, with its interval.
        p_value: of no difference, two-sided.
    """

    difference: Interval
    p_value: float


def delong(probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike, level: float = 0.95) -> Interval:
    """AUC of one finding with DeLong's interval: normal, cut to [0, 1] (DeLong, DeLong & Clarke-Pearson 1988).

    Args: probabilities and labels of one finding and one model, [N]; patients [N], each at most once among the rows
        that have both; level in (0, 1).
    Returns: NaN where a class is missing; bounds NaN where no variance can be estimated: one study of a class, or no
        spread, as with an AUC of 1.

    Raises:
        UserError: a patient occurs twice, or a level out of range.
    """
    interval = _normal_interval(*_of_patients(probabilities, labels, patients), level)
    low, high = (float(np.clip(bound, 0, 1)) for bound in (interval.low, interval.high))
    return Interval(interval.estimate, low, high)


def delong_difference(
    a: ArrayLike, b: ArrayLike, labels: ArrayLike, patients: ArrayLike, level: float = 0.95
) -> DeLongDifference:
    """Difference of the AUCs of two models on the same rows, with DeLong's interval and test.

    Args: probabilities of each, [N]; labels, patients and level as of `delong`. Rows that lack either take no part.
    Returns: 0 with p 1 where the two rank alike; bounds and p NaN where no variance can be estimated.

    Raises:
        UserError: as of `delong`.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    both = np.where(np.isnan(a) | np.isnan(b), np.nan, np.asarray(labels, float))
    of_each = [_of_patients(p, both, patients) for p in (a, b)]
    below, above = (x - y for x, y in zip(*of_each, strict=True))
    if below.size and not below.any() and not above.any():
        return DeLongDifference(Interval(0.0, 0.0, 0.0), 1.0)
    p_value = 2 * ndtr(-abs(_mean(below)) / _standard_error(below, above))
    return DeLongDifference(_normal_interval(below, above, level), float(p_value))


def components(p: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DeLong's structural components, by midranks (Sun & Xu 2014, Algorithm 2); ties count a half.

    Args: scores and whether each row is positive, both known, [N].
    Returns: of each positive, the share of negatives below it, [P]; of each negative, the share of positives above it,
        [Q]; both empty where a class is missing.
    """
    if one_class(positive):
        return np.empty(0), np.empty(0)
    place = average_ranks(p)
    below = (place[positive] - average_ranks(p[positive])) / (~positive).sum()
    above = 1 - (place[~positive] - average_ranks(p[~positive])) / positive.sum()
    return below, above


def _of_patients(
    probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`components` of the known rows, each of another patient."""
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    known = ~(np.isnan(p) | np.isnan(y))
    _check_independent(np.asarray(patients)[known])
    return components(p[known], y[known] == 1)


def _normal_interval(below: NDArray[np.float64], above: NDArray[np.float64], level: float) -> Interval:
    """The interval of the mean of components, or of their differences."""
    check_level(level)
    low, high = _mean(below) + _standard_error(below, above) * ndtri(tails(level))
    return Interval(_mean(below), float(low), float(high))


def _standard_error(below: NDArray[np.float64], above: NDArray[np.float64]) -> float:
    """NaN where there are no two components of each class, or none differs from another."""
    if min(below.size, above.size) < 2:
        return float("nan")
    return float(np.sqrt(below.var(ddof=1) / below.size + above.var(ddof=1) / above.size)) or float("nan")


def _mean(below: NDArray[np.float64]) -> float:
    return float(below.mean()) if below.size else float("nan")


def _check_independent(patients: NDArray) -> None:
    repeated = len(patients) - len(np.unique(patients))
    if repeated:
        raise UserError(
            f"patients: found {repeated} more rows than patients; DeLong wants independent patients; use the bootstrap"
        )
