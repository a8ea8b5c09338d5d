"""Whether numbers are spread as they used to be: the population stability index, and a test beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_IN_BIN = 5
"""Numbers a bin is to hold of either side, so that a test of counts holds: neighbours are joined until they do."""


@dataclass(frozen=True)
class Drift:
    """How differently two samples are spread; NaN where nothing can be told.

    Attributes:
        psi: sum over bins of (now - before) log(now / before), shares in each bin: 0 is the same.
        by_chance: what that is on average where nothing has changed, (B - 1) (1 / n + 1 / m): much, of few numbers.
        p: of a chi-squared test that both are samples of one distribution (Pearson, B - 1 degrees of freedom).
        bins: B.
    """

    psi: float
    by_chance: float
    p: float
    bins: int


def drift(before: ArrayLike, now: ArrayLike) -> Drift:
    """Of counts in the same bins, [B] each; neighbours are joined as `FEWEST_IN_BIN` asks.

    Half a number is added to each bin for the index, which an empty one would make infinite.
    """
    from scipy.stats import chi2_contingency

    first, second = _joined(np.asarray(before, float), np.asarray(now, float))
    if len(first) < 2:
        return Drift(float("nan"), float("nan"), float("nan"), len(first))
    shares = [(counts + 0.5) / (counts + 0.5).sum() for counts in (first, second)]
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    by_chance = (len(first) - 1) * (1 / first.sum() + 1 / second.sum())
    p = float(chi2_contingency(np.stack([first, second]), correction=False).pvalue)
    return Drift(psi, float(by_chance), p, len(first))


def _joined(before: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins from the left, each of as many as are expected of either side at least; the rest joins the last."""
    total = before.sum(), now.sum()
    if not min(total):
        return np.empty(0), np.empty(0)
    bins: list[list[float]] = []
    open_bin = [0.0, 0.0]
    for pair in zip(before, now, strict=True):
        open_bin = [a + b for a, b in zip(open_bin, pair, strict=True)]
        share = sum(open_bin) / sum(total)
        if min(share * total[0], share * total[1]) >= FEWEST_IN_BIN:
            bins.append(open_bin)
            open_bin = [0.0, 0.0]
    if bins:
        bins[-1] = [a + b for a, b in zip(bins[-1], open_bin, strict=True)]
    joined = np.array(bins or [list(total)])
    return joined[:, 0], joined[:, 1]


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """p-values of several tests, so that one below a is wrong with probability a at most, all tests together.

    Holm (1979), "A simple sequentially rejective multiple test procedure". NaN stays NaN, and is no test.
    """
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    steps = np.minimum(1.0, p[order] * (len(order) - np.arange(len(order))))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted
