"""ChestX-ray14 of the NIH (Wang et al. 2017)."""

from collections import Counter
from pathlib import Path

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.facts import Finding
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.places import places
from vkd_pyro.synthetic.layouts.visits import Visit, visits

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""The brackets are not quoted: a reader of CSV sees 11 columns."""

BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"

NAMES = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Pleural Effusion": "Effusion",
    "Lung Opacity": "Infiltration",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Pleural Other": "Pleural_Thickening",
}
"""CheXpert's finding -> this corpus's; Lung Lesion is Mass or Nodule, and the others have no name here."""

BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
"""The findings that are boxed, in every other study that has one."""

RARE = {"Fibrosis": 0.02, "Hernia": 0.01}
"""Findings that the image does not show, and how often they are given."""

MASS = 0.5
"""A lung lesion as severe as this is a mass, else a nodule."""

RGBA_EVERY = 17
"""Every so many images have four channels."""


def write_chestxray14(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """Images in two folders, both versions of the table, the boxes and the official lists; returns what was written."""
    rows: list[tuple[object, ...]] = []
    boxes: list[tuple[object, ...]] = []
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    counts: Counter[str] = Counter()
    for visit in visits(corpus, progress):
        name = f"{visit.patient + 1:08d}_{visit.order:03d}.png"
        labels, mode = _labels(visit), "RGBA" if visit.index % RGBA_EVERY == 3 else "L"
        folder = "images_001" if 2 * visit.index < corpus.num_studies else "images_002"
        write_image(root / folder / "images" / name, visit.frontal, mode)
        rows.append(_row(visit, name, labels))
        boxes += _boxes(visit, name, corpus.image_size) if visit.index % 2 == 0 else []
        lists["test_list.txt" if visit.split == "test" else "train_val_list.txt"].append(name)
        counts += Counter({"studies": 1, "patients": int(visit.order == 0), "images": 1, f"{mode} images": 1})
        counts += Counter({f"images with {label}": 1 for label in labels or ["No Finding"]})
    write_csv(root / "Data_Entry_2017_v2020.csv", HEADER, rows)
    write_csv(root / "Data_Entry_2017.csv", HEADER + ",", [(*row, "") for row in rows])
    write_csv(root / "BBox_List_2017.csv", BOX_HEADER, boxes)
    for file, names in lists.items():
        (root / file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        counts[f"images in {file}"] = len(names)
    return counts + Counter({"boxes": len(boxes)})


def _labels(visit: Visit) -> list[str]:
    """The labels in alphabetical order; what is not among them is absent."""
    named = [_name(finding) for finding in visit.facts.findings]
    rare = [label for label, share in RARE.items() if visit.rng.random() < share]
    emphysema = ["Emphysema"] * (visit.facts.anatomy.hyperinflation > 0.6)
    return sorted({label for label in named if label} | {*rare, *emphysema})


def _name(finding: Finding) -> str:
    """This corpus's name of a finding, or ""."""
    if finding.name == "Lung Lesion":
        return "Mass" if finding.severity >= MASS else "Nodule"
    return NAMES.get(finding.name, "")


def _row(visit: Visit, name: str, labels: list[str]) -> tuple[object, ...]:
    body, portable = visit.facts.anatomy, visit.facts.view == "AP"
    width, height = (2500, 2048) if portable else tuple(visit.rng.integers((2000, 2000), (2992, 2992)))
    spacing = 0.168 if portable else 0.143
    gender = {"woman": "F", "man": "M"}[body.sex]
    told = (body.age, gender, visit.facts.view, width, height, spacing, spacing)
    return (name, "|".join(labels) or "No Finding", visit.order, visit.patient + 1, *told)


def _boxes(visit: Visit, name: str, image_size: int) -> list[tuple[object, ...]]:
    """A box about each finding on each side, in pixels; the boxes call Infiltration "Infiltrate"."""
    rows: list[tuple[object, ...]] = []
    for finding, corners in places(visit.facts, image_size):
        if (label := _name(finding)) in BOXED:
            low, high = corners * image_size
            box = (round(float(value), 3) for value in (*low, *(high - low)))
            rows.append((name, label.replace("Infiltration", "Infiltrate"), *box, "", "", ""))
    return rows
