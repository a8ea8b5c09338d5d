"""How sure a metric is: bootstrap intervals that resample patients, and DeLong's for independent patients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from vkd_pyro.metrics.pairs import average_ranks, one_class
from vkd_pyro.metrics.ranking import resampled_auroc, resampled_average_precision
from vkd_pyro.utils.errors import UserError

RARE = 30
"""Of a finding with fewer positives, or fewer negatives, resamples are stratified."""

BLOCK = 100
"""Resamples at once: as many as fit in memory."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, of 95 % where nothing else was asked for; NaN is undefined.

    As text it is signed, as a difference is; `f"{interval:.3f}"` is that of an area.
    """

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return format(self, "+.3f")

    def __format__(self, spec: str) -> str:
        if np.isnan(self.estimate):
            return "undefined"
        spec = spec or "+.3f"
        bounds = "undefined" if np.isnan(self.low) else f"{self.low:{spec}}, {self.high:{spec}}"
        return f"{self.estimate:{spec}} [{bounds}]"


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))
"""Of what has no estimate."""

# ------------------------------------------------------------------------------ patient-clustered bootstrap


def resample_counts(
    patients: ArrayLike, num_resamples: int, seed: int = 0, strata: ArrayLike | None = None
) -> Iterator[NDArray[np.int64]]:
    """How often each row is in each resample: patients are drawn with replacement, each with all its rows.

    Args:
        patients: whose each row is, [N]; anything that can be compared.
        num_resamples: R.
        seed: the same gives the same counts.
        strata: a number a row, [N], or None. A patient's is the largest of its rows', and of each stratum as many
            patients are drawn as it has: with `labels == 1` every resample has as many patients with the finding.

    Yields: [at most 100, N], R rows in all.

    Raises:
        UserError: a stratum is NaN.
    """
    codes = _codes(patients)
    number = codes.max(initial=-1) + 1
    members = _members(codes, np.zeros(len(codes)) if strata is None else np.asarray(strata, float))
    generator = np.random.default_rng(seed)
    for size in np.diff([*range(0, num_resamples, BLOCK), num_resamples]):
        drawn = np.zeros((size, number), np.int64)
        for each in members:
            drawn[:, each] = generator.multinomial(len(each), np.full(len(each), 1 / len(each)), size=size)
        yield drawn[:, codes]


def _codes(patients: ArrayLike) -> NDArray[np.int64]:
    """Patients by number, in order of appearance, [N]."""
    _, first, codes = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _members(codes: NDArray[np.int64], strata: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The patients of each stratum, by number."""
    if np.isnan(strata).any():
        raise UserError("strata: found NaN, expected a number for each row; unknown may be a stratum of its own")
    of_patient = np.full(codes.max(initial=-1) + 1, -np.inf)
    np.maximum.at(of_patient, codes, strata)
    return [np.flatnonzero(of_patient == stratum) for stratum in np.unique(of_patient)]


def rare_strata(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.int64] | None:
    """Strata for `resample_counts` by which every resample has as many patients with a rare finding, and without.

    Args: probabilities and labels of one finding, [N], NaN unknown.
    Returns: [N], 2 positive, 1 negative, 0 unknown; None where there are at least 30 of each class.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    strata = np.where(np.isnan(p) | np.isnan(y), 0, y + 1).astype(np.int64)
    return strata if min((strata == 1).sum(), (strata == 2).sum()) < RARE else None


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    patients: ArrayLike,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    strata: ArrayLike | None = None,
) -> Interval:
    """Percentile interval of a statistic, patients resampled (Efron & Tibshirani 1993, Ch. 13; Field & Welsh 2007).

    Of few patients it is too short, and where every resample gives the same it has no width: that is no certainty.

    Args:
        statistic: from how often each row is in each resample, int [R, N], to its value there, [R].
        patients: whose each row is, [N].
        num_resamples: how many are drawn; those whose statistic is NaN are left out.
        seed: of the draws.
        level: how much of the distribution the interval holds, in (0, 1).
        strata: as of `resample_counts`.

    Returns: all NaN where the statistic of the rows as they are is; bounds NaN where that of every resample is.

    Raises:
        UserError: less than one resample, or a level out of range.
    """
    _check_level(level)
    if num_resamples < 1:
        raise UserError(f"num_resamples: found {num_resamples}, expected at least 1; 2000 is usual")
    estimate = float(statistic(np.ones((1, len(np.asarray(patients))), np.int64))[0])
    if np.isnan(estimate):
        return UNDEFINED
    values = np.concatenate([statistic(c) for c in resample_counts(patients, num_resamples, seed, strata)])
    return interval_of(estimate, values, level)


def interval_of(estimate: float, resampled: ArrayLike, level: float = 0.95) -> Interval:
    """The percentile interval of an estimate, from its values in resamples, [R]; those that are NaN are left out."""
    values = np.asarray(resampled, float)
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, _tails(level)) if values.size else (np.nan, np.nan)
    return Interval(float(estimate), float(low), float(high))


def auroc_interval(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    models: ArrayLike | None = None,
) -> Interval:
    """`auroc` of one finding by `bootstrap_interval`, stratified by `rare_strata` where the finding is rare.

    Args: probabilities, labels and models as of `auroc`, [N]; the others as of `bootstrap_interval`.
    """

    def statistic(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return resampled_auroc(probabilities, labels, counts, models)

    return bootstrap_interval(statistic, patients, num_resamples, seed, level, rare_strata(probabilities, labels))


def average_precision_interval(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    models: ArrayLike | None = None,
) -> Interval:
    """As `auroc_interval`, of `average_precision`; of a rare finding, given how many patients have it."""

    def statistic(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return resampled_average_precision(probabilities, labels, counts, models)

    return bootstrap_interval(statistic, patients, num_resamples, seed, level, rare_strata(probabilities, labels))


def metric_interval(
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    strata: ArrayLike | None = None,
) -> Interval:
    """`bootstrap_interval` of any metric (probabilities, labels) -> number, asked of one resample at a time.

    Args: probabilities and labels, [N] or [N, K]; the others as of `bootstrap_interval`.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)

    def statistic(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([metric(p.repeat(c, axis=0), y.repeat(c, axis=0)) for c in counts])

    return bootstrap_interval(statistic, patients, num_resamples, seed, level, strata)


# ------------------------------------------------------------------------------ DeLong


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
    interval = _normal_interval(*_components(probabilities, labels, patients), level)
    return Interval(interval.estimate, *(float(np.clip(bound, 0, 1)) for bound in (interval.low, interval.high)))


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
    of_each = [_components(p, both, patients) for p in (a, b)]
    below, above = (x - y for x, y in zip(*of_each, strict=True))
    if below.size and not below.any() and not above.any():
        return DeLongDifference(Interval(0.0, 0.0, 0.0), 1.0)
    p_value = 2 * ndtr(-abs(_mean(below)) / _standard_error(below, above))
    return DeLongDifference(_normal_interval(below, above, level), float(p_value))


def _components(
    probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DeLong's structural components, by midranks (Sun & Xu 2014, Algorithm 2); ties count a half.

    Returns: of each positive, the share of negatives below it, [P]; of each negative, the share of positives above it,
        [Q]; both empty where a class is missing.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    known = ~(np.isnan(p) | np.isnan(y))
    _check_independent(np.asarray(patients)[known])
    p, positive = p[known], y[known] == 1
    if one_class(positive):
        return np.empty(0), np.empty(0)
    place = average_ranks(p)
    below = (place[positive] - average_ranks(p[positive])) / (~positive).sum()
    above = 1 - (place[~positive] - average_ranks(p[~positive])) / positive.sum()
    return below, above


def _normal_interval(below: NDArray[np.float64], above: NDArray[np.float64], level: float) -> Interval:
    """Of the mean of components, or of their differences."""
    _check_level(level)
    low, high = _mean(below) + _standard_error(below, above) * ndtri(_tails(level))
    return Interval(_mean(below), float(low), float(high))


def _standard_error(below: NDArray[np.float64], above: NDArray[np.float64]) -> float:
    """NaN where there are no two components of each class, or none differs from another."""
    if min(below.size, above.size) < 2:
        return float("nan")
    return float(np.sqrt(below.var(ddof=1) / below.size + above.var(ddof=1) / above.size)) or float("nan")


def _mean(below: NDArray[np.float64]) -> float:
    return float(below.mean()) if below.size else float("nan")


# ------------------------------------------------------------------------------ arguments


def _tails(level: float) -> NDArray[np.float64]:
    return np.array([(1 - level) / 2, (1 + level) / 2])


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UserError(f"level: found {level}, expected a number between 0 and 1, such as 0.95")


def _check_independent(patients: NDArray) -> None:
    repeated = len(patients) - len(np.unique(patients))
    if repeated:
        raise UserError(
            f"patients: found {repeated} more rows than patients; DeLong wants independent patients; use the bootstrap"
        )
