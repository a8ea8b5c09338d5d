"""A positive label of a rare finding counts several times."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods.base import Head, NetworkLikelihood, independent
from vkd_pyro.distributions.likelihoods.scored_bernoulli import ScoredBernoulli
from vkd_pyro.utils.errors import UserError


class WeightedBernoulliLikelihood(NetworkLikelihood):
    """A Bernoulli that counts a positive label w_k times.

        score = y w log s + (1 - y) log(1 - s),   s = sigmoid(a),   a = f([features, z])_k

    No log-probability, so no ELBO. Its expectation is largest at a = logit p(y = 1) + log w, so p = sigmoid(a - log w).

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        head: settings of f.
        positive_weight: w, one number, or one a finding; "balanced" is negatives / positives among the known
            training labels, 1 for a finding that lacks either.

    Raises:
        UserError: a weight that is not positive, or another number of weights than findings.
    """

    takes_soft = True
    weights: Tensor

    def __init__(
        self,
        latent_dim: int,
        num_findings: int,
        features_dim: int = 0,
        head: Head = Head(),
        positive_weight: float | Sequence[float] | Literal["balanced"] = "balanced",
    ) -> None:
        super().__init__(latent_dim, num_findings, features_dim, head)
        self.positive_weight = positive_weight
        self.register_buffer("weights", _weights(positive_weight, num_findings))

    def observe_labels(self, labels: Tensor) -> None:
        """Takes "balanced" weights from the training labels, float [N, K], NaN unknown."""
        if self.positive_weight == "balanced":
            ratio = (1 - labels).nansum(0) / labels.nansum(0)
            self.weights.copy_(torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0))

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """Labels given z: batch shape [..., B], event shape [K]."""
        a = self.outputs(z, features)
        present, absent = self.weights.to(a) * logsigmoid(a), logsigmoid(-a)
        return independent(ScoredBernoulli(self._logits(a), present, absent), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features) at the optimum, float [..., B, K] in [0, 1]."""
        return self._logits(self.outputs(z, features)).sigmoid()

    def _logits(self, a: Tensor) -> Tensor:
        return a - self.weights.to(a).log()


def _weights(given: float | Sequence[float] | str, num_findings: int) -> Tensor:
    """Float [K]; ones until labels are seen."""
    if given == "balanced":
        return torch.ones(num_findings)
    numbers = [given] * num_findings if isinstance(given, int | float) else given
    if isinstance(numbers, str) or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise UserError(f"positive_weight: found {given!r}, expected numbers above 0, or 'balanced'")
    if len(numbers) != num_findings:
        raise UserError(f"positive_weight: found {len(numbers)} weights, expected {num_findings}, one a finding")
    return torch.tensor(numbers, dtype=torch.get_default_dtype())
