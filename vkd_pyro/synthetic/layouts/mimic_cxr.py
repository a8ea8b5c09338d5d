"""MIMIC-CXR-JPG 2.1.0 with the reports of MIMIC-CXR beside the images (Johnson et al. 2019), and the patients of
MIMIC-IV."""

import datetime
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.mimic_reports import ROUND, SILENT, mimic_report
from vkd_pyro.synthetic.layouts.visits import Pixels, Visit, lateral_view, report_labels, second_frontal_view, visits

METADATA, SPLIT = "mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-split.csv.gz"
CHEXPERT, NEGBIO = "mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-negbio.csv.gz"
TEST_SET = "mimic-cxr-2.1.0-test-set-labeled.csv"
STUDY_LIST, RECORD_LIST = "cxr-study-list.csv.gz", "cxr-record-list.csv.gz"
PATIENTS = "patients.csv.gz"

FINDINGS = tuple(sorted(CHEXPERT_FINDINGS))

HEADERS: dict[str, str] = {
    METADATA: "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,"
    "StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning",
    SPLIT: "dicom_id,study_id,subject_id,split",
    CHEXPERT: "subject_id,study_id," + ",".join(FINDINGS),
    NEGBIO: "subject_id,study_id," + ",".join(FINDINGS),
    TEST_SET: "study_id," + ",".join(FINDINGS).replace("Lung Opacity", "Airspace Opacity"),
    STUDY_LIST: "subject_id,study_id,path",
    RECORD_LIST: "subject_id,study_id,dicom_id,path",
    PATIENTS: "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
}

SPLITS = {"train": "train", "validation": "validate", "test": "test"}

VIEWS: tuple[tuple[str, ...], ...] = (
    *(("frontal",), ("frontal", "LATERAL")) * 6,
    ("frontal", "LL"),
    ("frontal", "frontal"),
    ("frontal", ""),
    ("",),
    ("LATERAL",),
)
"""The views of a study, in the order in which studies take them, over and over; "frontal" is AP or PA."""

VIEW_MEANINGS = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral", "LL": "left lateral"}

MIDNIGHT_EVERY = 23
"""Every so many studies are taken in the first minute of a day."""


@dataclass(frozen=True)
class _Ids:
    """What a study is called."""

    subject: int
    study: int
    date: str
    time: str

    @property
    def folder(self) -> str:
        """Where the images lie; the report has the same name with .txt."""
        return f"files/p{str(self.subject)[:2]}/p{self.subject}/s{self.study}"


def write_mimic_cxr(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """Images, reports and tables under `root`; returns what was written."""
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in HEADERS}
    counts: Counter[str] = Counter()
    kinds = itertools.cycle(ROUND)
    for visit in visits(corpus, progress):
        kind = _kind(visit, kinds)
        ids = _ids(visit, corpus.num_studies)
        images = _images(visit)
        for table, row in [*_label_rows(visit, ids, kind), (STUDY_LIST, _study_row(ids))]:
            rows[table].append(row)
        if visit.order == 0:
            rows[PATIENTS].append(_patient_row(visit, ids))
        for view, image in images:
            dicom = _dicom_id(visit)
            write_image(root / ids.folder / f"{dicom}.jpg", image)
            rows[METADATA].append(_metadata_row(ids, dicom, view, image))
            rows[SPLIT].append((dicom, ids.study, ids.subject, SPLITS[visit.split]))
            rows[RECORD_LIST].append((ids.subject, ids.study, dicom, f"{ids.folder}/{dicom}.dcm"))
        (root / f"{ids.folder}.txt").write_text(mimic_report(kind, visit.sections), encoding="utf-8")
        counts += _count(visit, ids, kind, [view for view, _ in images])
    for name, header in HEADERS.items():
        write_csv(root / name, header, rows[name])
    return counts


def _kind(visit: Visit, kinds: Iterator[str]) -> str:
    """The kind of report of a study: the next in turn, unless there is too little to say."""
    if not visit.report:
        return SILENT[visit.index % 2]
    return next(kinds) if visit.sections["FINDINGS"] else "reports with an empty findings section"


def _ids(visit: Visit, num_studies: int) -> _Ids:
    step = 10_000_000 // num_studies
    patient = visit.patient_rng
    subject = 10_000_000 + visit.patient * step + int(patient.integers(step))
    first = datetime.date(2110, 1, 1) + datetime.timedelta(days=int(patient.integers(30_000)))
    date = first + datetime.timedelta(days=40 * visit.order)
    # A stride without a common factor with ten million meets every number once, in no visible order.
    study = 50_000_000 + (visit.index + 1) * 7_919_933 % 10_000_000
    return _Ids(subject, study, date.strftime("%Y%m%d"), _study_time(visit))


def _study_time(visit: Visit) -> str:
    """HHMMSS.fff as a number: without leading zeros, and sometimes with the rounding error of a float."""
    hour, minute, second, thousandth = visit.rng.integers((0, 0, 0, 1), (24, 60, 60, 1000))
    if visit.index % MIDNIGHT_EVERY == 1:
        hour = minute = 0
    return f"{10_000 * hour + 100 * minute + second}.{thousandth:03d}" + "00000002" * (visit.index % 3 == 0)


def _dicom_id(visit: Visit) -> str:
    digits = visit.rng.bytes(20).hex()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _images(visit: Visit) -> list[tuple[str, Pixels]]:
    """(ViewPosition, image) of each image of the study."""
    images: list[tuple[str, Pixels]] = []
    for view in VIEWS[visit.index % len(VIEWS)]:
        if view in ("LATERAL", "LL"):
            images.append((view, lateral_view(visit.frontal)))
        else:
            image = second_frontal_view(visit.frontal) if images else visit.frontal
            images.append((visit.facts.view if view == "frontal" else view, image))
    return images


def _metadata_row(ids: _Ids, dicom: str, view: str, image: Pixels) -> tuple[object, ...]:
    procedure = "CHEST (PORTABLE AP)" if view == "AP" else "CHEST (PA AND LAT)"
    meaning, orientation = VIEW_MEANINGS.get(view, ""), "Recumbent" if view == "AP" else "Erect" if view else ""
    told = (*image.shape, ids.date, ids.time, procedure, meaning, orientation)
    return (dicom, ids.subject, ids.study, procedure, view, *told)


def _study_row(ids: _Ids) -> tuple[object, ...]:
    return (ids.subject, ids.study, f"{ids.folder}.txt")


def _patient_row(visit: Visit, ids: _Ids) -> tuple[object, ...]:
    """A patient has the age that is drawn in the year of the first study."""
    body = visit.facts.anatomy
    return (ids.subject, {"woman": "F", "man": "M"}[body.sex], body.age, ids.date[:4], "2011 - 2013", "")


def _label_rows(visit: Visit, ids: _Ids, kind: str) -> list[tuple[str, tuple[object, ...]]]:
    """(table, row) of each table that has labels of the study; without text there are none to be had from it."""
    rows: list[tuple[str, tuple[object, ...]]] = []
    if kind not in SILENT:
        labels = dict.fromkeys(FINDINGS, "") if _is_blank(kind) else report_labels(visit.reading)
        second = {name: _second_opinion(value, visit) for name, value in labels.items()}
        rows.append((CHEXPERT, (ids.subject, ids.study, *(labels[name] for name in FINDINGS))))
        rows.append((NEGBIO, (ids.subject, ids.study, *(second[name] for name in FINDINGS))))
    if visit.split == "test":
        true = dict(zip(CHEXPERT_FINDINGS, truth(visit.facts), strict=True))
        rows.append((TEST_SET, (ids.study, *(true[name] for name in FINDINGS))))
    return rows


def _is_blank(kind: str) -> bool:
    return kind == "reports that refer to another"


def _second_opinion(label: str, visit: Visit) -> str:
    """NegBio's label where CheXpert's labeller gave `label`: it takes some hedges for affirmations."""
    return "1.0" if label == "-1.0" and visit.rng.random() < 0.3 else label


def _count(visit: Visit, ids: _Ids, kind: str, views: list[str]) -> Counter[str]:
    frontal = sum(view in ("AP", "PA") for view in views)
    return Counter(
        {
            "studies": 1,
            "patients": int(visit.order == 0),
            "images": len(views),
            f"{SPLITS[visit.split]} studies": 1,
            "lateral images (LATERAL)": views.count("LATERAL"),
            "lateral images (LL)": views.count("LL"),
            "images without a view": views.count(""),
            "studies of two frontal images": int(frontal == 2),
            "studies without a frontal image": int(frontal == 0),
            "studies without a label row": int(kind in SILENT),
            "studies with all labels blank": int(_is_blank(kind)),
            "studies without text": int(kind in SILENT),
            "study times without their leading zeros": int(float(ids.time) < 100_000),
            kind: 1,
        }
    )
