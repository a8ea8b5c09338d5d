"""How well probabilities rank studies: areas and curves of one finding, and their averages over findings.

A label that is unknown and a prediction that is missing (NaN) take no part. What is undefined is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.metrics.pairs import known_pairs, one_class

# ------------------------------------------------------------------------------ area under the ROC curve


def auroc(probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None) -> float:
    """Area under the ROC curve of one finding: the share of (positive, negative) pairs in the right order.

    Args: probabilities [N], NaN where there is no prediction; labels [N], 1 / 0, NaN unknown; which model predicted
        each row, [N], or None for one. Only pairs of the same model count: scores of two are not on one scale.
    Returns: in [0, 1]; NaN where there is no such pair.
    """
    return float(resampled_auroc(probabilities, labels, np.ones((1, np.size(labels))), models)[0])


def resampled_auroc(
    probabilities: ArrayLike, labels: ArrayLike, counts: ArrayLike, models: ArrayLike | None = None
) -> NDArray[np.float64]:
    """`auroc` in resamples of the rows, all at once.

    Args: probabilities, labels, models as of `auroc`; how often each row is in each resample, [R, N].
    Returns: [R]; NaN where a resample has no pair.
    """
    right, pairs = np.zeros((2, len(np.asarray(counts))))
    for positive, negative in _per_value(probabilities, labels, counts, models):
        below = np.cumsum(negative, axis=1) - negative
        right += (positive * (below + negative / 2)).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio(right, pairs)


def auroc_per_finding(
    probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None
) -> NDArray[np.float64]:
    """`auroc` of each finding, [K]. Args: probabilities and labels [N, K]; models as of `auroc`."""
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    return np.array([auroc(p, y, models) for p, y in zip(probabilities.T, labels.T, strict=True)])


def macro_auroc(
    probabilities: ArrayLike, labels: ArrayLike, min_positives: int = 1, models: ArrayLike | None = None
) -> float:
    """Mean over the findings whose AUC is defined and that have at least `min_positives` positives."""
    areas = auroc_per_finding(probabilities, labels, models)
    chosen = ~np.isnan(areas) & (_positives(probabilities, labels) >= min_positives)
    return float(areas[chosen].mean()) if chosen.any() else float("nan")


def micro_auroc(probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None) -> float:
    """AUC over all known (study, finding) pairs pooled."""
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    models = None if models is None else np.repeat(models, labels.shape[1])
    return auroc(probabilities.ravel(), labels.ravel(), models)


def weighted_auroc(probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None) -> float:
    """Mean over the findings whose AUC is defined, weighted by their positives."""
    areas = auroc_per_finding(probabilities, labels, models)
    defined = ~np.isnan(areas)
    weights = _positives(probabilities, labels)[defined]
    return float(np.average(areas[defined], weights=weights)) if defined.any() else float("nan")


# ------------------------------------------------------------------------------ average precision


def average_precision(probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None) -> float:
    """Average precision of one finding: the mean, over its positives, of the precision at the positive's own threshold.

    No trapezoids, as scikit-learn's. By chance it is the share of positives, so two findings do not compare.

    Args: as of `auroc`. Of several models it is the mean of theirs, weighted by their positives.
    Returns: in (0, 1]; NaN where no model's rows have both classes (of positives alone it would always be 1).
    """
    return float(resampled_average_precision(probabilities, labels, np.ones((1, np.size(labels))), models)[0])


def resampled_average_precision(
    probabilities: ArrayLike, labels: ArrayLike, counts: ArrayLike, models: ArrayLike | None = None
) -> NDArray[np.float64]:
    """`average_precision` in resamples of the rows, all at once: arguments and result as of `resampled_auroc`."""
    precisions, positives = np.zeros((2, len(np.asarray(counts))))
    for positive, negative in _per_value(probabilities, labels, counts, models):
        found, all_found = (np.cumsum(x[:, ::-1], axis=1)[:, ::-1] for x in (positive, positive + negative))
        precision = np.divide(found, all_found, out=np.zeros_like(found), where=all_found > 0)
        defined = (positive.any(axis=1) & negative.any(axis=1)).astype(float)
        precisions += defined * (positive * precision).sum(axis=1)
        positives += defined * positive.sum(axis=1)
    return _ratio(precisions, positives)


# ------------------------------------------------------------------------------ why there is none


def undefined_reason(probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None) -> str | None:
    """Why one finding has no AUC and no average precision; None where it has them. Arguments as of `auroc`."""
    _, known = known_pairs(probabilities, labels)
    if np.isnan(np.asarray(labels, float)).all():
        return "no label is known"
    if not known.size:
        return "no prediction"
    if one_class(known):
        return "no study is negative" if known[0] == 1 else "no study is positive"
    return "no model has both classes" if np.isnan(auroc(probabilities, labels, models)) else None


# ------------------------------------------------------------------------------ curves


@dataclass(frozen=True)
class RocCurve:
    """A point a threshold, from the strictest (nothing is called positive) to the laxest (everything is).

    Attributes:
        false_positive_rate, sensitivity: [T], from 0 to 1; specificity is 1 - false_positive_rate.
        thresholds: [T], falling, the first infinite; a study is called positive from the threshold on.
    All three are empty where the curve is undefined.
    """

    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def roc_curve(probabilities: ArrayLike, labels: ArrayLike, every_threshold: bool = False) -> RocCurve:
    """The ROC curve of one finding and one model, by scikit-learn.

    Args: probabilities and labels as of `auroc`; also the points on a straight line between their neighbours, or not.
    """
    from sklearn.metrics import roc_curve as curve  # not needed in training

    p, y = known_pairs(probabilities, labels)
    return RocCurve(*(np.empty((3, 0)) if one_class(y) else curve(y, p, drop_intermediate=not every_threshold)))


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """A point a threshold, from the laxest (recall 1) to the strictest (recall 0, where precision is 1 by convention).

    Attributes:
        recall, precision: [T].
        thresholds: [T], rising, the last infinite.
    All three are empty where the curve is undefined.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def precision_recall_curve(
    probabilities: ArrayLike, labels: ArrayLike, every_threshold: bool = False
) -> PrecisionRecallCurve:
    """The precision-recall curve of one finding and one model, by scikit-learn.

    Args: probabilities and labels as of `auroc`; also the points between two others of their recall, or not.
    """
    from sklearn.metrics import precision_recall_curve as curve  # not needed in training

    p, y = known_pairs(probabilities, labels)
    if one_class(y):
        return PrecisionRecallCurve(*np.empty((3, 0)))
    precision, recall, thresholds = curve(y, p, drop_intermediate=not every_threshold)
    return PrecisionRecallCurve(recall, precision, np.append(thresholds, np.inf))


# ------------------------------------------------------------------------------ counting


def _per_value(
    probabilities: ArrayLike, labels: ArrayLike, counts: ArrayLike, models: ArrayLike | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each model, how many positives and negatives of each resample have each distinct probability, rising.

    Returns: two of [R, values of that model].
    """
    probabilities, labels, counts = (np.asarray(array, float) for array in (probabilities, labels, counts))
    models = np.zeros(len(labels)) if models is None else np.asarray(models)
    known = ~(np.isnan(labels) | np.isnan(probabilities))
    for model in np.unique(models[known]):
        rows = np.flatnonzero(known & (models == model))
        order = rows[np.argsort(probabilities[rows])]
        ties = np.flatnonzero(np.diff(probabilities[order], prepend=-np.inf))  # where the next larger value begins
        positive, negative = (np.add.reduceat(counts[:, order] * (labels[order] == y), ties, axis=1) for y in (1, 0))
        yield positive, negative


def _positives(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Positives that have a prediction, [K]."""
    return ((np.asarray(labels, float) == 1) & ~np.isnan(np.asarray(probabilities, float))).sum(axis=0)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
