"""A corpus of one's own, described by one CSV file."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.patients import OLDEST, age_of, sex_of
from vkd_pyro.data.corpora.common.tables import group_rows, read_labels, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.reports import WHOLE
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Sex, Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of
from vkd_pyro.utils.reading import LARGEST_REPORT, read_text

REQUIRED, OPTIONAL = ("image", "patient"), ("report", "view", "split", "study", "sex", "age")
SPLITS = {
    "train": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


class Manifest(Corpus):
    """Reader of a CSV file with a row an image: `image,report,patient,sex,age,view,split,<findings...>`.

    * `image`: a file, relative to the CSV file's folder;
    * `patient`: any name; what is split, and never shared between splits;
    * `report`: the text itself, or the name of a `.txt` file; may be blank, or left out;
    * `sex`: F, M, female or male, in any case, or blank; may be left out;
    * `age`: at the examination, in years, or as DICOM writes it (058Y, 006M), or blank; may be left out;
    * `view`: AP, PA, frontal, lateral, LL, RL, or blank; may be left out;
    * `split`: train, validation or test for every row; without the column, patients are split 70 / 10 / 20 by hash;
    * `study`: rows of the same study are its images, with the same report and labels; without it each row is a study;
    * every other column is a finding: 1 present, 0 absent, -1 uncertain, blank not mentioned (`LabelPolicy.blank` says
      whether that is absent or unknown). Without any, the findings are CheXpert's, and unlabelled: `vkd label` labels
      them from the reports.

    Args:
        path: the CSV file.
        name: of the corpus; patients are split by the hash of "name:patient".
    """

    def __init__(self, path: str | Path, name: str = "manifest") -> None:
        self.path, self.name = Path(path), name

    @cached_property
    def findings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the labels."""
        if "" in self._columns:
            raise UserError(f"{self.path}: a column without a name; give it that of a finding, or leave it out")
        return self._columns or CHEXPERT_FINDINGS

    def fingerprint(self) -> str:
        """The hash of the CSV file."""
        return sha256_of(self.path) if self.path.is_file() else ""

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the file."""
        table = self._table.copy()
        self.left_out.clear()
        for column in OPTIONAL:
            if column not in table:
                table[column] = ""
        if (self._table.get("study", table["image"]) == "").any():
            raise UserError(f"{self.path}: a cell of the column 'study' is blank; name it, or leave the column out")
        if (twice := table["image"].duplicated()).any():
            raise UserError(f"{self.path}: row {int(np.flatnonzero(twice)[0]) + 2}: its image is in an earlier row too")
        table["study"] = self._table.get("study", table["image"])
        table["split"] = self._splits(table)
        table["sex"], table["age"] = self._sexes(table["sex"].tolist()), self._ages(table["age"].tolist())
        files = [self.path.parent / name.replace("\\", "/") for name in table["image"]]
        table["file"] = pd.Series(files, dtype=object)
        unlabelled = np.full((len(table), len(self.findings)), np.nan, dtype=np.float32)
        labels = self._labels(table) if self._columns else unlabelled
        exists = np.array([os.path.isfile(file) for file in files], dtype=bool)
        self.left_out["images listed, but no file"] += int((~exists).sum())
        used = table[["file", *REQUIRED, *OPTIONAL]][exists]
        return [
            self._study(study, rows, labels[[row.Index for row in rows]])
            for study, rows in group_rows(used, "study").items()
        ]

    def _labels(self, table: pd.DataFrame) -> NDArray[np.float32]:
        try:
            return read_labels(self.path, table, self.findings)
        except UserError as error:
            raise UserError(f"{error}; a column that is no finding must be taken out of the file") from error

    @property
    def _columns(self) -> tuple[str, ...]:
        """Those that are findings."""
        return tuple(column for column in self._table.columns if column not in (*REQUIRED, *OPTIONAL))

    @cached_property
    def _table(self) -> pd.DataFrame:
        if not self.path.is_file():
            raise UserError(
                f"data.selection.corpus.path: no file at {self.path}; expected a CSV file with {', '.join(REQUIRED)}"
            )
        table = read_table(self.path, REQUIRED).apply(lambda column: column.str.strip())
        if (blank := (table[list(REQUIRED)] == "").any(axis=1)).any():
            raise UserError(f"{self.path}: row {int(np.flatnonzero(blank)[0]) + 2} names no image or no patient")
        return table

    def _study(self, name: str, rows: list[Any], labels: NDArray[np.float32]) -> Study:
        first = rows[0]
        same = len({(row.patient, row.report, row.split, row.sex, str(row.age)) for row in rows}) == 1
        if not same or any(not np.array_equal(row, labels[0], equal_nan=True) for row in labels):
            raise UserError(
                f"{self.path}: row {first.Index + 2}: rows of its study differ in patient, report, split, sex, "
                "age or a label; make them the same, or give each row a study of its own"
            )
        return Study(
            study_id=name,
            patient_id=first.patient,
            images=tuple(row.file for row in rows),
            views=tuple(view_of(row.view) for row in rows),
            report=self._report(first.report, first.Index),
            labels=labels[0],
            split=first.split,
            sex=first.sex,
            age=first.age,
        )

    def _sexes(self, cells: Sequence[str]) -> list[Sex]:
        sexes = [sex_of(cell) for cell in cells]
        self._check_read("sex", cells, [sex == "unknown" for sex in sexes], "F, M, female, male")
        return sexes

    def _ages(self, cells: Sequence[str]) -> list[float]:
        ages = [age_of(cell) for cell in cells]
        self._check_read("age", cells, np.isnan(ages).tolist(), f"years, from 0 to {OLDEST:g},")
        return ages

    def _check_read(self, column: str, cells: Sequence[str], unread: Sequence[bool], expected: str) -> None:
        """Raises `UserError` naming the first cell that says something which was not understood."""
        strange = [no and cell.lower() not in ("", "unknown") for cell, no in zip(cells, unread, strict=True)]
        if any(strange):
            row = strange.index(True) + 2
            raise UserError(f"{self.path}: row {row}, column {column!r}: expected {expected} or blank for unknown")

    def _splits(self, table: pd.DataFrame) -> list[str]:
        if "split" not in self._table:
            return [split_of(self.name, patient) for patient in table["patient"]]
        splits = [SPLITS.get(split.strip().lower(), "") for split in table["split"]]
        if "" in splits:
            raise UserError(
                f"{self.path}: row {splits.index('') + 2}, column 'split': expected train, validation or test; "
                "leave the whole column out to split by patient"
            )
        return splits

    def _report(self, cell: str, row: int) -> dict[str, str]:
        cell = cell.strip()
        if cell.endswith(".txt") and "\n" not in cell:
            try:
                cell = read_text(self.path.parent / cell, LARGEST_REPORT)
            except (OSError, ValueError):  # also where it is no name of a file, or no text
                raise UserError(
                    f"{self.path}: row {row + 2}: its report ends in .txt, and is not a readable text file (plain, "
                    f"UTF-8, at most {LARGEST_REPORT:,} bytes) below {self.path.parent}; correct the name, or, if it "
                    "is the text itself, end it otherwise"
                ) from None  # which says the cell, and that may be a report
        return {WHOLE: " ".join(cell.split())} if cell else {}
