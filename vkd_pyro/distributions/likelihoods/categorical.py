"""Exactly one of the findings is present."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import OneHotCategorical
from torch import Size, Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods.base import NetworkLikelihood
from vkd_pyro.utils.errors import UserError


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
        return KnownOneHot(self.logits.expand(Size(batch_shape) + self.event_shape), self.known, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p, and 0 for rows that are not known; float [...].

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

    independent_given_z = False

    def check_labels(self, labels: Tensor) -> None:
        """Raises `UserError` where the labels of a study are known and not one-hot; float [N, K], NaN unknown."""
        check_one_hot(labels, ~labels.isnan().any(-1))

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """Labels given z: batch shape [..., B], event shape [K]."""
        logits = self.outputs(z, features)
        return KnownOneHot(logits, logits.new_ones((), dtype=torch.bool) if known is None else known.all(-1))

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]; they sum to 1."""
        return self.outputs(z, features).softmax(-1)

    def none_probability(self, z: Tensor, findings: Sequence[int], features: Tensor | None = None) -> Tensor:
        """p(none of these findings | z, features), float [..., B] in [0, 1]: they exclude each other."""
        return (1 - self.probabilities(z, features)[..., list(findings)].sum(-1)).clamp(min=0)

    def takes_part(self, known: Tensor) -> Tensor:
        """Only where all labels are known, bool [..., B]."""
        return known.all(-1)


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
