"""Where a prediction's uncertainty comes from: the finding itself, z, or the network. All in nats, in [0, ln 2].

    total_uncertainty = expected_entropy + latent_uncertainty + epistemic_uncertainty
          H(y)        =  H(y | z, v)     +  I(y; z | v)  +    I(y; v)

where v is the network: a member of a deep ensemble, or a dropout mask, V of them, each as likely. One network's
uncertainty about y is all in the first two; with V = 1 the epistemic part is 0
(Depeweg et al. 2018, arXiv 1710.07283, with two sources for one).

Each is estimated from S draws without the bias of the order of 1/S (`entropy_of_mean`), so a total may differ from the
entropy of the mean by as much, and of few draws that differ much be above ln 2.

Samples are p(y_k = 1 | x, z^(s), v), float [V, S, N, K] in [0, 1]: S draws of z of each network. NaN gives NaN.
A study's numbers are its own, so many studies may be given in parts. Each function raises UserError for samples that
are not so shaped.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from vkd_pyro.utils.errors import UserError

ROUNDING = 1e-12
"""Nats."""


def entropy(probabilities: ArrayLike) -> NDArray[np.float64]:
    """H(p) = -p log p - (1 - p) log(1 - p) of a Bernoulli, in nats. Args, Returns: any shape."""
    p = np.asarray(probabilities, float)
    return entr(p) + entr(1 - p)


def total_uncertainty(samples: ArrayLike) -> NDArray[np.float64]:
    """H(mean over V and S of p), [N, K]: all uncertainty about the label."""
    return entropy_of_mean(_checked(samples).mean(axis=0))


def expected_entropy(samples: ArrayLike) -> NDArray[np.float64]:
    """Mean over V and S of H(p), [N, K]: what would be left if z and the network were known."""
    return entropy(_checked(samples)).mean(axis=(0, 1))


def latent_uncertainty(samples: ArrayLike) -> NDArray[np.float64]:
    """Mean over V of [H(mean over S of p) - mean over S of H(p)], [N, K]: the mutual information of y and z, within a
    network. It is the uncertainty that z carries, given the image; more data need not lessen it."""
    samples = _checked(samples)
    within = entropy_of_mean(samples.swapaxes(0, 1)) - entropy(samples).mean(axis=1)
    return np.maximum(within.mean(axis=0), 0)  # not below 0 by rounding


def epistemic_uncertainty(samples: ArrayLike) -> NDArray[np.float64]:
    """H(mean over V and S of p) - mean over V of H(mean over S of p), [N, K]: the mutual information of y and the
    network ("epistemic"). Where networks agree the estimate may be a little below 0; of one network it is 0."""
    samples = _checked(samples)
    found = entropy_of_mean(samples.mean(axis=0)) - entropy_of_mean(samples.swapaxes(0, 1)).mean(axis=0)
    return np.where(np.abs(found) < ROUNDING, 0.0, found)


def entropy_of_mean(samples: ArrayLike) -> NDArray[np.float64]:
    """H(E p), from S draws of p, [S, ...] to [...], without the bias of the entropy of their mean.

    That is -Var(p) / (2 S E p (1 - E p)) and less, which makes what z carries too small by 1/S of itself. By the
    jackknife (Quenouille 1956), S H(mean) - (S - 1) mean over s of H(mean without draw s), whose bias is of the order
    of 1/S^2: of H, which is no polynomial, no estimate from S draws is without any. Of one draw it is H(p).
    """
    p = np.asarray(samples, float)
    size, mean = len(p), p.mean(axis=0)
    if size == 1:
        return entropy(mean)
    without = np.clip((size * mean - p) / (size - 1), 0, 1)
    return size * entropy(mean) - (size - 1) * entropy(without).mean(axis=0)


def _checked(samples: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(samples, float)
    if array.ndim != 4 or 0 in array.shape[:2]:
        found = list(array.shape)
        raise UserError(f"samples: found shape {found}, expected [V, S, N, K]; of one network, samples[None]")
    return array
