"""How z is used: latent dimensions that vary, and what z says of the labels."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr


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
