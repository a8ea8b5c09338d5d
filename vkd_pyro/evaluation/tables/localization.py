"""How well maps point at what radiologists drew, finding by finding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vkd_pyro import metrics
from vkd_pyro.evaluation.heatmaps import MapScores
from vkd_pyro.metrics import FEWEST, THRESHOLDS
from vkd_pyro.metrics.localization import HALF

VALIDATION, FIXED = "validation", "half of the largest value"


@dataclass(frozen=True)
class Localization:
    """What is shown of maps.

    Attributes:
        table: a row a finding that was drawn: `images`, `patients`, `empty` maps; `hit rate` (Interval), that of the
            centre of the image and of a random place; `mIoU` (Interval) and that of the centre's map, at `threshold`,
            and where it comes from.
        curves: finding -> mean IoU at each of `THRESHOLDS`.
        size: side of the images that maps and regions are compared on, in pixels.
        cells: rows and columns of a map before it is enlarged.
    """

    table: pd.DataFrame
    curves: dict[str, list[float]]
    size: int
    cells: tuple[int, int]

    def parts(self) -> dict[str, Any]:
        """By name, for JSON."""
        return {"table": self.table, "curves": {"thresholds": THRESHOLDS, **self.curves}} | {
            "size": self.size,
            "cells": list(self.cells),
        }


def localization(scores: MapScores, validation: MapScores | None = None, num_resamples: int = 1000) -> Localization:
    """The scores of each finding; the threshold of IoU is the best one of the validation split's maps where at least 5
    of its patients have a region, else half of a map's largest value."""
    rows: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[float]] = {}
    for k in np.unique(scores.finding).tolist():
        of = scores.finding == k
        threshold, source = _threshold(validation, k)
        place = int(np.abs(THRESHOLDS - threshold).argmin())
        patients = scores.patients[of]
        curves[scores.findings[k]] = scores.overlaps[of].mean(axis=0).tolist()
        rows[scores.findings[k]] = {
            "images": int(of.sum()),
            "patients": len(np.unique(patients)),
            "empty": int(scores.empty[of].sum()),
            "hit rate": metrics.hit_rate(scores.hits[of], patients),
            "hit rate of the centre": float(scores.centre_hits[of].mean()),
            "hit rate at random": float(scores.areas[of].mean()),
            "mIoU": metrics.mean_overlap(scores.overlaps[of, place], patients, num_resamples),
            "mIoU of the centre": float(scores.centre_overlaps[of].mean(axis=0).max()),
            "threshold": threshold,
            "threshold from": source,
        }
    return Localization(pd.DataFrame.from_dict(rows, orient="index"), curves, scores.size, scores.cells)


def _threshold(validation: MapScores | None, k: int) -> tuple[float, str]:
    if validation is not None:
        of = validation.finding == k
        if len(np.unique(validation.patients[of])) >= FEWEST:
            return metrics.best_threshold(validation.overlaps[of]), VALIDATION
    return HALF, FIXED
