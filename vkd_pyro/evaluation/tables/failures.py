"""Where the model was wrong, and how sure it was."""

import numpy as np
import pandas as pd

from vkd_pyro.evaluation.evaluation import Evaluation

WORST = 5
"""Studies of each finding that are listed, of each kind of error."""


def failures(evaluation: Evaluation, worst: int = WORST) -> pd.DataFrame:
    """The worst studies of each finding: absent and called most probable, present and called least probable.

    Columns: finding, error ("false alarm" or "miss"), rank from 1, study, probability, label, uncertainty in nats. A
    probability that ranks right (a false alarm below every present study, a miss above every absent one) is none.
    """
    rows = []
    for k, finding in enumerate(evaluation.findings):
        p, y = evaluation.probabilities[:, k], evaluation.labels[:, k]
        present, absent = p[y == 1], p[y == 0]
        if not len(present) or not len(absent):
            continue
        for error, label, sign, bound in (("false alarm", 0.0, -1, present.min()), ("miss", 1.0, 1, absent.max())):
            order = np.flatnonzero(y == label)[np.argsort(sign * p[y == label], kind="stable")][:worst]
            wrong = [row for row in order if sign * p[row] <= sign * bound]
            rows += [
                {
                    "finding": finding,
                    "error": error,
                    "rank": rank,
                    "study": evaluation.study_ids[row],
                    "probability": p[row],
                    "label": label,
                    "uncertainty": evaluation.uncertainty[row, k],
                }
                for rank, row in enumerate(wrong, 1)
            ]
    columns = ["finding", "error", "rank", "study", "probability", "label", "uncertainty"]
    return pd.DataFrame(rows, columns=columns)
