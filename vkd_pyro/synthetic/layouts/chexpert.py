"""CheXpert-v1.0-small (Irvin et al. 2019)."""

from collections import Counter
from pathlib import Path

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.visits import Visit, lateral_view, report_labels, second_frontal_view, visits

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_FINDINGS)

VIEWS: tuple[tuple[str, ...], ...] = (
    *(("frontal",), ("frontal", "lateral")) * 3,
    ("frontal", "frontal"),
    ("frontal",),
    ("frontal", "frontal", "lateral"),
)
"""The views of a study, in the order in which studies take them, over and over."""

MISTAKEN = {11: "LL", 22: "RL"}
"""Rank of a study in each two dozen -> what stands for AP or PA of its frontal images."""


def write_chexpert(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """`train.csv` and `valid.csv` with their images under `root`; returns what was written."""
    rows: dict[str, list[tuple[object, ...]]] = {"train": [], "valid": []}
    counts: Counter[str] = Counter()
    for visit in visits(corpus, progress):
        split = "valid" if visit.split == "validation" else "train"
        labels = _true_labels(visit) if split == "valid" else report_labels(visit.reading)
        counts += _count(visit, split, list(labels.values()))
        for number, view in enumerate(VIEWS[visit.index % len(VIEWS)], start=1):
            path = f"{split}/patient{visit.patient + 1:05d}/study{visit.order + 1}/view{number}_{view}.jpg"
            image = second_frontal_view(visit.frontal) if number > 1 else visit.frontal
            write_image(root / path, lateral_view(visit.frontal) if view == "lateral" else image)
            position = "" if view == "lateral" else MISTAKEN.get(visit.index % 24, visit.facts.view)
            place = f"CheXpert-v1.0-small/{path}"
            rows[split].append((place, *_person(visit), view.title(), position, *labels.values()))
            counts += Counter({"images": 1, f"{view} images": 1, f"images marked {position or 'neither AP nor PA'}": 1})
    for split, table in rows.items():
        write_csv(root / f"{split}.csv", HEADER, table)
    return counts


def _person(visit: Visit) -> tuple[str, int]:
    return {"woman": "Female", "man": "Male"}[visit.facts.anatomy.sex], visit.facts.anatomy.age


def _true_labels(visit: Visit) -> dict[str, str]:
    """What radiologists say of the validation set: certain, and never blank."""
    return {name: str(value) for name, value in zip(CHEXPERT_FINDINGS, truth(visit.facts), strict=True)}


def _count(visit: Visit, split: str, labels: list[str]) -> Counter[str]:
    return Counter(
        {
            "studies": 1,
            "patients": int(visit.order == 0),
            f"{split} studies": 1,
            "uncertain labels": labels.count("-1.0"),
            "blank labels": labels.count(""),
        }
    )
