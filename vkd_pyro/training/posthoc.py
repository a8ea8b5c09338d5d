"""What is fitted once a model is trained: to the validation split, and to how training images look to the model."""

from dataclasses import dataclass

from vkd_pyro.data.study_data import StudyData
from vkd_pyro.evaluation.outputs import StudyOutputs, outputs_of_images, signals
from vkd_pyro.methods.base import Method
from vkd_pyro.posthoc.calibration import Calibration, Fit
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.ood import OODDetector
from vkd_pyro.posthoc.recalibration import Recalibration, Temperature
from vkd_pyro.posthoc.thresholds import BySensitivity, OperatingPoints, Rule
from vkd_pyro.posthoc.usual import UsualProbabilities
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class Posthoc:
    """How the trained model is calibrated on the validation split.

    Raises:
        UserError: a number that is out of range.

    Attributes:
        recalibration: of probabilities: Temperature (one number, for which few studies are enough), Platt, Isotonic or
            Identity, by path: vkd_pyro.posthoc.Platt.
        rule: for the threshold of each finding; None is a sensitivity of 0.9.
        alpha: share of conformal sets that may miss the right answer.
        num_samples: S, draws of z for each image.
        max_reference_images: training images that new ones are compared with, spread over the corpus.
    """

    recalibration: type[Recalibration] = Temperature
    rule: Rule | None = None
    alpha: float = 0.1
    num_samples: int = 100
    max_reference_images: int = 2000

    def __post_init__(self) -> None:  # before the training, not after it
        for name, least in (("num_samples", 1), ("max_reference_images", 2)):
            if getattr(self, name) < least:
                raise UserError(f"posthoc.{name}: found {getattr(self, name)}, expected at least {least}")
        if not 0 < self.alpha < 1:
            raise UserError(f"posthoc.alpha: found {self.alpha}, expected a number above 0 and below 1")


def calibrate(method: Method, data: StudyData, settings: Posthoc | None = None) -> Calibration:
    """Recalibration, thresholds and conformal sets by the validation split, of studies and of images; the OOD detector.

    Args:
        method: trained; in eval mode afterwards.
        data: the corpus it was trained on.
        settings: how; `Posthoc()` by default.
    """
    settings = settings or Posthoc()
    method.eval()
    validation = outputs_of_images(method, data, "validation", settings.num_samples)
    training = outputs_of_images(method, data, "train", 1, max_images=settings.max_reference_images)
    return Calibration(
        study=_fit(validation.mean_over_images(), method.findings, settings),
        image=_fit(validation, method.findings, settings),
        reference=OODDetector.fit(signals(training), signals(validation)),
    )


def _fit(rows: StudyOutputs, findings: tuple[str, ...], settings: Posthoc) -> Fit:
    """To rows that are studies, or images."""
    recalibration = settings.recalibration.fit(rows.probabilities, rows.labels, findings)
    honest = recalibration(rows.probabilities)
    points = OperatingPoints.fit(honest, rows.labels, findings, settings.rule or BySensitivity(0.9))
    conformal = Conformal.fit(honest, rows.labels, findings, settings.alpha)
    return Fit(recalibration, points, conformal, UsualProbabilities.fit(honest, findings))
