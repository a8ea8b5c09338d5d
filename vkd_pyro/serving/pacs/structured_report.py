"""An answer as a DICOM structured report: a measurement report (PS3.16, TID 1500) in a Comprehensive SR.

Imaging Measurement Report
  language, device that observed, procedure
  Imaging Measurements
    Measurement Group (TID 1501), of the study: images judged, unlike those learned from or not; what could not be
    Measurement Group, of each finding: probability, interval, threshold, decision, and why one is unknown
      algorithm (TID 4019): name, version, hash of the bundle, draws, seed, level
      images judged
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage

from vkd_pyro import __version__
from vkd_pyro.prediction.files import Predicted
from vkd_pyro.serving.pacs import codes as terms
from vkd_pyro.serving.pacs.identifiers import uid_of
from vkd_pyro.serving.pacs.study_header import copy_study_tags
from vkd_pyro.utils.text import printable

NAME = "vkd_pyro"
DESCRIPTION = "Findings by vkd_pyro, for research"
SERIES_NUMBER = 9901
MAX_COMMENT = 1024


@dataclass(frozen=True)
class Algorithm:
    """What made an answer.

    Attributes:
        bundle: its hash.
        num_samples, seed, level: draws of z, their seed, and the level of intervals.
    """

    bundle: str
    num_samples: int
    seed: int
    level: float

    def identification(self) -> AlgorithmIdentification:
        """As a report has it (TID 4019)."""
        parameters = [
            f"bundle sha256: {self.bundle}",
            f"draws of z: {self.num_samples}",
            f"seed: {self.seed}",
            f"level of intervals: {self.level:g}",
        ]
        return AlgorithmIdentification(NAME, __version__, parameters, manufacturer=NAME)


def structured_report(
    uid: str,
    number: int,
    said: Predicted,
    images: Sequence[Dataset],
    algorithm: Algorithm,
    comments: Sequence[str] = (),
    earlier: Sequence[str] = (),
) -> ComprehensiveSR:
    """The report of a study.

    Args:
        uid: its SOPInstanceUID.
        number: 1 of the study's first report, and so on.
        said: what is said of the study.
        images: `study_header` of each image judged; patient and study are taken from the first.
        algorithm: that said it.
        comments: on the study: images that could not be judged, and the like.
        earlier: SOPInstanceUIDs of the study's reports that were sent before.
    """
    study = str(images[0].StudyInstanceUID)
    series = uid_of("report series", algorithm.bundle, study)
    groups = [_of_study(said, images, algorithm, comments)]
    groups += [_of_finding(said, k, images, algorithm) for k in range(len(said.findings))]
    device = DeviceObserverIdentifyingAttributes(
        uid_of("device", algorithm.bundle), NAME, NAME, NAME, serial_number=algorithm.bundle[:64] or None
    )
    content = MeasurementReport(
        ObservationContext(ObserverContext(codes.DCM.Device, device)),
        procedure_reported=terms.CHEST_X_RAY,
        imaging_measurements=groups,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )
    report = ComprehensiveSR(
        evidence=list(images),
        content=content[0],
        series_instance_uid=series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=number,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=algorithm.bundle[:64] or None,
        series_description=DESCRIPTION,
        is_complete=True,
        previous_versions=[_reference(before, study, series) for before in earlier] or None,
        coding_schemes=terms.schemes(),
    )
    copy_study_tags(images[0], report)
    return report


def _of_study(
    said: Predicted, images: Sequence[Dataset], algorithm: Algorithm, comments: Sequence[str]
) -> MeasurementsAndQualitativeEvaluations:
    flag = terms.UNKNOWN if said.flagged is None else terms.YES if said.flagged else terms.NO
    numbers = {terms.IMAGES: float(len(said.images)), terms.OOD_P: said.ood_p}
    reasons = ["Unlike the images learned from: unknown, no calibration"] if said.flagged is None else []
    return _group(
        uid_of("tracking", algorithm.bundle, str(images[0].StudyInstanceUID)),
        "study",
        terms.WHOLE_STUDY,
        [_number(name, value) for name, value in numbers.items() if not math.isnan(value)],
        QualitativeEvaluation(terms.OOD_FLAG, flag),
        (images, algorithm),
        [*reasons, *comments],
    )


def _of_finding(
    said: Predicted, k: int, images: Sequence[Dataset], algorithm: Algorithm
) -> MeasurementsAndQualitativeEvaluations:
    raw = bool(math.isnan(said.calibrated[k]))
    method = terms.RAW if raw else terms.RECALIBRATED
    p, low, high = (
        (said.probabilities, said.low, said.high)
        if raw
        else (said.calibrated, said.calibrated_low, said.calibrated_high)
    )
    numbers = [(terms.PROBABILITY, p[k]), (terms.LOW, low[k]), (terms.HIGH, high[k])]
    measurements = [_number(name, value, method) for name, value in numbers if not math.isnan(value)]
    reasons = []
    if math.isnan(low[k]):
        reasons.append("Interval: unknown, the model draws no z")
    if math.isnan(said.thresholds[k]):
        reasons.append("Threshold: unknown")
    else:
        measurements.append(_number(terms.THRESHOLD, said.thresholds[k]))
    answer = str(said.answers[k])
    if answer == "unknown":
        reasons.append(f"Decision: unknown, {said.undefined[k] or 'no interval'}")
    name = said.findings[k]
    return _group(
        uid_of("tracking", algorithm.bundle, str(images[0].StudyInstanceUID), name),
        name,
        terms.finding(name),
        measurements,
        QualitativeEvaluation(terms.DECISION, terms.ANSWERS[answer]),
        (images, algorithm),
        reasons,
    )


def _group(
    tracking_uid: str,
    tracking: str,
    finding: CodedConcept,
    measurements: Sequence[Measurement],
    evaluation: QualitativeEvaluation,
    source: tuple[Sequence[Dataset], Algorithm],
    comments: Sequence[str],
) -> MeasurementsAndQualitativeEvaluations:
    images, algorithm = source
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(tracking_uid, printable(tracking)),
        finding_type=finding,
        algorithm_id=algorithm.identification(),
        measurements=measurements,
        qualitative_evaluations=[evaluation],
        source_images=[SourceImageForMeasurementGroup(one.SOPClassUID, one.SOPInstanceUID) for one in images],
    )
    for comment in comments:
        text = printable(comment)[:MAX_COMMENT]
        group[0].ContentSequence.append(TextContentItem(terms.COMMENT, text, RelationshipTypeValues.CONTAINS))
    return group


def _number(name: CodedConcept, value: float, method: CodedConcept | None = None) -> Measurement:
    """A number of six digits, as in tables of predictions."""
    return Measurement(name, float(f"{value:.6g}"), terms.NO_UNITS, method=method)


def _reference(uid: str, study: str, series: str) -> Dataset:
    """A report that was sent before, as far as it is referred to."""
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = ComprehensiveSRStorage, uid
    report.StudyInstanceUID, report.SeriesInstanceUID = study, series
    return report
