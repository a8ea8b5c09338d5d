"""Labels that are present, absent or uncertain."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods.base import NetworkLikelihood, independent


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
        return ThreeOutcomes(self.logits.expand(*batch_shape, 3), self._validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Float [*sample_shape, ...] of -1, 0 and 1."""
        index = torch.distributions.Categorical(logits=self.logits, validate_args=False).sample(Size(sample_shape))
        return index.to(self.logits) - 1

    def log_prob(self, value: Tensor) -> Tensor:
        """log p, float [...]."""
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
        """Labels given z: batch shape [..., B], event shape [K]; values -1, 0 and 1."""
        return independent(ThreeOutcomes(self.logits(z, features)), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = present | y_k certain, z, features) = p(present) / (p(present) + p(absent)), float [..., B, K]."""
        _, absent, present = self.logits(z, features).unbind(-1)
        return (present - absent).sigmoid()

    def logits(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Logits of uncertain, absent, present: float [..., B, K, 3]."""
        return self.outputs(z, features).unflatten(-1, (self.num_findings, 3))
