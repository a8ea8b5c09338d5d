"""Labels from outside: a CSV of `vkd label`, of the CheXpert labeller, of CheXbert, or of one's own."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.tables import read_labels, read_table
from vkd_pyro.data.ids import rounded, spelling
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
        UserError: not such a file, it has none of the studies, one of them twice with different labels, or one spelled
            in another way than the corpus has it.
    """
    if not path.is_file():
        raise UserError(f"data.selection.labels: no file at {path}; expected a CSV file, e.g. of vkd label")
    table = read_table(path, findings)
    key = next((column for column in (*ID_COLUMNS, *TEXT_COLUMNS) if column in table), None)
    if key is None:
        raise UserError(f"{path}: no column that names the study; expected one of {', '.join(ID_COLUMNS)}")
    by_text = key in TEXT_COLUMNS
    names = [_fold(cell) if by_text else cell for cell in table[key]]
    if not by_text and (how := rounded(names)):
        raise UserError(f"{path}: column {key!r} has {how}; save the column as text, from where it comes")
    rows = _rows_by_name(path, names, read_labels(path, table, findings))
    unlabelled = np.full(len(findings), np.nan, dtype=np.float32)
    # MIMIC-CXR's tables write a study's number without the "s" of its files.
    keys = (map(_fold, _texts(s.report)) if by_text else (s.study_id, s.study_id.removeprefix("s")) for s in studies)
    # A blank cell names nothing, and least of all a study without a report.
    labels = [next((rows[name] for name in names if name and name in rows), unlabelled) for names in keys]
    if not any(row is not unlabelled for row in labels):
        raise UserError(f"{path}: none of its {len(rows):,} rows is of one of the {len(studies):,} studies, by {key!r}")
    if not by_text:
        lost = {spelling(study.study_id) for study, row in zip(studies, labels, strict=True) if row is unlabelled}
        known = {study.study_id for study in studies}
        if found := len(lost & {spelling(name) for name in names if name and name not in known}):
            raise UserError(
                f"{path}: {found:,} studies are spelled in another way than in the corpus (leading zeros, capitals, a "
                f".0); write column {key!r} as vkd label does"
            )
    return labels


def _rows_by_name(path: Path, names: Sequence[str], labels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    rows: dict[str, NDArray[np.float32]] = {}
    for number, (name, row) in enumerate(zip(names, labels, strict=True), start=2):
        if not np.array_equal(rows.setdefault(name, row), row) and name:
            raise UserError(f"{path}: row {number}: its study is in an earlier row too, with other labels; leave one")
    return rows


def _texts(report: Mapping[str, str]) -> Iterable[str]:
    """Whatever of a report may have been given to a labeller."""
    yield " ".join(report[name] for name in ("findings", "impression") if name in report)
    yield from report.values()


def _fold(text: str) -> str:
    return " ".join(text.lower().split())
