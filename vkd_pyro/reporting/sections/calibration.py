"""Whether a probability means what it says, before and after recalibration."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.posthoc.calibration import VALIDATION
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table
from vkd_pyro.reporting.sections.assessment import Assessment


def calibration(e: Evaluation, assessed: Assessment) -> Section:
    table, recalibrated = assessed.calibration, not np.isnan(e.calibrated).all()
    versions = ("raw", "recalibrated") if recalibrated else ("raw",)

    def of(title: str, *measures: str, why: str = "no label is known") -> Table:
        columns = [f"{measure}, {version}" for measure in measures for version in versions]
        rows: list[list[Cell]] = [[str(name), *map(float, row[columns])] for name, row in table.iterrows()]
        return Table(title, ["finding", *columns], rows, undefined=why, folded=True)

    separated = "one class, one probability, or classes that the probability separates"
    raw, honest = _bins(e.probabilities, e.labels), _bins(e.calibrated, e.labels) if recalibrated else None
    notes = [
        "ECE: mean gap between probability and frequency over 15 bins of equal width; adaptive: of equal count. With "
        "few labels both are above 0 by chance alone."
    ]
    diagram = figures.reliability(raw, honest, "all findings")
    return Section(
        "calibration",
        tables=[
            of("Scores of probabilities", "Brier", "log loss"),
            of("Calibration errors", "ECE", "adaptive ECE"),
            of("Calibration line, and in the large", "slope", "in the large", why=separated),
        ],
        figures=[CaptionedFigure("Reliability", diagram, "Known pairs of all findings.")],
        notes=[*notes, *_recalibration(e), *_worse(table)],
    )


def fitted_on(e: Evaluation) -> str:
    """Whose labels a calibration was fitted to."""
    return str(e.how["calibration"].get("fitted_on", VALIDATION))


def _recalibration(e: Evaluation) -> Iterator[str]:
    """By what, if at all, and what that was fitted to."""
    if np.isnan(e.calibrated).all():
        return
    if e.models is not None:
        yield "Recalibrated for each model apart, fitted on its own validation split."
        return
    fitted = e.how["calibration"]["recalibration"]
    of = {"study": "studies", "image": "single images"}[e.how["calibration"].get("unit", "study")]
    yield f"Recalibrated by {fitted['class_path'].rpartition('.')[2]}, fitted to {of} of {fitted_on(e)}."
    if e.how.get("fusion") == "product":
        yield "It was fitted to the mean over the images of a study, which is not what is evaluated here."
    yield from (f"{finding}: not recalibrated ({why})" for finding, why in fitted["init_args"]["not_fitted"].items())


def _worse(table: pd.DataFrame) -> Iterator[str]:
    """Where recalibration made the log loss of all pairs larger, that."""
    before, after = (float(table.iloc[0][f"log loss, {version}"]) for version in ("raw", "recalibrated"))
    if after > before:
        yield f"Recalibration did not help here: the log loss of all findings went from {before:.4f} to {after:.4f}."


def _bins(probabilities: NDArray[Any], labels: NDArray[Any]) -> figures.Bins:
    found = metrics.reliability(probabilities, labels)
    return found.predicted, found.observed, found.count
