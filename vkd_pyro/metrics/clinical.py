"""What a threshold means for patients: shares with intervals, also where a finding is rarer, and net benefit.

A patient may have several studies: the variance of a share is then that of patients, not of rows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtri

from vkd_pyro.metrics.intervals import UNDEFINED, Interval, check_level, tails
from vkd_pyro.utils.errors import UserError

# ------------------------------------------------------------------------------ shares


def wilson(successes: float, trials: float, level: float = 0.95) -> Interval:
    """A share with Wilson's interval (1927), inside [0, 1]; numbers need not be whole. NaN of no trial."""
    check_level(level)
    if trials <= 0:
        return UNDEFINED
    z, share = float(ndtri(tails(level)[1])), successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)
    return Interval(share, low, high)


def share_interval(right: ArrayLike, patients: ArrayLike, level: float = 0.95) -> Interval:
    """The share of rows that are right: Wilson's interval of as many independent rows as these rows of patients are
    worth, n over the design effect (Rao & Scott 1992, "A simple method for the analysis of clustered binary data").

    Args: 1 or 0, and whose each row is, [M] both; level in (0, 1).
    Returns: NaN of no row. Where all rows are alike nothing tells the design effect, and each patient counts once.
    """
    values, whose = np.asarray(right, float), np.asarray(patients)
    if not len(values):
        return UNDEFINED
    _, codes = np.unique(whose, return_inverse=True)
    number, share = int(codes.max()) + 1, float(values.mean())
    alone = share * (1 - share) / len(values)
    if number == len(values) or number < 2 or not alone:
        worth: float = number
    else:
        sums = np.bincount(codes.ravel(), values - share)
        clustered = number / (number - 1) * float(np.square(sums).sum()) / len(values) ** 2
        worth = len(values) / max(clustered / alone, 1.0)
    return wilson(share * worth, worth, level)


# ------------------------------------------------------------------------------ a threshold


@dataclass(frozen=True)
class Operating:
    """What yes and no mean at a threshold; each with its interval, NaN where nothing defines it.

    Attributes:
        prevalence: share of the known labels that are positive; or what was asked for.
        sensitivity, specificity: shares of the positives that are a yes, of the negatives that are a no.
        ppv, npv: shares of the yes that are positive, of the no that are negative.
        needed_to_read: studies that are a yes for each of them that is positive, 1 / PPV.
        flagged: share that is a yes.
    """

    prevalence: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    needed_to_read: Interval
    flagged: float


def operating(
    probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike, threshold: float, level: float = 0.95
) -> Operating:
    """What a threshold does among the known labels; args [N], as of `auroc_interval`, and a number."""
    p, y, whose = np.asarray(probabilities, float), np.asarray(labels, float), np.asarray(patients)
    known = ~(np.isnan(p) | np.isnan(y))
    yes, positive, whose = p[known] >= threshold, y[known] == 1, whose[known]

    def share(right: NDArray[np.bool_], among: NDArray[np.bool_]) -> Interval:
        return share_interval(right[among], whose[among], level)

    ppv = share(positive, yes)
    return Operating(
        prevalence=float(positive.mean()) if known.any() else math.nan,
        sensitivity=share(yes, positive),
        specificity=share(~yes, ~positive),
        ppv=ppv,
        npv=share(~positive, ~yes),
        needed_to_read=_reciprocal(ppv),
        flagged=float(yes.mean()) if known.any() else math.nan,
    )


def at_prevalence(found: Operating, prevalence: float) -> Operating:
    """The same threshold where another share of patients has the finding, sensitivity and specificity being the same.

        PPV = Se pi / (Se pi + (1 - Sp) (1 - pi)),    NPV = Sp (1 - pi) / (Sp (1 - pi) + (1 - Se) pi)

    The odds of both are a likelihood ratio times those of the prevalence, and the interval of the ratio is made of
    those of sensitivity and specificity on the scale of logarithms (MOVER, Zou & Donner 2008).

    Raises:
        UserError: a prevalence that is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise UserError(f"prevalence: found {prevalence}, expected a share between 0 and 1, such as 0.02")
    odds = math.log(prevalence / (1 - prevalence))
    sensitivity, specificity = found.sensitivity, found.specificity
    ppv = _from_log_odds(log_ratio(sensitivity, _less(specificity)), odds)
    flagged = sensitivity.estimate * prevalence + (1 - specificity.estimate) * (1 - prevalence)
    npv = _from_log_odds(log_ratio(specificity, _less(sensitivity)), -odds)
    return Operating(prevalence, sensitivity, specificity, ppv, npv, _reciprocal(ppv), flagged)


def log_ratio(above: Interval, below: Interval) -> Interval:
    """The logarithm of the ratio of two independent shares, with its interval by MOVER; NaN where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, low_a, high_a = np.log([above.estimate, above.low, above.high])
        b, low_b, high_b = np.log([below.estimate, below.low, below.high])
        estimate = a - b
        if np.isnan(estimate):
            return UNDEFINED
        if np.isinf(estimate):  # a share of 0: there is no distance to it, so both ends at once
            return Interval(float(estimate), float(low_a - high_b), float(high_a - low_b))
        low, high = estimate - math.hypot(a - low_a, high_b - b), estimate + math.hypot(high_a - a, b - low_b)
    return Interval(float(estimate), float(low), float(high))


def _less(share: Interval) -> Interval:
    """1 - share."""
    return Interval(1 - share.estimate, 1 - share.high, 1 - share.low)


def _from_log_odds(ratio: Interval, odds: float) -> Interval:
    estimate, low, high = expit(np.array([ratio.estimate, ratio.low, ratio.high]) + odds)
    return Interval(float(estimate), float(low), float(high))


def _reciprocal(share: Interval) -> Interval:
    """1 / share; without end where it may be 0."""
    with np.errstate(divide="ignore"):
        estimate, high, low = 1 / np.array([share.estimate, share.low, share.high])
    return UNDEFINED if not np.isfinite(estimate) else Interval(float(estimate), float(low), float(high))


# ------------------------------------------------------------------------------ net benefit


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold: true positives less false ones, a false one weighed t / (1 - t), a study.

    Attributes:
        thresholds: [T] in (0, 1): at t, a finding as probable as that is just worth a yes.
        model: of yes from t on, [T]; NaN where no label is known.
        everyone: of yes to all, [T]; of no to all it is 0.
    """

    thresholds: NDArray[np.float64]
    model: NDArray[np.float64]
    everyone: NDArray[np.float64]

    @property
    def useful(self) -> NDArray[np.bool_]:
        """Where the model is better than yes to all and no to all, [T]."""
        return self.model > np.maximum(self.everyone, 0) + 1e-12


def decision_curve(probabilities: ArrayLike, labels: ArrayLike, thresholds: ArrayLike) -> DecisionCurve:
    """The decision curve of one finding (Vickers & Elkin 2006, "Decision curve analysis").

    Args: calibrated probabilities and labels, as of `auroc`, [N]; thresholds in (0, 1), [T].

    Raises:
        UserError: a threshold out of range.
    """
    p, y, t = (np.asarray(each, float) for each in (probabilities, labels, thresholds))
    if not ((t > 0) & (t < 1)).all():
        raise UserError("thresholds: found one outside (0, 1); at 1 a false positive would weigh without end")
    known = ~(np.isnan(p) | np.isnan(y))
    if not known.any():
        nothing = np.full(len(t), np.nan)
        return DecisionCurve(t, nothing, nothing)
    positive = y[known] == 1
    yes, weight = p[known] >= t[:, None], t / (1 - t)
    model = (yes & positive).mean(axis=1) - weight * (yes & ~positive).mean(axis=1)
    return DecisionCurve(t, model, positive.mean() - weight * (~positive).mean())
