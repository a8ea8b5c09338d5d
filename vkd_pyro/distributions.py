"""Distributions over z and over labels, each a network from features to a Pyro distribution; divergences."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.util import detach
from torch import Tensor, nn
from torch.distributions import constraints, kl_divergence
from torch.nn.functional import softplus

from vkd_pyro.errors import UserError

Distribution = dist.TorchDistribution
MIN_SCALE = 1e-4


def mlp(in_features: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers, each followed by ReLU and dropout; [..., in_features] -> [..., hidden[-1]]."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((in_features, *hidden), hidden, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------ over z


class Family(nn.Module, abc.ABC):
    """A conditional distribution over z. A subclass keeps its constructor's arguments as attributes."""

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a distribution, batch shape [B], event shape [latent_dim]."""


class DiagonalNormal(Family):
    """z ~ Normal(loc(features), scale(features)), independent over dimensions (paper, Sec. 3.4).

    Two hidden layers to loc and scale; scale = softplus(raw) + 1e-4. Dropout follows each hidden layer, not the last.

    Args:
        in_features: width of the features.
        latent_dim: D.
        hidden: widths of the hidden layers.
        dropout: probability.
    """

    def __init__(
        self, in_features: int, latent_dim: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.in_features, self.latent_dim, self.hidden, self.dropout = in_features, latent_dim, tuple(hidden), dropout
        self.network = mlp(in_features, self.hidden, dropout)
        self.loc_and_scale = nn.Linear(self.hidden[-1], 2 * latent_dim)

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: Normal, batch shape [B], event shape [latent_dim]."""
        loc, raw_scale = self.loc_and_scale(self.network(features)).float().chunk(2, dim=-1)
        return dist.Normal(loc, softplus(raw_scale) + MIN_SCALE).to_event(1)


def product(z: Distribution, group: Tensor) -> Distribution:
    """The normalised product of the distributions of each group, given to every row of it (a product of experts).

    Args:
        z: independent normals, batch shape [B], event shape [D].
        group: int64 [B], in 0 .. number of groups - 1.

    Raises:
        UserError: a family whose product is no member of it.
    """
    base = getattr(z, "base_dist", None)
    if not isinstance(base, torch.distributions.Normal):
        raise UserError(f"fusion: 'product' is known for the prior DiagonalNormal only, found {z}; use mean")
    precision = base.scale**-2
    shape = (int(group.max()) + 1, precision.shape[-1])
    total = precision.new_zeros(shape).index_add(0, group, precision)
    loc = precision.new_zeros(shape).index_add(0, group, precision * base.loc) / total
    return dist.Normal(loc[group], total[group] ** -0.5).to_event(1)


# ------------------------------------------------------------------------------------- over labels


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


# ------------------------------------------------------------------------------------- divergences


class Divergence(abc.ABC):
    """How far the posterior q(z | x_T) is from the prior p(z | x_I)."""

    @abc.abstractmethod
    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Args: batch shape [B], event shape [D], both; samples z ~ q, float [L, B, D]. Returns: nats, float [B]."""


class KL(Divergence):
    """KL(q || p), summed over dimensions: analytic where known, else the mean over z ~ q of log q(z) - log p(z)."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        try:
            return kl_divergence(q, p)
        except NotImplementedError:
            return (q.log_prob(z) - p.log_prob(z)).mean(0)


class BalancedKL(Divergence):
    """KL balancing: w_prior KL(stop(q) || p) + w_posterior KL(q || stop(p)).

    Its value is (w_prior + w_posterior) KL(q || p); the two weights say how hard the prior is pulled to the posterior
    and the posterior to the prior (Hafner et al. 2021, "Mastering Atari with discrete world models", Sec. 2.2).
    """

    def __init__(self, prior_weight: float = 0.8, posterior_weight: float = 0.2) -> None:
        self.prior_weight, self.posterior_weight = prior_weight, posterior_weight

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        kl = KL()
        pull_prior = kl(detach(q), p, z.detach())
        pull_posterior = kl(q, detach(p), z)
        return self.prior_weight * pull_prior + self.posterior_weight * pull_posterior
