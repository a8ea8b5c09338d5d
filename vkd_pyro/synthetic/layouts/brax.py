"""BRAX 1.1.0 (Reis et al. 2022)."""

from collections import Counter
from pathlib import Path

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.visits import Visit, lateral_view, report_labels, second_frontal_view, visits

FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
"""In the order of its table, which is not CheXpert's."""
HEADER = ",DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate," + ",".join(FINDINGS)
HEADER += ",ViewPosition,Rows,Columns,Manufacturer"

VIEWS: tuple[tuple[str, ...], ...] = (
    *(("frontal",), ("frontal", "L")) * 3,
    ("frontal", "frontal", "RL"),
    ("",),
    ("frontal", "AP LLD"),
    ("frontal", "RLO"),
    ("LT-DECUB",),
)
"""The views of a study, in the order in which studies take them, over and over; "frontal" is AP or PA."""

ABSENT_EVERY, AGAIN_EVERY = 17, 13
"""Every so many studies have an image without a file; and one that stands in two rows."""


def write_brax(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """`master_spreadsheet_update.csv` and `images/` under `root`; returns what was written."""
    rows: list[tuple[object, ...]] = []
    counts: Counter[str] = Counter()
    for visit in visits(corpus, progress):
        labels = report_labels(visit.reading)
        study = [_row(visit, number, view, labels) for number, view in enumerate(VIEWS[visit.index % len(VIEWS)])]
        for number, (view, row) in enumerate(zip(VIEWS[visit.index % len(VIEWS)], study, strict=True)):
            image = second_frontal_view(visit.frontal) if number else visit.frontal
            if visit.index % ABSENT_EVERY == 4 and number == 1:
                counts["listed images without file"] += 1
            else:
                write_image(root / str(row[1]), lateral_view(image) if "L" in view and view != "AP LLD" else image)
                counts["images"] += 1
            counts[f"images marked {row[-4] or 'without a view'}"] += 1
        if visit.index % AGAIN_EVERY == 3:
            study.append(study[0])
            counts["rows that name an image again"] += 1
        rows += study
        counts += Counter({"studies": 1, "patients": int(visit.order == 0), **_count(list(labels.values()))})
    write_csv(root / "master_spreadsheet_update.csv", HEADER, [(i, *row) for i, row in enumerate(rows)])
    return counts


def _row(visit: Visit, number: int, view: str, labels: dict[str, str]) -> tuple[object, ...]:
    digits = visit.patient_rng.bytes(20).hex()
    patient = "id_" + "-".join(digits[start : start + 8] for start in range(0, 40, 8))
    study = f"{70_000_000 + 7_919 * visit.index:08d}.{visit.order:08d}"
    place = f"{patient}/Study_{study}/Series_{study}.{number}/image-{visit.index:08d}-{number:08d}"
    body = visit.facts.anatomy
    age = "85 or more" if body.age >= 85 else str(body.age // 5 * 5)
    position = visit.facts.view if view == "frontal" else view
    told = ({"woman": "F", "man": "M"}[body.sex], age, f"{visit.order + 1:012d}", 20_100_101 + visit.order)
    size = (*visit.frontal.shape, 1 + visit.index % 3)
    names = (f"Anonymized_DICOMs/{place}.dcm", f"images/{place}.png")
    return (*names, patient, *told, *(labels[name] for name in FINDINGS), position, *size)


def _count(labels: list[str]) -> dict[str, int]:
    return {"uncertain labels": labels.count("-1.0"), "blank labels": labels.count("")}
