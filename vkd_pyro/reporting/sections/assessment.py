"""The tables of an evaluation, made once for its page and its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.tables import PredictiveChecks, Selective
from vkd_pyro.metrics import Interval


@dataclass(frozen=True)
class Assessment:
    """All tables of an evaluation, made once for the page and for evaluation.json."""

    averages: dict[str, Interval]
    ranking: pd.DataFrame
    calibration: pd.DataFrame
    decisions: pd.DataFrame | None
    conformal: pd.DataFrame | None
    selective: Selective
    selective_by_probability: Selective
    subgroups: pd.DataFrame
    clinical: pd.DataFrame | None
    decision_curves: pd.DataFrame
    together: pd.DataFrame | None
    checks: PredictiveChecks | None
    failures: pd.DataFrame

    @classmethod
    def of(
        cls, evaluation: Evaluation, num_resamples: int = 1000, prevalence: Mapping[str, float] | None = None
    ) -> "Assessment":
        """Intervals by so many resamples of the patients; predictive values also at another prevalence, by finding."""
        return cls(
            tables.averages(evaluation, num_resamples),
            tables.ranking(evaluation, num_resamples),
            tables.calibration(evaluation),
            tables.decisions(evaluation),
            tables.conformal(evaluation),
            tables.selective(evaluation, num_resamples=num_resamples),
            tables.selective(evaluation, evaluation.probabilities.sum(axis=1), num_resamples),
            tables.subgroups(evaluation, num_resamples),
            tables.clinical(evaluation, prevalence),
            tables.decision_curves(evaluation),
            tables.together(evaluation, num_resamples),
            tables.predictive_checks(evaluation),
            tables.failures(evaluation),
        )

    def summary(self) -> dict[str, Any]:
        """For JSON; undefined numbers are null, intervals are {estimate, low, high}, with a note where there is one.

        Of failures, no study is named.
        """
        found = {name: plain(value) for name, value in vars(self).items() if name != "failures"}
        return found | {"failures": plain(self.failures.drop(columns="study").to_dict("records"))}


def plain(value: Any) -> Any:
    """Tables, intervals and numbers as JSON has them."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(dict(row)) for name, row in value.iterrows()}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Interval):
        return plain({name: part for name, part in vars(value).items() if name != "note" or part})
    if isinstance(value, Selective | PredictiveChecks):
        return plain(vars(value))
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and np.isnan(value) else value
