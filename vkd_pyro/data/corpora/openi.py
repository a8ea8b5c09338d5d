"""Open-I, the Indiana University chest X-ray collection (Demner-Fushman et al. 2016)."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from vkd_pyro.data.corpora.common.tables import AGAIN, check_known, one_row_each, read_table
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.reports import says_nothing
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study, View
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.reading import LARGEST_REPORT, read_bytes

MESH_TO_FINDING: dict[str, str] = {
    r"normal": "No Finding",
    r"mediastinum/(.*/)?(enlarged|prominent)": "Enlarged Cardiomediastinum",
    r"cardiomegaly": "Cardiomegaly",
    r"cardiac shadow/enlarged": "Cardiomegaly",
    r"opacity(?!/(ribs|adipose tissue|breast|abdomen|spine))": "Lung Opacity",
    r"density/(.*/)?(lung|retrocardiac|costophrenic angle)": "Lung Opacity",
    r"airspace disease": "Lung Opacity",
    r"infiltrate": "Lung Opacity",
    r"markings/(.*/)?interstitial": "Lung Opacity",
    r"lung diseases, interstitial": "Lung Opacity",
    r"nodule(?!/(breast|abdomen))": "Lung Lesion",
    r"mass/(.*/)?lung": "Lung Lesion",
    r"cavitation": "Lung Lesion",
    r"pulmonary edema": "Edema",
    r"pulmonary congestion": "Edema",
    r"heart failure": "Edema",
    r"consolidation": "Consolidation",
    r"pneumonia": "Pneumonia",
    r"pulmonary atelectasis": "Atelectasis",
    r"(hydro|hemo)?pneumothorax": "Pneumothorax",
    r"pleural effusion": "Pleural Effusion",
    r"(hydropneumothorax|hemopneumothorax|hemothorax)": "Pleural Effusion",
    r"(thickening|cicatrix|calcinosis)/(.*/)?pleura": "Pleural Other",
    r"fractures, bone": "Fracture",
    r"catheters, indwelling": "Support Devices",
    r"(implanted )?medical device": "Support Devices",
    r"tube, inserted": "Support Devices",
    r"stents": "Support Devices",
}
"""Human-coded MeSH term -> CheXpert finding. A key is a regular expression that matches from the start of
the lower-case term ("heading/qualifier/qualifier"); a term may match several. Scars (cicatrix of the lung),
calcified granulomas, blunted angles and surgical clips are codes of their own and correspond to no finding."""

UNINDEXED = "no indexing"
SECTIONS = ("indication", "comparison", "findings", "impression")
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "dcm")
IMAGE_ID = re.compile(r"^CXR(\d+)(?:_(\d+))?_IM-(\d+)(?:-(\d+))?(?:-(\d+))?$")


def mesh_labels(terms: Iterable[str]) -> np.ndarray:
    """Labels of the 14 CheXpert findings from the `major` MeSH terms of a report.

    Coders list every abnormality, so a finding that no term names is absent (0); a report that was
    never coded ("No Indexing", or no term at all, or "nan") is unknown (NaN) throughout.

    Returns: float32 [14].
    """
    terms = [term.strip().lower() for term in terms if not says_nothing(term)]
    if not terms or UNINDEXED in terms:
        return np.full(len(CHEXPERT_FINDINGS), np.nan, dtype=np.float32)
    present = {f for pattern, f in MESH_TO_FINDING.items() for term in terms if re.match(rf"{pattern}(?![a-z])", term)}
    return np.array([finding in present for finding in CHEXPERT_FINDINGS], dtype=np.float32)


@dataclass(frozen=True)
class _Record:
    """One report as either layout gives it."""

    uid: str
    sections: dict[str, str]
    mesh: tuple[str, ...]
    image_ids: tuple[str, ...]


class OpenI(Corpus):
    """Reader of Open-I in either layout, as downloaded.

    * the original: `ecgen-radiology/{N}.xml` and a folder of `{image id}.png`;
    * Kaggle's: `indiana_reports.csv`, `indiana_projections.csv` and `images/images_normalized/`.

    The view of an image stands in `indiana_projections.csv` alone; without that file every view is unknown.
    One uid is one patient; no split ships, so patients are split 70 / 10 / 20 by hash.

    Args:
        root: the folder as downloaded.
        labels: "mesh": the human-coded MeSH terms, mapped by `MESH_TO_FINDING`.
    """

    name = "openi"
    findings = CHEXPERT_FINDINGS

    def __init__(self, root: str | Path, labels: Literal["mesh"] = "mesh") -> None:
        self.root = Path(root)
        self.labels = labels

    def studies(self) -> list[Study]:
        """Studies with at least one image, in the order of their uid."""
        self.left_out.clear()
        self.doubts.clear()
        files, views = self._image_files(), self._views()
        records = self._records(sorted(files if views is None else views))
        studies = []
        for record in sorted(records, key=lambda record: int(record.uid)):
            present = [image_id for image_id in record.image_ids if image_id in files]
            self.left_out["images listed, but no file"] += len(record.image_ids) - len(present)
            if not present:
                reason = "studies without an image file" if record.image_ids else "reports that list no image"
                self.left_out[reason] += 1
                continue
            study = Study(
                study_id=f"CXR{record.uid}",
                patient_id=record.uid,
                images=tuple(files[image_id] for image_id in present),
                views=tuple((views or {}).get(image_id, "unknown") for image_id in present),
                report=record.sections,
                labels=mesh_labels(record.mesh),
                split=split_of(self.name, record.uid),
            )
            studies.append(study)
        if not studies:
            raise UserError(
                f"{self.root}: no study with an image among {len(records)} reports and {len(files)} images; "
                f"expected images named CXR1_1_IM-0001-4001.png (or .jpg) under {self.root}"
            )
        return studies

    def _records(self, image_ids: Sequence[str]) -> list[_Record]:
        """All reports; those of Kaggle's table do not name their images, which are found among these."""
        if not self.root.is_dir():
            raise UserError(f"data.selection.corpus.root: no folder at {self.root}; expected an Open-I download")
        # macOS writes a ._1.xml beside a 1.xml, which is no text.
        xml_files = sorted(p for p in self.root.rglob("ecgen-radiology/*.xml") if not p.name.startswith("._"))
        if xml_files:
            return [_read_xml(path) for path in xml_files]
        table = self.root / "indiana_reports.csv"
        if table.is_file():
            return _read_kaggle(table, image_ids)
        raise UserError(
            f"{self.root}: neither ecgen-radiology/*.xml nor indiana_reports.csv found; "
            "unpack NLMCXR_reports.tgz there, or point data.selection.corpus.root at the Kaggle download"
        )

    def _views(self) -> dict[str, View] | None:
        """Image id -> view, of `indiana_projections.csv`; None without that file."""
        path = self.root / "indiana_projections.csv"
        if not path.exists():
            return None
        table = read_table(path, ("uid", "filename", "projection"))
        table["image_id"] = [_canonical(f"CXR{name.removesuffix('.dcm.png')}") for name in table["filename"]]
        table["view"] = table["projection"].map(view_of)
        images, various = one_row_each(path, table, ["image_id"])
        self.left_out[AGAIN] += len(table) - len(images)
        self.doubts.extend(various)
        return dict(zip(images["image_id"], images["view"], strict=True))

    def _image_files(self) -> dict[str, Path]:
        """Image id -> file, whatever the folder and whichever of the two ways of naming it; a PNG before a DICOM."""
        files: dict[str, tuple[int, Path]] = {}
        for folder, _, names in os.walk(self.root, followlinks=True):
            for name in names:
                stem, suffix = name.partition(".")[0], name.rpartition(".")[2].lower()
                image_id = _canonical(stem if stem.startswith("CXR") else f"CXR{stem}")
                if suffix in IMAGE_SUFFIXES and IMAGE_ID.match(image_id):
                    found = IMAGE_SUFFIXES.index(suffix), Path(folder, name)
                    files[image_id] = min(found, files.get(image_id, found))
        return {image_id: path for image_id, (_, path) in files.items()}


def _canonical(image_id: str) -> str:
    """The id without the number that some releases put between uid and image: CXR1_1_IM-0001-4001 is CXR1_IM-..."""
    return re.sub(r"^(CXR\d+)_\d+_IM", r"\1_IM", image_id)


def _read_kaggle(path: Path, image_ids: Sequence[str]) -> list[_Record]:
    reports = read_table(path, ("uid", "MeSH", "findings", "impression"))
    check_known(path, reports, "uid", r"\d+")
    of_report: dict[str, list[str]] = {}
    for image_id in image_ids:
        if match := IMAGE_ID.match(image_id):
            of_report.setdefault(match[1], []).append(image_id)
    return [
        _Record(
            uid=row["uid"],
            sections=_texts((name, row.get(name, "")) for name in SECTIONS),
            mesh=tuple(row["MeSH"].split(";")),
            image_ids=tuple(of_report.get(row["uid"], ())),
        )
        for row in reports.to_dict("records")
    ]


def _texts(sections: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Sections on a line each; a blank one, or one that says "nan", is none."""
    return {name: " ".join(text.split()) for name, text in sections if not says_nothing(text)}


def _read_xml(path: Path) -> _Record:
    try:
        root = ElementTree.fromstring(read_bytes(path, LARGEST_REPORT), forbid_dtd=True)
    except (OSError, ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last two: its encoding
        found = one_line(error)
        raise UserError(f"{path}: not readable as XML ({found}); unpack NLMCXR_reports.tgz again") from error
    uid = root.find("uId")
    if root.tag != "eCitation" or uid is None or not re.fullmatch(r"CXR\d+", uid.get("id", "")):
        raise UserError(
            f"{path}: not an Open-I report; expected <eCitation> with <uId id='CXR...'>, found <{root.tag}>"
        )
    return _Record(
        uid=uid.get("id", "").removeprefix("CXR"),
        sections=_texts((e.get("Label", "").lower(), "".join(e.itertext())) for e in root.iter("AbstractText")),
        mesh=tuple(major.text or "" for major in root.findall("MeSH/major")),
        image_ids=tuple(_canonical(image.get("id", "")) for image in root.iter("parentImage")),
    )
