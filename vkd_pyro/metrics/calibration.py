"""Whether a probability means what it says: scores, calibration errors, and the reliability diagram's numbers.

Of [N, K] every known (study, finding) pair counts once, all findings pooled; of [N] every known study.
Unknown labels take no part; nor, but for `negative_log_likelihood`, do missing predictions. What is undefined is NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from vkd_pyro.metrics.pairs import average_ranks, known_pairs, one_class

EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken."""

# ------------------------------------------------------------------------------ proper scores


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over known (study, finding) pairs of -log p(y), in nats; NaN where no label is known.

    A prediction that is missing where the label is known makes it NaN: training must not overlook that.
    """
    labels = np.asarray(labels, float)
    p = np.clip(np.asarray(probabilities, float), EDGE, 1 - EDGE)
    terms = np.where(labels == 1, -np.log(p), -np.log1p(-p))[~np.isnan(labels)]
    return float(terms.mean()) if terms.size else float("nan")


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over known pairs of (p - y)^2 (Brier 1950, of one class: in [0, 1], 1/4 where p is always 1/2).

    Args: probabilities in [0, 1] and labels 1 / 0 / NaN, [N] or [N, K] both.
    Returns: NaN where there is no pair.
    """
    p, y = known_pairs(probabilities, labels)
    return float(np.square(p - y).mean()) if y.size else float("nan")


# ------------------------------------------------------------------------------ bins


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: what was predicted and what was seen, in B bins of rising probability.

    Attributes:
        predicted: mean probability, [B]; NaN of an empty bin.
        observed: share of positives, [B]; NaN of an empty bin.
        count: known pairs, int [B].
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """sum_b count_b / N |observed_b - predicted_b|, in [0, 1]; NaN where every bin is empty."""
        if not self.count.any():
            return float("nan")
        gaps = np.abs(self.observed - self.predicted)
        return float(np.average(gaps[self.count > 0], weights=self.count[self.count > 0]))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, adaptive: bool = False) -> Reliability:
    """The numbers of a reliability diagram.

    Args:
        probabilities, labels: as of `brier`.
        bins: B.
        adaptive: bins of equal count, equal probabilities always in one; or, by default, of equal width, 1 in the last.
    """
    p, y = known_pairs(probabilities, labels)
    place = (average_ranks(p) - 0.5) / max(len(p), 1) if adaptive else p
    chosen = np.minimum(place * bins, bins - 1).astype(np.int64)
    count = np.bincount(chosen, minlength=bins)
    means = [np.bincount(chosen, x, bins) / np.where(count, count, np.nan) for x in (p, y)]
    return Reliability(means[0], means[1], count)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean gap between probability and frequency over bins of equal width (Naeini et al. 2015; Guo et al. 2017).

    Of few studies it is above 0 for a calibrated model too: the frequency in a bin is one of a sample.

    Args: as of `reliability`.
    Returns: in [0, 1]; NaN where there is no pair.
    """
    return reliability(probabilities, labels, bins).error


def adaptive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean gap between probability and frequency over bins of equal count (Nixon et al. 2019, Sec. 3).

    Rare findings have most of their probabilities near 0, in one bin of equal width.

    Args, Returns: as of `expected_calibration_error`.
    """
    return reliability(probabilities, labels, bins, adaptive=True).error


# ------------------------------------------------------------------------------ calibration line


@dataclass(frozen=True)
class CalibrationLine:
    """logit P(y = 1) = intercept + slope logit p. Calibrated: slope 1, intercept 0. Overconfident: slope below 1."""

    slope: float
    intercept: float


def calibration_slope(probabilities: ArrayLike, labels: ArrayLike) -> CalibrationLine:
    """Logistic regression of y on logit p, unpenalised, both coefficients free (Cox 1958).

    Args: as of `brier`; p is kept 1e-7 from 0 and 1.
    Returns: both NaN where there is no finite, unique fit: one class, one probability, or classes that p separates.
    """
    from sklearn.linear_model import LogisticRegression  # not needed in training

    p, y = known_pairs(probabilities, labels)
    x = logit(np.clip(p, EDGE, 1 - EDGE))
    if one_class(y) or x[y == 1].min() >= x[y == 0].max() or x[y == 0].min() >= x[y == 1].max():
        return CalibrationLine(float("nan"), float("nan"))
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(x[:, None], y)
    return CalibrationLine(float(fit.coef_[0, 0]), float(fit.intercept_[0]))
