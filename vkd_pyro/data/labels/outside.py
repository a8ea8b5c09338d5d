"""Labels from outside: a CSV of `vkd label`, of the CheXpert labeller, of CheXbert, or of one's own."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.tables import read_labels, read_table
from vkd_pyro.data.study import Study
from vkd_pyro.utils.errors import UserError

ID_COLUMNS = ("study_id", "study", "id")
TEXT_COLUMNS = ("Reports", "Report Impression", "report")
"""Columns of the CheXpert labeller and of CheXbert, which name a report by its text alone."""


def read_outside_labels(path: Path, studies: Sequence[Study], findings: Sequence[str]) -> list[NDArray[np.float32]]:
    """The labels of each study, float32 [K] each; NaN throughout for a study that the file does not have.

    A row is found by the study's id where there is such a column, else by the report's text.

    Args:
        path: with a column a finding (1, 0, -1 uncertain, blank not mentioned), and one of `ID_COLUMNS` or
            `TEXT_COLUMNS`.
        studies: to be labelled.
        findings: the K labels.

    Raises:
        UserError: not such a file, or it has none of the studies.
    """
    if not path.is_file():
        raise UserError(f"data.selection.labels: no file at {path}; expected a CSV file, e.g. of vkd label")
    table = read_table(path, findings)
    key = next((column for column in (*ID_COLUMNS, *TEXT_COLUMNS) if column in table), None)
    if key is None:
        raise UserError(f"{path}: no column that names the study; expected one of {', '.join(ID_COLUMNS)}")
    by_text = key in TEXT_COLUMNS
    names = [_fold(cell) if by_text else cell for cell in table[key]]
    rows = dict(zip(names, read_labels(path, table, findings), strict=True))
    unlabelled = np.full(len(findings), np.nan, dtype=np.float32)
    # MIMIC-CXR's tables write a study's number without the "s" of its files.
    keys = (map(_fold, _texts(s.report)) if by_text else (s.study_id, s.study_id.removeprefix("s")) for s in studies)
    # A blank cell names nothing, and least of all a study without a report.
    labels = [next((rows[name] for name in names if name and name in rows), unlabelled) for names in keys]
    if not any(row is not unlabelled for row in labels):
        raise UserError(f"{path}: none of its {len(rows):,} rows is of one of the {len(studies):,} studies, by {key!r}")
    return labels


def _texts(report: Mapping[str, str]) -> Iterable[str]:
    """Whatever of a report may have been given to a labeller."""
    yield " ".join(report[name] for name in ("findings", "impression") if name in report)
    yield from report.values()


def _fold(text: str) -> str:
    return " ".join(text.lower().split())
