"""Pictures of where findings are seen, as secondary captures: what `vkd predict --overlay` draws, as DICOM images.

In the picture stand the finding, its probability and answer, and a colour bar; no name and no number of a patient.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from vkd_pyro import __version__
from vkd_pyro.prediction.files import Predicted
from vkd_pyro.serving.pacs.identifiers import uid_of
from vkd_pyro.serving.pacs.structured_report import NAME, Algorithm
from vkd_pyro.serving.pacs.study_header import copy_study_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vkd_pyro.prediction.overlays import Drawing

DESCRIPTION = "Where findings are seen, by vkd_pyro, for research"
SERIES_NUMBER = 9902
PER_ANSWER = 1000
"""Instance numbers of the pictures of one answer, at most."""


def secondary_captures(
    drawing: "Drawing", said: Predicted, headers: Mapping[Path, Dataset], report: str, number: int, algorithm: Algorithm
) -> Iterator[Dataset]:
    """The overlays of a study, an image each: of each X-ray those findings that `drawing` shows.

    Args:
        drawing: of the network that judged.
        said: what is said of the study.
        headers: `study_header` of each X-ray, by its path.
        report: SOPInstanceUID of the report, from which those of the pictures follow.
        number: of the answer, from 1.
        algorithm: that is explained.
    """
    for place, (of_image, k, figure) in enumerate(drawing.figures(said), 1):
        source, finding = headers[of_image.image], said.findings[k]
        uid = uid_of("picture", report, str(source.SOPInstanceUID), finding)
        instance_number = (number - 1) * PER_ANSWER + place
        yield secondary_capture(_pixels(figure), source, uid, instance_number, finding, algorithm)


def secondary_capture(
    pixels: NDArray[np.uint8], source: Dataset, uid: str, number: int, finding: str, algorithm: Algorithm
) -> Dataset:
    """A picture of an X-ray, in the series of pictures of its study.

    Args:
        pixels: [height, width, 3].
        source: `study_header` of the X-ray.
        uid: SOPInstanceUID of the picture.
        number: of the instance in its series.
        finding: that it shows.
        algorithm: that is explained.
    """
    study = str(source.StudyInstanceUID)
    image = SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=study,
        series_instance_uid=uid_of("picture series", algorithm.bundle, study),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=number,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=algorithm.bundle[:64] or None,
        series_description=DESCRIPTION,
        patient_orientation=("L", "F"),  # replaced below: a picture with text around it has none
        specific_character_set=source.SpecificCharacterSet,
        **{name: source.get(tag) for name, tag in FROM_SOURCE.items()},
    )
    image["PatientOrientation"].value = None
    image.BodyPartExamined = "CHEST"  # an unpaired part has no laterality
    image.BurnedInAnnotation = "NO"
    image.ImageComments = f"Grad-CAM: {finding}"
    image.SourceImageSequence = [_reference(source)]
    copy_study_tags(source, image)
    return image


FROM_SOURCE = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "referring_physician_name": "ReferringPhysicianName",
}


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _pixels(figure: "Figure") -> NDArray[np.uint8]:
    file = io.BytesIO()
    options: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
    figure.savefig(file, **options)
    return np.asarray(Image.open(file).convert("RGB"))
