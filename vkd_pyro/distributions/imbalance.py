"""Likelihoods for rare findings: weighted and focal scores in place of the log-probability.

Neither score is the logarithm of a density: exp of it does not sum to 1 over the outcomes, and an ELBO with it bounds
nothing. Both have a known optimum, from which the probability of a finding follows in closed form; that is what
`probabilities` gives, so it stays calibrated, and what the distribution draws from.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods import NetworkLikelihood, SoftBernoulli, independent
from vkd_pyro.utils.errors import UserError


class ScoredBernoulli(SoftBernoulli):
    """A Bernoulli with scores of its own in place of the log-probability: t if_present + (1 - t) if_absent.

    Args:
        logits: of what is drawn, float [...].
        if_present, if_absent: scores of the labels 1 and 0, float [...].
    """

    def __init__(
        self, logits: Tensor, if_present: Tensor, if_absent: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(logits=logits, validate_args=validate_args)
        self.if_present, self.if_absent = if_present, if_absent

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ScoredBernoulli":
        """The same with another batch shape; nothing is copied."""
        logits, present, absent = (x.expand(batch_shape) for x in (self.logits, self.if_present, self.if_absent))
        return ScoredBernoulli(logits, present, absent, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The score of labels in [0, 1], float [...]: no logarithm of a density."""
        if self._validate_args:
            self._validate_sample(value)
        return value * self.if_present + (1 - value) * self.if_absent


class WeightedBernoulliLikelihood(NetworkLikelihood):
    """A Bernoulli that counts a positive label w_k times.

        score = y w log s + (1 - y) log(1 - s),   s = sigmoid(a),   a = f([features, z])_k

    No log-probability, so no ELBO. Its expectation is largest at a = logit p(y = 1) + log w, so p = sigmoid(a - log w).

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        hidden_dim: width of the hidden layer of f; 0 is a linear f.
        dropout: probability.
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
        hidden_dim: int = 512,
        dropout: float = 0.5,
        positive_weight: float | Sequence[float] | Literal["balanced"] = "balanced",
    ) -> None:
        super().__init__(latent_dim, num_findings, features_dim, hidden_dim, dropout)
        self.positive_weight = positive_weight
        self.register_buffer("weights", _weights(positive_weight, num_findings))

    def observe_labels(self, labels: Tensor) -> None:
        """Takes "balanced" weights from the training labels, float [N, K], NaN unknown."""
        if self.positive_weight == "balanced":
            ratio = (1 - labels).nansum(0) / labels.nansum(0)
            self.weights.copy_(torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0))

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """See `Likelihood`: batch shape [..., B], event shape [K]."""
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


class FocalBernoulliLikelihood(NetworkLikelihood):
    """A Bernoulli that looks away from what is right already.

        score = y (1 - s)^gamma log s + (1 - y) s^gamma log(1 - s),   s = sigmoid(a),   a = f([features, z])_k

    (Lin et al. 2017, "Focal loss for dense object detection".) No log-probability, so no ELBO. Where its expectation
    is largest, s is nearer to 1/2 than p = p(y = 1) is; its derivative by s is zero there, which gives p
    (Charoenphakdee et al. 2021, "On focal loss for class-posterior probability estimation"):

        p = h(s) / (h(s) + h(1 - s)),   h(s) = s / ((1 - s)^gamma - gamma (1 - s)^(gamma - 1) s log s)

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        hidden_dim: width of the hidden layer of f; 0 is a linear f.
        dropout: probability.
        gamma: how far it looks away; 0 is the Bernoulli's log-probability.

    Raises:
        UserError: a gamma below 0.
    """

    takes_soft = True

    def __init__(
        self,
        latent_dim: int,
        num_findings: int,
        features_dim: int = 0,
        hidden_dim: int = 512,
        dropout: float = 0.5,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(latent_dim, num_findings, features_dim, hidden_dim, dropout)
        if not 0 <= gamma < math.inf:
            raise UserError(f"gamma: found {gamma}, expected a number of at least 0; the paper's is 2")
        self.gamma = gamma

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """See `Likelihood`: batch shape [..., B], event shape [K]."""
        a = self.outputs(z, features)
        # the powers by exp and log: no 0^gamma to differentiate
        present = (self.gamma * logsigmoid(-a)).exp() * logsigmoid(a)
        absent = (self.gamma * logsigmoid(a)).exp() * logsigmoid(-a)
        return independent(ScoredBernoulli(self._logits(a), present, absent), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features) at the optimum, float [..., B, K] in [0, 1]."""
        return self._logits(self.outputs(z, features)).sigmoid()

    def _logits(self, a: Tensor) -> Tensor:
        """log h(s) - log h(1 - s) = (1 + gamma) a + log(1 + gamma r(-a)) - log(1 + gamma r(a)), float [..., B, K].

        where r(a) = -s log s / (1 - s) = exp(a) log(1 + exp(-a)), which goes from 0 to 1.
        """
        b = a.clamp(-80, 80)  # beyond, r is 0 or 1, and exp overflows
        r, r_absent = b.exp() * softplus(-b), (-b).exp() * softplus(b)
        return (1 + self.gamma) * a + (self.gamma * r_absent).log1p() - (self.gamma * r).log1p()
