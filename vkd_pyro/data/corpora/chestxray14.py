"""ChestX-ray14 (Wang et al. 2017)."""

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Literal

import numpy as np

from vkd_pyro.data.corpora.common.files import SUFFIXES, none_of
from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.tables import cells_of, check_known, find_table, need_table, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.images.sizes import size_of
from vkd_pyro.data.labels.findings import CHESTXRAY14_FINDINGS, CHESTXRAY14_SHARED, CHESTXRAY14_WIDER, CHEXPERT_FINDINGS
from vkd_pyro.data.regions import Box, Region
from vkd_pyro.data.splits import train_or_validation
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import read_text

LISTS = {"train_val_list": "", "test_list": "test"}
"""The official lists, whose names end in _NIH in a copy at 224 pixels, and the split of each; "" is to be split."""
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
NO_FINDING = "No Finding"
BOXES, BOX_COLUMNS = "BBox_List_2017.csv", ("Bbox [x", "y", "w", "h]")
"""The table of boxes, and its columns as its unquoted brackets part them."""
INFILTRATE = {"Infiltrate": "Infiltration"}
"""What the boxes call otherwise."""
SMALL_COPY, FULL = "images-224", 1024
"""The folder of the copy at 224 pixels, and the side of the published images, of whose pixels the boxes are."""


class ChestXray14(Corpus):
    """Reader of ChestX-ray14: no reports; one image a study; a finding that is not named is absent.

    The official test list is the test split; patients of `train_val_list.txt` are split 7 : 1 by hash. Sex and age are
    those of `Patient Gender` and `Patient Age`; an age above 120, such as 411, is unknown.

    Args:
        root: the folder with `Data_Entry_2017_v2020.csv` (or `Data_Entry_2017.csv`), the two lists, and the images in
            `images/`, `images_001/images/` to `images_012/images/`, or `images-224/images-224/`, a copy at 224 pixels
            whose lists are `train_val_list_NIH.txt` and `test_list_NIH.txt`; as .png, or .jpg of the same name.
        vocabulary: "chexpert": the seven findings that it shares with CheXpert, by their names there; "own": its 14.
        wider: findings of CheXpert to add that are only nearly the same: "Lung Opacity" (for Infiltration),
            "Lung Lesion" (Mass or Nodule), "Pleural Other" (Pleural_Thickening).
    """

    name = "chestxray14"

    def __init__(
        self,
        root: str | Path,
        vocabulary: Literal["chexpert", "own"] = "chexpert",
        wider: tuple[Literal["Lung Opacity", "Lung Lesion", "Pleural Other"], ...] = (),
    ) -> None:
        self.root, self.vocabulary, self.wider = Path(root), vocabulary, tuple(wider)
        if wider and vocabulary == "own":
            raise UserError("data.selection.corpus.wider: is of the vocabulary chexpert; leave it out with own")
        if strange := sorted(set(wider) - set(CHESTXRAY14_WIDER)):
            raise UserError(
                f"data.selection.corpus.wider: no such map {strange[0]!r}; expected {', '.join(CHESTXRAY14_WIDER)}"
            )

    @property
    def _names(self) -> dict[str, tuple[str, ...]]:
        """Finding -> the corpus's names of it, in canonical order."""
        if self.vocabulary == "own":
            return {name: (name,) for name in CHESTXRAY14_FINDINGS}
        chosen = CHESTXRAY14_SHARED | {finding: CHESTXRAY14_WIDER[finding] for finding in self.wider}
        return {finding: chosen[finding] for finding in CHEXPERT_FINDINGS if finding in chosen}

    @property
    def findings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the labels."""
        return tuple(self._names)

    def studies(self) -> list[Study]:
        """Images that have a file and are in one of the two lists, in the order of the table."""
        path = next((found for name in TABLES if (found := find_table(self.root, name))), None)
        if path is None:
            raise UserError(
                f"{self.root}: {TABLES[0]} not found (nor {TABLES[1]}); point data.selection.corpus.root at its folder"
            )
        table = read_table(path, ("Image Index", "Finding Labels", "Patient ID", "View Position"))
        check_known(path, table, "Image Index", r"\S+\.png")
        check_known(path, table, "Patient ID", r"\d+")
        official, files = self._official_splits(), self._image_files()
        self.left_out.clear()
        self.doubts.clear()
        studies = []
        names = ("Image Index", "Finding Labels", "Patient ID", "View Position", "Patient Gender", "Patient Age")
        rows = zip(*(cells_of(table, name) for name in names), strict=True)
        for row, (image, present, patient, position, sex, age) in enumerate(rows, start=2):
            patient = patient.lstrip("0") or "0"
            if image not in official:
                self.left_out["images in neither train_val_list.txt nor test_list.txt"] += 1
            elif (file := files.get(image.removesuffix(".png"))) is None:
                self.left_out["images listed, but no file"] += 1
            else:
                study = Study(
                    study_id=image.removesuffix(".png"),
                    patient_id=patient,
                    images=(file,),
                    views=(view_of(position),),
                    report={},
                    labels=self._labels(path, row, present),
                    split=official[image] or train_or_validation(self.name, patient),
                    sex=sex_of(sex),
                    age=age_of(age),
                )
                studies.append(study)
        if not studies and self.left_out["images listed, but no file"]:
            self.doubts.extend(none_of(self.root, len(table), "images/00000001_000.png"))
        return studies

    def regions(self, images: Sequence[Path]) -> list[dict[str, Region]]:
        """The boxes of each image, of those 880 that have any; none is in the training list.

        Raises:
            UserError: no `BBox_List_2017.csv`, or a box that is none.
        """
        boxes = self._boxes()
        return [self._regions(path, boxes.get(path.stem, {})) for path in images]

    def _regions(self, path: Path, boxes: dict[str, list[Box]]) -> dict[str, Region]:
        if not boxes:
            return {}
        height, width = (FULL, FULL) if SMALL_COPY in path.parts else size_of(path)
        if any(left >= width or top >= height for each in boxes.values() for left, top, _, _ in each):
            raise UserError(f"{path}: a box lies outside its {width} x {height} pixels; take the images as published")
        return {
            finding: Region(height, width, (tuple(box for name in names for box in boxes.get(name, ())),))
            for finding, names in self._names.items()
            if any(name in boxes for name in names)
        }

    def _boxes(self) -> dict[str, dict[str, list[Box]]]:
        """Image without suffix -> the corpus's own finding -> boxes."""
        path = need_table(self.root, BOXES)
        table = read_table(path, ("Image Index", "Finding Label", *BOX_COLUMNS))
        found: dict[str, dict[str, list[Box]]] = {}
        columns = (table[name] for name in ("Image Index", "Finding Label", *BOX_COLUMNS))
        for row, (image, name, *cells) in enumerate(zip(*columns, strict=True), start=2):
            try:
                x, y, w, h = (float(cell) for cell in cells)
            except ValueError:
                x = y = w = h = float("nan")
            name = INFILTRATE.get(name, name)
            if not all(map(isfinite, (x, y, w, h))) or min(x, y) < 0 or min(w, h) <= 0:
                raise UserError(f"{path}: row {row}: no box; expected x, y, w and h, in pixels from 0 on")
            if name not in CHESTXRAY14_FINDINGS:
                raise UserError(
                    f"{path}: row {row}, 'Finding Label': no finding of this corpus; are its columns shifted?"
                )
            found.setdefault(image.removesuffix(".png"), {}).setdefault(name, []).append((x, y, x + w, y + h))
        return found

    def _labels(self, path: Path, row: int, cell: str) -> np.ndarray:
        names = set(cell.split("|"))
        if strange := sorted(names - {*CHESTXRAY14_FINDINGS, NO_FINDING}):
            raise UserError(f"{path}: row {row}, 'Finding Labels': {len(strange)} unknown; are its columns shifted?")
        return np.array([not names.isdisjoint(same) for same in self._names.values()], dtype=np.float32)

    def _official_splits(self) -> dict[str, str]:
        """Image -> "test", or "" for what is to be split into train and validation."""
        splits: dict[str, str] = {}
        for name, split in LISTS.items():
            paths = (self.root / f"{name}.txt", self.root / f"{name}_NIH.txt")
            path = next(filter(os.path.isfile, paths), paths[0])
            try:
                images = read_text(path).split()
            except (OSError, UserError) as error:
                raise UserError(f"{path}: not readable; fetch the official list into {self.root}") from error
            if both := sum(image in splits for image in images):
                raise UserError(f"{path}: {both:,} of its images are in train_val_list.txt too; fetch both lists again")
            splits |= dict.fromkeys(images, split)
        return splits

    def _image_files(self) -> dict[str, Path]:
        """Name without suffix -> file, over the folders `images*` and what is in them; a PNG before another."""
        files: dict[str, tuple[int, Path]] = {}
        for top in sorted(self.root.glob("images*")):
            for folder, _, names in os.walk(top, followlinks=True):
                for stem, suffix, name in ((*os.path.splitext(name), name) for name in names):
                    if suffix.lower() in SUFFIXES:
                        place = SUFFIXES.index(suffix.lower())
                        files[stem] = min((place, Path(folder, name)), files.get(stem, (len(SUFFIXES), top)))
        return {stem: path for stem, (_, path) in files.items()}
