"""A corpus of one's own, described by one CSV file."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.files import file_of
from vkd_pyro.data.corpora.common.patients import BLANK, OLDEST, age_of, says_age, says_sex, sex_of
from vkd_pyro.data.corpora.common.strange import (
    check_images,
    check_names,
    missing_images,
    not_understood,
    strange_patients,
    strange_studies,
)
from vkd_pyro.data.corpora.common.tables import group_rows, read_labels, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.reports import read_report, says_nothing
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of
from vkd_pyro.utils.reading import LARGEST_REPORT, read_text

LONGEST_NAME = 256
"""Characters that the name of a report's file may have, to be told."""
REQUIRED, OPTIONAL = ("image", "patient"), ("report", "view", "split", "study", "sex", "age")
SPLITS = {
    "train": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
NAMED_LIKE: dict[str, str] = (
    dict.fromkeys(("images", "imagepath", "imagefile", "imagename", "path", "file", "filename", "filepath"), "image")
    | dict.fromkeys(("patients", "patientid", "subject", "subjectid", "mrn", "pid"), "patient")
    | dict.fromkeys(("reports", "reporttext", "text"), "report")
    | dict.fromkeys(("views", "viewposition", "projection"), "view")
    | dict.fromkeys(("splits", "fold", "partition", "subset"), "split")
    | dict.fromkeys(("studies", "studyid", "studyuid", "accession", "accessionnumber", "exam", "examid"), "study")
    | dict.fromkeys(("gender", "patientsex"), "sex")
    | dict.fromkeys(("ages", "patientage"), "age")
    | {name: name for name in (*REQUIRED, *OPTIONAL)}
)
"""What the columns are called elsewhere, without capitals and separators: no names of findings."""
VIEWS = "AP, PA, frontal, lateral, LL, RL, L or words for these"


class Manifest(Corpus):
    """Reader of a CSV file with a row an image: `image,report,patient,sex,age,view,split,<findings...>`.

    * `image`: a file, relative to the CSV file's folder;
    * `patient`: any name; what is split, and never shared between splits; a cell that names nobody (blank, nan, #N/A),
      numbers that a spreadsheet rounded, and a name spelled in two ways (3 and 003) that is in two splits, are refused;
    * `report`: the text itself, or the name of a `.txt` file; may be blank, or left out;
    * `sex`: F, M, female or male, in any case; O, U, blank and what is not understood is unknown; may be left out;
    * `age`: at the examination, in years, or as DICOM writes it (058Y, 006M); 90+ and >89 are 90; blank and what is not
      understood is unknown; may be left out;
    * `view`: AP, PA, frontal, lateral, LL, RL or words for these (`view_of`); blank and what is not understood is
      unknown; may be left out;
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
        names: dict[str, str] = {}
        for column in self._columns:
            plain = re.sub(r"[\W_]", "", column).casefold()
            if not plain:
                raise UserError(f"{self.path}: a column without a name; give it that of a finding, or leave it out")
            if plain in NAMED_LIKE:
                raise UserError(
                    f"{self.path}: column {column!r} would be a finding (did you mean {NAMED_LIKE[plain]!r}?); rename "
                    "it, or take it out"
                )
            if names.setdefault(plain, column) != column:
                raise UserError(f"{self.path}: columns {names[plain]!r} and {column!r} are alike; leave one of them")
        return self._columns or CHEXPERT_FINDINGS

    def fingerprint(self) -> str:
        """The hash of the CSV file."""
        return sha256_of(self.path) if self.path.is_file() else ""

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the file."""
        table, findings = self._table.copy(), self.findings
        self.left_out.clear()
        self.doubts.clear()
        table["study"] = self._table.get("study", table["image"])
        for column in OPTIONAL:
            if column not in table:
                table[column] = ""
        check_names(self.path, table, "patient")
        if "study" in self._table:
            check_names(self.path, table, "study")
            self.doubts.extend(strange_studies(self.path, table["study"].tolist()))
        table["split"] = self._splits(table)
        patients, splits = table["patient"].tolist(), table["split"].tolist()
        self.doubts.extend(strange_patients(self.path, patients, splits))
        self._understand(table)
        files = [file_of(self.path.parent, name) for name in table["image"]]
        table["file"] = pd.Series(files, dtype=object)
        unlabelled = np.full((len(table), len(findings)), np.nan, dtype=np.float32)
        labels = self._labels(table) if self._columns else unlabelled
        exists = check_images(self.path, files, patients, splits)
        self.doubts.extend(missing_images(self.path, table["image"].tolist(), exists))
        self.left_out["images listed, but no file"] += exists.count(False)
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
        spare = [not name and (table.iloc[:, i] == "").all() for i, name in enumerate(table.columns)]
        table = table.loc[:, ~np.array(spare)]  # as spreadsheets leave them behind the last
        if (blank := table["image"] == "").any():
            raise UserError(f"{self.path}: row {int(np.flatnonzero(blank)[0]) + 2} names no image; take it out")
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
            views=tuple(row.view for row in rows),
            report=self._report(first.report, first.Index),
            labels=labels[0],
            split=first.split,
            sex=first.sex,
            age=first.age,
        )

    def _understand(self, table: pd.DataFrame) -> None:
        """Views, sexes and ages in place of what the cells say of them; tells of those that were not understood."""

        def says_view(cell: str) -> bool:
            return cell.lower() in BLANK or view_of(cell) != "unknown"

        for column, known, of, expected in (
            ("view", says_view, view_of, VIEWS),
            ("sex", says_sex, sex_of, "F, M, female, male, O"),
            ("age", says_age, age_of, f"years from 0 to {OLDEST:g}, 058Y, 90+"),
        ):
            self.doubts.extend(not_understood(self.path, column, table[column].tolist(), known, expected))
            table[column] = pd.Series([of(cell) for cell in table[column]], dtype=object)

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
        if re.fullmatch(r"\S+\.(?:pdf|docx?|rtf|odt|html?|xml|json|md|csv|dcm)", cell, re.IGNORECASE):
            raise UserError(
                f"{self.path}: row {row + 2}, column 'report': the name of a {cell.rpartition('.')[2]} file; expected "
                "the text itself or the name of a .txt file; save the report as text"
            )
        if cell.lower().endswith(".txt") and "\n" not in cell:
            path = file_of(self.path.parent, cell)
            try:
                cell = read_text(path, LARGEST_REPORT)
            except (OSError, ValueError):
                is_name = cell.isprintable() and " " not in cell and len(cell) < LONGEST_NAME
                shown = f" {path}" if is_name else ""  # else it may be the text itself
                raise UserError(
                    f"{self.path}: row {row + 2}: its report{shown} is not a readable text file; correct "
                    "the name, or end the text itself otherwise"
                ) from None
        if cell.strip() and says_nothing(cell):
            self.left_out["reports that say there is none (nan, none, a number, to follow)"] += 1
        return read_report(cell)
