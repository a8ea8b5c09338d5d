"""VinDr-CXR 1.0.0 (Nguyen et al. 2022)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vkd_pyro.data.images.dicom.file import require_pydicom
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.facts import Finding
from vkd_pyro.synthetic.layouts.files import write_csv
from vkd_pyro.synthetic.layouts.places import Corners, places
from vkd_pyro.synthetic.layouts.visits import Pixels, Visit, visits

LOCAL = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation"),
    *("Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst"),
    *("Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    *("Pulmonary fibrosis", "Rib fracture", "Other lesion"),
)
"""What is boxed."""
GLOBAL = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis")
OTHERS = {"train": "Other diseases", "test": "Other disease"}
"""A column that the two tables call differently."""
NAMES = {
    "Cardiomegaly": "Cardiomegaly",
    "Lung Opacity": "Lung Opacity",
    "Lung Lesion": "Nodule/Mass",
    "Edema": "Edema",
    "Consolidation": "Consolidation",
    "Pneumonia": "Pneumonia",
    "Atelectasis": "Atelectasis",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Pleural effusion",
    "Pleural Other": "Pleural thickening",
    "Fracture": "Rib fracture",
}
"""CheXpert's finding -> this corpus's; the two others have no name here."""
PREFIX = "1.2.826.0.1.3680043.8.498."
"""pydicom's root of UIDs."""
READERS = ("R8", "R9", "R10")
DISSENT = 0.15
"""The share of findings that one reader of three misses."""
NARROW = 0.75
"""The width of an image, in heights: one in three is not square."""


def write_vindr_cxr(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """DICOM images in `train/` and `test/` and the tables in `annotations/` under `root`; returns what was written."""
    require_pydicom(root)
    labels: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    boxes: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    counts: Counter[str] = Counter()
    for visit in visits(corpus, progress):
        part, name = "test" if visit.split == "test" else "train", visit.rng.bytes(16).hex()
        height = len(visit.frontal)
        width = round(NARROW * height) if visit.index % 3 == 1 else height
        inverted = visit.index % 4 == 2
        _write(root / part / f"{name}.dicom", visit.frontal, width, inverted, visit.index)
        for reader, seen in _readings(visit, part):
            head = (name, *(reader,) * (part == "train"))
            named = {NAMES[finding.name] for finding, _ in seen}
            values = [int(column in named) for column in (*LOCAL, *GLOBAL)]
            labels[part].append((*head, *values, 0, int(not named)))
            rows = [(*head, NAMES[finding.name], *_pixels(box, width, height)) for finding, box in seen]
            rows = [row for row in rows if row[len(head)] in LOCAL]
            boxes[part] += rows or [(*head, "No finding", "", "", "", "")]
            counts["boxes"] += len(rows)
        counts += Counter({"studies": 1, "images": 1, f"{part} images": 1, "MONOCHROME1 images": int(inverted)})
        counts["images that are not square"] += width != height
    (root / "annotations").mkdir()
    for part in labels:
        reader = ",rad_id" * (part == "train")
        columns = ",".join((*LOCAL, *GLOBAL, OTHERS[part], "No finding"))
        write_csv(root / "annotations" / f"image_labels_{part}.csv", f"image_id{reader},{columns}", labels[part])
        header = f"image_id{reader},class_name,x_min,y_min,x_max,y_max"
        write_csv(root / "annotations" / f"annotations_{part}.csv", header, boxes[part])
    return counts


def _readings(visit: Visit, part: str) -> Iterator[tuple[str, list[tuple[Finding, Corners]]]]:
    """What each reader saw, and where: the truth, of which at most one of the three readers of train/ misses a finding,
    and boxes that differ a little."""
    seen = [(finding, box) for finding, box in places(visit.facts, len(visit.frontal)) if finding.name in NAMES]
    if part == "test":
        yield "", seen
        return
    missed = {finding.name: int(visit.rng.integers(3)) for finding, _ in seen if visit.rng.random() < DISSENT}
    for number, reader in enumerate(READERS):
        moved = ((-0.01, 0.0), (0.0, 0.0), (0.0, 0.01))[number]
        kept = [(finding, box) for finding, box in seen if missed.get(finding.name) != number]
        yield reader, [(finding, np.clip(box + moved, 0.0, 1.0)) for finding, box in kept]


def _pixels(box: Corners, width: int, height: int) -> list[float]:
    return [round(float(edge), 4) for edge in (box * (width, height)).ravel()]


def _write(path: Path, image: Pixels, width: int, inverted: bool, index: int) -> None:
    """A DICOM file of 12 bits, as wide as asked for."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    path.parent.mkdir(exist_ok=True)
    drawn = np.asarray(Image.fromarray(image).resize((width, len(image)), Image.Resampling.BILINEAR))
    values = np.rint(drawn * (4095 / 255)).astype("<u2")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{PREFIX}{index + 1}")
    dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *drawn.shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = (4095 - values if inverted else values).tobytes()
    dataset.save_as(path, enforce_file_format=True)
