"""What the thresholds mean for patients: predictive values, net benefit, what to refer."""

import numpy as np
import pandas as pd

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.tables import CURVE
from vkd_pyro.metrics import Interval
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table, Undefined
from vkd_pyro.reporting.sections.assessment import Assessment

REFERRED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the studies that the table refers."""

MEASURES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "needed_to_read": "number needed to read",
}


def clinical(e: Evaluation, assessed: Assessment) -> Section | None:
    tables = (_values(assessed.clinical), _curves(assessed.decision_curves), _referral(assessed))
    drawn = {
        str(finding): (row["thresholds"], row["model"], row["everyone"])
        for finding, row in assessed.decision_curves.iterrows()
        if not np.isnan(row["model"]).any()
    }
    shown = [table for table in tables if table is not None]
    if not drawn:
        return None
    return Section(
        "clinical",
        lead="What a yes and a no mean where a finding is as frequent as here, or as was asked for, and whether acting "
        "on the model is better than acting on every study or on no study.",
        tables=shown,
        figures=[
            CaptionedFigure(
                "Decision curves",
                figures.decision_curves(drawn),
                "True positives less false ones, a false one weighed t / (1 - t), a study. Where the model's line is "
                "the highest, acting on it is best.",
            )
        ],
    )


def _values(found: pd.DataFrame | None) -> Table | None:
    if found is None:
        return None
    rows: list[list[Cell]] = []
    for finding, row in found.iterrows():
        why = row["undefined"]
        rows.append(
            [
                str(finding),
                Undefined(why) if why else float(row["threshold"]),
                float(row["prevalence"]),
                *(_cell(row[name], why) for name in MEASURES),
            ]
        )
    note = (
        "Yes from the threshold on, nothing referred. Intervals of 95 %: Wilson's, of as many independent studies as "
        "those of these patients are worth. At another prevalence: by Bayes' rule, sensitivity and specificity being "
        "those measured here, which holds where patients differ in nothing else. Number needed to read: studies called "
        "positive for each that is."
    )
    return Table("At the thresholds", ["finding", "threshold", "prevalence", *MEASURES.values()], rows, note)


def _cell(value: Interval, why: str) -> Cell:
    if np.isnan(value.estimate):
        return Undefined(why or "no such study here")
    return value


def _curves(found: pd.DataFrame) -> Table:
    nowhere = Undefined(f"at no threshold from {CURVE[0]:g} to {CURVE[-1]:g}")
    rows: list[list[Cell]] = [
        [
            str(finding),
            *(nowhere if np.isnan(row[name]) else float(row[name]) for name in ("useful_from", "useful_to")),
        ]
        for finding, row in found.iterrows()
    ]
    note = "The least and the largest threshold at which the model is better than both; between them it may not be."
    return Table("Better than yes to all and no to all", ["finding", "from", "to"], rows, note, digits=2)


def _referral(assessed: Assessment) -> Table:
    selective = assessed.selective
    rows: list[list[Cell]] = []
    for asked in REFERRED:
        k = int(np.abs(selective.shares - asked).argmin())
        if rows and rows[-1][0] == f"{selective.shares[k]:.0%}":
            continue  # equal uncertainties are referred together
        kept = (selective.error[k], selective.random[k], selective.oracle[k])
        rows.append([f"{selective.shares[k]:.0%}", *(float(1000 * share) for share in kept)])
    note = (
        "Wrong among 1,000 answers (a study and a finding each; yes from a probability of 1/2 on) that are left when "
        "the studies of the largest total uncertainty go to a reader. Studies at random, and those with most errors "
        "first, are no order and the best one. Area under the risk-coverage curve (AURC) "
        f"{selective.risk_coverage_area:.4f}, above the best possible (E-AURC) {selective.excess_area:.4f}; under the "
        f"generalized one (AUGRC) {selective.generalized_risk_area:.4f}; less is better."
    )
    columns = ["studies referred", "wrong per 1,000 answers", "at random", "most errors first"]
    return Table("What to refer", columns, rows, note, digits=1, undefined="no label is known")
