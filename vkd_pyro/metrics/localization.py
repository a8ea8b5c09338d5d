"""How well a map of an image points at a region of it: the pointing game, and intersection over union.

Both are of images in which the region is, and say nothing of the others. Maps are in [0, 1] with 1 at their largest
value, or 0 everywhere: one that points nowhere has hit nothing.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.metrics.clinical import share_interval
from vkd_pyro.metrics.intervals import FEWEST, RARE, UNDEFINED, Interval, bootstrap_interval

Array = NDArray[np.float64]

THRESHOLDS = np.arange(1, 20) / 20
"""Shares of the largest value from which on a map's pixels are taken for the region."""
HALF = 0.5
"""The threshold where none was chosen."""


def pointing_game(maps: ArrayLike, regions: ArrayLike) -> Array:
    """Whether the largest value of a map is in the region, [N]: 1 or 0; of several equal largest values their share.

    As Zhang et al. 2018, "Top-down neural attention by excitation backprop", but without a tolerance of 15 pixels.

    Args: maps, float [N, H, W] from 0 on; regions, bool [N, H, W].
    Returns: NaN where the region is empty; 0 where the map is 0 everywhere.
    """
    maps, regions = _same(maps, regions)
    peaks = (maps == maps.max(axis=(1, 2), keepdims=True)) & (maps > 0)
    number = peaks.sum(axis=(1, 2))
    hits = (peaks & regions).sum(axis=(1, 2)) / np.maximum(number, 1)
    return np.where(regions.any(axis=(1, 2)), hits, np.nan)


def intersection_over_union(maps: ArrayLike, regions: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> Array:
    """Pixels that are in both the region and the map from a threshold on, over those that are in one of them, [N, T].

    Args: maps, float [N, H, W] in [0, 1]; regions, bool [N, H, W]; T thresholds above 0.
    Returns: NaN where the region is empty; 0 where the map is 0 everywhere.
    """
    maps, regions = _same(maps, regions)
    found = np.empty((len(maps), np.size(thresholds)))
    for t, threshold in enumerate(np.ravel(thresholds)):
        shown: NDArray[np.bool_] = maps >= threshold
        both, either = (shown & regions).sum(axis=(1, 2)), (shown | regions).sum(axis=(1, 2))
        found[:, t] = both / np.maximum(either, 1)
    found[~regions.any(axis=(1, 2))] = np.nan
    return found


def centre_map(height: int, width: int) -> Array:
    """A map that knows of no image, [height, width]: 1 at the centre, falling evenly to 0 at the corners."""
    y, x = ((np.arange(length) + 0.5) * 2 / length - 1 for length in (height, width))
    distance = np.hypot(y[:, None], x[None, :])
    return (np.hypot(1, 1) - distance) / (np.hypot(1, 1) - distance.min())


def best_threshold(overlaps: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> float:
    """The threshold with the largest mean of `intersection_over_union`, [N, T], the least of equal ones."""
    return float(np.ravel(thresholds)[np.asarray(overlaps, float).mean(axis=0).argmax()])


def hit_rate(hits: ArrayLike, patients: ArrayLike) -> Interval:
    """The mean of `pointing_game`, Wilson's interval of as many independent images as those of these patients are worth
    (`share_interval`); args [N] both, without NaN.

    Returns: bounds NaN below 5 patients, with the reason; noted below 30.
    """
    return _noted(share_interval(hits, patients), patients)


def mean_overlap(overlaps: ArrayLike, patients: ArrayLike, num_resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of `intersection_over_union` at one threshold, patients resampled; args [N] both, without NaN.

    Returns: bounds NaN below 5 patients, with the reason; noted below 30.
    """
    values = np.asarray(overlaps, float)
    if not values.size:
        return _noted(UNDEFINED, patients)

    def mean(counts: NDArray[np.int64]) -> Array:
        return counts @ values / counts.sum(axis=1)

    return _noted(bootstrap_interval(mean, patients, num_resamples, seed), patients)


def _noted(interval: Interval, patients: ArrayLike) -> Interval:
    number = len(np.unique(np.asarray(patients)))
    who = f"{number} patient{'' if number == 1 else 's'} with a region"
    if number < FEWEST:
        return Interval(interval.estimate, np.nan, np.nan, f"{who}, fewer than {FEWEST}: no interval")
    note = f"fewer than {RARE} patients with a region" if number < RARE else ""
    return Interval(interval.estimate, interval.low, interval.high, note)


def _same(maps: ArrayLike, regions: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    one, other = np.asarray(maps, float), np.asarray(regions, bool)
    if one.shape != other.shape or one.ndim != 3:
        raise ValueError(f"maps {one.shape} and regions {other.shape}: expected [N, H, W] of both")
    return one, other
