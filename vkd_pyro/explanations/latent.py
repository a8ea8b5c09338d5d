"""How studies lie in z."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.explanations import library
from vkd_pyro.utils.errors import UserError

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
