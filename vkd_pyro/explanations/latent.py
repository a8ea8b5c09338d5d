"""How studies lie in z, and which report disagrees with its picture."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.errors import UserError
from vkd_pyro.explanations import library
from vkd_pyro.metrics import auroc

MAX_DIM = 50
"""Dimensions that t-SNE is given; more are reduced by principal components, as van der Maaten & Hinton did (2008)."""

MIN_STUDIES = 4


def embed(locs: ArrayLike, seed: int = 0, perplexity: float = 30) -> NDArray[np.float64]:
    """t-SNE: places in the plane where studies that are near in z stay near (van der Maaten & Hinton 2008).

    Distances between groups and the sizes of groups mean nothing.

    Args:
        locs: means of z, [N, D]; NaN where there is no z.
        seed: of scikit-learn's draws.
        perplexity: about how many neighbours each study has. Of few studies a third at most, with a warning.

    Returns: [N, 2]; NaN where there is no z.

    Raises:
        UserError: scikit-learn is not installed, or there are fewer than four studies.
    """
    manifold, decomposition = (library(f"sklearn.{name}", "t-SNE") for name in ("manifold", "decomposition"))
    locs = np.asarray(locs, float)
    known = ~np.isnan(locs).any(axis=1)
    rows = locs[known]
    if len(rows) < MIN_STUDIES:
        raise UserError(f"t-SNE: found {len(rows)} studies with z, expected at least {MIN_STUDIES}")
    if rows.shape[1] > MAX_DIM:
        rows = decomposition.PCA(min(MAX_DIM, len(rows)), random_state=seed).fit_transform(rows)
    largest = (len(rows) - 1) / 3
    if perplexity > largest:
        warnings.warn(f"t-SNE: perplexity {largest:.3g} in place of {perplexity}: {len(rows)} studies", stacklevel=2)
    start = "pca" if rows.shape[1] > 1 else "random"
    tsne = manifold.TSNE(perplexity=min(perplexity, largest), init=start, random_state=seed)
    places = np.full((len(locs), 2), np.nan)
    places[known] = tsne.fit_transform(rows)
    return places


@dataclass(frozen=True, eq=False)
class Mismatch:
    """Studies by how much their report disagrees with their picture.

    Attributes:
        order: rows that have a report, the largest disagreement first; int [M].
        percentile: of each study among those with a report, in (0, 100], 100 the largest; [N], NaN without a report.
    """

    order: NDArray[np.int64]
    percentile: NDArray[np.floating]


def mismatch(kl: ArrayLike) -> Mismatch:
    """Ranks studies by KL(q(z | x_T) || p(z | x_I)): how far the report moves z from where the picture put it.

    A large one is a report of another picture, or one that tells what the picture does not show. Equal ones share
    their rank.

    Args: [N], NaN without a report.
    """
    kl = np.asarray(kl, float)
    order = np.argsort(-kl, kind="stable")[: np.count_nonzero(~np.isnan(kl))]  # NaN comes last
    return Mismatch(order, 100 * pd.Series(kl).rank(pct=True).to_numpy())


def mismatch_auroc(kl_matched: ArrayLike, kl_shuffled: ArrayLike) -> float:
    """How well the KL tells a report of another study from a study's own: the share of pairs in the right order.

    Args: of studies with their own report, [N], and with another's, [M]; NaN without a report.
    Returns: in [0, 1]; 0.5 is chance, NaN where either has no report.
    """
    matched, shuffled = np.asarray(kl_matched, float), np.asarray(kl_shuffled, float)
    return auroc(np.concatenate([matched, shuffled]), np.repeat([0.0, 1.0], [len(matched), len(shuffled)]))
