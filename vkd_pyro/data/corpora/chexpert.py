"""CheXpert (Irvin et al. 2019), in either size."""

import os
import re
from math import nan
from pathlib import Path

import numpy as np

from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.tables import cells_of, check_known, group_rows, need_table, read_labels, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import train_or_validation
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError

PATH = re.compile(r"(?:.*/)?((?:train|valid)/((patient\d+)/study\d+)/[^/]+)")
USED = ("file", "study", "patient", "view", "sex", "age")


class CheXpert(Corpus):
    """Reader of CheXpert-v1.0 and CheXpert-v1.0-small: no reports.

    The official `valid.csv`, labelled by radiologists, is the test split; the patients of `train.csv` are split
    7 : 1 into train and validation by hash. Sex and age are those of `Sex` and `Age`; its patients are adults, so an
    age of 0 (it stands beside the sex Unknown) is unknown.

    Args:
        root: the folder with `train.csv`, `valid.csv`, `train/` and `valid/`.
    """

    name = "chexpert"
    findings = CHEXPERT_FINDINGS

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the files `train.csv`, `valid.csv`."""
        if not self.root.is_dir():
            raise UserError(f"data.selection.corpus.root: no folder at {self.root}; expected a CheXpert download")
        self.left_out.clear()
        return [*self._read("train"), *self._read("valid")]

    def _read(self, part: str) -> list[Study]:
        path = need_table(self.root, f"{part}.csv")
        table = read_table(path, ("Path", "Frontal/Lateral", "AP/PA", *self.findings))
        check_known(path, table, "Path", PATH.pattern)
        # The first component of Path is the download's own name.
        table[["file", "study", "patient"]] = table["Path"].str.extract(PATH)
        table["view"] = table["Frontal/Lateral"]
        table["sex"] = [sex_of(cell) for cell in cells_of(table, "Sex")]
        table["age"] = [age_of(cell) or nan for cell in cells_of(table, "Age")]
        labels = read_labels(path, table, self.findings)
        exists = np.array([os.path.isfile(self.root / file) for file in table["file"]])
        self.left_out["images listed, but no file"] += int((~exists).sum())
        return [
            Study(
                study_id=study,
                patient_id=rows[0].patient,
                images=tuple(self.root / row.file for row in rows),
                views=tuple(view_of(row.view) for row in rows),
                report={},
                labels=labels[rows[0].Index],
                split="test" if part == "valid" else train_or_validation(self.name, rows[0].patient),
                sex=rows[0].sex,
                age=rows[0].age,
            )
            for study, rows in group_rows(table[list(USED)][exists], "study").items()
        ]
