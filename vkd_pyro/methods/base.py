"""What all rivals share: an image classifier without z, a report branch beside it, and an objective of both."""

import abc
from typing import Any

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vkd_pyro.data.batch import Batch
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.model import VKD, ImageOnly


class Rival(abc.ABC):
    """A network and an objective. Both see the encoders that VKD would have; the image's side is `image_only`'s.

    What is aligned between the branches stands where VKD has its KL, and is weighted by the same schedule.
    """

    def network(self, vkd: VKD) -> ImageOnly:
        """The image classifier and the report branch, on the encoders of `vkd`."""
        image_encoder = vkd.model.image_encoder
        guide = self.report_branch(image_encoder.features_dim, vkd.guide.report_encoder, len(vkd.findings))
        return ImageOnly(vkd.findings, image_encoder, guide)

    @abc.abstractmethod
    def report_branch(self, image_features: int, report_encoder: ReportEncoder, num_findings: int) -> PyroModule:
        """What reads reports, and whatever else only training needs; `report_encoder` is an attribute of it."""

    @abc.abstractmethod
    def terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        """The objective on one batch; `kl_weight` is what the schedule says for this step."""


class ReportClassifier(PyroModule):
    """y ~ t(y | x_T), or t(y | x_I, x_T): a teacher; dropout and a linear layer on the features.

    Args:
        report_encoder: x_T to features.
        num_findings: K.
        image_features: width of the image's features that it sees as well; 0 is the report alone.
        dropout: probability.
    """

    def __init__(
        self, report_encoder: ReportEncoder, num_findings: int, image_features: int = 0, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.report_encoder, self.image_features = report_encoder, image_features
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(report_encoder.features_dim + image_features, num_findings)
        )

    def forward(self, batch: Batch, image_features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Args: a batch; float [B, F], which get no gradient. Returns: the report's features; logits, float [B, K]."""
        features = self.report_encoder(batch.report, batch.report_mask)
        seen = features
        if self.image_features and image_features is not None:
            seen = torch.cat([features, image_features.detach()], dim=-1)
        return features, self.head(seen).float()


def log_likelihood(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """sum_k t_k log p_k + (1 - t_k) log(1 - p_k) over the counted pairs. Args: [B, K] each. Returns: float [B]."""
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return -(losses * counted).sum(-1)
