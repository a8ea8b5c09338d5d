"""What is said of all findings of a study together: jointly, from draws of z, beside the product of the marginals."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.data.labels.findings import abnormalities
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.metrics import Interval

JOINT, MARGINAL, DIFFERENCE = "jointly, from draws of z", "product of the marginals", "difference"


def together(evaluation: Evaluation, num_resamples: int = 1000) -> pd.DataFrame | None:
    """A row for the joint probabilities, one for the product of the marginals, and one for their difference.

    Columns: negative log-likelihood of a study's labels in nats, patients resampled for its interval; then, of "at
    least one abnormality", log loss, Brier score, calibration error, mean probability and frequency. None where it was
    not asked.
    """
    e = evaluation
    if e.any_joint is None or e.any_marginal is None:
        return None
    y = at_least_one(e)
    losses = {JOINT: -e.joint_log_prob, MARGINAL: -e.marginal_log_prob}
    losses[DIFFERENCE] = losses[JOINT] - losses[MARGINAL]
    known = ~np.isnan(y)
    rows: dict[str, dict[str, Any]] = {}
    for name, p in {JOINT: e.any_joint, MARGINAL: e.any_marginal}.items():
        rows[name] = {
            "NLL of all labels": _mean(losses[name], e.patient_ids, num_resamples),
            "log loss": metrics.negative_log_likelihood(p, y),
            "Brier": metrics.brier(p, y),
            "ECE": metrics.expected_calibration_error(p, y),
            "mean probability": float(p[known].mean()) if known.any() else np.nan,
            "frequency": float(y[known].mean()) if known.any() else np.nan,
        }
    rows[DIFFERENCE] = {name: rows[JOINT][name] - rows[MARGINAL][name] for name in ("log loss", "Brier", "ECE")}
    rows[DIFFERENCE]["NLL of all labels"] = _mean(losses[DIFFERENCE], e.patient_ids, num_resamples)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("at least one")


def at_least_one(evaluation: Evaluation) -> Array:
    """Whether a study has an abnormality, [N]: 1 where one is known to be there, 0 where all are known not to be."""
    labels = evaluation.labels[:, abnormalities(evaluation.findings)]
    return np.where((labels == 1).any(axis=1), 1.0, np.where(np.isnan(labels).any(axis=1), np.nan, 0.0))


def _mean(values: Array, patients: tuple[str, ...], num_resamples: int) -> Interval:
    """Over rows that have a value."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)

    def statistic(counts: NDArray[np.int64]) -> Array:
        number = counts @ known
        return np.divide(counts @ filled, number, out=np.full(len(counts), np.nan), where=number > 0)

    return metrics.bootstrap_interval(statistic, patients, num_resamples)
