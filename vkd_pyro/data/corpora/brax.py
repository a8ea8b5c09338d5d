"""BRAX (Reis et al. 2022)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.strange import check_names
from vkd_pyro.data.corpora.common.tables import (
    AGAIN,
    agreed,
    cells_of,
    check_known,
    find_table,
    read_labels,
    read_table,
)
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError

TABLES = ("master_spreadsheet_update.csv", "master_spreadsheet.csv")
"""Of release 1.1.0, and of 1.0.0."""
COLUMNS = ("PngPath", "PatientID", "AccessionNumber", "ViewPosition", *CHEXPERT_FINDINGS)
DIFFER = "labels on which rows of a study differ"
IMAGE = r"[^/\\][^\\]*\.(png|dcm)"


class Brax(Corpus):
    """Reader of BRAX: CheXpert's 14 labels, from reports in Portuguese that do not ship; several images a study.

    It ships no split: patients are split 70 / 10 / 20 by hash. A study is an accession number of a patient. Images
    without a view, and decubitus and oblique ones, are of unknown view. Ages are groups of five years, by the number
    that the table has ("85 or more" is 85). Rows that name the same file are one. That an image is turned, or a copy of
    another under its own name, stands in no table.

    Args:
        root: the folder with `master_spreadsheet_update.csv` (or `master_spreadsheet.csv`), and `images/` (PNG) or
            `Anonymized_DICOMs/`.
        all_test: every study is of the test split, for a model that was trained elsewhere.
    """

    name = "brax"
    findings = CHEXPERT_FINDINGS

    def __init__(self, root: str | Path, all_test: bool = False) -> None:
        self.root, self.all_test = Path(root), all_test

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the table."""
        path = next((found for name in TABLES if (found := find_table(self.root, name))), None)
        if path is None:
            raise UserError(
                f"{self.root}: {TABLES[0]} not found (nor {TABLES[1]}); point data.selection.corpus.root at its folder"
            )
        table = read_table(path, COLUMNS)
        check_known(path, table, "PngPath", IMAGE)
        for column in ("PatientID", "AccessionNumber"):
            check_names(path, table, column)
        labels = read_labels(path, table, self.findings)
        self.left_out.clear()
        self.doubts.clear()
        names = ("PngPath", "DicomPath", "PatientID", "AccessionNumber", "ViewPosition", "PatientSex", "PatientAge")
        images: dict[tuple[str, str], dict[str, tuple[Any, ...]]] = {}
        owners: dict[str, tuple[str, str]] = {}
        for row, cells in enumerate(zip(*(cells_of(table, name) for name in names), strict=True)):
            png, dicom, patient, accession, *told = cells
            if owners.setdefault(png, (patient, accession)) != (patient, accession):
                raise UserError(f"{path}: row {row + 2}: its image is another study's, too; fetch the table again")
            self.left_out[AGAIN] += png in images.get((patient, accession), {})
            images.setdefault((patient, accession), {}).setdefault(png, (dicom, row, *told))
        studies = [study for name, of in images.items() if (study := self._study(*name, of, labels)) is not None]
        if not studies:
            expected = "images/id_.../Study_.../Series_.../image-....png"
            self.doubts.extend(none_of(self.root, len(table), expected))
        if differ := self.left_out.pop(DIFFER, 0):
            self.doubts.append(f"{path}: {differ:,} {DIFFER}, and are taken as unknown; fetch the table again")
        return studies

    def _study(
        self, patient: str, accession: str, images: dict[str, tuple[Any, ...]], labels: NDArray[np.float32]
    ) -> Study | None:
        """None where no image has a file."""
        files, views = [], []
        for png, (dicom, _, view, *_) in images.items():
            if (file := self._file((png, dicom))) is None:
                self.left_out["images listed, but no file"] += 1
            else:
                files.append(file)
                views.append(view_of(view))
        if not files:
            return None
        _, rows, _, sexes, ages = zip(*images.values(), strict=True)
        of_study = agreed(labels[list(rows)])
        self.left_out[DIFFER] += int(np.isnan(of_study).sum())
        return Study(
            study_id=f"{patient}/{accession}",
            patient_id=patient,
            images=tuple(files),
            views=tuple(views),
            report={},
            labels=of_study,
            split="test" if self.all_test else split_of(self.name, patient),
            sex=sex_of(sexes[0]),
            age=age_of(ages[0]),
        )

    def _file(self, names: Sequence[str]) -> Path | None:
        return next((self.root / name for name in names if name and os.path.isfile(self.root / name)), None)
