"""What the validation split said of a trained model, as it is used when the model predicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.ood import OODDetector
from vkd_pyro.posthoc.recalibration import Recalibration
from vkd_pyro.posthoc.thresholds import OperatingPoints
from vkd_pyro.posthoc.usual import UsualProbabilities
from vkd_pyro.utils.errors import UserError

Unit = Literal["study", "image"]
UNITS: tuple[Unit, Unit] = ("study", "image")
"""What a probability may be of."""

VALIDATION = "the validation split"


@dataclass(frozen=True)
class Judged:
    """What a calibration makes of probabilities; each [N, K].

    Attributes:
        calibrated: honest probabilities.
        low, high: the same of the ends of intervals; NaN where none were given.
        answers: by the operating points: "yes", "no", "refer" where draws disagree, or "unknown".
        conformal: the sets of answers, in the same words, and "neither" where a set is empty.
    """

    calibrated: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    answers: NDArray[np.str_]
    conformal: NDArray[np.str_]


@dataclass(frozen=True)
class Fit:
    """What was fitted to the probabilities of one unit: of studies, the mean over their images, or of single images.

    Attributes:
        recalibration: from the model's probabilities to honest ones.
        operating_points: thresholds of recalibrated probabilities.
        conformal: sets of answers that hold the right one as often as promised, of recalibrated probabilities.
        usual: how recalibrated probabilities are, for later ones to be compared with.
    """

    recalibration: Recalibration
    operating_points: OperatingPoints
    conformal: Conformal
    usual: UsualProbabilities

    def yes_share(self, samples: ArrayLike) -> NDArray[np.float64]:
        """The share of the model's draws, [D, N, K], whose recalibrated probability is a yes, [N, K]."""
        return self.operating_points.yes_share(self.recalibration(samples))

    def judge(
        self,
        probabilities: ArrayLike,
        interval: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        yes_share: ArrayLike | None = None,
    ) -> Judged:
        """What all maps make of probabilities, [N, K]; of the ends of their intervals, and of `yes_share` of their
        draws, where there are any."""
        calibrated = self.recalibration(probabilities)
        low, high = [self.recalibration(end) for end in interval or ()] or [np.full_like(calibrated, np.nan)] * 2
        answers = self.operating_points.answers(calibrated, yes_share=yes_share)
        return Judged(calibrated, low, high, answers, self.conformal.answers(calibrated))

    @property
    def undefined(self) -> tuple[str, ...]:
        """Of each of the K findings why it has no threshold, or no conformal set; "" where it has both."""
        parts = {"no threshold": self.operating_points.undefined, "no conformal set": self.conformal.undefined}
        reasons = ([f"{what}: {why[f]}" for what, why in parts.items() if f in why] for f in self.conformal.findings)
        return tuple(map("; ".join, reasons))

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {name: part.to_json() for name, part in vars(self).items()}

    @classmethod
    def from_json(cls, description: dict[str, Any], allow: Sequence[str] = ()) -> "Fit":
        """What `to_json` described; errors as of its parts."""
        return cls(
            Recalibration.from_json(description["recalibration"], allow),
            OperatingPoints.from_json(description["operating_points"], allow),
            Conformal.from_json(description["conformal"]),
            UsualProbabilities.from_json(description["usual"]),
        )


@dataclass(frozen=True)
class Calibration:
    """What labelled studies said of a trained model, those of the validation split or of a site; used when it predicts.

    The mean over a study's images is less spread than the probability of one, so what was fitted to the one does not
    hold for the other: sets that cover 0.9 of studies cover 0.8 of the images of studies of three.

    Attributes:
        study: fitted to studies, probabilities averaged over their images.
        image: fitted to single images.
        reference: what X-rays like those it learned from look like to the model.
        fitted_on: whose labels it was fitted to, in words.
    """

    study: Fit
    image: Fit
    reference: OODDetector
    fitted_on: str = VALIDATION

    def of(self, unit: Unit) -> Fit:
        """The fit for what is judged."""
        return self.study if unit == "study" else self.image

    def check_for(self, findings: Sequence[str], features_dim: int, latent_dim: int | None) -> None:
        """Raises `UserError` where it was fitted to a model of other findings, or of features or z of another width.

        Args: names of the K labels, in their order; F; D, None without z.
        """
        for unit in UNITS:
            for name, part in vars(self.of(unit)).items():
                if tuple(part.findings) != tuple(findings):
                    raise UserError(f"calibration.{unit}.{name}: not of the findings of the model in their order")
        found = {"features": self.reference.features, "latents": self.reference.latents}
        for (name, gaussian), width in zip(found.items(), (features_dim, latent_dim), strict=True):
            if gaussian is not None and len(gaussian.mean) != width:
                raise UserError(f"ood: {name} have width {len(gaussian.mean)}, and the model's have {width}")

    def to_json(self) -> dict[str, Any]:
        """All but the reference, whose arrays have a file of their own."""
        return {unit: self.of(unit).to_json() for unit in UNITS} | {"fitted_on": self.fitted_on}
