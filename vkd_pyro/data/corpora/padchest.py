"""PadChest (Bustos et al. 2020)."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.padchest_terms import EXCLUDE, labels_of_terms
from vkd_pyro.data.corpora.common.patients import known_age, sex_of
from vkd_pyro.data.corpora.common.strange import check_names
from vkd_pyro.data.corpora.common.tables import AGAIN, agreed, cells_of, check_known, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError, check_choice

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_*.csv"
COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Labels")
METHOD, PHOTOMETRIC = "MethodLabel", "PhotometricInterpretation_DICOM"
DIFFER = "labels on which images of a study differ"

TERM = r"""(?:'[^'\\]*'|"[^"\\]*")"""
LIST = re.compile(rf"\[\s*(?:{TERM}(?:\s*,\s*{TERM})*)?\s*\]")
"""A list of texts as Python writes it; nothing of it is run."""
LONGEST = 10_000
"""Characters of such a list, at most."""


@dataclass(frozen=True)
class _Image:
    """A row of the table."""

    row: int
    name: str
    folder: str
    patient: str
    view: str
    terms: frozenset[str]
    by_hand: bool
    inverted: bool
    sex: str
    age: float


class PadChest(Corpus):
    """Reader of PadChest: 16-bit PNG images, several a study; the terms of its reports, mapped to CheXpert's 14.

    It ships no split: patients are split 70 / 10 / 20 by hash. The view is that of `Projection` (PA, AP, AP_horizontal;
    L is lateral), or, where that is blank, of `ViewPosition_DICOM`; rib views (COSTAL) and what is marked EXCLUDE are
    of unknown view. Sex is that of the DICOM file, the age the year of the study less that of birth. Its reports are
    word stems in Spanish, which nothing here reads, and are left out.

    A study's terms say what is present. What they do not name is absent, unless a term is near it
    (`padchest_terms.py`), or the report compares only ("unchanged") or judges the picture ("suboptimal study"): then it
    is unknown. "normal" alone is No Finding. A study without a known term is unlabelled; one marked "exclude" is left
    out. A few of the PNG files are truncated: `data.selection.bad_images.policy skip` leaves them out.

    Args:
        root: the folder with `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (or gzipped), and the images in
            `images/0/` to `images/54/`, `0/` to `54/`, or all in `images/` or beside the table.
        labelled_by: "all", or "physicians": only the studies whose reports were labelled by hand.
        inverted: images whose DICOM file was MONOCHROME1 are stored as they were, bone dark: "drop" leaves them out,
            "keep" is for a copy in which they have been mended.
        all_test: every study is of the test split, for a model that was trained elsewhere.
    """

    name = "padchest"
    findings = CHEXPERT_FINDINGS

    def __init__(
        self,
        root: str | Path,
        labelled_by: Literal["all", "physicians"] = "all",
        inverted: Literal["drop", "keep"] = "drop",
        all_test: bool = False,
    ) -> None:
        check_choice("data.selection.corpus.labelled_by", labelled_by, ("all", "physicians"))
        check_choice("data.selection.corpus.inverted", inverted, ("drop", "keep"))
        self.root, self.labelled_by, self.inverted, self.all_test = Path(root), labelled_by, inverted, all_test

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the table."""
        path = self._table()
        asked = [METHOD] * (self.labelled_by == "physicians") + [PHOTOMETRIC] * (self.inverted == "drop")
        table = read_table(path, (*COLUMNS, *asked))
        check_known(path, table, "ImageID", r"[^/\\]+\.png")
        check_known(path, table, "ImageDir", r"\d+")
        for column in ("StudyID", "PatientID"):
            check_names(path, table, column)
        self.left_out.clear()
        self.doubts.clear()
        grouped: dict[str, list[_Image]] = {}
        owners: dict[str, str] = {}
        for study, image in zip(table["StudyID"], _images(path, table), strict=True):
            if owners.setdefault(image.name, study) != study:
                raise UserError(f"{path}: row {image.row}: its image is another study's, too; fetch the table again")
            grouped.setdefault(study, []).append(image)
        studies = [study for name, images in grouped.items() if (study := self._study(path, name, images)) is not None]
        if not studies and self.left_out["images listed, but no file"]:
            self.doubts.extend(none_of(self.root, len(table), f"images/{table['ImageDir'].iloc[0]}/....png"))
        if differ := self.left_out.pop(DIFFER, 0):
            self.doubts.append(f"{path}: {differ:,} {DIFFER}, and are taken as unknown; fetch the table again")
        return studies

    def _table(self) -> Path:
        found = sorted([*self.root.glob(TABLE), *self.root.glob(f"{TABLE}.gz")])
        if not found:
            raise UserError(f"{self.root}: {TABLE} not found; point data.selection.corpus.root at its folder")
        if len({path.name.removesuffix(".gz") for path in found}) > 1:
            raise UserError(f"{self.root}: {len(found)} tables are called {TABLE}; leave one of them")
        return found[0]

    def _study(self, path: Path, name: str, images: Sequence[_Image]) -> Study | None:
        """None where it is left out, which is counted."""
        if len({image.patient for image in images}) > 1:
            raise UserError(f"{path}: row {images[1].row}: its study is another patient's, too; fetch the table again")
        if any(EXCLUDE in image.terms for image in images):
            self.left_out["studies marked exclude"] += 1
            return None
        if self.labelled_by == "physicians" and not all(image.by_hand for image in images):
            self.left_out["studies not labelled by physicians"] += 1
            return None
        files, views = [], []
        once = {image.name: image for image in reversed(images)}  # of several rows the first
        self.left_out[AGAIN] += len(images) - len(once)
        for image in reversed(once.values()):
            if image.inverted and self.inverted == "drop":
                self.left_out["images stored with bone dark (MONOCHROME1)"] += 1
            elif (file := self._file(image)) is None:
                self.left_out["images listed, but no file"] += 1
            else:
                files.append(file)
                views.append(view_of(image.view))
        if not files:
            return None
        said = np.stack([labels_of_terms(image.terms) for image in images])
        labels = agreed(said)
        self.left_out[DIFFER] += int((np.isnan(labels) & ~np.isnan(said).all(axis=0)).sum())
        return Study(
            study_id=name,
            patient_id=images[0].patient,
            images=tuple(files),
            views=tuple(views),
            report={},
            labels=labels,
            split="test" if self.all_test else split_of(self.name, images[0].patient),
            sex=sex_of(images[0].sex),
            age=images[0].age,
        )

    def _file(self, image: _Image) -> Path | None:
        tops = (self.root / "images", self.root)
        places = [top / image.folder / image.name for top in tops] + [top / image.name for top in tops]
        return next(filter(os.path.isfile, places), None)


def _images(path: Path, table: pd.DataFrame) -> list[_Image]:
    positions, methods = cells_of(table, "ViewPosition_DICOM"), cells_of(table, METHOD)
    photometric, sexes = cells_of(table, PHOTOMETRIC), cells_of(table, "PatientSex_DICOM")
    years = zip(cells_of(table, "StudyDate_DICOM"), cells_of(table, "PatientBirth"), strict=True)
    columns = [cells_of(table, name) for name in ("ImageID", "ImageDir", "PatientID", "Projection", "Labels")]
    rows = zip(*columns, positions, methods, photometric, sexes, years, strict=True)
    return [
        _Image(
            row=row,
            name=name,
            folder=folder,
            patient=patient,
            view=projection.strip() or position,
            terms=_terms(path, row, labels),
            by_hand=method.strip().lower() == "physician",
            inverted=kind.strip().upper() == "MONOCHROME1",
            sex=sex,
            age=_age(*when),
        )
        for row, (name, folder, patient, projection, labels, position, method, kind, sex, when) in enumerate(rows, 2)
    ]


def _terms(path: Path, row: int, cell: str) -> frozenset[str]:
    """The terms of a report, in small letters; none where the cell is blank."""
    if cell.strip().lower() in ("", "nan"):
        return frozenset()
    if len(cell) > LONGEST or not LIST.fullmatch(cell.strip()):
        raise UserError(f"{path}: row {row}, 'Labels': not a list such as ['normal']; are its columns shifted?")
    terms = (" ".join(term[1:-1].lower().split()) for term in re.findall(TERM, cell))
    return frozenset(term for term in terms if term)


def _age(date: str, birth: str) -> float:
    """The year of a date YYYYMMDD less that of birth; NaN where one of them is none."""
    when, born = (re.match(r"\s*(\d{4})", cell) for cell in (date, birth))
    return known_age(float(when[1]) - float(born[1])) if when and born else nan
