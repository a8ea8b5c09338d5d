"""What an evaluation shows, in tables: ranking, calibration, decisions, uncertainty and subgroups, with intervals."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.data.subgroups import subgroup_names
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.metrics import Interval
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.thresholds import OperatingPoints

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

PAIRS_AT_ONCE = 10_000_000
"""(study, finding) pairs of resamples in memory at once."""

SHARES = np.linspace(0, 0.9, 19)
"""Shares of the studies that are referred in a referral curve."""

MOST_UNCERTAIN = 0.2
"""The share of the studies that is called most uncertain; less by a tie."""


# ----------------------------------------------------------------------------------------- ranking


def ranking(evaluation: Evaluation, num_resamples: int = 1000) -> pd.DataFrame:
    """A row a finding: known, positive, AUC and average precision (`Interval`), AUC of the report, why undefined."""
    e = evaluation
    rows = []
    for k, _ in enumerate(e.findings):
        p, y = e.probabilities[:, k], e.labels[:, k]
        how: Any = {"patients": e.patient_ids, "num_resamples": num_resamples, "models": e.models}
        rows.append(
            {
                "known": int((~np.isnan(y)).sum()),
                "positive": int(np.nansum(y)),
                "AUC": metrics.auroc_interval(p, y, **how),
                "average precision": metrics.average_precision_interval(p, y, **how),
                "report AUC": metrics.auroc(e.report_probabilities[:, k], y, e.models),
                "undefined": metrics.undefined_reason(p, y, e.models) or "",
            }
        )
    return pd.DataFrame(rows, index=pd.Index(e.findings, name="finding"))


def averages(evaluation: Evaluation, num_resamples: int = 1000) -> dict[str, Interval]:
    """macro, macro30, micro and weighted AUC of the image, patients resampled; the findings stay those of the data."""
    e = evaluation
    positives = np.nansum(e.labels, axis=0)
    defined = ~np.isnan(metrics.auroc_per_finding(e.probabilities, e.labels, e.models))
    chosen = {
        "macro": defined.astype(float),
        f"macro{MIN_POSITIVES}": (defined & (positives >= MIN_POSITIVES)).astype(float),
        "weighted": defined * positives,
    }
    resampled = list(metrics.resample_counts(e.patient_ids, num_resamples))
    areas = np.concatenate([_areas(e.probabilities, e.labels, e.models, counts) for counts in resampled], axis=1)
    here = _areas(e.probabilities, e.labels, e.models, np.ones((1, len(e.labels)), np.int64))
    found = {
        name: metrics.interval_of(_weighted(here, weights)[0], _weighted(areas, weights))
        for name, weights in chosen.items()
        if weights.any()
    }
    micro = partial(_micro_auroc, e.probabilities, e.labels, e.models)
    found["micro"] = metrics.bootstrap_interval(micro, e.patient_ids, num_resamples)
    return {
        name: found.get(name, metrics.UNDEFINED) for name in ("macro", f"macro{MIN_POSITIVES}", "micro", "weighted")
    }


def _areas(probabilities: Array, labels: Array, models: NDArray[np.int64] | None, counts: Counts) -> Array:
    """AUC of each finding in resamples, [K, R]; NaN only where it is undefined in the data.

    An AUC that a resample leaves undefined, since it lacks a rare class, is there what it is in the data: were it left
    out, a mean would be of fewer findings, and its interval might leave out the estimate.
    """
    areas = []
    for p, y in zip(probabilities.T, labels.T, strict=True):
        resampled = metrics.resampled_auroc(p, y, counts, models)
        areas.append(np.where(np.isnan(resampled), metrics.auroc(p, y, models), resampled))
    return np.array(areas)


def _weighted(areas: Array, weights: Array) -> Array:
    """The mean over findings, [K, R] to [R]; weights [K], not 0 only where the AUC is defined."""
    return np.average(areas[weights > 0], axis=0, weights=weights[weights > 0])


def _micro_auroc(probabilities: Array, labels: Array, models: NDArray[np.int64] | None, counts: Counts) -> Array:
    """AUC of all pairs in resamples, [R]."""
    findings = labels.shape[1]
    models = None if models is None else models.repeat(findings)
    p, y = probabilities.ravel(), labels.ravel()
    some = np.array_split(counts, math.ceil(counts.size * findings / PAIRS_AT_ONCE))
    return np.concatenate([metrics.resampled_auroc(p, y, c.repeat(findings, axis=1), models) for c in some])


# ------------------------------------------------------------------------------------- calibration


def calibration(evaluation: Evaluation) -> pd.DataFrame:
    """A row for all pairs, then one a finding: what `calibration_of` says of raw and of recalibrated probabilities."""
    e = evaluation
    versions = {"raw": e.probabilities, "recalibrated": e.calibrated}
    columns_of = {"all findings": list(range(len(e.findings)))} | {f: [k] for k, f in enumerate(e.findings)}
    rows = {}
    for name, columns in columns_of.items():
        row: dict[str, float] = {}
        for version, p in versions.items():
            of_version = calibration_of(p[:, columns], e.labels[:, columns])
            row |= {f"{measure}, {version}": value for measure, value in of_version.items()}
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("finding")


def calibration_of(probabilities: Array, labels: Array) -> dict[str, float]:
    """Over the known pairs: Brier score, log loss in nats, both calibration errors, slope, and mean probability less
    frequency (calibration in the large)."""
    known = ~(np.isnan(probabilities) | np.isnan(labels))
    return {
        "Brier": metrics.brier(probabilities, labels),
        "log loss": metrics.negative_log_likelihood(probabilities, labels),
        "ECE": metrics.expected_calibration_error(probabilities, labels),
        "adaptive ECE": metrics.adaptive_calibration_error(probabilities, labels),
        "slope": metrics.calibration_slope(probabilities, labels).slope,
        "in the large": float((probabilities - labels)[known].mean()) if known.any() else float("nan"),
    }


# --------------------------------------------------------------------------------------- decisions


def decisions(evaluation: Evaluation) -> pd.DataFrame | None:
    """A row a finding: threshold, sensitivity, specificity, share referred, errors of the answered and the referred.

    None where the model has no operating points. All are over the studies whose label is known. Sensitivity and
    specificity are of the threshold alone, nothing referred.
    """
    if (points := operating_points(evaluation)) is None:
        return None
    e, rows = evaluation, []
    for k, threshold in enumerate(points.thresholds):
        y, answer = e.labels[:, k], e.answers[:, k]
        with_p = ~np.isnan(y) & ~np.isnan(e.calibrated[:, k]) & ~np.isnan(threshold)
        yes = e.calibrated[:, k] >= threshold
        answered = with_p & np.isin(answer, ("yes", "no"))
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": _share(yes, with_p & (y == 1)),
                "specificity": _share(~yes, with_p & (y == 0)),
                "referred": _share(answer == "refer", with_p),
                "wrong, if answered": _share((answer == "yes") != (y == 1), answered),
                "wrong, of the referred": _share(yes != (y == 1), with_p & (answer == "refer")),
                "undefined": points.undefined.get(e.findings[k], ""),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(e.findings, name="finding"))


def conformal(evaluation: Evaluation) -> pd.DataFrame | None:
    """A row a finding: coverage by class (sets that have the right answer), and the share of sets that are one answer.

    None where the model has no sets, or there are several models, each with its own.
    """
    fitted = evaluation.how.get("calibration")
    if fitted is None or evaluation.models is not None:
        return None
    coverage = Conformal.from_json(fitted["conformal"]).coverage(evaluation.calibrated, evaluation.labels)
    columns = {
        "coverage, absent": coverage.absent,
        "coverage, present": coverage.present,
        "one answer": coverage.single,
    }
    return pd.DataFrame(columns, index=pd.Index(evaluation.findings, name="finding"))


def operating_points(evaluation: Evaluation) -> OperatingPoints | None:
    """Those that the answers were given by; None without, or where several models have each their own."""
    fitted = evaluation.how.get("calibration")
    if fitted is None or evaluation.models is not None:
        return None
    return OperatingPoints.from_json(fitted["operating_points"])


def _share(values: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(values[among].mean()) if among.any() else float("nan")


# ------------------------------------------------------------------------------------------- uncertainty


@dataclass(frozen=True)
class Selective:
    """Where the wrong answers are, by an order of the studies. An answer is yes from a probability of 1/2 on.

    Where findings are rare nearly all wrong answers are missed positives, and whatever grows with the probabilities
    finds them: uncertainty says more than the probabilities only where it does better than their sum.

    Attributes:
        uncertain_error, other_error: share of wrong answers among the most uncertain fifth of the studies, and others.
            Studies without a known label, or without an uncertainty, take no part.
        ratio: the first over the second, patients resampled, the fifth being what it is; NaN where the rest has no
            wrong answer.
        never: share of wrong answers, were every answer no: the share of positives.
        shares: of the studies that are referred, [R].
        error, random, oracle: share of wrong answers among the rest, [R]: the most uncertain referred first, any, or
            those with most errors.
    """

    uncertain_error: float
    other_error: float
    ratio: Interval
    never: float
    shares: Array
    error: Array
    random: Array
    oracle: Array


def selective(evaluation: Evaluation, uncertainty: Array | None = None, num_resamples: int = 1000) -> Selective:
    """By this uncertainty of each study, [N]; by default the total of all its findings together, in nats."""
    e = evaluation
    p = e.probabilities if np.isnan(e.calibrated).all() else e.calibrated
    uncertainty = e.uncertainty.sum(axis=1) if uncertainty is None else uncertainty
    known = ~np.isnan(e.labels) & ~np.isnan(p)
    wrong, pairs = (((p >= 0.5) != (e.labels == 1)) & known).sum(axis=1), known.sum(axis=1)
    by_errors = wrong / np.maximum(pairs, 1) + 1e-9 * uncertainty  # ties as uncertainty has them

    def curve(order: Array) -> metrics.ReferralCurve:
        return metrics.referral_curve(
            probabilities=p, labels=e.labels, uncertainties=order, shares=SHARES, metric=_error
        )

    counted = (pairs > 0) & ~np.isnan(uncertainty)
    limit = np.quantile(uncertainty[counted], 1 - MOST_UNCERTAIN) if counted.any() else np.nan
    uncertain, others = counted & (uncertainty > limit), counted & (uncertainty <= limit)

    def errors(counts: Counts, rows: NDArray[np.bool_]) -> Array:
        number = counts[:, rows] @ pairs[rows]
        return np.divide(counts[:, rows] @ wrong[rows], number, out=np.full(len(counts), np.nan), where=number > 0)

    def ratio(counts: Counts) -> Array:
        other = errors(counts, others)
        return np.divide(errors(counts, uncertain), other, out=np.full(len(other), np.nan), where=other > 0)

    as_they_are = np.ones((1, len(wrong)), np.int64)
    found, best = curve(uncertainty), curve(by_errors)
    return Selective(
        uncertain_error=float(errors(as_they_are, uncertain)[0]),
        other_error=float(errors(as_they_are, others)[0]),
        ratio=metrics.bootstrap_interval(ratio, e.patient_ids, num_resamples),
        never=_share(e.labels == 1, known),
        shares=found.shares,
        error=found.values,
        random=np.full(len(SHARES), found.values[0]),
        oracle=best.values,
    )


def _error(probabilities: Array, labels: Array) -> float:
    return 1 - metrics.accuracy(probabilities, labels)


# --------------------------------------------------------------------------------------- subgroups


def subgroups(evaluation: Evaluation, num_resamples: int = 1000) -> pd.DataFrame:
    """A row a group of each kind that has two: studies, positives, micro and macro AUC, calibration error."""
    e, rows = evaluation, {}
    for kind, names in subgroup_names().items():
        groups = e.subgroups.get(kind, np.array([]))
        present = [name for name in names if (groups == name).any()]
        if len(set(present) - {"unknown"}) < 2:
            continue
        for name in present:
            rows[f"{kind}: {name}"] = _of_group(e, groups == name, num_resamples)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")


def _of_group(e: Evaluation, chosen: NDArray[np.bool_], num_resamples: int) -> dict[str, Any]:
    p, y = e.probabilities[chosen], e.labels[chosen]
    models = None if e.models is None else e.models[chosen]
    patients = np.array(e.patient_ids)[chosen]
    micro = partial(_micro_auroc, p, y, models)
    defined = ~np.isnan(metrics.auroc_per_finding(p, y, models))

    def macro(counts: Counts) -> Array:
        return _weighted(_areas(p, y, models, counts), defined.astype(float))

    calibrated = p if np.isnan(e.calibrated).all() else e.calibrated[chosen]
    return {
        "studies": int(chosen.sum()),
        "patients": len(set(patients)),
        "positive": int(np.nansum(y)),
        "micro AUC": metrics.bootstrap_interval(micro, patients, num_resamples),
        "macro AUC": metrics.bootstrap_interval(macro, patients, num_resamples) if defined.any() else metrics.UNDEFINED,
        "findings": int(defined.sum()),
        "ECE": metrics.expected_calibration_error(calibrated, y),
    }
