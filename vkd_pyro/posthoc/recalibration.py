"""Recalibration: monotone maps from the model's probabilities to honest ones, fitted on the validation split.

A map is fitted to p(y | x_I), the mean over draws of z. Being monotone, it may also be applied to the ends of an
interval over the draws; the mean of recalibrated draws is not the recalibrated mean.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from vkd_pyro.posthoc.known import MIN_PER_CLASS, Array, as_probabilities, known_pairs, rounded
from vkd_pyro.posthoc.lines import Lines, logits_of
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe

TEMPERATURES = 0.05, 20.0
"""Between these a temperature is sought: where all labels are on the right side of 1/2, 0 would be the best."""

GRID = [0.0, *expit(np.linspace(-8, 8, 65)).tolist(), 1.0]
"""Knots of the identity, where a line follows it: between two of them a curve is nearly straight."""

LARGEST = 1e6
"""The largest slope or intercept."""


@dataclass(frozen=True)
class Recalibration(abc.ABC):
    """A monotone map for each finding; a subclass has `fit` and `recalibrate`, and its constructor takes JSON.

    Attributes:
        findings: names of the K labels.
        not_fitted: of each finding that could not be fitted, why; its probabilities stay as they are.
    """

    findings: list[str]
    not_fitted: dict[str, str]

    @classmethod
    @abc.abstractmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Self:
        """The map of each finding of least error on known labels.

        Args: probabilities [N, K] in [0, 1], NaN no prediction; labels [N, K], 1 / 0, NaN unknown; K names.

        Raises:
            UserError: shapes that do not fit, probabilities outside [0, 1], other labels.
        """

    @abc.abstractmethod
    def recalibrate(self, probabilities: Array) -> Array:
        """The map of every finding, [..., K] to [..., K]; NaN to NaN."""

    def __call__(self, probabilities: ArrayLike) -> Array:
        """Recalibrated probabilities, float64 [..., K] in [0, 1]; NaN stays NaN.

        Raises:
            UserError: probabilities outside [0, 1], or of another number of findings.
        """
        p = as_probabilities(probabilities, self.findings)
        raw = [finding in self.not_fitted for finding in self.findings]
        return np.where(raw, p, self.recalibrate(p))

    def then(self, lines: Lines) -> "Recalibration":
        """The map that does first this, then lines on the logits.

        Raises:
            UserError: such a map is not one that can be written down.
        """
        raise UserError(
            f"recalibration: {type(self).__name__} cannot be followed by lines; train with Temperature, Platt, "
            "Isotonic or Identity as posthoc.recalibration"
        )

    def __post_init__(self) -> None:
        if not set(self.not_fitted) <= set(self.findings):
            raise UserError(f"{type(self).__name__}.not_fitted: names findings that are not among its own")

    def to_json(self) -> dict[str, Any]:
        """Class and arguments, for JSON."""
        return describe(self)

    @staticmethod
    def from_json(description: dict[str, Any], allow: Sequence[str] = ()) -> "Recalibration":
        """What `to_json` described, of any class of this package, or of a module that is allowed.

        Raises:
            UserError: there is no such class, or it is no `Recalibration`.
        """
        recalibration: Recalibration = build(description, Recalibration, allow)
        return recalibration


@dataclass(frozen=True)
class Identity(Recalibration):
    """Probabilities as they are."""

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Self:
        """Nothing is fitted; the arguments are those of `Recalibration.fit`."""
        return cls(list(findings), {})

    def recalibrate(self, probabilities: Array) -> Array:
        """The same probabilities."""
        return probabilities

    def then(self, lines: Lines) -> "Platt":
        """The lines themselves; nothing is left unfitted, since nothing was to be fitted."""
        return Platt(*lines.after(np.ones(len(self.findings)), np.zeros(len(self.findings)), {}))


@dataclass(frozen=True)
class Temperature(Recalibration):
    """p -> sigmoid(logit(p) / T), one T for all findings (Guo et al. 2017, "On calibration of modern neural networks").

    T minimises the log loss over all known (study, finding) pairs, so it also serves findings of which few labels,
    or none, are known; it is fitted for all of them or for none. The order of all pairs is kept.

    Attributes:
        temperature: T in `TEMPERATURES`; above 1 where the model was too sure.
    """

    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("Temperature.temperature", [self.temperature], *TEMPERATURES)

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Self:
        """The T of least log loss over all known pairs; 1 where they are too few."""
        p, y = map(np.concatenate, zip(*known_pairs(probabilities, labels, findings), strict=True))
        if reason := too_few(y):
            return cls(list(findings), dict.fromkeys(findings, reason), 1.0)
        return cls(list(findings), {}, _best_temperature(logits_of(p), y))

    def recalibrate(self, probabilities: Array) -> Array:
        """sigmoid(logit(p) / T)."""
        return expit(logits_of(probabilities) / self.temperature)

    def then(self, lines: Lines) -> "Platt":
        """sigmoid(slope_k logit(p) / T + intercept_k)."""
        first = np.full(len(self.findings), 1 / self.temperature), np.zeros(len(self.findings))
        return Platt(*lines.after(*first, self.not_fitted))


@dataclass(frozen=True)
class Platt(Recalibration):
    """p_k -> sigmoid(slope_k logit(p_k) + intercept_k), slope_k >= 0 (Platt 1999, "Probabilistic outputs for SVMs").

    Fitted per finding by the log loss of his smoothed targets, (N+ + 1) / (N+ + 2) for a positive and 1 / (N- + 2) for
    a negative, which keep both parameters finite where few labels are known. A slope of 0, the base rate for every
    study, says that the probabilities told nothing on validation.

    Attributes:
        slopes, intercepts: K each.
    """

    slopes: list[float]
    intercepts: list[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("Platt.slopes", self.slopes, 0, LARGEST, len(self.findings))
        _check_numbers("Platt.intercepts", self.intercepts, -LARGEST, LARGEST, len(self.findings))

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Self:
        """Slope and intercept of each finding; 1 and 0 where its labels are too few."""
        pairs = known_pairs(probabilities, labels, findings)
        reasons = [too_few(y) for _, y in pairs]
        fits = [(1.0, 0.0) if why else _best_line(*pair) for why, pair in zip(reasons, pairs, strict=True)]
        slopes, intercepts = map(list, zip(*fits, strict=True))
        return cls(list(findings), _by_finding(reasons, findings), slopes, intercepts)

    def recalibrate(self, probabilities: Array) -> Array:
        """sigmoid(slope_k logit(p_k) + intercept_k)."""
        return expit(np.array(self.slopes) * logits_of(probabilities) + np.array(self.intercepts))

    def then(self, lines: Lines) -> "Platt":
        """One line after the other is a line."""
        return Platt(*lines.after(np.array(self.slopes), np.array(self.intercepts), self.not_fitted))


@dataclass(frozen=True)
class Isotonic(Recalibration):
    """Per finding, the monotone map with the least squared error (Zadrozny & Elkan 2002), linear between its knots.

    Clipped to Platt's smoothed targets, 1 / (N- + 2) and (N+ + 1) / (N+ + 2): N labels are no ground for 0 or 1.
    Different probabilities may become the same one; needs more labels than `Platt`, some hundreds. Fitted to
    probabilities of three digits, so that no knot is that of one study.

    Attributes:
        inputs, outputs: the knots of each finding, from the left; beyond the last ones it is constant.
    """

    inputs: list[list[float]]
    outputs: list[list[float]]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("Isotonic, findings", [len(self.inputs), len(self.outputs)], *2 * [len(self.findings)])
        for x, y in zip(self.inputs, self.outputs, strict=True):
            for name, knots in (("inputs", x), ("outputs", y)):
                _check_numbers(f"Isotonic.{name}", knots, 0, 1, len(x) or 1)
                if (np.diff(knots) < 0).any():
                    raise UserError(f"Isotonic.{name}: found knots that fall, expected rising ones")

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Self:
        """The knots of each finding; those of the identity where its labels are too few."""
        pairs = known_pairs(probabilities, labels, findings)
        reasons = [too_few(y) for _, y in pairs]
        line = [0.0, 1.0], [0.0, 1.0]
        knots = [line if why else _isotonic_knots(*pair) for why, pair in zip(reasons, pairs, strict=True)]
        inputs, outputs = map(list, zip(*knots, strict=True))
        return cls(list(findings), _by_finding(reasons, findings), inputs, outputs)

    def recalibrate(self, probabilities: Array) -> Array:
        """Between the knots of each finding, linear."""
        columns = zip(np.moveaxis(probabilities, -1, 0), self.inputs, self.outputs, strict=True)
        return np.stack([np.interp(p, x, y) for p, x, y in columns], axis=-1)

    def then(self, lines: Lines) -> "Isotonic":
        """The lines after each knot, and between two of them linear as before; of the identity, after `GRID`."""
        inputs, outputs = [], []
        for k, finding in enumerate(self.findings):
            x, y = self.inputs[k], self.outputs[k]
            if finding in lines.not_fitted:
                inputs.append(x)
                outputs.append(y)
                continue
            at = GRID if finding in self.not_fitted else x
            inputs.append(at)
            outputs.append(lines.curve(k, np.interp(at, x, y)))
        return Isotonic(self.findings, lines.neither(self.not_fitted), inputs, outputs)


# ------------------------------------------------------------------------------- why nothing was fitted


def too_few(labels: Array) -> str | None:
    """Why nothing can be fitted to these known labels; None where it can."""
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not len(labels):
        return "no label is known"
    if min(positives, negatives) < MIN_PER_CLASS:
        return f"positives known: {positives}, negatives: {negatives}; at least {MIN_PER_CLASS} of each are needed"
    return None


def _check_numbers(name: str, values: Sequence[float], low: float, high: float, number: int | None = None) -> None:
    """Raises `UserError` where values are not so many numbers of a range."""
    if number is not None and len(values) != number:
        raise UserError(f"{name}: found {len(values)}, expected {number}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UserError(f"{name}: found {str(value)[:40]}, expected a number from {low:g} to {high:g}")


def _by_finding(reasons: Sequence[str | None], findings: Sequence[str]) -> dict[str, str]:
    return {finding: why for finding, why in zip(findings, reasons, strict=True) if why}


# ------------------------------------------------------------------------------------- fits of one map


def _best_temperature(x: Array, y: Array) -> float:
    """The T of least log loss, given logits [M] and labels [M]: the loss is convex in 1 / T."""
    from scipy.optimize import brentq

    def derivative(temperature: float) -> float:  # of the loss by 1 / T, so falling in T
        return float((expit(x / temperature) - y) @ x)

    lowest, highest = TEMPERATURES
    if derivative(lowest) <= 0:
        return lowest
    if derivative(highest) >= 0:
        return highest
    return float(brentq(derivative, lowest, highest))


def _smoothed(y: Array) -> tuple[float, float]:
    """Platt's targets of a negative and of a positive."""
    positives, negatives = (y == 1).sum(), (y == 0).sum()
    return float(1 / (negatives + 2)), float((positives + 1) / (positives + 2))


def _best_line(p: Array, y: Array) -> tuple[float, float]:
    """Platt's slope and intercept, the slope at least 0."""
    from scipy.optimize import minimize

    x, (low, high) = logits_of(p), _smoothed(y)
    target = np.where(y == 1, high, low)

    def loss(parameters: Array) -> tuple[float, Array]:
        a = parameters[0] * x + parameters[1]
        error = expit(a) - target
        return float((np.logaddexp(0, a) - target * a).mean()), np.array([(error * x).mean(), error.mean()])

    bounds, options = [(0, None), (None, None)], {"ftol": 1e-15, "gtol": 1e-9}
    slope, intercept = minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return float(slope), float(intercept)


def _isotonic_knots(p: Array, y: Array) -> tuple[list[float], list[float]]:
    from sklearn.isotonic import IsotonicRegression

    low, high = _smoothed(y)
    fitted = IsotonicRegression(y_min=low, y_max=high).fit([rounded(each, "nearest") for each in p], y)
    return fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()
