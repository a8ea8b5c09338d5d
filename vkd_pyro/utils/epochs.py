"""Which epoch of a training its run keeps."""

from collections.abc import Mapping
from typing import Literal

import pandas as pd

Monitor = Literal["val/nll", "val/macro_auc"]
MONITORED = "val/monitored"
"""The column of metrics.csv whose least value is the best epoch's."""


def monitored(metrics: Mapping[str, float], monitor: Monitor) -> float:
    """What an epoch is judged by, the less the better: its val/nll, or 1 less its val/macro_auc."""
    return metrics["val/nll"] if monitor == "val/nll" else 1 - metrics["val/macro_auc"]


def best_epoch(table: pd.DataFrame) -> int:
    """The row of metrics.csv whose epoch a run keeps; by val/nll where an earlier version wrote it."""
    by_nll = pd.to_numeric(table["val/nll"])
    return int(pd.to_numeric(table[MONITORED]).fillna(by_nll).argmin() if MONITORED in table else by_nll.argmin())
