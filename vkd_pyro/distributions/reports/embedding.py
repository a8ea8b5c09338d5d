"""A report as the embedding that a language model gives it: for reports that are not to be kept as words."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.reports.base import LinearOutputs, ReportLikelihood
from vkd_pyro.utils.errors import UserError

MIN_SCALE = 1e-3


class ReportEmbedding(ReportLikelihood):
    """The mean of the report's token embeddings, standardised over the training reports: normal given z.

        p(x_T | z) = prod_e Normal(x_e | loc = (W_z z + W_h h + b)_e, scale_e)

    Args:
        latent_dim: D.
        features_dim: width of the image features h that are seen beside z; 0 is z alone.
        reader: gives token embeddings when it prepares reports: a `LanguageModelEncoder` with its cache. Nothing of it
            is trained.
    """

    def __init__(self, latent_dim: int, features_dim: int = 0, *, reader: nn.Module) -> None:
        super().__init__(latent_dim, features_dim)
        found = f"method.report_likelihood.reader: found {type(reader).__name__}"
        expected = "expected a report encoder that gives token embeddings: LanguageModelEncoder with cache true"
        if not hasattr(reader, "prepare"):
            raise UserError(f"{found}, {expected}")
        if not reader.prepare([""])[0].is_floating_point():  # type: ignore[operator]  # torch takes it for a tensor
            raise UserError(f"{found}, which gives token numbers, whose mean says nothing; {expected}")
        self.reader: Any = reader.requires_grad_(False)
        width = int(self.reader.features_dim)  # type: ignore[arg-type]  # of a part that torch takes for a tensor
        self.outputs = LinearOutputs(latent_dim, features_dim, width)
        self.raw_scale = nn.Parameter(torch.full((width,), 0.5413))  # softplus of it is 1
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """The mean of the token embeddings of each report, float32 [1, E]."""
        return [tokens.float().mean(0, keepdim=True) for tokens in self.reader.prepare(reports)]

    @property
    def preparation(self) -> dict[str, Any]:
        """What the embeddings depend on."""
        return {"observed": type(self).__name__} | self.reader.preparation

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Takes mean and standard deviation of the training reports."""
        embeddings = torch.cat(list(reports))
        self.mean.copy_(embeddings.mean(0))
        spread = embeddings.std(0) if len(embeddings) > 1 else torch.zeros_like(self.std)
        self.std.copy_(spread.clamp(min=MIN_SCALE))

    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        """The embedding, batch shape [..., B], event shape [1, E]."""
        loc = self.outputs(z, features) * self.std + self.mean
        scale = (softplus(self.raw_scale) + MIN_SCALE) * self.std
        return dist.Normal(loc.unsqueeze(-2), scale).to_event(2)
