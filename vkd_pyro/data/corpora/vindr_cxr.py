"""VinDr-CXR (Nguyen et al. 2022)."""

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.tables import check_known, find_table, group_rows, need_table, read_labels, read_table
from vkd_pyro.data.images.dicom.header import is_dicom
from vkd_pyro.data.images.sizes import size_of
from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN
from vkd_pyro.data.regions import Box, Region
from vkd_pyro.data.splits import train_or_validation
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError, check_choice

NAMES: dict[str, tuple[str, ...]] = {
    "No Finding": ("No finding",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Lung Opacity", "Infiltration", "Consolidation"),
    "Lung Lesion": ("Nodule/Mass", "Lung tumor"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Pleural effusion",),
    "Pleural Other": ("Pleural thickening",),
    "Fracture": ("Clavicle fracture", "Rib fracture"),
}
"""CheXpert finding -> names of VinDr-CXR of which one is enough. Enlarged Cardiomediastinum and Support Devices have no
counterpart."""
COLUMNS = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))

SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
"""Suffixes of images: the publisher's, and those of copies."""
READERS = 3
"""Who labelled each image of train/, each alone; those of test/ have the consensus of five."""
EDGES = ("x_min", "y_min", "x_max", "y_max")


class VinDrCXR(Corpus):
    """Reader of VinDr-CXR: DICOM images of one frontal view each, labelled and boxed by radiologists; no reports.

    The official test/, a consensus, is the test split; train/, of which three radiologists labelled each image, is
    split 7 : 1 into train and validation by hash. It names no patients: each image counts as one, though some may be of
    the same. Sex and age, where its DICOM files have them, are not read.

    Args:
        root: the folder with `train/` and `test/`, whose images are called ID.dicom (or .dcm; .png and .jpg in copies),
            and `annotations/` with `image_labels_{train,test}.csv` and `annotations_{train,test}.csv`; the tables may
            lie in `root` or in `train/` and `test/`, too. One of the two parts is enough.
        disagreement: what the three of train/ are taken for where they differ: the "majority", or "uncertain", of which
            the label policy decides.
    """

    name = "vindr-cxr"
    findings = tuple(name for name in CHEXPERT_FINDINGS if name in NAMES)

    def __init__(self, root: str | Path, disagreement: Literal["majority", "uncertain"] = "majority") -> None:
        check_choice("data.selection.corpus.disagreement", disagreement, ("majority", "uncertain"))
        self.root, self.disagreement = Path(root), disagreement

    def studies(self) -> list[Study]:
        """Images that have a file, in the order of the tables, train before test."""
        parts = [part for part in ("train", "test") if self._table("image_labels", part)]
        if not parts:
            need_table(self.root / "annotations", "image_labels_test.csv")
        self.left_out.clear()
        self.doubts.clear()
        studies, images = [], 0
        for part in parts:
            labels = self._labels(part)
            images += len(labels)
            for name, label in labels.items():
                if (file := self._file(part, name)) is None:
                    self.left_out["images listed, but no file"] += 1
                    continue
                studies.append(
                    Study(
                        study_id=name,
                        patient_id=name,
                        images=(file,),
                        views=("frontal",),
                        report={},
                        labels=label,
                        split="test" if part == "test" else train_or_validation(self.name, name),
                    )
                )
        if not studies:
            self.doubts.extend(none_of(self.root, images, f"{parts[0]}/{'0' * 32}.dicom"))
        return studies

    def regions(self, images: Sequence[Path]) -> list[dict[str, Region]]:
        """The boxes of each image: of train/ what is in the boxes of two radiologists and more, of test/ the consensus.

        Raises:
            UserError: no table of boxes, a box that is none, or no DICOM file, of whose pixels they are.
        """
        boxes = {part: self._boxes(part) for part in {path.parent.name for path in images} & {"train", "test"}}
        return [self._regions(path, boxes.get(path.parent.name, {}).get(path.stem, {})) for path in images]

    def _regions(self, path: Path, boxes: dict[str, dict[str, list[Box]]]) -> dict[str, Region]:
        if not boxes:
            return {}
        if not is_dicom(path):
            raise UserError(f"{path}: its boxes are in pixels of the DICOM file, and this is none; fetch that")
        height, width = size_of(path)
        votes = 1 if path.parent.name == "test" else READERS // 2 + 1
        found = {}
        for finding, of_readers in boxes.items():
            if any(box[0] >= width or box[1] >= height for box in [b for each in of_readers.values() for b in each]):
                raise UserError(
                    f"{path}: a box of {finding} lies outside its {width} x {height} pixels; fetch it again"
                )
            if len(of_readers) >= votes:
                found[finding] = Region(height, width, tuple(tuple(each) for each in of_readers.values()), votes)
        return found

    def _table(self, kind: str, part: str) -> Path | None:
        folders = (self.root / "annotations", self.root, self.root / part)
        return next((found for folder in folders if (found := find_table(folder, f"{kind}_{part}.csv"))), None)

    def _file(self, part: str, name: str) -> Path | None:
        places = (self.root / part / f"{name}{suffix}" for suffix in SUFFIXES)
        return next(filter(os.path.isfile, places), None)

    def _labels(self, part: str) -> dict[str, NDArray[np.float32]]:
        """Image -> labels, [12], of all its readers together."""
        path = self._table("image_labels", part)
        assert path is not None
        readers = ("rad_id",) * (part == "train")
        table = read_table(path, ("image_id", *readers, *COLUMNS))
        check_known(path, table, "image_id", r"\w+")
        given = read_labels(path, table, COLUMNS)
        if (given < 0).any():
            row = int(np.flatnonzero((given < 0).any(axis=1))[0]) + 2
            raise UserError(f"{path}: row {row}: expected labels 0 or 1; fetch it again")
        columns = [[COLUMNS.index(name) for name in NAMES[finding]] for finding in self.findings]
        said = np.stack([given[:, each].max(axis=1) for each in columns], axis=1)
        labels, odd = {}, 0
        for name, rows in group_rows(table, "image_id").items():
            of_readers = {row.rad_id for row in rows} if part == "train" else {"consensus"}
            if len(of_readers) < len(rows):
                last = rows[-1].Index + 2
                raise UserError(f"{path}: row {last}: its image is labelled twice by one reader; fetch it again")
            odd += part == "train" and len(rows) != READERS
            labels[name] = self._together(said[[row.Index for row in rows]])
        if odd:
            self.doubts.append(
                f"{path}: {odd:,} images have other than {READERS} radiologists, of whom the majority counts, a draw as"
                " uncertain; fetch the table again"
            )
        return labels

    def _together(self, said: NDArray[np.float32]) -> NDArray[np.float32]:
        """What several readers say, [R, K] -> [K]."""
        share = said.mean(axis=0)
        if self.disagreement == "uncertain":
            return np.where((share == 0) | (share == 1), share, UNCERTAIN).astype(np.float32)
        majority = np.where(share > 0.5, PRESENT, np.where(share < 0.5, ABSENT, UNCERTAIN))
        return majority.astype(np.float32)

    def _boxes(self, part: str) -> dict[str, dict[str, dict[str, list[Box]]]]:
        """Image -> finding -> reader -> boxes."""
        path = self._table("annotations", part) or need_table(self.root / "annotations", f"annotations_{part}.csv")
        table = read_table(path, ("image_id", "class_name", *EDGES, *("rad_id",) * (part == "train")))
        findings: dict[str, list[str]] = {}
        for finding, names in NAMES.items():
            for name in names:
                findings.setdefault(name, []).append(finding)
        found: dict[str, dict[str, dict[str, list[Box]]]] = {}
        readers = table["rad_id"] if part == "train" else ["consensus"] * len(table)
        cells = zip(table["image_id"], table["class_name"], readers, *(table[edge] for edge in EDGES), strict=True)
        for row, (image, name, reader, *edges) in enumerate(cells, start=2):
            if name == "No finding" or name not in findings:
                continue
            box = _box(path, row, edges)
            for finding in findings[name]:
                found.setdefault(image, {}).setdefault(finding, {}).setdefault(reader, []).append(box)
        return found


def _box(path: Path, row: int, cells: Sequence[str]) -> Box:
    try:
        left, top, right, bottom = (float(cell) for cell in cells)
    except ValueError:
        left = top = right = bottom = float("nan")
    if not all(map(isfinite, (left, top, right, bottom))) or not (0 <= left < right and 0 <= top < bottom):
        raise UserError(f"{path}: row {row}: no box; expected x_min < x_max and y_min < y_max, in pixels from 0 on")
    return left, top, right, bottom
