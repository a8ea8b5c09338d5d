"""How a method does in each group of patients, and of views."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.data.subgroups import subgroup_names
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.evaluation.tables.areas import Counts, resampled_areas, resampled_micro_auroc, weighted_mean


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
    micro = partial(resampled_micro_auroc, p, y, models)
    defined = ~np.isnan(metrics.auroc_per_finding(p, y, models))

    def macro(counts: Counts) -> Array:
        return weighted_mean(resampled_areas(p, y, models, counts), defined.astype(float))

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
