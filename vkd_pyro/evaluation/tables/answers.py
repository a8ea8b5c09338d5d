"""What the operating points and the conformal sets answer, and how often they are right."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.thresholds import OperatingPoints


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
                "sensitivity": share_of(yes, with_p & (y == 1)),
                "specificity": share_of(~yes, with_p & (y == 0)),
                "referred": share_of(answer == "refer", with_p),
                "wrong, if answered": share_of((answer == "yes") != (y == 1), answered),
                "wrong, of the referred": share_of(yes != (y == 1), with_p & (answer == "refer")),
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


def share_of(values: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(values[among].mean()) if among.any() else float("nan")
