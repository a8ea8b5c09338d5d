"""Intervals of areas under the ROC curve where a patient may have several studies, or images.

The variance of an area is that of DeLong's structural components summed by patient (Obuchowski 1997, "Nonparametric
analysis of clustered ROC curve data"). With few patients it is itself unsure, and an interval that is symmetrical, on
whatever scale, is too short: scripts/coverage.py measures how often each kind of interval holds the truth, and
`auroc_interval` is the one that does best.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from vkd_pyro.metrics.delong import components
from vkd_pyro.metrics.intervals import UNDEFINED, Interval, check_level, few_patients, tails
from vkd_pyro.metrics.ranking import auroc

Array = NDArray[np.float64]

MODEL_FREEDOM = 20.0
"""Degrees of freedom that the variance by `hanley_mcneil_variance` counts as, beside those of the estimated one."""

BISECTIONS = 60


@dataclass(frozen=True)
class ClusteredArea:
    """An area under the ROC curve, and what is known of how far it may be off.

    Attributes:
        area: the share of (positive, negative) pairs in the right order.
        variance: of it, patients being independent and their rows not.
        freedom: degrees of freedom of that variance (Satterthwaite 1946).
        design_effect: by how much it is larger than if rows were independent; at least 1.
        positives, negatives: rows.
    """

    area: float
    variance: float
    freedom: float
    design_effect: float
    positives: int
    negatives: int


def clustered_area(
    probabilities: ArrayLike, labels: ArrayLike, patients: ArrayLike, models: ArrayLike | None = None
) -> ClusteredArea | None:
    """The area of one finding with its variance by patient.

    Args: probabilities, labels and models as of `auroc`; whose each row is; [N] all.
    Returns: None where there are not two patients of each class more than models with such a pair.
    """
    p, y, patients = np.asarray(probabilities, float), np.asarray(labels, float), np.asarray(patients)
    models = np.zeros(len(y), int) if models is None else np.asarray(models)
    known = ~(np.isnan(p) | np.isnan(y))
    of_models = [_of_model(p[rows], y[rows] == 1, patients[rows]) for rows in _by_model(models, known)]
    parts = [part for part in of_models if part is not None]
    pairs = np.array([len(part.below) * len(part.above) for part in parts], float)
    if not parts or min(sum(part.patients[side] for part in parts) for side in (0, 1)) <= len(parts):
        return None
    weights = pairs / pairs.sum()
    scaled = [part.scaled(weight) for part, weight in zip(parts, weights, strict=True)]
    freedoms = [sum(part.patients[side] for part in parts) - len(parts) for side in (0, 1)]
    sides = [
        (freedom + len(parts)) / freedom * sum(float(np.square(each[side]).sum()) for each in scaled)
        for side, freedom in enumerate(freedoms)
    ]
    everybody = sum(part.number for part in parts)
    both = everybody / (everybody - len(parts)) * sum(float((one * other).sum()) for one, other in scaled)
    variance = max(sides[0] + sides[1] + 2 * both, 0.0)
    alone = sum(weight**2 * part.variance_of_rows for part, weight in zip(parts, weights, strict=True))
    spread = sum(side**2 / freedom for side, freedom in zip(sides, freedoms, strict=True))
    return ClusteredArea(
        area=auroc(p, y, models),
        variance=variance,
        freedom=(sides[0] + sides[1]) ** 2 / spread if spread else float(min(freedoms)),
        design_effect=max(variance / alone, 1.0) if alone > 0 else 1.0,
        positives=sum(len(part.below) for part in parts),
        negatives=sum(len(part.above) for part in parts),
    )


def auroc_interval(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    models: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """`auroc` of one finding, with the values a that the data do not contradict:

        (area - a)^2 <= t^2 V(a),    V(a) = HM(a) (nu_0 deff + nu v / HM(area)) / (nu_0 + nu)

    with HM(a) the variance by `hanley_mcneil_variance` of so many rows, v the clustered variance, nu its degrees of
    freedom, deff its design effect (`clustered_area`), nu_0 = `MODEL_FREEDOM`, and t of Student with nu_0 + nu. With
    many patients it is Obuchowski's interval; with few the variance leans on the model, and its dependence on a makes
    the interval skewed, as an area near 1 needs (Newcombe 2006, "Confidence intervals for an effect size measure based
    on the Mann-Whitney statistic", Part 2, Method 5, is that of nu_0 without end). Never outside [0, 1].

    Args: probabilities, labels and models as of `auroc`; whose each row is; [N] all; level in (0, 1).
    Returns: bounds NaN, with the reason as its note, where fewer than 5 patients have the finding, or have it not; with
        a note where they are fewer than 30.

    Raises:
        UserError: a level out of range.
    """
    check_level(level)
    found = clustered_area(probabilities, labels, patients, models)
    few = few_patients(probabilities, labels, patients)
    if found is None or few.undefined:
        area = auroc(probabilities, labels, models)
        why = few.text if few.undefined else "too few patients a model: no interval"
        return UNDEFINED if np.isnan(area) else Interval(area, np.nan, np.nan, why)
    here = hanley_mcneil_variance(found.area, found.positives, found.negatives)
    ratio = found.variance / here if here > 0 and found.variance > 0 else found.design_effect
    freedom = MODEL_FREEDOM + found.freedom
    scale = (MODEL_FREEDOM * found.design_effect + found.freedom * ratio) / freedom
    wide = float(stdtrit(freedom, tails(level)[1])) ** 2 * scale
    low, high = (_bound(found, wide, end) for end in (0.0, 1.0))
    return Interval(found.area, low, high, few.text)


def hanley_mcneil_variance(area: float, positives: int, negatives: int) -> float:
    """The variance of an area of independent rows, were scores exponential (Hanley & McNeil 1982), the parts of the two
    classes averaged, as Newcombe (2006) has it: it needs but the area, and is 0 where that is 0 or 1."""
    others = (positives + negatives) / 2 - 1
    spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * spread / (positives * negatives)


def _bound(found: ClusteredArea, wide: float, end: float) -> float:
    """The value between the area and an end where the squared distance is `wide` times the variance there."""
    inside, outside = found.area, end
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        within = (found.area - middle) ** 2 <= wide * hanley_mcneil_variance(middle, found.positives, found.negatives)
        inside, outside = (middle, outside) if within else (inside, middle)
    return inside


@dataclass(frozen=True)
class _Part:
    """One model's rows: structural components of positives [P] and negatives [Q], and whose they are."""

    below: Array
    above: Array
    positive_codes: NDArray[np.int64]
    negative_codes: NDArray[np.int64]

    @property
    def number(self) -> int:
        """Patients."""
        return int(max(self.positive_codes.max(), self.negative_codes.max())) + 1

    @property
    def patients(self) -> tuple[int, int]:
        """Those with a positive, and with a negative row."""
        return len(np.unique(self.positive_codes)), len(np.unique(self.negative_codes))

    @property
    def variance_of_rows(self) -> float:
        """DeLong's, as if every row were a patient of its own; 0 where a class has one row."""
        sides = (self.below, self.above)
        return float(sum(side.var(ddof=1) / len(side) for side in sides if len(side) > 1))

    def scaled(self, weight: float) -> tuple[Array, Array]:
        """What each patient's positives, and negatives, move the area by, [patients] each."""
        area = self.below.mean()
        sides = ((self.positive_codes, self.below), (self.negative_codes, self.above))
        moved = [np.bincount(codes, values - area, self.number) * weight / len(values) for codes, values in sides]
        return moved[0], moved[1]


def _of_model(p: Array, positive: NDArray[np.bool_], patients: NDArray) -> _Part | None:
    below, above = components(p, positive)
    codes = np.unique(patients, return_inverse=True)[1].ravel()
    return _Part(below, above, codes[positive], codes[~positive]) if below.size else None


def _by_model(models: NDArray, known: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    return [known & (models == model) for model in np.unique(models[known])]
