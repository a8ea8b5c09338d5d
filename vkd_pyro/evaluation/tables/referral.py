"""Whether the uncertain studies are those with the wrong answers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.evaluation.tables.answers import share_of
from vkd_pyro.evaluation.tables.areas import Counts
from vkd_pyro.metrics import Interval

SHARES = np.linspace(0, 0.9, 19)
"""Shares of the studies that are referred in a referral curve."""

MOST_UNCERTAIN = 0.2
"""The share of the studies that is called most uncertain; less by a tie."""


@dataclass(frozen=True)
class Selective:
    """Where the wrong answers are, by an order of the studies. An answer is yes from a probability of 1/2 on.

    Where findings are rare nearly all wrong answers are missed positives, and whatever grows with the probabilities
    finds them: uncertainty says more than the probabilities only where it does better than their sum.

    Attributes:
        uncertain_error, other_error: share of wrong answers among the most uncertain fifth of the studies, and others.
            Studies without a known label, or without an uncertainty, take no part.
        ratio: the first over the second, patients resampled, the fifth being what it is; NaN where the rest has no
            wrong answer.
        never: share of wrong answers, were every answer no: the share of positives.
        shares: of the studies that are referred, [R].
        risk_coverage_area, excess_area, generalized_risk_area: AURC, E-AURC and AUGRC of the share of wrong answers of
            a study; less is better.
        error, random, oracle: share of wrong answers among the rest, [R]: the most uncertain referred first, any, or
            those with most errors.
    """

    uncertain_error: float
    other_error: float
    ratio: Interval
    never: float
    shares: Array
    error: Array
    random: Array
    oracle: Array
    risk_coverage_area: float
    excess_area: float
    generalized_risk_area: float


def selective(evaluation: Evaluation, uncertainty: Array | None = None, num_resamples: int = 1000) -> Selective:
    """By this uncertainty of each study, [N]; by default the total of all its findings together, in nats."""
    e = evaluation
    p = e.probabilities if np.isnan(e.calibrated).all() else e.calibrated
    uncertainty = e.uncertainty.sum(axis=1) if uncertainty is None else uncertainty
    known = ~np.isnan(e.labels) & ~np.isnan(p)
    wrong, pairs = (((p >= 0.5) != (e.labels == 1)) & known).sum(axis=1), known.sum(axis=1)
    by_errors = wrong / np.maximum(pairs, 1) + 1e-9 * uncertainty  # ties as uncertainty has them

    def curve(order: Array) -> metrics.ReferralCurve:
        return metrics.referral_curve(
            probabilities=p, labels=e.labels, uncertainties=order, shares=SHARES, metric=_error
        )

    counted = (pairs > 0) & ~np.isnan(uncertainty)
    limit = np.quantile(uncertainty[counted], 1 - MOST_UNCERTAIN) if counted.any() else np.nan
    uncertain, others = counted & (uncertainty > limit), counted & (uncertainty <= limit)

    def errors(counts: Counts, rows: NDArray[np.bool_]) -> Array:
        number = counts[:, rows] @ pairs[rows]
        return np.divide(counts[:, rows] @ wrong[rows], number, out=np.full(len(counts), np.nan), where=number > 0)

    def ratio(counts: Counts) -> Array:
        other = errors(counts, others)
        return np.divide(errors(counts, uncertain), other, out=np.full(len(other), np.nan), where=other > 0)

    as_they_are = np.ones((1, len(wrong)), np.int64)
    found, best = curve(uncertainty), curve(by_errors)
    errors_of = np.where(pairs > 0, wrong / np.maximum(pairs, 1), np.nan)
    areas = metrics.excess_area(errors_of, uncertainty)
    return Selective(
        uncertain_error=float(errors(as_they_are, uncertain)[0]),
        other_error=float(errors(as_they_are, others)[0]),
        ratio=metrics.bootstrap_interval(ratio, e.patient_ids, num_resamples),
        never=share_of(e.labels == 1, known),
        shares=found.shares,
        error=found.values,
        random=np.full(len(SHARES), found.values[0]),
        oracle=best.values,
        risk_coverage_area=areas.area,
        excess_area=areas.excess,
        generalized_risk_area=metrics.area_under_generalized_risk(errors_of, uncertainty),
    )


def _error(probabilities: Array, labels: Array) -> float:
    return 1 - metrics.accuracy(probabilities, labels)
