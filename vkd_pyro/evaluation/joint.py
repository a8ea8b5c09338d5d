"""Predictions of all findings of a study together: what a used z gives that independent outputs cannot.

log p(y | x_I) = log 1/S sum_s prod_k p(y_k | x_I, z^(s))         jointly, over draws z^(s) ~ p(z | x_I)
             vs. sum_k log 1/S sum_s p(y_k | x_I, z^(s))          the product of its own marginals

Where labels depend on each other given z as well (`Likelihood.independent_given_z`), the likelihood's own density
stands in place of the product over k.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vkd_pyro.distributions import Likelihood, seeded
from vkd_pyro.sampling import mean_over_studies

MOST_DRAWS = 200
"""Pairs of draws are compared: more would cost memory, and bound no tighter than their logarithm."""

TINY = 1e-7
"""Probabilities are kept this far from 0 and 1, for their logarithms."""


def joint_log_prob(samples: Tensor, labels: Tensor) -> Tensor:
    """log p(y | x) of the known labels of each study, together: the log of the mean over draws of their product.

    In expectation it is too low, by about Var(w) / (2 S E[w]^2), w being the product (arXiv 1509.00519): z that is used
    is never flattered.

    Args: p(y_k = 1 | x, z^(s)), float [S, B, K]; labels, float [B, K], NaN unknown. Returns: float [B], in nats; NaN
    where no label is known.
    """
    of_draws = _log_probs(samples, labels).sum(-1)
    found = of_draws.logsumexp(0) - math.log(len(samples))
    return found.masked_fill(labels.isnan().all(-1), torch.nan)


def marginal_log_prob(samples: Tensor, labels: Tensor) -> Tensor:
    """sum_k log p(y_k | x) over the known labels of each study, as if they were independent; as `joint_log_prob`."""
    found = _log_probs(samples.mean(0), labels).sum(-1)
    return found.masked_fill(labels.isnan().all(-1), torch.nan)


def at_least_one(samples: Tensor, joint: bool = True) -> Tensor:
    """p(any y_k = 1 | x), float [B]: 1 - the mean over draws of prod_k (1 - p_k), or, not jointly, 1 - prod_k (1 - the
    mean over draws of p_k). Args: p(y_k = 1 | x, z^(s)), float [S, B, K]."""
    none = 1 - samples.float()
    return 1 - (none.prod(-1).mean(0) if joint else none.mean(0).prod(-1))


def answer_information(samples: Tensor, seed: int) -> Tensor:
    """At least I(z; y | x), the mutual information of z and all answers of a study, float [B] in nats.

        1/S sum_s log p(y^(s) | x, z^(s)) / (1/S sum_t p(y^(s) | x, z^(t))),   y^(s) ~ p(y | x, z^(s))

    In expectation a lower bound, at most log S (InfoNCE, arXiv 1905.06922, Sec. 2.3), of the first 200 draws. NaN for a
    single draw.

    Args: p(y_k = 1 | x, z^(s)), float [S, B, K]; seed of the answers, drawn alike for every study.
    """
    samples = samples[:MOST_DRAWS]
    count, studies, findings = samples.shape
    if count < 2:
        return samples.new_full((studies,), torch.nan)
    p = samples.float().clamp(TINY, 1 - TINY)
    with seeded(seed, samples.device):
        uniform = torch.rand(count, 1, findings, device=samples.device)
    answers = (uniform < p).float()
    yes, no = p.log(), (1 - p).log()
    # log p(y^(s) | z^(t)), [B, s, t]
    pairs = torch.einsum("sbk,tbk->bst", answers, yes) + torch.einsum("sbk,tbk->bst", 1 - answers, no)
    own = pairs.diagonal(dim1=1, dim2=2)
    return (own - pairs.logsumexp(2) + math.log(count)).mean(1)


def dependent_log_prob(
    likelihood: Likelihood, z: Tensor, features: Tensor, labels: Tensor, group: Tensor | None = None
) -> Tensor:
    """log p(y | x) where labels depend on each other given z: as `joint_log_prob`, by the likelihood's own density.

    Args: the likelihood; draws of z, float [S, B, D]; float [B, F]; labels, float [B, K], NaN unknown; which study each
    image is of, int [B], whose images are then averaged, None for each image apart. Returns: float [B], in nats; NaN
    where what is known has no log-probability.
    """
    known = ~labels.isnan()
    drawn = torch.stack([likelihood(one, features, known).log_prob(labels.nan_to_num()) for one in z])
    found = drawn.double().logsumexp(0) - math.log(len(z))  # a product of many may be tiny
    return _mean_of_images(found.exp(), group).log().masked_fill(~likelihood.takes_part(known), torch.nan)


def dependent_at_least_one(
    likelihood: Likelihood, z: Tensor, features: Tensor, findings: Sequence[int], group: Tensor | None = None
) -> Tensor:
    """p(any of these findings | x), float [B], as `at_least_one`; arguments as of `dependent_log_prob`."""
    none = torch.stack([likelihood.none_probability(one, findings, features) for one in z]).float().mean(0)
    return 1 - _mean_of_images(none, group)


def _mean_of_images(values: Tensor, group: Tensor | None) -> Tensor:
    return values if group is None else mean_over_studies(values[None, :, None], group)[0, :, 0]


def _log_probs(p: Tensor, labels: Tensor) -> Tensor:
    """log p(y_k) of each label, 0 where it is unknown; [..., B, K]."""
    p = p.float().clamp(TINY, 1 - TINY)
    return torch.where(labels == 1, p.log(), (1 - p).log()) * ~labels.isnan()
