"""Draws by the groups of ArviZ, as a file and in memory have them alike.

    posterior             probability, p(y_k = 1 | x_I, z^(s)); z, if there is one
    posterior_predictive  y, labels drawn from these probabilities, each finding on its own given z
    observed_data         y, labels 1 or 0, NaN unknown
    log_likelihood        y, log p(y_k | x_I, z^(s)); 0 where the label is unknown, as the program masks it

A chain is a network, a draw a sample of z. The last two groups are there with labels only.

Draws are of p(z | x_I), which has not seen the labels. So the log of the mean likelihood over draws is already held
out; `arviz.loo` weighs draws as if they had seen the labels, and comes out lower.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Groups = dict[str, dict[str, NDArray[np.float32]]]

SAMPLED = ("chain", "draw", "study")
DIMS = {"probability": (*SAMPLED, "finding"), "z": (*SAMPLED, "latent"), "y": (*SAMPLED, "finding")}
"""Dimensions of each variable; what is observed has neither chain nor draw."""


def dims_of(group: str, variable: str) -> tuple[str, ...]:
    """Dimensions of a variable in a group."""
    return DIMS[variable][2:] if group == "observed_data" else DIMS[variable]


def groups_of(
    samples: NDArray[np.float32],
    z: NDArray[np.float32] | None = None,
    labels: ArrayLike | None = None,
    seed: int = 0,
    first: int = 0,
) -> Groups:
    """Variables by group, float32, with the dimensions of `dims_of`.

    Args:
        samples: p(y_k = 1 | x_I, z^(s)) [V, S, N, K], in [0, 1].
        z: [V, S, N, D].
        labels: [N, K], 1, 0, NaN unknown.
        seed: of the labels drawn, which depend on it and the number of the study alone.
        first: the number of the first study.
    """
    posterior = {"probability": samples} | ({} if z is None else {"z": z})
    groups: Groups = {"posterior": posterior, "posterior_predictive": {"y": _drawn(samples, seed, first)}}
    if labels is not None:
        observed = np.asarray(labels, np.float32)
        groups |= {"observed_data": {"y": observed}, "log_likelihood": {"y": _log_likelihood(samples, observed)}}
    return groups


def _drawn(samples: NDArray[np.float32], seed: int, first: int) -> NDArray[np.float32]:
    drawn = np.empty(samples.shape, np.float32)
    for row in range(samples.shape[2]):
        p = samples[:, :, row]
        drawn[:, :, row] = np.random.default_rng((seed, first + row)).random(p.shape, np.float32) < p
    return drawn


def _log_likelihood(samples: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A p within float32's precision of 0 or 1 is held there: log 0 would be of the rounding alone."""
    precision = float(np.finfo(np.float32).eps)
    p = samples.astype(np.float64).clip(precision, 1 - precision)
    known = np.nan_to_num(labels)
    log_p = known * np.log(p) + (1 - known) * np.log1p(-p)
    return np.where(np.isnan(labels), 0, log_p).astype(np.float32)
