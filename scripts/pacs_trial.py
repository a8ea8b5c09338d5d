"""What `scripts/pacs_test.sh` tries a node with: radiographs as DICOM files, and a small bundle.

    python scripts/pacs_trial.py images FOLDER [--openi ../shared/openi] [--studies 3]
    python scripts/pacs_trial.py bundle FOLDER
    python scripts/pacs_trial.py fetch FOLDER --url http://127.0.0.1:8042/dicom-web --studies 3

Images are DX and CR, for presentation; of Open-I, or drawn where it is absent. Patients are made up, since Open-I
names none. The bundle has seen 400 drawn radiographs for seconds, and knows nothing.
"""

import argparse
import csv
import hashlib
import io
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from dicomweb_client import DICOMwebClient
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from vkd_pyro import VKD, StudyData
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.data.images.image_transform import read_gray
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.training.posthoc import calibrate

CLASSES = {"DX": DigitalXRayImageStorageForPresentation, "CR": ComputedRadiographyImageStorage}
LONGEST_SIDE = 512


def uid_of(*parts: object) -> str:
    """A UID for what these parts name."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, parts))).int}"


def radiograph(
    pixels: NDArray[np.uint8], study: str, name: str = "image", modality: str = "DX", **tags: object
) -> Dataset:
    """A radiograph as a DICOM image, of which `dciodvfy` finds no error.

    Args:
        pixels: [height, width].
        study: names the study, and its patient.
        name: names the image in it.
        modality: "DX" or "CR".
        tags: others, by keyword; they replace those made here, and None deletes one.
    """
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = CLASSES[modality], uid_of(study, name)
    image.StudyInstanceUID, image.SeriesInstanceUID = uid_of(study), uid_of(study, "series")
    image.PatientName, image.PatientID = f"Test^{study}", f"ID-{study}"
    image.PatientBirthDate, image.PatientSex = "19600131", "O"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260102", "101500", "1", "A1"
    image.ReferringPhysicianName = ""
    image.StudyDescription = "Chest"
    image.Modality, image.Manufacturer, image.SeriesNumber = modality, "none", 1
    image.InstanceNumber = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)
    image.BodyPartExamined, image.ViewPosition = "CHEST", "PA"
    image.ImageType, image.PatientOrientation = ["ORIGINAL", "PRIMARY", ""], ["L", "F"]
    image.ContentDate, image.ContentTime = image.StudyDate, image.StudyTime
    image.AcquisitionDate, image.AcquisitionTime = image.StudyDate, image.StudyTime
    image.Rows, image.Columns, image.SamplesPerPixel = *pixels.shape, 1
    image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    if modality == "DX":
        _of_digital(image)
    for tag, value in tags.items():
        if value is None:
            delattr(image, tag)
        else:
            setattr(image, tag, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _of_digital(image: Dataset) -> None:
    """What a DX image has beside."""
    image.PresentationIntentType, image.SeriesDate = "FOR PRESENTATION", image.StudyDate
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LOG", -1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
    image.PresentationLUTShape, image.LossyImageCompression, image.BurnedInAnnotation = "IDENTITY", "00", "NO"
    image.WindowCenter, image.WindowWidth = 128, 256
    image.ImageLaterality, image.PatientOrientation = "U", ["L", "F"]
    image.DetectorType, image.ImagerPixelSpacing = "DIRECT", [0.5, 0.5]
    image.PositionerType = ""
    image.AcquisitionContextSequence = []
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    image.AnatomicRegionSequence = [region]


def encoded(image: Dataset) -> bytes:
    """A DICOM file."""
    file = io.BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def of_openi(folder: Path, studies: int) -> Iterator[Dataset]:
    """Images of so many studies of Open-I with a frontal one; those with most images first."""
    views: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    with (folder / "indiana_projections.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if path := _file(folder / "images", row["filename"]):
                views[row["uid"]].append((row["projection"], path))
    frontal = [study for study, images in views.items() if any(view == "Frontal" for view, _ in images)]
    for study in sorted(frontal, key=lambda study: -len(views[study]))[:studies]:
        for view, path in views[study]:
            position, modality = ("PA", "DX") if view == "Frontal" else ("LL", "CR")
            pixels = _pixels(read_gray(path))
            yield radiograph(pixels, f"openi-{study}", path.stem, modality, **_today(), ViewPosition=position)


def _today() -> dict[str, str]:
    """Tags of an image that was made today, which an archive is asked for."""
    return dict.fromkeys(("StudyDate", "ContentDate", "AcquisitionDate"), f"{date.today():%Y%m%d}")


def _file(folder: Path, name: str) -> Path | None:
    """The image that a row of Open-I's table means: 1_IM-0001-4001.dcm.png is CXR1_IM-0001-4001.jpg, too."""
    stem = name.removesuffix(".dcm.png")
    candidates = (folder / name, folder / f"CXR{stem}.png", folder / f"CXR{stem}.jpg")
    return next((path for path in candidates if path.is_file()), None)


def drawn(studies: int) -> Iterator[Dataset]:
    """Images of the synthetic corpus."""
    for number, study in enumerate(SyntheticCorpus(studies, image_size=256).studies()):
        yield radiograph(np.asarray(study.images[0], np.uint8), f"drawn-{number}", "frontal", **_today())


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image, np.uint8)


def write_images(folder: Path, openi: Path, studies: int) -> str:
    """Writes images as files. Returns: what they are of."""
    there = (openi / "indiana_projections.csv").is_file()
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(of_openi(openi, studies) if there else drawn(studies)):
        (folder / f"{number:03}.dcm").write_bytes(encoded(image))
    return "Open-I" if there else "the synthetic corpus"


def write_bundle(folder: Path) -> None:
    """Trains a small network for a few steps, fits what is fitted after training, and writes a bundle."""
    torch.manual_seed(0)
    data = StudyData(Selection(SyntheticCorpus(400, image_size=64), image_size=64), loading=Loading(batch_size=64))
    vkd = VKD(data.findings, ConvEncoder((8, 16)), WordEncoder(32, 8, 16), latent_dim=4)
    studies = [study for study in data.studies("train") if not np.isnan(study.labels).any()]
    images = torch.tensor(np.stack([study.images[0] for study in studies]))[:, None].float() / 255
    labels = torch.tensor(np.stack([study.labels for study in studies]))
    optimizer = torch.optim.Adam(vkd.model.parameters(), 1e-2)
    for _ in range(10):
        features = vkd.model.image_encoder(images)
        p = vkd.model.likelihood.probabilities(vkd.model.prior(features).rsample(), features)
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), labels).backward()
        optimizer.step()
    vkd.eval()
    save_bundle(folder, vkd.model, data.findings, data.transform, "For tests alone.", {}, calibrate(vkd, data))


def fetch(folder: Path, url: str, studies: int, seconds: float = 180) -> None:
    """Waits until so many studies of an archive have a report, and fetches the documents of all.

    The report of study 0 becomes 0-SR.dcm, its pictures 0-OT-0.dcm, ...; a report must be one and in its study.
    """
    archive, end = DICOMwebClient(url), time.monotonic() + seconds
    while len(found := archive.search_for_studies(search_filters={"ModalitiesInStudy": "SR"})) < studies:
        if time.monotonic() > end:
            sys.exit(f"only {len(found)} of {studies} studies have a report after {seconds:.0f} s")
        time.sleep(1)
    folder.mkdir(parents=True)
    for number, study in enumerate(item["0020000D"]["Value"][0] for item in found):
        documents = [document for document in archive.retrieve_study(study) if document.Modality in ("SR", "OT")]
        reports = [document for document in documents if document.Modality == "SR"]
        if len(reports) != 1:
            sys.exit(f"study {number} has {len(reports)} reports, expected one")
        for place, document in enumerate(documents):
            name = f"{number}-SR" if document in reports else f"{number}-OT-{place}"
            (folder / f"{name}.dcm").write_bytes(encoded(document))
    print(f"fetched: {len(list(folder.iterdir()))} documents of {len(found)} studies")


def main() -> None:
    """Writes images, or a bundle; or fetches reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("images", "bundle", "fetch"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--openi", type=Path, default=Path(__file__).parent.parent / "../shared/openi")
    parser.add_argument("--url", default="http://127.0.0.1:8042/dicom-web")
    parser.add_argument("--studies", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "bundle":
        write_bundle(arguments.folder)
        print(f"written: {arguments.folder}")
    elif arguments.what == "fetch":
        fetch(arguments.folder, arguments.url, arguments.studies)
    else:
        source = write_images(arguments.folder, arguments.openi, arguments.studies)
        print(f"written: {arguments.folder}: of {source}")


if __name__ == "__main__":
    main()
