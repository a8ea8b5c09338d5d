"""Posterior predictive checks of label vectors."""

import numpy as np
import pandas as pd

from vkd_pyro.evaluation.tables import VERSIONS
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table
from vkd_pyro.reporting.sections.assessment import Assessment

MOST_PAIRS = 12
"""Pairs in the figure, those that are observed most often."""

NAMES = {"jointly": "replicated, jointly", "independent": "replicated, independent marginals"}


def checks(assessed: Assessment) -> Section | None:
    found = assessed.checks
    if found is None:
        return None
    note = (
        "Beside what was observed stands the mean over replicas, and what 95 % of them lie in; p is twice the smaller "
        "tail. The network is as it is, so uncertainty about it is not in the intervals."
    )
    reason = found.undefined or "no study has both labels known"
    tables = [
        _table("Findings of a study, over all studies", "statistic", found.statistics, note, reason),
        _table(
            "How many findings a study has", "findings", found.counts, "Shares of the studies.", reason, folded=True
        ),
        _table("Which findings go together", "pair", found.pairs, "Numbers of studies.", reason, folded=True),
    ]
    shown = [] if found.undefined else [_figure(found.counts, found.pairs)]
    notes = [] if found.undefined else [_outside(found.outside, len(found.pairs))] * bool(len(found.pairs))
    return Section(
        "checks",
        lead="Label vectors that the model draws for the same studies, unknown labels masked alike, beside the labels "
        "as they are: how many findings a study has, and which go together. Jointly, all findings of a study share "
        "their draw of z; as independent marginals each is drawn by its own probability, so what differs is what z "
        "gives.",
        facts={"studies with a known label of an abnormality": found.studies},
        tables=[table for table in tables if table.rows],
        figures=shown,
        notes=notes,
    )


def _table(title: str, first: str, rows: pd.DataFrame, note: str, reason: str, folded: bool = False) -> Table:
    columns = [first, "observed"]
    for version in VERSIONS:
        columns += [NAMES[version], "p"]
    cells: list[list[Cell]] = [[str(name), *row.tolist()] for name, row in rows.iterrows()]
    return Table(title, columns, cells, note, folded=folded, undefined=reason)


def _figure(counts: pd.DataFrame, pairs: pd.DataFrame) -> CaptionedFigure:
    seen = [row for row in _rows(counts) if row[1] > 0 or any(interval.high > 0 for interval in row[2])]
    often = sorted((row for row in _rows(pairs) if not np.isnan(row[1])), key=lambda row: -row[1])[:MOST_PAIRS]
    return CaptionedFigure(
        "Predictive checks",
        figures.predictive_checks(seen, often, list(VERSIONS)),
        "Observed labels, and 95 % of the replicas. Pairs: those that are observed most often.",
    )


def _rows(table: pd.DataFrame) -> list[figures.CheckRow]:
    return [
        (str(name), float(row["observed"]), [row[version] for version in VERSIONS]) for name, row in table.iterrows()
    ]


def _outside(shares: dict[str, float], number: int) -> str:
    said = ", ".join(f"{100 * shares[name]:.0f} % {name}" for name in VERSIONS)
    return f"Of {number} pairs, outside of their intervals: {said}; 5 % are to be expected, or fewer of rare pairs."
