"""Maps fitted to a site: what follows the map that a model came with, shrunk towards leaving it as it is.

    p_k -> sigmoid(a_k logit(p_k) + b_k),     p_k recalibrated already, on the validation split of the training

as it was      a_k = 1, b_k = 0
temperature    a_k = 1 / T, one T for all findings: few labels are enough
prevalence     a_k = 1: findings are more, or less, frequent at the site
platt          both

b_k, and a_k around 1, have normal priors of precision `weight`, in units of labels: the larger, the closer to what was
there. Which of them it is, and the weight, is chosen by the log loss of patients that a fit has not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from vkd_pyro.posthoc.known import Array, known_pairs
from vkd_pyro.posthoc.lines import Lines
from vkd_pyro.posthoc.recalibration import Temperature, too_few

FOLDS = 5
"""Of patients: each is judged by a fit to the others."""

WEIGHTS = 0.1, 1.0, 10.0
"""Prior precisions that are tried: a shift of one logit is a third, one, or three standard deviations."""

MAX_STEPS, TOLERANCE = 100, 1e-9
"""Of Newton's method: steps at most, and the mean gradient at which it ends."""

EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1, for their logits."""


@dataclass(frozen=True)
class Adaptation:
    """A way to fit a map to a site.

    Attributes:
        kind: what may change.
        weight: of the prior; of no use where it is not "prevalence" or "platt".
    """

    kind: Literal["as it was", "temperature", "prevalence", "platt"]
    weight: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} (weight {self.weight:g})" if self.weight else self.kind

    def fit(self, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str]) -> Lines:
        """The lines of most posterior probability; of a finding with too few labels, the identity.

        Args: probabilities [N, K] in [0, 1], NaN no prediction; labels [N, K], 1 / 0, NaN unknown; K names.
        """
        slopes, intercepts = np.ones(len(findings)), np.zeros(len(findings))
        if self.kind == "as it was":
            return Lines(list(findings), slopes, intercepts, {})
        if self.kind == "temperature":
            shared = Temperature.fit(probabilities, labels, findings)
            return Lines(list(findings), slopes / shared.temperature, intercepts, shared.not_fitted)
        pairs = known_pairs(probabilities, labels, findings)
        reasons = {finding: why for finding, (_, y) in zip(findings, pairs, strict=True) if (why := too_few(y))}
        for k, (finding, (p, y)) in enumerate(zip(findings, pairs, strict=True)):
            if finding not in reasons:
                slopes[k], intercepts[k] = _line(p, y, self.weight, self.kind == "platt")
        return Lines(list(findings), slopes, intercepts, reasons)


ADAPTATIONS = (
    Adaptation("as it was"),
    Adaptation("temperature"),
    *(Adaptation("prevalence", weight) for weight in WEIGHTS[::-1]),
    *(Adaptation("platt", weight) for weight in WEIGHTS[::-1]),
)
"""What is chosen from, the simplest first."""


def choose(probabilities: Array, labels: Array, patients: ArrayLike, findings: Sequence[str]) -> Adaptation:
    """The adaptation of least log loss on patients left out of its fit; of equal ones the simplest.

    Args: probabilities [N, K] as they were recalibrated before; labels [N, K], 1 / 0, NaN unknown; whose each row is,
    [N]; K names.
    """
    folds = list(folds_of(patients))
    losses = []
    for adaptation in ADAPTATIONS:
        honest = np.full_like(probabilities, np.nan)
        for held_out in folds:
            lines = adaptation.fit(probabilities[~held_out], labels[~held_out], findings)
            honest[held_out] = lines(probabilities[held_out])
        losses.append(_log_loss(honest, labels))
    return ADAPTATIONS[int(np.argmin(losses))]


def folds_of(patients: ArrayLike) -> Iterator[NDArray[np.bool_]]:
    """Which rows are held out, [N], fold by fold; patients in an order that is drawn, always alike."""
    _, codes = np.unique(np.asarray(patients), return_inverse=True)
    fold = np.random.default_rng(0).permutation(np.arange(codes.max() + 1) % FOLDS)[codes]
    for number in range(FOLDS):
        yield fold == number


def _log_loss(probabilities: Array, labels: Array) -> float:
    """Sum of -log p(y) over the pairs that are known."""
    p = np.clip(probabilities, EDGE, 1 - EDGE)
    return float(-np.nansum(np.where(np.isnan(labels), np.nan, np.where(labels == 1, np.log(p), np.log1p(-p)))))


def _line(p: Array, y: Array, weight: float, with_slope: bool) -> tuple[float, float]:
    """Slope and intercept of most posterior probability: sum of log losses + weight / 2 ((a - 1)^2 + b^2), a >= 0.

    Newton's method; the loss is convex. A slope below 0 is cut to 0: then the probabilities tell nothing.
    """
    x = logit(np.clip(p, EDGE, 1 - EDGE))
    design = np.column_stack([x, np.ones_like(x)]) if with_slope else np.ones((len(x), 1))
    centre = np.array([1.0, 0.0]) if with_slope else np.zeros(1)
    offset = 0.0 if with_slope else x
    at = centre.copy()
    for _ in range(MAX_STEPS):
        q = expit(design @ at + offset)
        gradient = design.T @ (q - y) + weight * (at - centre)
        if np.abs(gradient).max() < TOLERANCE * len(y):
            break
        curvature = (design * (q * (1 - q))[:, None]).T @ design + weight * np.eye(len(at))
        step = np.linalg.solve(curvature, gradient)
        at = at - step / max(1.0, float(np.abs(step).max()))
    if not with_slope:
        return 1.0, float(at[0])
    if at[0] >= 0:
        return float(at[0]), float(at[1])
    share = (y.sum() + 0.5) / (len(y) + 1)
    return 0.0, float(logit(share))
