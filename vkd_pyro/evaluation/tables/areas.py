"""How well studies are ranked: AUC and average precision of each finding, and the averages, with intervals."""

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Array, Evaluation
from vkd_pyro.metrics import Interval

Counts = NDArray[np.int64]
"""How often each row is in each resample, [R, N]."""

PAIRS_AT_ONCE = 10_000_000
"""(study, finding) pairs of resamples in memory at once."""


def ranking(evaluation: Evaluation, num_resamples: int = 1000) -> pd.DataFrame:
    """A row a finding: known, positive, AUC and average precision (`Interval`), AUC of the report, why undefined."""
    e = evaluation
    rows = []
    for k, _ in enumerate(e.findings):
        p, y = e.probabilities[:, k], e.labels[:, k]
        how: Any = {"patients": e.patient_ids, "models": e.models}
        rows.append(
            {
                "known": int((~np.isnan(y)).sum()),
                "positive": int(np.nansum(y)),
                "AUC": metrics.auroc_interval(p, y, **how),
                "average precision": metrics.average_precision_interval(p, y, num_resamples=num_resamples, **how),
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
    areas = np.concatenate(
        [resampled_areas(e.probabilities, e.labels, e.models, counts) for counts in resampled], axis=1
    )
    here = resampled_areas(e.probabilities, e.labels, e.models, np.ones((1, len(e.labels)), np.int64))
    found = {
        name: metrics.interval_of(weighted_mean(here, weights)[0], weighted_mean(areas, weights))
        for name, weights in chosen.items()
        if weights.any()
    }
    micro = partial(resampled_micro_auroc, e.probabilities, e.labels, e.models)
    found["micro"] = metrics.bootstrap_interval(micro, e.patient_ids, num_resamples)
    return {
        name: found.get(name, metrics.UNDEFINED) for name in ("macro", f"macro{MIN_POSITIVES}", "micro", "weighted")
    }


def resampled_areas(probabilities: Array, labels: Array, models: NDArray[np.int64] | None, counts: Counts) -> Array:
    """AUC of each finding in resamples, [K, R]; NaN only where it is undefined in the data.

    An AUC that a resample leaves undefined, since it lacks a rare class, is there what it is in the data: were it left
    out, a mean would be of fewer findings, and its interval might leave out the estimate.
    """
    areas = []
    for p, y in zip(probabilities.T, labels.T, strict=True):
        resampled = metrics.resampled_auroc(p, y, counts, models)
        areas.append(np.where(np.isnan(resampled), metrics.auroc(p, y, models), resampled))
    return np.array(areas)


def weighted_mean(areas: Array, weights: Array) -> Array:
    """The mean over findings, [K, R] to [R]; weights [K], not 0 only where the AUC is defined."""
    return np.average(areas[weights > 0], axis=0, weights=weights[weights > 0])


def resampled_micro_auroc(
    probabilities: Array, labels: Array, models: NDArray[np.int64] | None, counts: Counts
) -> Array:
    """AUC of all pairs in resamples, [R]."""
    findings = labels.shape[1]
    models = None if models is None else models.repeat(findings)
    p, y = probabilities.ravel(), labels.ravel()
    some = np.array_split(counts, math.ceil(counts.size * findings / PAIRS_AT_ONCE))
    return np.concatenate([metrics.resampled_auroc(p, y, c.repeat(findings, axis=1), models) for c in some])
