"""What the thresholds mean for patients, where a finding is as frequent as here and where it is not."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.evaluation.tables.answers import operating_points
from vkd_pyro.utils.errors import UserError

CURVE = np.round(np.arange(1, 100) / 100, 2)
"""Thresholds of a decision curve."""

MEASURES = ("sensitivity", "specificity", "ppv", "npv", "needed_to_read")


def prevalences(given: Sequence[str], findings: Sequence[str]) -> dict[str, float]:
    """Shares by finding, from "Pneumothorax=0.02".

    Raises:
        UserError: another form, no such finding, or a share that is not between 0 and 1.
    """
    found = {}
    for text in given:
        name, sign, share = text.rpartition("=")
        try:
            value = float(share) if sign else np.nan
        except ValueError:
            value = np.nan
        if not 0 < value < 1:
            raise UserError(f"--prevalence: found {text!r}, expected FINDING=SHARE, such as Pneumothorax=0.02")
        if name not in findings:
            near = difflib.get_close_matches(name, findings, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(f"--prevalence: no finding {name!r}{hint}; expected of {', '.join(findings)}")
        found[name] = value
    return found


def clinical(evaluation: Evaluation, prevalence: Mapping[str, float] | None = None) -> pd.DataFrame | None:
    """A row a finding at its threshold, and one more for each at another prevalence: `metrics.Operating`, and why there
    is none. None where the model has no operating points."""
    e, points = evaluation, operating_points(evaluation)
    if points is None:
        return None
    rows: dict[str, dict[str, Any]] = {}
    for k, (finding, threshold) in enumerate(zip(e.findings, points.thresholds, strict=True)):
        found = metrics.operating(e.calibrated[:, k], e.labels[:, k], e.patient_ids, threshold)
        why = points.undefined.get(finding, "")
        rows[finding] = {"threshold": threshold, **(_nothing(found) if why else vars(found)), "undefined": why}
        if (asked := (prevalence or {}).get(finding)) is not None:
            there = metrics.at_prevalence(found, asked)
            cells = _nothing(there) if why else vars(there)
            rows[f"{finding}, at a prevalence of {asked:g}"] = {"threshold": threshold, **cells, "undefined": why}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("finding")


def _nothing(found: metrics.Operating) -> dict[str, Any]:
    """Without a threshold."""
    return vars(found) | dict.fromkeys(MEASURES, metrics.UNDEFINED) | {"flagged": np.nan}


def decision_curves(evaluation: Evaluation) -> pd.DataFrame:
    """A row a finding: thresholds, net benefit of the model and of yes to all, arrays; and from which threshold to
    which the model is better than both yes to all and no to all, NaN where it is nowhere."""
    e, rows = evaluation, {}
    p = honest(evaluation)
    for k, finding in enumerate(e.findings):
        curve = metrics.decision_curve(p[:, k], e.labels[:, k], CURVE)
        useful = curve.thresholds[curve.useful]
        rows[finding] = vars(curve) | {
            "useful_from": useful.min() if useful.size else np.nan,
            "useful_to": useful.max() if useful.size else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("finding")


def honest(evaluation: Evaluation) -> Array:
    """Recalibrated probabilities, or raw ones where there are none, [N, K]."""
    e = evaluation
    return e.probabilities if np.isnan(e.calibrated).all() else e.calibrated
