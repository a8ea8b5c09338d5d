"""CheXpert's validation and test sets with the masks of CheXlocalize (Saporta et al. 2022)."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data import rle
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.drawing.shapes import grid
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts.chexpert import HEADER
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.places import places
from vkd_pyro.synthetic.layouts.visits import Visit, lateral_view, visits

MASKED = {
    "Enlarged Cardiomediastinum": "Enlarged Cardiomediastinum",
    "Cardiomegaly": "Cardiomegaly",
    "Lung Lesion": "Lung Lesion",
    "Lung Opacity": "Airspace Opacity",
    "Edema": "Edema",
    "Consolidation": "Consolidation",
    "Atelectasis": "Atelectasis",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Pleural Effusion",
    "Support Devices": "Support Devices",
}
"""The ten findings that were drawn, and what the masks call them."""
LATERAL_EVERY = 3
"""Every so many studies have a lateral image."""


def write_chexlocalize(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """`CheXpert/` with the tables and images of val and test, `CheXlocalize/` with masks; returns what was written."""
    rows: dict[str, list[tuple[object, ...]]] = {"val": [], "test": []}
    masks: dict[str, dict[str, dict[str, dict[str, object]]]] = {"val": {}, "test": {}}
    counts: Counter[str] = Counter()
    nothing = rle.encode(np.zeros((corpus.image_size, corpus.image_size), np.bool_))
    for visit in visits(corpus, progress):
        part = "val" if visit.patient % 3 == 1 else "test"
        labels = [str(int(value)) for value in truth(visit.facts)]
        study = f"patient{64541 + visit.patient}/study{visit.order + 1}"
        for number, view in enumerate(("frontal", "lateral")[: 1 + (visit.index % LATERAL_EVERY == 0)], start=1):
            place = f"{study}/view{number}_{view}"
            image = lateral_view(visit.frontal) if view == "lateral" else visit.frontal
            write_image(root / "CheXpert" / part / f"{place}.jpg", image)
            person = {"woman": "Female", "man": "Male"}[visit.facts.anatomy.sex], visit.facts.anatomy.age
            position = "" if view == "lateral" else visit.facts.view
            told = (*person, view.title(), position) if part == "val" else ()
            rows[part].append((f"{part}/{place}.jpg", *told, *labels))
            if view == "frontal" and 1 in truth(visit.facts)[1:]:
                masks[part][place.replace("/", "_")] = drawn = _masks(visit)
                counts["masks"] += sum(each["counts"] != nothing for each in drawn.values())
            counts += Counter({"images": 1, f"{view} images": 1, f"{part} images": 1})
        counts += Counter({"studies": 1, "patients": int(visit.order == 0)})
    (root / "CheXlocalize").mkdir()
    for part, table in rows.items():
        header = HEADER if part == "val" else "Path," + ",".join(CHEXPERT_FINDINGS)
        write_csv(root / "CheXpert" / f"{part}_labels.csv", header, table)
        path = root / "CheXlocalize" / f"gt_segmentations_{part}.json"
        path.write_text(json.dumps(masks[part]), encoding="utf-8")
    return counts


def _masks(visit: Visit) -> dict[str, dict[str, object]]:
    """A mask of each of the ten, empty where it is absent: an ellipse in each box of `places`."""
    size = len(visit.frontal)
    x, y = grid(size)
    found: dict[str, NDArray[np.bool_]] = {name: np.zeros((size, size), np.bool_) for name in MASKED}
    for finding, ((left, top), (right, bottom)) in places(visit.facts, size):
        if finding.name in MASKED:
            across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
            found[finding.name] |= across**2 + down**2 <= 1
    return {MASKED[name]: {"size": [size, size], "counts": rle.encode(mask)} for name, mask in found.items()}
