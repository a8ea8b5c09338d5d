"""PadChest (Bustos et al. 2020)."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.layouts.files import write_csv
from vkd_pyro.synthetic.layouts.visits import Pixels, Visit, lateral_view, second_frontal_view, visits

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
    "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,"
    "WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
    "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,"
    "LocalizationsCUIS"
)
TERMS = {
    "Enlarged Cardiomediastinum": "mediastinal enlargement",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "infiltrates",
    "Lung Lesion": "nodule",
    "Edema": "pulmonary edema",
    "Consolidation": "consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "laminar atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "pleural effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "rib fracture",
    "Support Devices": "NSG tube",
}
"""CheXpert's finding -> a term of this corpus."""

VIEWS: tuple[tuple[str, ...], ...] = (("frontal",), ("frontal", "L"), ("frontal", "L"), ("COSTAL",), ("EXCLUDE",))
"""The views of a study, in the order in which studies take them, over and over; "frontal" is PA or AP, or lying."""

POSITIONS = {"PA": "POSTEROANTERIOR", "AP": "ANTEROPOSTERIOR", "AP_horizontal": "ANTEROPOSTERIOR", "L": "LATERAL"}
"""What the DICOM file calls them."""

ODD = {4: "exclude", 9: "unchanged", 14: "suboptimal study", 19: ""}
"""Rank of a study in each two dozen -> what its report was labelled in place of the truth, or beside it."""

INVERTED, HAND = 7, 3
"""Every so many studies are stored with bone dark, and are labelled by physicians."""
CUT = 15
"""The study whose file is truncated."""


def write_padchest(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """The table and `images/0/`, `images/1/` and `images/54/` under `root`; returns what was written."""
    rows: list[tuple[object, ...]] = []
    counts: Counter[str] = Counter()
    for visit in visits(corpus, progress):
        views = VIEWS[visit.index % len(VIEWS)]
        for number, view in enumerate(views):
            row, folder = _row(visit, number, view, len(rows)), (0, 1, 54)[visit.index % 3]
            image = second_frontal_view(visit.frontal) if number else visit.frontal
            path = root / "images" / str(folder) / str(row[1])
            _write(path, lateral_view(image) if view == "L" else image, _is_inverted(visit))
            if visit.index == CUT and not number:
                path.write_bytes(path.read_bytes()[:-200])
                counts["truncated images"] += 1
            rows.append(row)
            counts += Counter({"images": 1, f"images marked {row[9]}": 1, "inverted images": int(_is_inverted(visit))})
        counts += Counter({"studies": 1, "patients": int(visit.order == 0)})
        counts[f"studies labelled {ODD.get(visit.index % 24, 'as usual') or 'nothing'}"] += 1
    write_csv(root / TABLE, HEADER, rows)
    return counts


def terms_of(visit: Visit) -> list[str]:
    """What the report is labelled; the second term begins with a space, as many do."""
    odd = ODD.get(visit.index % 24)
    if odd == "":
        return []
    named = [TERMS[finding.name] for finding in visit.facts.findings]
    more = [odd] if odd else [] if named else ["normal"]
    terms = [*named, *more]
    return [terms[0], *(f" {term}" for term in terms[1:])]


def _is_inverted(visit: Visit) -> bool:
    return visit.index % INVERTED == 5


def _row(visit: Visit, number: int, view: str, index: int) -> tuple[object, ...]:
    frontal = "AP_horizontal" if visit.index % 10 == 0 else visit.facts.view
    projection = frontal if view == "frontal" else view
    body, year = visit.facts.anatomy, 2009 + visit.order
    study = f"2168401113669640{10**12 + 7_919_933 * visit.index}"
    name = f"{study}{visit.index:06d}_0{number}-{visit.index:03d}-{number:03d}.png"
    kind = "MONOCHROME1" if _is_inverted(visit) else "MONOCHROME2"
    terms = repr(terms_of(visit)) if terms_of(visit) else ""
    height, width = visit.frontal.shape
    return (
        *(index, name, (0, 1, 54)[visit.index % 3], f"{year}0214", study, f"8398604886942923{10**12 + visit.patient}"),
        *(f"{year - body.age}.0", {"woman": "F", "man": "M"}[body.sex], POSITIONS.get(projection, ""), projection),
        *("Manual review of DICOM fields", "No", "CR", "ImagingDynamicsCompanyLtd", kind, 0, "", 0.143, 16, 2048, 4096),
        *(height, width, "", "", "", "", "", 4_000_000 + visit.index, "sin hallazg patolog .", _method(visit), terms),
        *("", "", "[]", "[]"),
    )


def _method(visit: Visit) -> str:
    return "Physician" if visit.index % HAND == 0 else "RNN_model"


def _write(path: Path, image: Pixels, inverted: bool) -> None:
    """A PNG file of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deep = image.astype(np.uint16) * 257
    Image.fromarray(65535 - deep if inverted else deep).save(path)
