"""Distributions over labels, given z and the image's features or not."""

import abc
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from vkd_pyro.distributions.base import Distribution


class Likelihood(nn.Module, abc.ABC):
    """A distribution over the K labels given z, and the image's features or not.

    A subclass keeps its constructor's arguments as attributes.

    Attributes:
        takes_uncertain: whether a label of -1, "uncertain", is one of its outcomes (policy "keep").
    """

    takes_uncertain: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """A distribution over labels, with unknown labels masked out of its log-probability.

        Args:
            z: float [..., B, latent_dim].
            features: float [B, features_dim], or None.
            known: bool [B, K]; None is all known.
        Returns: batch shape [..., B], event shape [K].
        """

    @abc.abstractmethod
    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""


class SoftBernoulli(dist.Bernoulli):
    """A Bernoulli whose log-probability is also defined for a soft target t in [0, 1]: t log p + (1 - t) log(1 - p).

    At 0 and 1 it is the Bernoulli's own; between, the expected log-probability of a label drawn from Bernoulli(t).
    """

    support = constraints.unit_interval


class BernoulliLikelihood(Likelihood):
    """y_k ~ Bernoulli(logits = f([features, z])_k), independent given z: dropout, Linear, ReLU, dropout, Linear.

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        hidden_dim: width of the hidden layer.
        dropout: probability.
    """

    def __init__(
        self, latent_dim: int, num_findings: int, features_dim: int = 0, hidden_dim: int = 512, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_findings, self.features_dim = latent_dim, num_findings, features_dim
        self.hidden_dim, self.dropout = hidden_dim, dropout
        self.network = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(features_dim + latent_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, num_findings),
        )

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """See `Likelihood`: batch shape [..., B], event shape [K]."""
        bernoulli = SoftBernoulli(logits=self.logits(z, features))
        return (bernoulli if known is None else bernoulli.mask(known)).to_event(1)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""
        return self.logits(z, features).sigmoid()

    def logits(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Args: float [..., B, latent_dim]; float [B, features_dim]. Returns: float32 [..., B, K]."""
        if self.features_dim and features is not None:
            z = torch.cat([features.expand(*z.shape[:-1], -1), z], dim=-1)
        return self.network(z).float()
