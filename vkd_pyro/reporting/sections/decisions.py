"""What the operating points and the conformal sets answer."""

import numpy as np

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.reporting.page import Cell, Section, Table, Undefined
from vkd_pyro.reporting.sections.assessment import Assessment
from vkd_pyro.reporting.sections.calibration import fitted_on


def decisions(e: Evaluation, assessed: Assessment) -> Section | None:
    if assessed.decisions is None or assessed.conformal is None:
        return None
    columns = ["threshold", "sensitivity", "specificity", "referred", "wrong, if answered", "wrong, of the referred"]
    rows: list[list[Cell]] = []
    for finding, row in assessed.decisions.iterrows():
        why = row["undefined"] or "no such study here"
        cells: list[Cell] = [Undefined(why) if np.isnan(row[name]) else float(row[name]) for name in columns]
        rows.append([str(finding), *cells])
    fitted = e.how["calibration"]
    rule = fitted["operating_points"]["rule"]
    arguments = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule["init_args"].items())
    chosen = f"{rule['class_path'].rpartition('.')[2]} ({arguments})"
    alpha = fitted["conformal"]["alpha"]
    sets: list[list[Cell]] = [[str(finding), *map(float, row)] for finding, row in assessed.conformal.iterrows()]
    return Section(
        "decisions",
        lead="Yes from the threshold on, no below, refer where less than two thirds of the draws of z say the same.",
        tables=[
            Table(
                "Operating points",
                ["finding", *columns],
                rows,
                f"Thresholds of recalibrated probabilities, found on {fitted_on(e)} by {chosen}; what they reach "
                "is measured here, on the studies whose label is known. Sensitivity and specificity are of yes and no "
                "by the threshold alone, nothing referred; the last two columns are the share of wrong answers among "
                "those that were given, and among those that the threshold would have given instead of referring.",
            ),
            Table(
                "Conformal sets",
                ["finding", *assessed.conformal.columns],
                sets,
                f"Each class is to be covered in at least {1 - alpha:.0%} of its studies, on average over validation "
                f"splits, for patients like those of {fitted_on(e)}; approximately, where it chose the epoch too. "
                "One answer: the share of sets that are yes or no alone; refer is a set of both.",
                undefined="no study of that class here",
            ),
        ],
    )
