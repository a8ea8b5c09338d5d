"""Ranks of values among draws of the distributions given for them, and whether they are uniform.

    rank_n = #{l : draw_ln < value_n},   uniform over 0..L where value n is one more draw of its own distribution

Ranks of parameters among posterior draws: simulation-based calibration (Talts et al. 2018, arXiv 1804.06788). Ranks of
their distances to points placed at random: expected coverage, TARP (Lemos et al. 2023, arXiv 2302.03026).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.utils.errors import UserError

MOST_STEPS = 100
"""Places at which an ECDF is looked at, at most."""

TINY = 1e-10

Ranks = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class EcdfBand:
    """What the ECDF of N uniform ranks stays in, at all places at once, with a probability of at least `level`.

    Attributes:
        at: probabilities, [G] in (0, 1).
        low, high: shares, [G] in [0, 1].
        level: asked for.
    """

    at: Array
    low: Array
    high: Array
    level: float


@dataclass(frozen=True)
class RankShape:
    """How ranks depart from uniform, in standard errors of N uniform ranks.

    Attributes:
        shift: of their mean; above 0 the values lie above the draws.
        spread: of their mean squared distance from the middle; above 0 the draws are too narrow, below too wide.
    """

    shift: float
    spread: float

    @property
    def words(self) -> str:
        """Which of the two is larger, in words."""
        if abs(self.shift) > abs(self.spread):
            return "too low" if self.shift > 0 else "too high"
        return "too narrow" if self.spread > 0 else "too wide"


def ranks(values: ArrayLike, draws: ArrayLike, seed: int = 0) -> Ranks:
    """How many of the draws lie below each value; of ties a number that is drawn, each as likely.

    Args: [...]; [L, ...]; seed of what ties are broken by. Returns: int [...] in 0..L.

    Raises:
        UserError: shapes that do not go together, or numbers that are not finite.
    """
    values, draws = np.asarray(values, float), np.asarray(draws, float)
    if draws.shape[1:] != values.shape or not len(draws):
        raise UserError(f"draws: found shape {list(draws.shape)}, expected [L, {str(list(values.shape))[1:]}, L >= 1")
    if not (np.isfinite(values).all() and np.isfinite(draws).all()):
        raise UserError("ranks: found values or draws that are not finite; a rank among those is undefined")
    below, same = (draws < values).sum(axis=0), (draws == values).sum(axis=0)
    return below + np.random.default_rng(seed).integers(0, same + 1)


def reference_points(values: ArrayLike, seed: int = 0) -> Array:
    """A point for each value, uniform over the box that holds them all. Args, Returns: [N, D]."""
    values = np.asarray(values, float)
    return np.random.default_rng(seed).uniform(values.min(axis=0), values.max(axis=0), values.shape)


def distance_ranks(values: ArrayLike, draws: ArrayLike, points: ArrayLike, scales: ArrayLike, seed: int = 0) -> Ranks:
    """How many of the draws are nearer to a point than the value is: the rank of its credible region in TARP.

    The share of ranks below a (L + 1) is the expected coverage of regions of credibility a, the outsides of balls
    around such points. It is a for every a where draws and value are of the same distribution. The converse holds for
    points that depend on the data; for points that do not, draws of the prior pass as well.

    Args:
        values: [N, D].
        draws: [L, N, D].
        points: [N, D], which must not depend on the values given the data but through a scale.
        scales: [D], that distances are measured in; 0 counts as 1.
        seed: of what ties are broken by.
    """
    points, scales = np.asarray(points, float), np.asarray(scales, float)
    scales = np.where(scales > 0, scales, 1.0)

    def distances(z: ArrayLike) -> Array:
        return np.sqrt((((np.asarray(z, float) - points) / scales) ** 2).sum(axis=-1))

    return ranks(distances(values), distances(draws), seed)


def ecdf(found: ArrayLike, num_draws: int) -> tuple[Array, Array]:
    """The ECDF of ranks in 0..num_draws: probabilities [G], and the share of ranks below each. Args: int [N]."""
    steps, counts = _steps(num_draws), _cumulative(np.asarray(found), num_draws)
    return steps / (num_draws + 1), counts / np.size(found)


def ecdf_band(num_values: int, num_draws: int, level: float = 0.95) -> EcdfBand:
    """The simultaneous band of Säilynoja, Bürkner & Vehtari 2022 (arXiv 2103.10522, Sec. 3), its coverage exact.

    At each place it is an interval of the binomial distribution, of the same tail gamma / 2 everywhere; gamma is the
    largest with which an ECDF of uniform ranks stays in all of them with probability `level`. That probability is
    computed, not simulated: counts of ranks between places are Poisson given their sum.

    Args: N; L; the probability, in (0, 1).
    """
    if not 0 < level < 1:
        raise UserError(f"level: found {level!r}, expected a probability between 0 and 1")
    p = _steps(num_draws) / (num_draws + 1)
    below, above = 0.0, 1.0
    for _ in range(50):
        middle = (below + above) / 2
        below, above = (middle, above) if _coverage(middle, num_values, p) >= level else (below, middle)
    low, high = _intervals(below * (1 - 1e-9), num_values, p)  # it lies at a step, where rounding would decide
    return EcdfBand(p, low / num_values, high / num_values, level)


def uniformity_p_value(found: ArrayLike, num_draws: int) -> float:
    """The probability that uniform ranks leave the middle of their bands as far as these, at any place.

    It is exact; below 1e-10 the bound of Bonferroni, which is at most 200 times as large. Args: int [N]; L.
    """
    from scipy.stats import binom  # slow to import

    found = np.asarray(found)
    p = _steps(num_draws) / (num_draws + 1)
    counts, size = _cumulative(found, num_draws), len(found)
    tails = np.minimum(binom.cdf(counts, size, p), binom.sf(counts - 1, size, p))
    gamma = 2 * float(tails.min())
    if gamma < TINY:  # where a difference from 1 is rounded off
        return gamma * len(p)
    return min(1.0, 1 - _coverage(gamma * (1 + 1e-9), size, p))


def rank_shape(found: ArrayLike, num_draws: int) -> RankShape:
    """In which direction ranks depart from uniform over 0..num_draws. Args: int [N]; L."""
    u = (np.asarray(found, float) + 0.5) / (num_draws + 1) - 0.5
    grid = (np.arange(num_draws + 1) + 0.5) / (num_draws + 1) - 0.5
    errors = [max(float(np.std(grid**k)), 1e-12) / np.sqrt(len(u)) for k in (1, 2)]
    shift, spread = (float(np.mean(u**k) - np.mean(grid**k)) / error for k, error in zip((1, 2), errors, strict=True))
    return RankShape(shift, spread)


def _steps(num_draws: int) -> Ranks:
    """Ranks t at which the share below t is looked at, [G]; its probability is t / (L + 1)."""
    return np.unique(np.linspace(1, num_draws, min(num_draws, MOST_STEPS)).round().astype(np.int64))


def _cumulative(found: NDArray[np.int64], num_draws: int) -> Ranks:
    """How many ranks are below each step, [G]."""
    return np.searchsorted(np.sort(found), _steps(num_draws), side="left")


def _intervals(gamma: float, size: int, p: Array) -> tuple[Ranks, Ranks]:
    """Counts that leave gamma / 2 at neither side, [G] each."""
    from scipy.stats import binom  # slow to import

    low = binom.ppf(gamma / 2, size, p)
    high = size - binom.ppf(gamma / 2, size, 1 - p)
    return low.astype(np.int64), high.astype(np.int64)


def _coverage(gamma: float, size: int, p: Array) -> float:
    """The probability that the counts below all steps are within the intervals of gamma."""
    from scipy.stats import poisson  # slow to import

    lows, highs = _intervals(gamma, size, p)
    if (lows > highs).any():
        return 0.0
    increments = size * np.diff(p, prepend=0.0, append=1.0)
    state, start = np.ones(1), 0  # of each count from `start` on, as if counts were Poisson
    for low, high, mean in zip([*lows, size], [*highs, size], increments, strict=True):
        reached = np.convolve(state, poisson.pmf(np.arange(high - start + 1), mean))
        state, start = reached[low - start : high - start + 1], low
    return float(state[0] / poisson.pmf(size, size))
