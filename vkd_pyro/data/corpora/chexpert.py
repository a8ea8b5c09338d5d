"""CheXpert (Irvin et al. 2019), in either size."""

import os
import re
from collections.abc import Sequence
from math import nan
from pathlib import Path

import pandas as pd

from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.tables import (
    AGAIN,
    cells_of,
    check_known,
    find_table,
    group_rows,
    need_table,
    one_row_each,
    read_labels,
    read_table,
    study_labels,
)
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import train_or_validation
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError

PATH = re.compile(r"(?:(?:.*/)?(?:train|valid|[^/]*batch[^/]*)/)?(((patient\d+)/study\d+)/[^/]+)")
BATCHES = "CheXpert*batch*"
"""What the full size comes as: "CheXpert-v1.0 batch 1 (validate & csv)" with the tables and valid/, and "batch 2 (train
1)" to "batch 4 (train 3)" with the patients of train/."""
USED = ("file", "study", "patient", "view", "sex", "age")


class CheXpert(Corpus):
    """Reader of CheXpert-v1.0 and CheXpert-v1.0-small: no reports.

    The official `valid.csv`, labelled by radiologists, is the test split; the patients of `train.csv` are split
    7 : 1 into train and validation by hash. Sex and age are those of `Sex` and `Age`; its patients are adults, so an
    age of 0 (it stands beside the sex Unknown) is unknown.

    Args:
        root: the folder with `train.csv`, `valid.csv`, `train/` and `valid/`; or with the folders to which the archives
            of the full size unpack, "CheXpert-v1.0 batch 2 (train 1)" and so on, as they are.
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
        self.doubts.clear()
        return [*self._read("train"), *self._read("valid")]

    def _read(self, part: str) -> list[Study]:
        folders = [self.root, *self._batches()]
        found = (path for folder in folders if (path := find_table(folder, f"{part}.csv")))
        path = next(found, None) or need_table(self.root, f"{part}.csv")
        table = read_table(path, ("Path", "Frontal/Lateral", "AP/PA", *self.findings))
        table["Path"] = table["Path"].str.replace("\\", "/")
        check_known(path, table, "Path", PATH.pattern)
        # The first component of Path is the download's own name.
        table[["name", "study", "patient"]] = table["Path"].str.extract(PATH)
        table["view"] = table["Frontal/Lateral"].map(view_of)
        table["sex"] = [sex_of(cell) for cell in cells_of(table, "Sex")]
        table["age"] = [age_of(cell) or nan for cell in cells_of(table, "Age")]
        labels, differ = study_labels(path, table["study"].tolist(), read_labels(path, table, self.findings))
        images, various = one_row_each(path, table, ["name"])
        self.left_out[AGAIN] += len(table) - len(images)
        self.doubts.extend([*differ, *various])
        images = images.reset_index(drop=True)
        images["file"] = self._files(part, images["name"].tolist(), images["patient"].tolist())
        exists = images["file"].notna().to_numpy()
        self.left_out["images listed, but no file"] += int((~exists).sum())
        if not exists.any():
            self.doubts.extend(none_of(self.root, len(images), f"{part}/patient.../study1/view1_frontal.jpg"))
        return [
            Study(
                study_id=study,
                patient_id=rows[0].patient,
                images=tuple(row.file for row in rows),
                views=tuple(row.view for row in rows),
                report={},
                labels=labels[study],
                split="test" if part == "valid" else train_or_validation(self.name, rows[0].patient),
                sex=rows[0].sex,
                age=rows[0].age,
            )
            for study, rows in group_rows(images[list(USED)][exists], "study").items()
        ]

    def _files(self, part: str, names: Sequence[str], patients: Sequence[str]) -> pd.Series:
        """The file of each row, in whichever folder has its patient; None where there is none."""
        places = [folder / part for folder in (self.root, *self._batches())]
        places += [folder for folder in self._batches() if part in folder.name]
        folders: dict[str, list[Path]] = {}
        for place in filter(os.path.isdir, places):
            for patient in os.listdir(place):
                folders.setdefault(patient, []).append(place)
        files = (
            next((place / name for place in folders.get(patient, ()) if os.path.isfile(place / name)), None)
            for name, patient in zip(names, patients, strict=True)
        )
        return pd.Series(list(files), dtype=object)

    def _batches(self) -> list[Path]:
        """The folders of the archives; one may lie in another of its name."""
        return [path for mark in (BATCHES, f"{BATCHES}/{BATCHES}") for path in sorted(self.root.glob(mark))]
