"""A report as the facts that the labeller finds in it: which findings are there, on which side, how severe."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from vkd_pyro.data.labels.facts import ATTRIBUTES, facts_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.reports.base import LinearOutputs, ReportLikelihood

VALUES = 4
"""Of presence, of side, of severity; 0 is "not mentioned" or "not said"."""


class Facts(dist.TorchDistribution):
    """Presence, side and severity of each finding, each categorical; a side or severity that is not said is no fact.

    Args:
        logits: float [..., B, K * 3, 4].
    """

    arg_constraints: ClassVar = {"logits": constraints.independent(constraints.real, 2)}
    support = constraints.independent(constraints.real, 1)

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Args: codes, int64 [..., B, K * 3], those of a finding together; -1 is none. Returns: float [..., B]."""
        places = value.clamp(min=0).expand(self.logits.shape[:-1]).unsqueeze(-1)
        observed = (value > 0) | (self._is_presence & (value == 0))
        log_probs = self._of_what_is_said().log_softmax(-1).gather(-1, places).squeeze(-1)
        return torch.where(observed, log_probs, 0.0).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Codes, int64 [..., B, K * 3]; sides and severities are always said."""
        return torch.distributions.Categorical(logits=self._of_what_is_said()).sample(sample_shape)

    @property
    def _is_presence(self) -> Tensor:
        return torch.arange(self.logits.shape[-2], device=self.logits.device) % len(ATTRIBUTES) == 0

    def _of_what_is_said(self) -> Tensor:
        """The logits, without "not said" of a side and of a severity: that it is not said has no probability."""
        not_said = torch.arange(VALUES, device=self.logits.device) == 0
        return self.logits.masked_fill(~self._is_presence[:, None] & not_said, -torch.inf)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Facts":
        return Facts(self.logits.expand(*batch_shape, -1, -1), self._validate_args)


class ReportFacts(ReportLikelihood):
    """The labeller's facts: presence, side and severity of the 14 CheXpert findings, categorical given z.

    What the labeller does not know by name is not observed.

    Args:
        latent_dim: D.
        features_dim: width of the image features that are seen beside z; 0 is z alone.
    """

    def __init__(self, latent_dim: int, features_dim: int = 0) -> None:
        super().__init__(latent_dim, features_dim)
        self.num_facts = len(CHEXPERT_FINDINGS) * len(ATTRIBUTES)
        self.outputs = LinearOutputs(latent_dim, features_dim, self.num_facts * VALUES)

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """The codes of each report, int64 [14 * 3]."""
        return [torch.from_numpy(codes.ravel()) for codes in facts_of(reports)]

    @property
    def preparation(self) -> dict[str, Any]:
        """The labeller has no settings."""
        return {"observed": type(self).__name__}

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Begins with how frequent each value is."""
        codes = torch.stack(list(reports))
        counts = torch.stack([(codes == value).sum(0) for value in range(VALUES)], -1) + 0.5
        with torch.no_grad():
            self.outputs.of_z.bias.copy_((counts / counts.sum(-1, keepdim=True)).log().flatten())

    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        """Codes of facts: batch shape [..., B], event shape [14 * 3]."""
        return Facts(self.outputs(z, features).unflatten(-1, (self.num_facts, VALUES)))
