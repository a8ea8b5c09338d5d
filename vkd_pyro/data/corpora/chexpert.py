"""CheXpert (Irvin et al. 2019), in either size."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from vkd_pyro.data.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import train_or_validation
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.tables import need_table, read_labels, read_table, refuse_strange
from vkd_pyro.data.views import view_of
from vkd_pyro.errors import UserError

PATH = re.compile(r"(?:.*/)?((?:train|valid)/((patient\d+)/study\d+)/[^/]+)")


class CheXpert(Corpus):
    """Reader of CheXpert-v1.0 and CheXpert-v1.0-small: no reports.

    The official `valid.csv`, labelled by radiologists, is the test split; the patients of `train.csv` are split
    7 : 1 into train and validation by hash.

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
            raise UserError(f"data.corpus.root: no folder at {self.root}; expected a CheXpert download")
        self.left_out.clear()
        return [*self._read("train"), *self._read("valid")]

    def _read(self, part: str) -> list[Study]:
        path = need_table(self.root, f"{part}.csv")
        table = read_table(path, ("Path", "Frontal/Lateral", "AP/PA", *self.findings))
        refuse_strange(path, table, "Path", PATH.pattern)
        # The first component of Path is the download's own name.
        table[["file", "study", "patient"]] = table["Path"].str.extract(PATH)
        labels = pd.Series(list(read_labels(path, table, self.findings)))
        exists = np.array([os.path.isfile(self.root / file) for file in table["file"]])
        self.left_out["image listed, but no file"] += int((~exists).sum())
        return [
            Study(
                study_id=str(study),
                patient_id=(patient := rows["patient"].iloc[0]),
                images=tuple(self.root / file for file in rows["file"]),
                views=tuple(view_of(v) for v in rows["Frontal/Lateral"]),
                report={},
                labels=labels[rows.index[0]],
                split="test" if part == "valid" else train_or_validation(self.name, patient),
            )
            for study, rows in table[exists].groupby("study", sort=False)
        ]
