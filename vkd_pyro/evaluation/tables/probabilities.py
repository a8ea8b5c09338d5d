"""Whether probabilities are honest, raw and recalibrated."""

import numpy as np
import pandas as pd

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import Array, Evaluation


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
