"""Open-I, the Indiana University chest X-ray collection (Demner-Fushman et al. 2016)."""

import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vkd_pyro.data.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.errors import UserError

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
IMAGE_SUFFIXES = ("png", "jpg", "jpeg")
IMAGE_ID = re.compile(r"^CXR(\d+)(?:_(\d+))?_IM-(\d+)(?:-(\d+))?(?:-(\d+))?$")


def mesh_labels(terms: Iterable[str]) -> np.ndarray:
    """Labels of the 14 CheXpert findings from the `major` MeSH terms of a report.

    Coders list every abnormality, so a finding that no term names is absent (0); a report that was
    never coded ("No Indexing", or no term at all) is unknown (NaN) throughout.

    Returns: float32 [14].
    """
    terms = [term.strip().lower() for term in terms if term.strip()]
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

    The view of an image stands in `indiana_projections.csv` alone; without that file only `views="all"` can be read.
    One uid is one patient; no split ships, so patients are split 70 / 10 / 20 by hash.

    Args:
        root: the folder as downloaded.
        views: "frontal" (default), "lateral", or "all".
        labels: "mesh": the human-coded MeSH terms, mapped by `MESH_TO_FINDING`.
    """

    name = "openi"
    findings = CHEXPERT_FINDINGS

    def __init__(
        self,
        root: str | Path,
        views: Literal["frontal", "lateral", "all"] = "frontal",
        labels: Literal["mesh"] = "mesh",
    ) -> None:
        self.root = Path(root)
        self.views = views
        self.labels = labels
        self.left_out: Counter[str] = Counter()
        """Why studies were left out, and how many; filled by `studies`."""

    def studies(self) -> list[Study]:
        """Studies with at least one image of the chosen view, in the order of their uid."""
        records = self._records()
        files, views = self._image_files(), self._views()
        self.left_out = Counter()
        studies = []
        for record in sorted(records, key=lambda record: int(record.uid)):
            chosen = [i for i in record.image_ids if self.views == "all" or views.get(i) == self.views]
            images = tuple(files[i] for i in chosen if i in files)
            if not record.image_ids:
                self.left_out["report lists no image"] += 1
            elif not chosen:
                self.left_out[f"no {self.views} view"] += 1
            elif not images:
                self.left_out["image file missing"] += 1
            else:
                studies.append(self._study(record, images))
        if not studies:
            raise UserError(
                f"{self.root}: no study with a {self.views} image "
                f"among {len(records)} reports and {len(files)} images; "
                f"expected images named CXR1_1_IM-0001-4001.png (or .jpg) under {self.root}"
            )
        return studies

    def _study(self, record: _Record, images: tuple[Path, ...]) -> Study:
        report = " ".join(record.sections[s] for s in ("findings", "impression") if record.sections.get(s))
        return Study(
            study_id=f"CXR{record.uid}",
            patient_id=record.uid,
            images=images,
            report=report or None,
            labels=mesh_labels(record.mesh),
            split=split_of(self.name, record.uid),
        )

    def _records(self) -> list[_Record]:
        if not self.root.is_dir():
            raise UserError(f"data.corpus.root: no folder at {self.root}; expected an Open-I download")
        xml_files = sorted(self.root.rglob("ecgen-radiology/*.xml"))
        if xml_files:
            return [_read_xml(path) for path in xml_files]
        table = self.root / "indiana_reports.csv"
        if table.is_file():
            return self._read_kaggle(table)
        raise UserError(
            f"{self.root}: neither ecgen-radiology/*.xml nor indiana_reports.csv found; "
            "unpack NLMCXR_reports.tgz there, or point data.corpus.root at the Kaggle download"
        )

    def _read_kaggle(self, table: Path) -> list[_Record]:
        reports = _read_csv(table, ("uid", "MeSH", "findings", "impression"))
        if strange := [line for line, uid in enumerate(reports["uid"], start=2) if not uid.isdecimal()]:
            raise UserError(f"{table}: the uid of row {strange[0]} is not a whole number; are its columns shifted?")
        projections = self._projections()
        image_ids: dict[str, list[str]] = {}
        for image_id in sorted(self._image_files() if projections is None else projections["image_id"]):
            if match := IMAGE_ID.match(image_id):
                image_ids.setdefault(match[1], []).append(image_id)
        return [
            _Record(
                uid=row["uid"],
                sections={
                    s: " ".join(row[s].split())
                    for s in ("indication", "comparison", "findings", "impression")
                    if s in row
                },
                mesh=tuple(row["MeSH"].split(";")),
                image_ids=tuple(image_ids.get(row["uid"], ())),
            )
            for row in reports.to_dict("records")
        ]

    def _projections(self) -> pd.DataFrame | None:
        path = self.root / "indiana_projections.csv"
        if not path.is_file():
            return None
        table = _read_csv(path, ("uid", "filename", "projection"))
        table["image_id"] = "CXR" + table["filename"].str.replace(r"\.dcm\.png$", "", regex=True)
        return table

    def _views(self) -> dict[str, str]:
        projections = self._projections()
        if projections is None:
            if self.views != "all":
                raise UserError(
                    f"{self.root}/indiana_projections.csv: not found, so the view of an image is unknown; "
                    "put the file there (it is in the Kaggle download), or set data.corpus.views to all"
                )
            return {}
        return dict(zip(projections["image_id"], projections["projection"].str.lower(), strict=True))

    def _image_files(self) -> dict[str, Path]:
        """Image id -> file, whatever the folder and whichever of the two ways of naming it."""
        files: dict[str, Path] = {}
        for folder, _, names in os.walk(self.root, followlinks=True):
            for name in names:
                stem, _, suffix = name.partition(".")
                image_id = stem if stem.startswith("CXR") else f"CXR{stem}"
                if suffix.lower().endswith(IMAGE_SUFFIXES) and IMAGE_ID.match(image_id):
                    files[image_id] = Path(folder, name)
        return files


def _read_xml(path: Path) -> _Record:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise UserError(f"{path}: not readable as XML ({error}); unpack NLMCXR_reports.tgz again") from error
    uid = root.find("uId")
    if root.tag != "eCitation" or uid is None or not re.fullmatch(r"CXR\d+", uid.get("id", "")):
        raise UserError(
            f"{path}: not an Open-I report; expected <eCitation> with <uId id='CXR...'>, found <{root.tag}>"
        )
    return _Record(
        uid=uid.get("id", "").removeprefix("CXR"),
        sections={e.get("Label", "").lower(): " ".join((e.text or "").split()) for e in root.iter("AbstractText")},
        mesh=tuple(major.text or "" for major in root.findall("MeSH/major")),
        image_ids=tuple(image.get("id", "") for image in root.iter("parentImage")),
    )


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as CSV ({error})") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(
            f"{path}: column {missing[0]!r} not found among the {len(table.columns)} of its first line; "
            f"expected {', '.join(columns)}"
        )
    return table
