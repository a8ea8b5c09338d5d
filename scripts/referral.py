"""How many answers are referred, and how many are wrong, by two rules, on the test split of runs.

    python scripts/referral.py RUN... --json results/referral.json

Two thirds of the draws is the rule of `vkd predict`; the interval is the rule before it, by which an answer was
referred where the interval of 95 % over z held the threshold.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from comparing import write_result
from numpy.typing import NDArray

from vkd_pyro.artifacts.run import load_run
from vkd_pyro.evaluation.evaluate import evaluate_run
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.posthoc.calibration import Fit

ANSWERED, REFERRED = "wrong, if answered", "wrong, of the referred"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="trained, with a calibration and a z")
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    arguments = parser.parse_args()
    table = {}
    for path in arguments.runs:
        run = load_run(path)
        evaluation, _ = evaluate_run(run)
        fit = run.bundle.calibration.study
        by_draws = evaluation.answers == "refer"
        for rule, referred in {
            "interval of 95 %": by_interval(evaluation, fit),
            "two thirds of the draws": by_draws,
        }.items():
            table[f"{run.data.corpus.name}, {rule}"] = cells(evaluation, fit, referred)
    print(pd.DataFrame(table).T.to_string())
    if arguments.json:
        write_result(arguments.json, {"rows": "corpus, rule", "table": table})


def by_interval(evaluation: Evaluation, fit: Fit) -> NDArray[np.bool_]:
    """Where the recalibrated interval holds the threshold, [N, K]."""
    ends = [fit.recalibration(end) for end in (evaluation.low, evaluation.high)]
    low, high = np.minimum(ends[0], evaluation.calibrated), np.maximum(ends[1], evaluation.calibrated)
    return (low < fit.operating_points.thresholds) & (high >= fit.operating_points.thresholds)


def cells(evaluation: Evaluation, fit: Fit, referred: NDArray[np.bool_]) -> dict[str, str]:
    """Median, least and most over the findings that have a threshold."""
    thresholds = fit.operating_points.thresholds
    found: dict[str, list[float]] = {"referred": [], ANSWERED: [], REFERRED: []}
    for k in np.flatnonzero(~np.isnan(thresholds)):
        y = evaluation.labels[:, k]
        known, away = ~np.isnan(y), referred[:, k]
        wrong = (evaluation.calibrated[:, k] >= thresholds[k]) != (y == 1)
        found["referred"].append(away[known].mean())
        for name, which in ((ANSWERED, known & ~away), (REFERRED, known & away)):
            found[name].append(wrong[which].mean() if which.any() else np.nan)
    return {name: shown(np.array(values)) for name, values in found.items()}


def shown(values: NDArray[np.float64]) -> str:
    """Median [least, most] of those that there are."""
    known = values[~np.isnan(values)]
    return f"{np.median(known):.3f} [{known.min():.3f}, {known.max():.3f}]" if len(known) else "-"


if __name__ == "__main__":
    main()
