"""How sure a metric is: bootstrap intervals that resample patients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.metrics.ranking import resampled_average_precision
from vkd_pyro.utils.errors import UserError

RARE = 30
"""Resamples are stratified where a finding has fewer positives, or fewer negatives."""

FEWEST = 5
"""Patients with a finding, or without it, below which its area has no interval: none that was tried holds the truth as
often as it says."""

BLOCK = 100
"""Resamples at once: as many as fit in memory."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, of 95 % where nothing else was asked for; NaN is undefined.

    As text it is signed, as a difference is; `f"{interval:.3f}"` is that of an area. `note` says why there are no
    bounds, or why they are to be read with care; "" where nothing is to be said.
    """

    estimate: float
    low: float
    high: float
    note: str = ""

    def __str__(self) -> str:
        return format(self, "+.3f")

    def __format__(self, spec: str) -> str:
        if np.isnan(self.estimate):
            return "undefined"
        spec = spec or "+.3f"
        bounds = "undefined" if np.isnan(self.low) else f"{self.low:{spec}}, {self.high:{spec}}"
        return f"{self.estimate:{spec}} [{bounds}]"


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))
"""The interval of what has no estimate."""

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
    check_level(level)
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
    low, high = np.quantile(values, tails(level)) if values.size else (np.nan, np.nan)
    return Interval(float(estimate), float(low), float(high))


def average_precision_interval(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    num_resamples: int = 2000,
    seed: int = 0,
    models: ArrayLike | None = None,
) -> Interval:
    """`average_precision` of one finding by `bootstrap_interval`, stratified by `rare_strata` where it is rare: given,
    then, how many patients have it.

    Args: probabilities, labels and models as of `auroc`, [N]; the others as of `bootstrap_interval`.
    Returns: noted, or undefined, where few patients have the finding, as `auroc_interval` is.
    """

    def statistic(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return resampled_average_precision(probabilities, labels, counts, models)

    note = few_patients(probabilities, labels, patients)
    if note.undefined:
        estimate = float(statistic(np.ones((1, np.size(labels)), np.int64))[0])
        return UNDEFINED if np.isnan(estimate) else Interval(estimate, np.nan, np.nan, note.text)
    strata = rare_strata(probabilities, labels)
    return replace(bootstrap_interval(statistic, patients, num_resamples, seed, strata=strata), note=note.text)


@dataclass(frozen=True)
class FewPatients:
    """What is to be said of an interval of few patients: `text`, "" of many; and whether there can be none."""

    text: str
    undefined: bool


def few_patients(probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> FewPatients:
    """Whether enough patients have a finding, and have it not, for an interval of its area: 5, or, to say nothing, 30.

    Patients are counted, not rows: several studies of one say less than as many of others. Args: as of `auroc`, [N].
    """
    p, y, patients = np.asarray(probabilities, float), np.asarray(labels, float), np.asarray(patients)
    known = ~(np.isnan(p) | np.isnan(y))
    number, which = min((len(np.unique(patients[known & (y == c)])), c) for c in (1, 0))
    if number >= RARE:
        return FewPatients("", False)
    who = f"{number} patient{'' if number == 1 else 's'} {'with' if which else 'without'} the finding"
    if number < FEWEST:
        return FewPatients(f"{who}, fewer than {FEWEST}: no interval", True)
    return FewPatients(f"fewer than {RARE} patients {'with' if which else 'without'} the finding", False)


def tails(level: float) -> NDArray[np.float64]:
    """Both quantiles of an interval that holds `level`, [2]."""
    return np.array([(1 - level) / 2, (1 + level) / 2])


def check_level(level: float) -> None:
    """Raises `UserError` where a level is not between 0 and 1."""
    if not 0 < level < 1:
        raise UserError(f"level: found {level}, expected a number between 0 and 1, such as 0.95")
