"""What is said of all findings of a study at once."""

import numpy as np

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.page import Cell, Section, Table
from vkd_pyro.reporting.sections.assessment import Assessment


def together(assessed: Assessment) -> Section | None:
    found = assessed.together
    if found is None:
        return None
    rows: list[list[Cell]] = []
    for name, row in found.iterrows():
        missing = "\N{EN DASH}"
        cells: list[Cell] = [
            missing if not isinstance(cell, Interval) and np.isnan(cell) else cell for cell in row.tolist()
        ]
        rows.append([str(name), *cells])
    note = (
        "The first column is of all known labels of a study, in nats: less is better, and a difference below 0 is what "
        "z knows of findings that go together. The others are of the probability that there is at least one "
        "abnormality, over the studies where that is known; not recalibrated. Intervals of 95 %: patients resampled."
    )
    return Section(
        "joint",
        lead="Jointly, findings are independent given z only; the product of the marginals takes them as independent "
        "given the image.",
        tables=[Table("All findings of a study", ["", *map(str, found.columns)], rows, note)],
    )
