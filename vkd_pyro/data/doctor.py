"""What is wrong with a folder of data, in words: which corpus it is, what is missing, and whether training would work.

The readers are asked, not repeated: what they refuse is a failure here, in their own words.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from vkd_pyro.data.corpora.chestxray14 import TABLES as NIH_TABLES
from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexpert import CheXpert
from vkd_pyro.data.corpora.manifest import REQUIRED, Manifest
from vkd_pyro.data.corpora.mimic_cxr import HAND_LABELS, PATIENT_COLUMNS, PATIENTS, PREFIX, MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import PLAN, Store
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.tables import find_table, read_table
from vkd_pyro.utils.errors import UserError

Verdict = Literal["ok", "warning", "failure"]

SIZE = 224
"""Side of the images that training reads by default, in pixels."""

IMAGES, ARCHIVES = (".png", ".jpg", ".jpeg"), (".zip", ".tgz", ".tar.gz", ".tar")

VIEWS_FIX = "see data.selection.views and unknown_views; of Open-I, indiana_projections.csv alone tells the views"

SHOWN = 3
"""So many files are named of those with the same fault."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        verdict: "failure" where training would fail of it.
        found: what there is.
        fix: what to do about it; "" where nothing needs to be done.
    """

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a folder.

    Attributes:
        folder: that was examined, or the file.
        corpus: one of `LAYOUTS`, "manifest", or "store"; None where it is none of them.
        checks: in the order in which they were made.
    """

    folder: Path
    corpus: str | None
    checks: tuple[Check, ...]

    @property
    def can_train(self) -> bool:
        """Whether `vkd train` would work with the reader's usual settings."""
        return not any(check.verdict == "failure" for check in self.checks)

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        indent = " " * (width + 11)
        lines = [str(self.folder)]
        for check in self.checks:
            lines.append(f"{check.verdict:7}  {check.name:{width}}  {check.found}")
            lines += [f"{indent}-> {check.fix}"] * bool(check.fix)
        failures = sum(check.verdict == "failure" for check in self.checks)
        if failures or self.corpus is None:
            return "\n".join([*lines, f"Training would fail: {failures} to mend."])
        return "\n".join([*lines, f"Training would work: vkd train --config CONFIG --run RUN {self._arguments()}"])

    def _arguments(self) -> str:
        if self.corpus == STORE:
            return f"--data.loading.store {self.folder}, with the settings it was made from"
        kind = next(kind for kind in KINDS if kind.name == self.corpus)
        path = kind.place(self.folder)
        return f"--data.selection.corpus {kind.class_path} --data.selection.corpus.init_args.{kind.argument} {path}"


# ------------------------------------------------------------------------------------- which corpus


@dataclass(frozen=True)
class _Table:
    """A table of a corpus: by any of its names, the first one first; what wants it, where training does without."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    wanted_by: str = ""


@dataclass(frozen=True)
class _Kind:
    """A corpus that a folder may be.

    Attributes:
        name: one of `LAYOUTS`, or "manifest".
        reader: makes its corpus from the path.
        argument: the name of the reader's path.
        marks: patterns of files or folders of which one is enough to tell it.
        tables: that belong to it.
        published: how much of what the full release has.
        has_reports: whether it ships any.
    """

    name: str
    reader: Callable[[Path], Corpus]
    marks: tuple[str, ...]
    tables: tuple[_Table, ...] = ()
    published: dict[str, int] = field(default_factory=dict)
    argument: str = "root"
    has_reports: bool = True

    @property
    def class_path(self) -> str:
        """Of the reader."""
        return f"{self.reader.__module__}.{getattr(self.reader, '__name__', '')}"

    def place(self, folder: Path) -> Path:
        """What the reader is given."""
        return _manifest_in(folder) or folder if self.name == "manifest" else folder


STORE = "store"

MIMIC_KEYS = ("subject_id", "study_id", "dicom_id")
HAND_LABEL_COLUMNS = tuple(name.replace("Lung Opacity", "Airspace Opacity") for name in CHEXPERT_FINDINGS)
CHEXPERT_COLUMNS = ("Path", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS)
PROJECTIONS = _Table(("indiana_projections.csv",), ("uid", "filename", "projection"), "the views of the images")
PEOPLE = _Table((PATIENTS,), PATIENT_COLUMNS, "sex and age; it is of MIMIC-IV")

KINDS: tuple[_Kind, ...] = (
    _Kind(
        "mimic-cxr",
        MimicCXR,
        ("mimic-cxr-2.*.csv", "mimic-cxr-2.*.csv.gz"),
        (
            _Table((f"{PREFIX}-metadata.csv",), (*MIMIC_KEYS, "ViewPosition")),
            _Table((f"{PREFIX}-split.csv",), (*MIMIC_KEYS, "split")),
            _Table((f"{PREFIX}-chexpert.csv",), ("study_id", *CHEXPERT_FINDINGS)),
            _Table((f"{PREFIX}-negbio.csv",), ("study_id", *CHEXPERT_FINDINGS), "labels: negbio"),
            _Table((HAND_LABELS,), ("study_id", *HAND_LABEL_COLUMNS), "hand_labelled_test"),
            PEOPLE,
        ),
        {"images": 377_110, "studies": 227_835},
    ),
    _Kind(
        "openi",
        OpenI,
        ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology"),
        (PROJECTIONS,),
        {"images": 7_470, "studies": 3_851},
    ),
    _Kind(
        "openi-kaggle",
        OpenI,
        ("indiana_*.csv",),
        (_Table(("indiana_reports.csv",), ("uid", "MeSH", "findings", "impression")), PROJECTIONS),
        {"images": 7_466, "studies": 3_851},
    ),
    _Kind(
        "chestxray14",
        ChestXray14,
        ("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"),
        (_Table(NIH_TABLES, ("Image Index", "Finding Labels", "Patient ID", "View Position")),),
        {"images": 112_120, "patients": 30_805},
        has_reports=False,
    ),
    _Kind("manifest", Manifest, (), argument="path"),
    _Kind(
        "chexpert",
        CheXpert,
        ("train.csv", "train.csv.gz", "valid.csv", "valid.csv.gz", "train/patient*"),
        (_Table(("train.csv",), CHEXPERT_COLUMNS), _Table(("valid.csv",), CHEXPERT_COLUMNS)),
        {"images": 223_414, "patients": 64_540},
        has_reports=False,
    ),
)
"""In the order in which they are tried. CheXpert's published numbers are those of `train.csv`."""


def _kind_of(folder: Path) -> _Kind | None:
    for kind in KINDS:
        if kind.name == "manifest" and _manifest_in(folder):
            return kind
        if any(next(folder.glob(mark), None) for mark in kind.marks):
            return kind
    return None


def _manifest_in(folder: Path) -> Path | None:
    """The CSV file itself, or the single one in a folder if its header is that of a manifest."""
    if folder.is_file():
        return folder if folder.name.endswith((".csv", ".csv.gz")) else None
    tables = sorted(folder.glob("*.csv"))
    return tables[0] if len(tables) == 1 and set(REQUIRED) <= set(_header(tables[0])) else None


def _header(path: Path) -> list[str]:
    """The names in the first line of a CSV file; none where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline(10_000).strip().replace('"', "").split(",")
    except (OSError, UnicodeDecodeError):
        return []


# ------------------------------------------------------------------------------------------- checks


def examine(folder: Path, num_images: int = 50, progress: bool = False) -> Diagnosis:
    """Looks at a folder of data (or the CSV file of a manifest) as `vkd train` would, and at what it would not tell.

    Args:
        folder: as it would be given to a reader, or a prepared store.
        num_images: how many images are opened, evenly spaced.
        progress: show a progress bar.
    """
    folder = Path(folder)
    if not os.path.exists(folder):
        return Diagnosis(folder, None, (Check("corpus", "failure", "no such folder", "check the path"),))
    if not os.access(folder, os.R_OK | os.X_OK if folder.is_dir() else os.R_OK):
        fix = f"chmod -R u+rX {folder}, or ask its owner"
        return Diagnosis(folder, None, (Check("permissions", "failure", "may not be read", fix),))
    if (folder / PLAN).is_file():
        return Diagnosis(folder, STORE, tuple(_store_checks(folder, num_images, progress)))
    kind = _kind_of(folder)
    if kind is None:
        return Diagnosis(folder, None, (_unknown(folder),))
    return Diagnosis(folder, kind.name, tuple(_corpus_checks(kind, folder, num_images, progress)))


def _unknown(folder: Path) -> Check:
    found = "none that is known; looked for " + ", ".join(mark for kind in KINDS for mark in kind.marks[:1])
    found += f", {PLAN}, and a single CSV file with {', '.join(REQUIRED)}"
    if folder.is_file():
        return Check("corpus", "failure", found, "give a folder, or the CSV file of a manifest")
    for near in _near(folder):
        if (near / PLAN).is_file() or _kind_of(near):
            name = kind.name if (kind := _kind_of(near)) else STORE
            return Check("corpus", "failure", f"none here, but {near} looks like {name}", f"vkd doctor {near}")
    if packed := _archives(folder):
        return Check("corpus", "failure", f"nothing unpacked, but {_some(packed)}", _unpack(packed))
    fix = "point at the folder with the tables as downloaded" if any(folder.iterdir()) else "the folder is empty"
    return Check("corpus", "failure", found, f"{fix}; vkd download and vkd synthesize make one")


def _near(folder: Path) -> Iterator[Path]:
    """The folder above, those below, and where a mirror of PhysioNet ends."""
    yield folder.absolute().parent
    yield from (path for path in sorted(folder.iterdir()) if path.is_dir())
    yield from sorted(folder.glob("physionet.org/files/*/*/"))


def _corpus_checks(kind: _Kind, folder: Path, num_images: int, progress: bool) -> Iterator[Check]:
    path = kind.place(folder)
    yield Check("corpus", "ok", f"{kind.name}, read by {kind.class_path}")
    tables = [_table_check(folder, table) for table in kind.tables]
    yield from tables
    try:
        corpus = _AlreadyRead(reader := kind.reader(path), reader.findings, reader.studies())
    except UserError as error:
        yield _archive_check(folder, True)
        if not any(check.verdict == "failure" for check in tables):  # else it says the same again
            yield _failure("studies", error)
        return
    studies = corpus.studies()
    missing = corpus.left_out["images listed, but no file"]
    yield _archive_check(path.parent if path.is_file() else folder, missing > 0 or not studies)
    yield _count_check(studies)
    if kind.published:
        yield _release_check(kind, studies)
    yield from _file_checks(kind, path, corpus, studies)
    yield from _content_checks(kind.has_reports, corpus, studies)
    yield from _training_checks(corpus, num_images, progress)
    yield _disk_check(folder, studies)


def _store_checks(folder: Path, num_images: int, progress: bool) -> Iterator[Check]:
    yield Check("corpus", "ok", "a prepared store")
    try:
        store = Store(folder)
        wanted = store.made_from["corpus"]["class"], store.made_from["views"], store.made_from["image transform"]
    except UserError as error:
        yield _failure("studies", error)
        return
    except (KeyError, TypeError, AttributeError):
        yield Check("studies", "failure", f"{PLAN} does not say what it is made from", "prepare the store again")
        return
    yield Check("made from", "ok", f"{wanted[0]}, views {wanted[1]}, {wanted[2]}")
    yield _count_check(store.studies)
    # Its views are chosen already, and the names of its findings are known to the corpus it was made from alone.
    findings = tuple(str(number) for number in range(len(store.studies[0].labels) if store.studies else 1))
    yield from _training_checks(_AlreadyRead(store, findings, store.studies), num_images, progress, views="all")


def _table_check(folder: Path, table: _Table) -> Check:
    name = table.names[0]
    path = next((found for each in table.names if (found := find_table(folder, each))), None)
    if path is None and table.wanted_by:
        return Check(name, "ok", f"not there; wanted only for {table.wanted_by}")
    if path is None:
        return Check(name, "failure", f"not found in {folder}", f"fetch it (or {name}.gz) into {folder}")
    try:
        return Check(path.name, "ok", f"{len(read_table(path, table.columns)):,} rows")
    except UserError as error:
        broken = _failure(path.name, error)
        # Those of the views and of the patients are read whenever they are there.
        optional = table.wanted_by and table not in (PROJECTIONS, PEOPLE)
        return Check(path.name, "warning", broken.found, broken.fix) if optional else broken


def _archive_check(folder: Path, incomplete: bool) -> Check:
    """Archives matter where something is missing that may be in them."""
    packed = _archives(folder) if folder.is_dir() else []
    if packed and incomplete:
        return Check("archives", "warning", f"{_some(packed)}, and files are missing", _unpack(packed))
    return Check("archives", "ok", f"{_some(packed)}, no longer needed" if packed else "none left to unpack")


def _count_check(studies: Sequence[Study]) -> Check:
    counts = _counts(studies)
    found = ", ".join(f"{counts[name]:,} {name}" for name in ("images", "studies", "patients"))
    return Check("studies", "ok" if studies else "failure", found, "" if studies else "no image file was found")


def _release_check(kind: _Kind, studies: Sequence[Study]) -> Check:
    counts = _counts(studies)
    fewer = [name for name, number in kind.published.items() if counts[name] < number]
    found = ", ".join(f"{counts[name]:,} of {number:,} {name}" for name, number in kind.published.items())
    fix = "part of the release: fetch the rest, unless this is what you want"
    return Check("full release", "warning" if fewer else "ok", found, fix if fewer else "")


def _file_checks(kind: _Kind, path: Path, corpus: Corpus, studies: Sequence[Study]) -> Iterator[Check]:
    """Rows without files, files without rows, and files that may not be read."""
    used = {os.fspath(image) for study in studies for image in study.images if isinstance(image, Path)}
    tops = sorted({os.path.dirname(name) for name in used}) if kind.name == "manifest" else [os.fspath(path)]
    closed: list[OSError] = []
    walks = (os.walk(top, onerror=closed.append, followlinks=True) for top in tops)
    files = {os.path.join(folder, name) for folder, _, names in chain.from_iterable(walks) for name in names}
    left_out = [f"{reason}: {count:,}" for reason, count in corpus.left_out.items() if count]
    fix = "fetch what is missing, or leave it: training does without"
    yield Check("left out", "warning" if left_out else "ok", "; ".join(left_out) or "nothing", fix if left_out else "")
    spare = {name for name in files if name.lower().endswith(IMAGES)} - used
    fix = "no row of the tables leads to them; training does not read them"
    yield Check("further images", "warning" if spare else "ok", f"{len(spare):,}", fix if spare else "")
    names = {study.study_id for study in studies}
    texts = [name for name in files if kind.name == "mimic-cxr" and os.path.basename(name).startswith("s5")]
    texts = [name for name in texts if name.endswith(".txt") and os.path.basename(name)[:-4] not in names]
    if texts:
        yield Check("further reports", "warning", f"{len(texts):,} without a study that has images", fix)
    refused = [name for name in sorted(files) if not os.access(name, os.R_OK)]
    yield _permission_check(refused, [str(error.filename) for error in closed], bool(used & set(refused)))


def _permission_check(files: Sequence[str], folders: Sequence[str], used: bool) -> Check:
    if not files and not folders:
        return Check("permissions", "ok", "all files may be read")
    found = f"{len(files):,} files and {len(folders):,} folders may not be read: {_some([*folders, *files])}"
    return Check("permissions", "failure" if used else "warning", found, "chmod -R u+rX, or ask their owner")


def _content_checks(has_reports: bool, corpus: Corpus, studies: Sequence[Study]) -> Iterator[Check]:
    """Reports and labels."""
    texts = sum(bool(study.report) for study in studies)
    if has_reports:
        fix = "" if texts else "without reports nothing is distilled; fetch them, or train from labels alone"
        yield Check("reports", "ok" if texts else "warning", f"{texts:,} of {len(studies):,} studies have one", fix)
    else:
        yield Check("reports", "ok", "this corpus ships none")
    if not studies:
        return
    labels = np.stack([study.labels for study in studies])
    unlabelled = int(np.isnan(labels).all(axis=1).sum())
    never = [name for name, column in zip(corpus.findings, labels.T, strict=True) if not (column == 1).any()]
    found = f"{len(studies) - unlabelled:,} of {len(studies):,} studies have them"
    found += f"; never positive: {', '.join(never)}" if never else ""
    if unlabelled == len(studies) or len(never) == len(corpus.findings):
        yield Check(
            "labels", "warning", found, "there is nothing to learn from; see data.selection.labels and vkd label"
        )
    else:
        yield Check("labels", "ok", found)


def _training_checks(
    corpus: Corpus, num_images: int, progress: bool, views: Literal["frontal", "all"] = "frontal"
) -> Iterator[Check]:
    """What `vkd train` does before its first step: the views, the splits, and a sample of the images."""
    unknown: Literal["keep", "drop"] = "keep" if views == "all" else "drop"
    try:
        selected = Selection(corpus, SIZE, views, unknown).read()
        kinds = "frontal images" if views == "frontal" else "images"
        yield Check("views", "ok", f"{len(selected.studies):,} studies have {kinds}")
    except UserError as error:
        unknown = "keep"
        try:
            selected = Selection(corpus, SIZE, views, unknown).read()
        except UserError:
            yield Check("views", "failure", str(error).split("; see ")[0], VIEWS_FIX)
            return
        found = f"no frontal image is known; the view of those of {len(selected.studies):,} studies is not"
        yield Check("views", "warning", found, "train with --data.selection.unknown_views keep, or tell the views")
    data = StudyData(Selection(corpus, SIZE, views=views, unknown_views=unknown))
    try:
        sizes = {split: len(data.studies(split)) for split in ("train", "validation", "test")}
    except UserError as error:
        yield _failure("splits", error)
    else:
        yield Check("splits", "ok", ", ".join(f"{split} {size:,}" for split, size in sizes.items()) + " studies")
    images = [image for study in selected.studies for image in study.images]
    chosen = np.unique(np.linspace(0, len(images) - 1, min(num_images, len(images))).round().astype(int))
    problems = []
    for number in tqdm(chosen, desc="images", unit="image", disable=not progress):
        try:
            ImageTransform(SIZE)(images[number])
        except UserError as error:
            problems.append(str(error))
    if problems:
        found = f"{len(problems)} of {len(chosen)} opened are unreadable: {'; '.join(problems[:SHOWN])}"
        yield Check(
            "image files", "failure", found, "fetch them again, or train with --data.selection.bad_images.policy skip"
        )
    else:
        yield Check("image files", "ok", f"{len(chosen)} opened, all readable")


def _disk_check(folder: Path, studies: Sequence[Study]) -> Check:
    """Room for a prepared store beside the folder: a byte a pixel, and little else."""
    needed = sum(len(study.images) for study in studies) * SIZE**2
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free; a prepared store of {SIZE} pixels takes {needed / 1e9:,.1f} GB"
    fix = "vkd prepare to another disk, or train without a store"
    return Check("disk", "ok" if free > needed else "warning", found, "" if free > needed else fix)


# ------------------------------------------------------------------------------------------ helpers


class _AlreadyRead(Corpus):
    """A corpus whose studies are in memory, so that checks that read it do so for nothing."""

    def __init__(self, source: Corpus | Store, findings: tuple[str, ...], studies: list[Study]) -> None:
        self.name, self.findings = getattr(source, "name", STORE), findings
        self.found, self.left_out = studies, source.left_out

    def studies(self) -> list[Study]:
        """The same each time."""
        return self.found


def _failure(name: str, error: UserError) -> Check:
    """What a reader says: what it found, and after the last semicolon what to do."""
    found, _, fix = str(error).rpartition("; ")
    return Check(name, "failure", found or fix, fix if found else "correct it, or fetch it again")


def _counts(studies: Sequence[Study]) -> dict[str, int]:
    patients = {study.patient_id for study in studies}
    images = sum(len(study.images) for study in studies)
    return {"images": images, "studies": len(studies), "patients": len(patients)}


def _archives(folder: Path) -> list[str]:
    """The names of files that are still packed; the zip of MIMIC-CXR's reports is read as it is."""
    return [path.name for path in sorted(folder.iterdir()) if path.name.endswith(ARCHIVES) and path.is_file()]


def _unpack(names: Sequence[str]) -> str:
    return f"unpack there: {'unzip' if names[0].endswith('.zip') else 'tar -xf'} {names[0]}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
