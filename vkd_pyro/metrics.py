"""Metrics: plain functions of (probabilities, labels). What is undefined is NaN."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of one finding.

    Args: probabilities [N], NaN where there is no prediction; labels [N], 1 / 0, NaN unknown.
    Returns: in [0, 1]; NaN where the known labels with a prediction are all the same.
    """
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    known = ~(np.isnan(labels) | np.isnan(probabilities))
    positive = labels[known] == 1
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if num_positive == 0 or num_negative == 0:
        return float("nan")
    # Mann-Whitney: the share of (positive, negative) pairs in the right order. As scikit-learn's, and fast enough
    # for thousands of resamples.
    ranks = rankdata(probabilities[known])[positive].sum()
    return float((ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def auroc_per_finding(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Args: probabilities and labels [N, K]. Returns: [K]."""
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    return np.array([auroc(p, y) for p, y in zip(probabilities.T, labels.T, strict=True)])


def macro_auroc(probabilities: ArrayLike, labels: ArrayLike, min_positives: int = 1) -> float:
    """Mean over the findings whose AUC is defined and that have at least `min_positives` positives."""
    areas = auroc_per_finding(probabilities, labels)
    chosen = ~np.isnan(areas) & (_positives(probabilities, labels) >= min_positives)
    return float(areas[chosen].mean()) if chosen.any() else float("nan")


def micro_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """AUC over all known (study, finding) pairs pooled."""
    return auroc(np.asarray(probabilities, float).ravel(), np.asarray(labels, float).ravel())


def weighted_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over the findings whose AUC is defined, weighted by their positives."""
    areas = auroc_per_finding(probabilities, labels)
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
