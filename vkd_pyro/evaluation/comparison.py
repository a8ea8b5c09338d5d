"""Comparisons of methods on the same studies: the one paired interval, and what refuses to be compared."""

import json
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.evaluation.tables.areas import resampled_areas, resampled_micro_auroc
from vkd_pyro.metrics import Interval
from vkd_pyro.utils.errors import UserError


def paired_difference(
    ours: Sequence[Evaluation],
    theirs: Sequence[Evaluation],
    metric: Literal["macro", "micro"] = "macro",
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Difference of two methods on the same studies: predictions averaged over seeds, patients resampled in pairs.

    Args:
        ours, theirs: one evaluation a seed.
        metric: "macro", the mean AUC over findings with at least 30 positives in the evaluated set, the same findings
            in every resample; or "micro", the AUC of all known (study, finding) pairs pooled.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: the evaluations are not of the same studies, labels and findings.
    """
    first = _comparable(ours, theirs)
    a, b = (np.mean([e.probabilities for e in each], axis=0) for each in (ours, theirs))
    return metrics.bootstrap_interval(_difference(first, a, b, metric), first.patient_ids, num_resamples, seed)


def mean_difference(
    ours: Sequence[Evaluation],
    theirs: Sequence[Evaluation],
    metric: Literal["macro", "micro"] = "macro",
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean over seeds of the difference of each: of one training, where `paired_difference` is of an ensemble.

    Where each seed has the labels of other patients, an ensemble has seen those of all. Patients are resampled in
    pairs, the same for every seed, and seeds as well, of which few make a rough interval.

    Args: as of `paired_difference`.

    Raises:
        UserError: as of `paired_difference`.
    """
    first = _comparable(ours, theirs)
    each = [_difference(first, a.probabilities, b.probabilities, metric) for a, b in zip(ours, theirs, strict=True)]
    generator = np.random.default_rng(seed)

    def difference(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.stack([one(counts) for one in each])  # [seeds, R]
        if (counts == 1).all():  # the rows as they are
            return found.mean(axis=0)
        picked = generator.integers(len(each), size=found.shape)
        return np.take_along_axis(found, picked, axis=0).mean(axis=0)

    return metrics.bootstrap_interval(difference, first.patient_ids, num_resamples, seed)


def by_finding(
    ours: Sequence[Evaluation], theirs: Sequence[Evaluation], num_resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Paired difference of the AUC of each finding, as `paired_difference`; rare ones stratified by their positives.

    Of a finding that fewer than 5 patients have there is no interval, and of fewer than 30 a note (`few_patients`).
    """
    first = _comparable(ours, theirs)
    a, b = (np.mean([e.probabilities for e in each], axis=0) for each in (ours, theirs))

    def of(k: int) -> Interval:
        y = first.labels[:, k]

        def difference(counts: NDArray[np.int64]) -> NDArray[np.float64]:
            areas = [metrics.resampled_auroc(p[:, k], y, counts, first.models) for p in (a, b)]
            return areas[0] - areas[1]

        few, strata = metrics.few_patients(a[:, k], y, first.patient_ids), metrics.rare_strata(a[:, k], y)
        found = metrics.bootstrap_interval(difference, first.patient_ids, num_resamples, seed, strata=strata)
        bounds = (np.nan, np.nan) if few.undefined else (found.low, found.high)
        return metrics.Interval(found.estimate, *bounds, few.text)

    return {finding: of(k) for k, finding in enumerate(first.findings)}


def check_comparable(first: Evaluation, other: Evaluation) -> None:
    """Raises `UserError` where two evaluations are not of the same studies, findings and labels: says what differs."""
    for key in ("split", "level"):
        values = [each.how.get(key) for each in (first, other)]
        if values[0] != values[1]:
            raise UserError(f"compare: evaluations of another {key}, {values[0]} and {values[1]}; evaluate both alike")
    if other.findings != first.findings:
        differing = ", ".join(sorted(set(first.findings) ^ set(other.findings))) or "in another order"
        raise UserError(f"compare: other findings ({differing}); evaluations are compared on the same")
    ours, theirs = (json.loads(json.dumps(each.data.get("eval_policy"))) for each in (first, other))  # as once saved
    if ours != theirs:
        raise UserError(f"compare: other evaluation policies for uncertain and blank labels: {ours} and {theirs}")
    if other.study_ids != first.study_ids:
        number = len(set(first.study_ids) ^ set(other.study_ids))
        raise UserError(f"compare: these evaluations are not of the same studies: {number} are in one only")
    if not np.array_equal(other.labels, first.labels, equal_nan=True):
        raise UserError("compare: these evaluations have other labels for the same studies")
    folds = [None if each.models is None else each.models.tolist() for each in (first, other)]
    if folds[0] != folds[1]:
        raise UserError("compare: folds are put together in one of these evaluations, and not so in another")


def _comparable(ours: Sequence[Evaluation], theirs: Sequence[Evaluation]) -> Evaluation:
    """The first of all, with which the others are comparable; raises `UserError` where they are not."""
    for other in (*ours, *theirs):
        check_comparable(ours[0], other)
    return ours[0]


def _difference(
    first: Evaluation, a: NDArray[np.float64], b: NDArray[np.float64], metric: str
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """The difference of two predictions, [N, K], in resamples of the rows; NaN where no finding takes part."""
    chosen = np.nansum(first.labels, axis=0) >= (MIN_POSITIVES if metric == "macro" else 0)
    if metric == "macro":
        chosen &= ~np.isnan(metrics.auroc_per_finding(a, first.labels, first.models))
    function = _resampled_macro if metric == "macro" else resampled_micro_auroc
    labels = first.labels[:, chosen]

    def difference(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        if not chosen.any():
            return np.full(len(counts), np.nan)
        areas = [function(p[:, chosen], labels, first.models, counts) for p in (a, b)]
        return areas[0] - areas[1]

    return difference


def _resampled_macro(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.float64],
    models: NDArray[np.int64] | None,
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Macro AUC in resamples of the rows, [R]; args [N, K], [N, K], [N] or None, [R, N]."""
    return resampled_areas(probabilities, labels, models, counts).mean(axis=0)
