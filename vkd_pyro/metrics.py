"""Metrics: plain functions of (probabilities, labels). What is undefined is NaN."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr


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
    probabilities, labels, counts = (np.asarray(array, float) for array in (probabilities, labels, counts))
    models = np.zeros(len(labels)) if models is None else np.asarray(models)
    known = ~(np.isnan(labels) | np.isnan(probabilities))
    right, pairs = np.zeros((2, len(counts)))
    for model in np.unique(models[known]):
        rows = np.flatnonzero(known & (models == model))
        order = rows[np.argsort(probabilities[rows])]
        ties = np.flatnonzero(np.diff(probabilities[order], prepend=-np.inf))  # where the next larger value begins
        positive, negative = (np.add.reduceat(counts[:, order] * (labels[order] == y), ties, axis=1) for y in (1, 0))
        below = np.cumsum(negative, axis=1) - negative
        right += (positive * (below + negative / 2)).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def auroc_per_finding(
    probabilities: ArrayLike, labels: ArrayLike, models: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Args: probabilities and labels [N, K]; models as of `auroc`. Returns: [K]."""
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


def _positives(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Positives that have a prediction, [K]."""
    return ((np.asarray(labels, float) == 1) & ~np.isnan(np.asarray(probabilities, float))).sum(axis=0)


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over known (study, finding) pairs of -log p(y), in nats; NaN where no label is known."""
    labels = np.asarray(labels, float)
    p = np.clip(np.asarray(probabilities, float), 1e-7, 1 - 1e-7)
    terms = np.where(labels == 1, -np.log(p), -np.log1p(-p))[~np.isnan(labels)]
    return float(terms.mean()) if terms.size else float("nan")


def active_units(locs: ArrayLike, threshold: float = 0.01) -> int:
    """Latent dimensions whose mean varies between studies: Var_x E[z_d | x] > threshold (Burda et al. 2016, Sec. 5.2).

    Args: locs [N, D], the means of z given each study.
    """
    return int((np.asarray(locs, float).var(axis=0) > threshold).sum())


def mutual_information_bound(log_probs: ArrayLike, labels: ArrayLike) -> float:
    """A lower bound of sum_k I(z; y_k), in nats: sum_k H(y_k) + E log q(y_k | z) (Barber & Agakov 2003).

    H is of the frequencies among the very labels that q is asked for, so a q that does not look at z never scores
    above 0; one that is confidently wrong scores below. Findings are taken apart, so those that say the same count
    twice: the sum may be above I(z; y).

    Args: E log q(y_k | z) of the label as it is, [N, K], NaN where there is none; labels [N, K], 1 / 0, NaN unknown.
    Returns: NaN where nothing is known.
    """
    log_probs, labels = np.asarray(log_probs, float), np.asarray(labels, float)
    known = ~(np.isnan(log_probs) | np.isnan(labels))
    counts = known.sum(axis=0)
    if not counts.any():
        return float("nan")
    counts = np.maximum(counts, 1)  # a finding of which nothing is known adds 0
    frequencies = np.where(known, labels, 0).sum(axis=0) / counts
    entropies = entr(frequencies) + entr(1 - frequencies)
    return float((entropies + np.where(known, log_probs, 0).sum(axis=0) / counts).sum())
