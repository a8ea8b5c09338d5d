"""Posterior predictive sampling (paper Algorithm 2): z^(s) ~ p(z | x), then p(y | x, z^(s)); p(y | x) is their mean.

The one place where z is drawn to predict. What is drawn for an image depends on that image and the seed alone; it is
encoded once, whatever the number of draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vkd_pyro.distributions import Distribution, Family, Likelihood, common_draws
from vkd_pyro.utils.at_once import DRAWS_AT_ONCE


@dataclass(frozen=True, eq=False)
class PosteriorPredictive:
    """What is predicted of B images (or reports).

    Attributes:
        samples: p(y_k = 1 | x, z^(s)), float [S, B, K] in [0, 1]; without z they are all alike.
        latent: the distribution of z that was drawn from, batch shape [B], event shape [D]; None without z.
        z: its draws, float [S, B, D]; None without z.
        independent: whether findings are, given z.
    """

    samples: Tensor
    latent: Distribution | None = None
    z: Tensor | None = None
    independent: bool = True

    @property
    def probabilities(self) -> Tensor:
        """p(y_k = 1 | x), float [B, K] in [0, 1]: the mean over draws."""
        return self.samples.mean(0)


def sample_predictive(
    family: Family,
    likelihood: Likelihood,
    features: Tensor,
    num_samples: int,
    seed: int,
    latent: Distribution | None = None,
    likelihood_features: Tensor | None = None,
) -> PosteriorPredictive:
    """Draws z of each row's own distribution, and asks the likelihood at each draw.

    Args:
        family: makes the distribution of z from features.
        likelihood: of labels given z.
        features: float [B, F].
        num_samples: S.
        seed: of the draws; the generators are left as they were.
        latent: the distribution of z, where it is not the family's own.
        likelihood_features: what the likelihood sees beside z, float [B, F'], or None.
    """
    given = family(features) if latent is None else latent
    z = common_draws(given, lambda rows: family(features[rows]), num_samples, seed, features.device)
    samples = probabilities_given(likelihood.probabilities, z, likelihood_features)
    return PosteriorPredictive(samples, given, z, likelihood.independent_given_z)


def probabilities_given(
    probabilities: Callable[[Tensor, Tensor | None], Tensor], z: Tensor, features: Tensor | None = None
) -> Tensor:
    """p(y_k = 1 | z, features), so many rows at once as memory bears however many the draws.

    Args: what says it; float [S, B, D]; float [B, F] or None. Returns: float [S, B, K] in [0, 1].
    """
    rows = max(1, DRAWS_AT_ONCE // len(z))
    parts = [None] * len(z.split(rows, 1)) if features is None else features.split(rows)
    return torch.cat([probabilities(one, part) for one, part in zip(z.split(rows, 1), parts, strict=True)], 1)


def mean_over_studies(samples: Tensor, group: Tensor) -> Tensor:
    """The mean over the images of each study, draw by draw, given to every one of them.

    Args: float [S, B, K]; which study each image is of, int [B]. Returns: float [S, B, K].
    """
    same = (group[:, None] == group).to(samples)
    means = torch.einsum("bc,sck->sbk", same / same.sum(1, keepdim=True), samples)
    return means.clamp(max=1)  # the mean of ten ones is 1.0000001
