"""CheXpert's validation and test sets as radiologists labelled them, with the masks of CheXlocalize (Saporta et al.
2022)."""

import os
import re
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from vkd_pyro.data import rle
from vkd_pyro.data.corpora.common.csv_files import header_of
from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.tables import agreed, cells_of, check_known, find_table, read_labels, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.images.sizes import size_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.regions import Region
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import read_json

PARTS = {"val": "validation", "test": "test"}
FOLDERS = {"val": ("val", "valid"), "test": ("test",)}
TABLES = {"val": ("val_labels.csv", "valid.csv"), "test": ("test_labels.csv", "groundtruth.csv")}
"""Of the download of CheXlocalize; of CheXpert itself, and of the repository of the test set's labels."""
STUDY = re.compile(r"(?:.*/)?(?:train|valid|val|test)/((patient\d+)/study\d+)(?:/([^/]+))?")
OTHER_NAMES = {"Lung Opacity": "Airspace Opacity"}
"""What a finding is called in some of the files."""
SHAPE = 0.02
"""By how much the shape of a mask may differ from that of its image, as copies of another size are rounded."""


class CheXlocalize(Corpus):
    """Reader of CheXpert's validation and test sets, labelled by radiologists, and their masks of ten findings.

    The 234 images of val/ are the validation split, the 668 of test/ the test split; there is none to train on. All
    labels are known. Sex and age are known where the table has them, as that of val/ may.

    Args:
        root: the folder with `CheXpert/` (in it `val_labels.csv`, `test_labels.csv`, `val/` and `test/`) and
            `CheXlocalize/` (`gt_segmentations_val.json`, `gt_segmentations_test.json`), as downloaded; or one in which
            what is in these two lies together. `valid.csv` and `valid/` of CheXpert, and `groundtruth.csv` (a row a
            study) of the test set's labels, are read as well. One of the two parts is enough.
    """

    name = "chexlocalize"
    findings = CHEXPERT_FINDINGS

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the tables, val before test."""
        tables = {part: path for part in PARTS if (path := self._table(part)) is not None}
        if not tables:
            raise UserError(
                f"{self.root}: {TABLES['test'][0]} not found in it or in CheXpert/ (nor {TABLES['val'][0]}); point "
                "data.selection.corpus.root at the download"
            )
        self.left_out.clear()
        self.doubts.clear()
        studies = [study for part, path in tables.items() for study in self._read(part, path)]
        if not studies:
            first = next(iter(tables))
            expected = f"CheXpert/{first}/patient64741/study1/view1_frontal.jpg"
            self.doubts.extend(none_of(self.root, self.left_out["images listed, but no file"], expected))
        return studies

    def regions(self, images: Sequence[Path]) -> list[dict[str, Region]]:
        """The mask of each finding that was drawn in each image.

        Raises:
            UserError: no file of masks, a mask that is none, or not of the shape of its image.
        """
        masks = {part: self._masks(part) for part in PARTS if any(_part_of(path) == part for path in images)}
        return [self._of_image(path, masks.get(_part_of(path), {}).get("_".join(_names(path)), {})) for path in images]

    @property
    def _tops(self) -> tuple[Path, Path]:
        """Where tables and images may lie."""
        return self.root / "CheXpert", self.root

    def _table(self, part: str) -> Path | None:
        places = ((folder, name) for name in TABLES[part] for folder in self._tops)
        return next((path for folder, name in places if (path := find_table(folder, name))), None)

    def _read(self, part: str, path: Path) -> list[Study]:
        head = header_of(path, ("Path", "Study"))
        key = next((name for name in ("Path", "Study") if name in head), "Path")
        names = [name if name in head else OTHER_NAMES.get(name, name) for name in self.findings]
        table = read_table(path, (key, *names))
        table[key] = table[key].str.replace("\\", "/")
        check_known(path, table, key, STUDY.pattern)
        labels = read_labels(path, table, names)
        if (labels < 0).any():
            row = int(np.flatnonzero((labels < 0).any(axis=1))[0])
            raise UserError(f"{path}: row {row + 2}: radiologists said 0 or 1 of all; is it the table of a labeller?")
        rows: dict[str, list[int]] = {}
        listed: dict[str, dict[str, str]] = {}
        views = cells_of(table, "Frontal/Lateral")
        for row, cell in enumerate(table[key]):
            study, _, image = STUDY.fullmatch(cell).groups()  # type: ignore[union-attr]  # as was checked
            rows.setdefault(study, []).append(row)
            images = {image: views[row]} if image else self._images_of(part, study)
            listed.setdefault(study, {}).update(images)
        people = list(zip(cells_of(table, "Sex"), cells_of(table, "Age"), strict=True))
        studies = []
        for study, numbers in rows.items():
            files = {name: file for name in listed[study] if (file := self._file(part, f"{study}/{name}"))}
            self.left_out["images listed, but no file"] += len(listed[study]) - len(files)
            if not files:
                continue
            found = agreed(labels[numbers])
            if np.isnan(found).any():
                self.doubts.append(f"{path}: the labels of a study differ in row {numbers[1] + 2}; fetch it again")
            studies.append(
                Study(
                    study_id=study,
                    patient_id=study.split("/")[0],
                    images=tuple(files.values()),
                    views=tuple(view_of(listed[study][name] or _view(name)) for name in files),
                    report={},
                    labels=found,
                    split=PARTS[part],
                    sex=sex_of(people[numbers[0]][0]),
                    age=age_of(people[numbers[0]][1]) or nan,
                )
            )
        return studies

    def _images_of(self, part: str, study: str) -> dict[str, str]:
        """The images in the folder of a study, whose table names none."""
        folders = (top / name / study for top in self._tops for name in FOLDERS[part])
        folder = next(filter(os.path.isdir, folders), None)
        return dict.fromkeys(sorted(os.listdir(folder)), "") if folder else {"view1_frontal.jpg": ""}

    def _file(self, part: str, name: str) -> Path | None:
        places = (top / folder / name for top in self._tops for folder in FOLDERS[part])
        return next(filter(os.path.isfile, places), None)

    def _masks(self, part: str) -> Mapping[str, Any]:
        name = f"gt_segmentations_{part}.json"
        folders = (self.root / "CheXlocalize", self.root, self.root.parent / "CheXlocalize")
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            raise UserError(f"{self.root / 'CheXlocalize' / name}: not found; fetch the masks of CheXlocalize")
        masks = read_json(path, "fetch it again")
        if not isinstance(masks, dict) or not all(isinstance(each, dict) for each in masks.values()):
            raise UserError(f"{path}: no masks by image and finding; fetch it again")
        return masks

    def _of_image(self, path: Path, masks: Mapping[str, Any]) -> dict[str, Region]:
        found = {}
        for finding in self.findings:
            mask = masks.get(finding, masks.get(OTHER_NAMES.get(finding, finding)))
            if mask is not None and (region := _region(path, finding, mask)) is not None:
                found[finding] = region
        return found


def _region(path: Path, finding: str, mask: Any) -> Region | None:
    """None where nothing was drawn."""
    try:
        (height, width), counts = mask["size"], mask["counts"]
        lengths = rle.lengths_of(counts)
        whole = type(height) is type(width) is int and height > 0 and width > 0
        if not whole or min(lengths, default=0) < 0 or sum(lengths) != height * width:
            raise UserError(f"runs of {sum(lengths):,} pixels for {height} x {width}")
    except (UserError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its mask of {finding} is none that COCO writes ({error}); fetch the masks again"
        ) from error
    if not any(lengths[1::2]):
        return None
    rows, columns = size_of(path)
    if abs(rows * width / (columns * height) - 1) > SHAPE:
        raise UserError(
            f"{path}: {rows} x {columns} pixels, and its mask of {finding} {height} x {width}; fetch the image again"
        )
    return Region(height, width, counts=counts)


def _part_of(path: Path) -> str:
    """The part that an image is of, by its folder."""
    folder = path.parts[-4] if len(path.parts) > 3 else ""
    return next((part for part, names in FOLDERS.items() if folder in names), "")


def _names(path: Path) -> tuple[str, str, str]:
    """Patient, study and image."""
    return path.parts[-3], path.parts[-2], path.stem


def _view(name: str) -> str:
    """ "frontal" of view1_frontal.jpg."""
    return os.path.splitext(name)[0].rpartition("_")[2]
