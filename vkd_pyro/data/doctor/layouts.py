"""The corpora that a folder may hold: how each is told, the tables that belong to it, what its full release has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vkd_pyro.data.corpora.brax import COLUMNS as BRAX_COLUMNS
from vkd_pyro.data.corpora.brax import TABLES as BRAX_TABLES
from vkd_pyro.data.corpora.brax import Brax
from vkd_pyro.data.corpora.chestxray14 import TABLES as NIH_TABLES
from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexlocalize import CheXlocalize
from vkd_pyro.data.corpora.chexpert import BATCHES, CheXpert
from vkd_pyro.data.corpora.common.csv_files import header_of
from vkd_pyro.data.corpora.manifest import REQUIRED, Manifest
from vkd_pyro.data.corpora.mimic_cxr import HAND_LABELS, PATIENT_COLUMNS, PATIENTS, PREFIX, MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.corpora.padchest import PadChest
from vkd_pyro.data.corpora.vindr_cxr import VinDrCXR
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.study import Corpus


@dataclass(frozen=True)
class Table:
    """A table of a corpus: by any of its names, the first one first; what wants it, where training does without."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    wanted_by: str = ""


@dataclass(frozen=True)
class Kind:
    """A corpus that a folder may be.

    Attributes:
        name: one of `LAYOUTS`, or "manifest".
        reader: makes its corpus from the path.
        argument: the name of the reader's path.
        marks: patterns of files or folders of which one is enough to tell it.
        tables: that belong to it.
        published: how much of what the full release has.
        has_reports: whether it ships any.
        folders: pattern of those in which tables may lie, too.
        trains: whether there is anything in it to train on.
    """

    name: str
    reader: Callable[[Path], Corpus]
    marks: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    published: dict[str, int] = field(default_factory=dict)
    argument: str = "root"
    has_reports: bool = True
    folders: str = ""
    trains: bool = True

    @property
    def class_path(self) -> str:
        """The class path of the reader, as a config names it."""
        return f"{self.reader.__module__}.{getattr(self.reader, '__name__', '')}"

    def place(self, folder: Path) -> Path:
        """The path that the reader is given: the folder, or the CSV file of a manifest."""
        return manifest_in(folder) or folder if self.name == "manifest" else folder


STORE = "store"

MIMIC_KEYS = ("subject_id", "study_id", "dicom_id")
HAND_LABEL_COLUMNS = tuple(name.replace("Lung Opacity", "Airspace Opacity") for name in CHEXPERT_FINDINGS)
CHEXPERT_COLUMNS = ("Path", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS)
PROJECTIONS = Table(("indiana_projections.csv",), ("uid", "filename", "projection"), "the views of the images")
PEOPLE = Table((PATIENTS,), PATIENT_COLUMNS, "sex and age; it is of MIMIC-IV")

KINDS: tuple[Kind, ...] = (
    Kind(
        "mimic-cxr",
        MimicCXR,
        ("mimic-cxr-2.*.csv", "mimic-cxr-2.*.csv.gz", "cxr-record-list.csv*"),
        (
            Table((f"{PREFIX}-metadata.csv",), (*MIMIC_KEYS, "ViewPosition")),
            Table((f"{PREFIX}-split.csv",), (*MIMIC_KEYS, "split")),
            Table((f"{PREFIX}-chexpert.csv",), ("study_id", *CHEXPERT_FINDINGS)),
            Table((f"{PREFIX}-negbio.csv",), ("study_id", *CHEXPERT_FINDINGS), "labels: negbio"),
            Table((HAND_LABELS,), ("study_id", *HAND_LABEL_COLUMNS), "hand_labelled_test"),
            PEOPLE,
        ),
        {"images": 377_110, "studies": 227_835},
    ),
    Kind(
        "openi",
        OpenI,
        ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology"),
        (PROJECTIONS,),
        {"images": 7_470, "studies": 3_851},
    ),
    Kind(
        "openi-kaggle",
        OpenI,
        ("indiana_*.csv",),
        (Table(("indiana_reports.csv",), ("uid", "MeSH", "findings", "impression")), PROJECTIONS),
        {"images": 7_466, "studies": 3_851},
    ),
    Kind(
        "chestxray14",
        ChestXray14,
        ("Data_Entry_2017*.csv", "train_val_list*.txt", "test_list*.txt"),
        (Table(NIH_TABLES, ("Image Index", "Finding Labels", "Patient ID", "View Position")),),
        {"images": 112_120, "patients": 30_805},
        has_reports=False,
    ),
    Kind(
        "brax",
        Brax,
        BRAX_TABLES,
        (Table(BRAX_TABLES, BRAX_COLUMNS),),
        {"images": 40_967, "studies": 24_959},
        has_reports=False,
    ),
    Kind(
        "padchest",
        PadChest,
        ("PADCHEST_chest_x_ray_images_labels_160K_*.csv*",),
        published={"images": 160_861},
        has_reports=False,
    ),
    Kind(
        "vindr-cxr",
        VinDrCXR,
        ("annotations/image_labels_*.csv", "image_labels_*.csv", "*/image_labels_*.csv"),
        published={"images": 18_000},
        has_reports=False,
    ),
    Kind(
        "chexlocalize",
        CheXlocalize,
        ("CheXlocalize", "CheXpert/*_labels.csv", "test_labels.csv", "val_labels.csv", "gt_segmentations_*.json"),
        published={"images": 902, "patients": 700},
        has_reports=False,
        trains=False,
    ),
    Kind("manifest", Manifest, (), argument="path"),
    Kind(
        "chexpert",
        CheXpert,
        ("train.csv", "train.csv.gz", "valid.csv", "valid.csv.gz", "train/patient*", f"{BATCHES}/*"),
        (Table(("train.csv",), CHEXPERT_COLUMNS), Table(("valid.csv",), CHEXPERT_COLUMNS)),
        {"images": 223_414, "patients": 64_540},
        has_reports=False,
        folders=BATCHES,
    ),
)
"""The corpora, in the order in which they are tried. CheXpert's published numbers are those of `train.csv`."""


def kind_of(folder: Path) -> Kind | None:
    """The corpus that a folder looks like, by its files' names; None if it is none that is known."""
    for kind in KINDS:
        if kind.name == "manifest" and manifest_in(folder):
            return kind
        if any(next(folder.glob(mark), None) for mark in kind.marks):
            return kind
    return None


def manifest_in(folder: Path) -> Path | None:
    """The CSV file itself, or the single one in a folder if its header is that of a manifest."""
    if folder.is_file():
        return folder if folder.name.lower().endswith((".csv", ".csv.gz", ".tsv")) else None
    tables = sorted(folder.glob("*.csv"))
    return tables[0] if len(tables) == 1 and set(REQUIRED) <= set(header_of(tables[0], REQUIRED)) else None
