"""The likelihood of the paper: independent Bernoulli labels."""

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods.base import NetworkLikelihood, independent


class SoftBernoulli(dist.Bernoulli):
    """A Bernoulli whose log-probability is also defined for a soft target t in [0, 1]: t log p + (1 - t) log(1 - p).

    At 0 and 1 it is the Bernoulli's own; between, the expected log-probability of a label drawn from Bernoulli(t). Its
    support is still that of what it draws, so Pyro's algorithms do not take an unobserved label for a continuous one.
    """

    def _validate_sample(self, value: Tensor) -> None:
        if not constraints.unit_interval.check(value).all():
            raise ValueError(f"{type(self).__name__}: found a label that is not within the support, [0, 1]")


class BernoulliLikelihood(NetworkLikelihood):
    """y_k ~ Bernoulli(logits = f([features, z])_k), independent given z. See `NetworkLikelihood` for the arguments."""

    takes_soft = True

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """Labels given z: batch shape [..., B], event shape [K]."""
        return independent(SoftBernoulli(logits=self.logits(z, features)), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""
        return self.logits(z, features).sigmoid()

    def logits(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Args: float [..., B, latent_dim]; float [B, features_dim]. Returns: float [..., B, K]."""
        return self.outputs(z, features)
