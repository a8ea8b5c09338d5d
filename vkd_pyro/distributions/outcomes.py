"""Likelihoods of labels with other outcomes than present or absent, each on its own."""

from typing import Any

import torch
from pyro.distributions import OneHotCategorical, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods import NetworkLikelihood, independent
from vkd_pyro.utils.errors import UserError


class ThreeOutcomes(TorchDistribution):
    """A label that is -1 (uncertain), 0 (absent) or 1 (present).

    Args:
        logits: of the three, in this order, float [..., 3].
    """

    arg_constraints = {"logits": constraints.real_vector}
    support = constraints.integer_interval(-1, 1)

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ThreeOutcomes":
        """The same with another batch shape; nothing is copied."""
        return ThreeOutcomes(self.logits.expand(*batch_shape, 3), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Float [*sample_shape, ...] of -1, 0 and 1."""
        index = torch.distributions.Categorical(logits=self.logits, validate_args=False).sample(Size(sample_shape))
        return index.to(self.logits) - 1

    def log_prob(self, value: Tensor) -> Tensor:
        """Float [...]."""
        if self._validate_args:
            self._validate_sample(value)
        uncertain, absent, present = self.logits.log_softmax(-1).unbind(-1)
        return torch.where(value < 0, uncertain, torch.where(value > 0, present, absent))


class ThreeOutcomeLikelihood(NetworkLikelihood):
    """Present, absent or uncertain, a softmax a finding, independent given z. For labels of the policy "keep".

    See `NetworkLikelihood` for the arguments. Soft targets are refused: uncertain is an outcome here.
    """

    takes_uncertain = True
    outputs_per_finding = 3

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """See `Likelihood`: batch shape [..., B], event shape [K]; values -1, 0 and 1."""
        return independent(ThreeOutcomes(self.logits(z, features)), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = present | y_k certain, z, features) = p(present) / (p(present) + p(absent)), float [..., B, K]."""
        _, absent, present = self.logits(z, features).unbind(-1)
        return (present - absent).sigmoid()

    def logits(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Of uncertain, absent, present: float [..., B, K, 3]."""
        return self.outputs(z, features).unflatten(-1, (self.num_findings, 3))


class KnownOneHot(OneHotCategorical):
    """One of K, as a vector with a single 1; of a row that is not known the log-probability is 0, whatever it holds.

    `.mask` alone would not do: the values of such rows are checked as well.

    Args:
        logits: float [..., K].
        known: bool, broadcastable to the batch shape.
    """

    def __init__(self, logits: Tensor, known: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)
        self.known = known

    def expand(self, batch_shape: Any, _instance: Any = None) -> "KnownOneHot":
        """The same with another batch shape; nothing is copied."""
        return KnownOneHot(self.logits.expand(Size(batch_shape) + self.event_shape), self.known, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Float [...].

        Raises:
            UserError: a known row that is not one-hot.
        """
        if self._validate_args:
            check_one_hot(value, self.known)
        return torch.where(self.known, (value * self.logits).sum(-1), 0.0)  # logits are normalised


class CategoricalLikelihood(NetworkLikelihood):
    """Exactly one of the K findings is present: y one-hot, logits = f([features, z]).

    See `NetworkLikelihood` for the arguments. A study with any label unknown takes no part. Soft and uncertain targets
    are refused.
    """

    def check_labels(self, labels: Tensor) -> None:
        """Raises `UserError` where the labels of a study are known and not one-hot; float [N, K], NaN unknown."""
        check_one_hot(labels, ~labels.isnan().any(-1))

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """See `Likelihood`: batch shape [..., B], event shape [K]."""
        logits = self.outputs(z, features)
        return KnownOneHot(logits, logits.new_ones((), dtype=torch.bool) if known is None else known.all(-1))

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]; they sum to 1."""
        return self.outputs(z, features).softmax(-1)


def check_one_hot(labels: Tensor, known: Tensor) -> None:
    """Raises `UserError` with how many rows of labels, float [..., K], are known, bool [...], and not one-hot."""
    single = ((labels == 0) | (labels == 1)).all(-1) & (labels.sum(-1) == 1)
    wrong = known & ~single
    if wrong.any():
        raise UserError(
            f"labels: {int(wrong.sum()):,} of {int(known.sum()):,} studies have other than one finding present, and "
            "CategoricalLikelihood expects exactly one; choose data.task.findings of which each study has one, or take "
            "BernoulliLikelihood"
        )
