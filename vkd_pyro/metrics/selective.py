"""Whether uncertainty is worth having: the error that is left when the most uncertain studies are referred.

Nothing depends on the order of the rows: equal uncertainties are kept or left together, or averaged over their orders.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.utils.errors import UserError


def accuracy(probabilities: ArrayLike, labels: ArrayLike, thresholds: ArrayLike = 0.5) -> float:
    """Share of the known (study, finding) pairs that are right when a probability from the threshold on is a yes.

    Args: probabilities and labels, [N] or [N, K]; thresholds, one, or one a finding [K].
    Returns: in [0, 1]; NaN where there is no pair.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    right = (p >= thresholds) == (y == 1)
    known = ~(np.isnan(p) | np.isnan(y))
    return float(right[known].mean()) if known.any() else float("nan")


# ------------------------------------------------------------------------------ risk and coverage


@dataclass(frozen=True)
class RiskCoverage:
    """Mean error of the least uncertain i of M, for i = 1 .. M.

    Attributes:
        coverages: i / M, [M].
        risks: [M].
    """

    coverages: NDArray[np.float64]
    risks: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Mean of the risks over the coverages; NaN where there is nothing."""
        return float(self.risks.mean()) if self.risks.size else float("nan")


def risk_coverage(errors: ArrayLike, uncertainties: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve (El-Yaniv & Wiener 2010). Of equal uncertainties it is the mean over their orders.

    Args: what each study costs if it is kept (1 wrong and 0 right, or any loss), and how uncertain it is, [N] or [N, K]
        both. Where either is NaN it takes no part.
    """
    errors, uncertainties = np.asarray(errors, float), np.asarray(uncertainties, float)
    known = ~(np.isnan(errors) | np.isnan(uncertainties))
    _, tie, size = np.unique(uncertainties[known], return_inverse=True, return_counts=True)
    expected = np.repeat(np.bincount(tie.ravel(), errors[known]) / size, size)
    kept = np.arange(1, len(expected) + 1)
    return RiskCoverage(kept / max(len(kept), 1), np.cumsum(expected) / kept)


def area_under_risk_coverage(errors: ArrayLike, uncertainties: ArrayLike) -> float:
    """Mean risk over all coverages (Geifman, Uziel & El-Yaniv 2019, "AURC"); less is better. Args: see `risk_coverage`.

    Returns: NaN where nothing is known.
    """
    return risk_coverage(errors, uncertainties).area


def area_under_generalized_risk(errors: ArrayLike, uncertainties: ArrayLike) -> float:
    """Area under the share of studies that are kept and wrong, over coverage, in [0, 1/2] for errors in [0, 1]; less is
    better ("AUGRC", Traub et al. 2024, arXiv 2407.01032).

    Each coverage counts as it is, where `area_under_risk_coverage` counts the few most certain studies again and again:
    of errors that are 0 or 1 it is (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2, with the AUROC of wrong above right
    answers. Args: see `risk_coverage`.

    Returns: NaN where nothing is known.
    """
    curve = risk_coverage(errors, uncertainties)
    kept_and_wrong = curve.risks * curve.coverages
    return float((kept_and_wrong.sum() - kept_and_wrong[-1] / 2) / len(kept_and_wrong)) if curve.risks.size else np.nan


@dataclass(frozen=True)
class ExcessArea:
    """The area under a risk-coverage curve between the best and the useless.

    Attributes:
        area: of these uncertainties.
        oracle: of the best order there is, by the errors themselves.
        random: of no order, the mean error.
    """

    area: float
    oracle: float
    random: float

    @property
    def excess(self) -> float:
        """Above the oracle's (Geifman, Uziel & El-Yaniv 2019, "E-AURC"); 0 is the best."""
        return self.area - self.oracle

    @property
    def gain(self) -> float:
        """(random - area) / (random - oracle): 1 is the oracle, 0 no order, below 0 worse; NaN of equal errors."""
        return (self.random - self.area) / (self.random - self.oracle) if self.random > self.oracle else float("nan")


def excess_area(errors: ArrayLike, uncertainties: ArrayLike) -> ExcessArea:
    """The area under the risk-coverage curve beside the oracle's and a random order's. Args: see `risk_coverage`."""
    errors, uncertainties = np.asarray(errors, float), np.asarray(uncertainties, float)
    errors = np.where(np.isnan(uncertainties), np.nan, errors)
    areas = [area_under_risk_coverage(errors, x) for x in (uncertainties, errors, np.zeros_like(errors))]
    return ExcessArea(*areas)


# ------------------------------------------------------------------------------ referral


@dataclass(frozen=True)
class ReferralCurve:
    """A metric of what is left after the most uncertain are referred.

    Attributes:
        shares: how many of those that count were referred, [R] in [0, 1]: as many as asked for, or fewer by a tie.
        values: the metric of the rest, [R]; NaN where it is undefined.
    """

    shares: NDArray[np.float64]
    values: NDArray[np.float64]


def referral_curve(
    *,
    probabilities: ArrayLike,
    labels: ArrayLike,
    uncertainties: ArrayLike,
    shares: ArrayLike,
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> ReferralCurve:
    """The metric of what is left after the most uncertain share is referred.

    Args:
        probabilities, labels: [N] or [N, K], NaN unknown.
        uncertainties: of each study, [N], or of each pair, as the labels; NaN and unknown labels take no part.
        shares: which to try, [R] in [0, 1]. Equal uncertainties are referred together or not at all.
        metric: (probabilities, labels) -> number, that ignores unknown labels: those of the referred become unknown,
            the rows stay as they are.

    Raises:
        UserError: uncertainties of another shape, or a share out of range.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    uncertainties, shares = np.asarray(uncertainties, float), np.asarray(shares, float)
    if uncertainties.shape not in (y.shape, y.shape[:1]):
        raise UserError(
            f"uncertainties: found shape {list(uncertainties.shape)}, expected {list(y.shape)} or {list(y.shape[:1])}"
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise UserError("shares: found one outside [0, 1]; a share of 0.2 refers the most uncertain fifth")
    known = ~(np.isnan(p) | np.isnan(y))
    counts = ~np.isnan(uncertainties) & (known if uncertainties.shape == y.shape else known.any(axis=1))
    referred = [counts & (uncertainties > _limit(uncertainties[counts], share)) for share in shares]
    kept = [(counts & ~r).reshape(r.shape + (1,) * (y.ndim - r.ndim)) for r in referred]
    return ReferralCurve(
        shares=np.array([r.sum() for r in referred]) / max(counts.sum(), 1),
        values=np.array([metric(p, np.where(k, y, np.nan)) for k in kept], float),
    )


def _limit(uncertainties: NDArray[np.float64], share: float) -> float:
    """The least value that at most that share of the uncertainties is above; below all of them for a share of 1."""
    number = int(share * len(uncertainties) + 1e-9)  # 0.29 of 100 is 29
    return float(np.sort(uncertainties)[::-1][number]) if number < len(uncertainties) else -np.inf
