"""Likelihoods for rare findings: weighted and focal scores in place of the log-probability.

Neither score is the logarithm of a density: exp of it does not sum to 1 over the outcomes, and an ELBO with it bounds
nothing. Both have a known optimum, from which the probability of a finding follows in closed form; that is what
`probabilities` gives, so it stays calibrated, and what the distribution draws from.
"""

from typing import Any

from torch import Tensor

from vkd_pyro.distributions.likelihoods.bernoulli import SoftBernoulli


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
        return ScoredBernoulli(logits, present, absent, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The score of labels in [0, 1], float [...]: no logarithm of a density."""
        if self._validate_args:
            self._validate_sample(value)
        return value * self.if_present + (1 - value) * self.if_absent
