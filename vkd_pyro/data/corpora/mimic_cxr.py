"""MIMIC-CXR-JPG (Johnson et al. 2019), with the reports of MIMIC-CXR."""

import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.files import none_of
from vkd_pyro.data.corpora.common.patients import known_age, sex_of
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
from vkd_pyro.data.reports import LAST_PARAGRAPH, says_nothing, split_sections
from vkd_pyro.data.study import Corpus, Sex, Study
from vkd_pyro.utils.encodings import decode
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import LARGEST_REPORT, read_bytes

SPLITS = {"train": "train", "validate": "validation", "test": "test"}
PREFIX = "mimic-cxr-2.0.0"
"""How the tables' names begin, in release 2.1.0 too."""
PATIENTS = "patients.csv"
PATIENT_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")
"""The table of patients, and its columns that are read; it is of MIMIC-IV, a separate download."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm")
"""Suffixes of images: -JPG's, those of copies of other sizes, those of MIMIC-CXR itself."""
OVER_89 = 91
"""What MIMIC-IV writes for every age over 89 in the anchor year."""
HAND_LABELS = "mimic-cxr-2.1.0-test-set-labeled.csv"
HAND_LABEL_NAMES = {"Lung Opacity": "Airspace Opacity"}
ZIP, SECTIONED = "mimic-cxr-reports.zip", "mimic_cxr_sectioned.csv"
FETCH_REPORTS = f"fetch {ZIP} (from MIMIC-CXR, not -JPG) and set data.selection.corpus.reports, or to none"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError, struct.error)
"""What a damaged zip file may raise; a method of packing that there is not is a RuntimeError too."""

ReportOf = Callable[[str, str], Mapping[str, str]]
"""(subject, study) -> sections; empty where there is no text."""

PersonOf = Callable[[str, str], tuple[Sex, float]]
"""(subject, date of the study) -> sex and age."""


class MimicCXR(Corpus):
    """Reader of MIMIC-CXR-JPG 2.0.0 and 2.1.0, with its official splits.

    Sex and age are known where `patients.csv.gz` (or gunzipped) of MIMIC-IV lies in `root`, too: the age is that in the
    year of the study.

    Args:
        root: the folder with `files/` and the tables `mimic-cxr-2.0.0-*.csv.gz` (or gunzipped); the images as .jpg, or
            as .png or .dcm of the same name, as in copies of another size and in MIMIC-CXR itself.
        reports: where the texts are, a separate download: the folder it was unpacked to (`files/` in it or not),
            `mimic-cxr-reports.zip` itself, or `mimic_cxr_sectioned.csv`. None looks for these under `root`;
            "none" reads no report.
        labels: whose: "chexpert" or "negbio".
        hand_labelled_test: take the labels of the test split from the radiologists of release 2.1.0; the test studies
            that they did not label are unlabelled then.
    """

    name = "mimic-cxr"
    findings = CHEXPERT_FINDINGS

    def __init__(
        self,
        root: str | Path,
        reports: str | Path | None = None,
        labels: Literal["chexpert", "negbio"] = "chexpert",
        hand_labelled_test: bool = False,
    ) -> None:
        self.root, self.reports = Path(root), reports if reports in (None, "none") else Path(reports)
        self.labels, self.hand_labelled_test = labels, hand_labelled_test

    def studies(self) -> list[Study]:
        """Studies with at least one image file, in the order of the metadata."""
        if not self.root.is_dir():
            raise UserError(f"data.selection.corpus.root: no folder at {self.root}; expected a MIMIC-CXR-JPG download")
        images = self._images()
        labels, hand_labels = self._labels(), self._hand_labels()
        report_of, person_of = self._report_reader(), self._person_reader()
        unlabelled = np.full(len(self.findings), np.nan, dtype=np.float32)
        studies = []
        for study, rows in group_rows(images, "study_id").items():
            if len({(row.subject_id, row.split) for row in rows}) > 1:
                raise UserError(f"{self.root}: study s{study} has images of several splits or patients; fetch it again")
            subject, split = rows[0].subject_id, SPLITS[rows[0].split]
            sex, age = person_of(subject, rows[0].StudyDate)
            source = hand_labels if split == "test" and self.hand_labelled_test else labels
            studies.append(
                Study(
                    study_id=f"s{study}",
                    patient_id=subject,
                    images=tuple(row.file for row in rows),
                    views=tuple(row.view for row in rows),
                    report=report_of(subject, study),
                    labels=source.get(study, unlabelled),
                    split=split,
                    sex=sex,
                    age=age,
                )
            )
        if studies and self.reports != "none" and not any(study.report for study in studies):
            self.doubts.append(
                f"{self.reports or self.root}: none of the {len(studies):,} studies has a report there; {FETCH_REPORTS}"
            )
        return studies

    def _images(self) -> pd.DataFrame:
        """A row an image that has a file and a split: subject_id, study_id, view, StudyDate, split, file."""
        keys = ["subject_id", "study_id", "dicom_id"]
        metadata_path, splits_path = (need_table(self.root, f"{PREFIX}-{name}.csv") for name in ("metadata", "split"))
        metadata = read_table(metadata_path, (*keys, "ViewPosition"))
        splits = read_table(splits_path, (*keys, "split"))
        for key in keys[:2]:
            check_known(metadata_path, metadata, key, r"\d+")
            check_known(splits_path, splits, key, r"\d+")
        check_known(splits_path, splits, "split", "|".join(SPLITS))
        self.left_out.clear()
        self.doubts.clear()
        metadata["StudyDate"] = cells_of(metadata, "StudyDate")
        metadata["view"] = metadata["ViewPosition"].map(view_of)
        listed, various = one_row_each(metadata_path, metadata, keys)
        self.left_out[AGAIN] += len(metadata) - len(listed)
        self.doubts.extend(various)
        # A row of another split stays, and is refused.
        images = listed[[*keys, "view", "StudyDate"]].merge(splits[[*keys, "split"]].drop_duplicates(), on=keys)
        self.left_out["images in no split"] += len(listed) - len(images)
        files = [self._image_file(*names) for names in images[keys].itertuples(index=False)]
        images["file"] = pd.Series(files, dtype=object)
        exists = images["file"].notna().to_numpy()
        self.left_out["images listed, but no file"] += int((~exists).sum())
        if len(images) and not exists.any():
            expected = "files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg (or .dcm)"
            self.doubts.extend(none_of(self.root, len(images), expected))
        return images[exists]

    def _image_file(self, subject: str, study: str, dicom: str) -> Path | None:
        for top in (self.root / "files", self.root):
            folder = top / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
            for suffix in SUFFIXES:
                if os.path.isfile(path := folder / (dicom + suffix)):
                    return path
        return None

    def _labels(self) -> dict[str, NDArray[np.float32]]:
        path = need_table(self.root, f"{PREFIX}-{self.labels}.csv")
        return self._study_labels(path, self.findings)

    def _hand_labels(self) -> dict[str, NDArray[np.float32]]:
        if not self.hand_labelled_test:
            return {}
        path = need_table(self.root, HAND_LABELS)
        return self._study_labels(path, [HAND_LABEL_NAMES.get(finding, finding) for finding in self.findings])

    def _study_labels(self, path: Path, columns: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        table = read_table(path, ("study_id", *columns))
        check_known(path, table, "study_id", r"\d+")
        labels, differ = study_labels(path, table["study_id"].tolist(), read_labels(path, table, columns))
        self.doubts.extend(differ)
        return labels

    def _person_reader(self) -> PersonOf:
        path = find_table(self.root, PATIENTS)
        return (lambda subject, date: ("unknown", nan)) if path is None else _patients_reader(path)

    def _report_reader(self) -> ReportOf:
        """Reads reports from the first place where there are any."""
        if self.reports == "none":
            return lambda subject, study: {}
        root = self.root if self.reports is None else Path(self.reports)
        if not root.exists():
            raise UserError(
                f"data.selection.corpus.reports: nothing at {root}; expected a folder, {ZIP} or {SECTIONED}"
            )
        for sectioned in (root, root / SECTIONED, root / f"{SECTIONED}.gz"):
            if sectioned.is_file() and ".csv" in sectioned.name:
                texts, doubts = _sectioned(sectioned)
                self.doubts.extend(doubts)
                return lambda _, study: texts.get(study, {})
        for archive in (root, root / ZIP):
            if archive.is_file() and archive.suffix == ".zip":
                return _zip_reader(archive)
        for folder in (root / "mimic-cxr-reports" / "files", root / "files", root):
            if next(folder.glob("p1[0-9]/p*/s*.txt"), None):
                return _folder_reader(folder)
        raise UserError(f"{root}: no report found; {FETCH_REPORTS}")


def _patients_reader(path: Path) -> PersonOf:
    table = read_table(path, PATIENT_COLUMNS)
    for column in ("subject_id", "anchor_age", "anchor_year"):
        check_known(path, table, column, r"\d+")
    people = {subject: told for subject, *told in zip(*(table[name] for name in PATIENT_COLUMNS), strict=True)}

    def person_of(subject: str, date: str) -> tuple[Sex, float]:
        if subject not in people:
            return "unknown", nan
        sex, anchor_age, anchor_year = people[subject]
        return sex_of(sex), _age_on(date, int(anchor_age), int(anchor_year))

    return person_of


def _age_on(date: str, anchor_age: int, anchor_year: int) -> float:
    """The age on a date YYYYMMDD; "over 89" stays `OVER_89` later on, and says nothing of the years before."""
    if not re.match(r"\d{8}", date):
        return nan
    years = int(date[:4]) - anchor_year
    if anchor_age == OVER_89:
        return float(OVER_89) if years >= 0 else nan
    return known_age(float(anchor_age + years))


def _folder_reader(folder: Path) -> ReportOf:
    def report_of(subject: str, study: str) -> Mapping[str, str]:
        path = folder / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
        try:
            return _sections(read_bytes(path, LARGEST_REPORT), path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror}); fetch it again, or see who owns it") from error

    return report_of


def _zip_reader(path: Path) -> ReportOf:
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: not a whole zip file; fetch it again") from error
    # Wherever in the archive files/ begins; Windows may have written its names with backslashes.
    texts = [name for name in archive.namelist() if name.endswith(".txt")]
    names = {"/".join(name.replace("\\", "/").split("/")[-3:]): name for name in texts}

    def report_of(subject: str, study: str) -> Mapping[str, str]:
        name = names.get(f"p{subject[:2]}/p{subject}/s{study}.txt")
        if name is None:
            return {}
        if archive.getinfo(name).file_size > LARGEST_REPORT:
            raise UserError(f"{path}: a report in it is larger than {LARGEST_REPORT:,} bytes; fetch it again")
        try:
            content = archive.read(name)
        except ZIP_ERRORS as error:
            raise UserError(f"{path}: a report in it is damaged; fetch it again") from error
        return _sections(content, path)

    return report_of


def _sectioned(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Study -> sections, of a table of them, as the publisher's own code writes it; and what is strange in it."""
    names = ("findings", "impression", LAST_PARAGRAPH, "comparison")
    table = read_table(path, ("study", *names))
    check_known(path, table, "study", r"s?\d+")
    texts: dict[str, dict[str, str]] = {}
    differ = set()
    for study, *cells in zip(*(table[name] for name in ("study", *names)), strict=True):
        study = study.removeprefix("s")
        sections = {
            name: " ".join(cell.split()) for name, cell in zip(names, cells, strict=True) if not says_nothing(cell)
        }
        if sections.keys() & {"findings", "impression"}:
            sections.pop(LAST_PARAGRAPH, None)
        if texts.setdefault(study, sections) != sections:
            differ.add(study)
    doubt = f"{path}: {len(differ):,} studies have several texts, and count as without a report; leave one row of each"
    return texts | {study: {} for study in differ}, [doubt] * bool(differ)


def _sections(content: bytes, path: Path) -> dict[str, str]:
    try:
        text = decode(content)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a report is not text in UTF-8 or UTF-16; fetch it again") from error
    return {} if says_nothing(text) else split_sections(text)
