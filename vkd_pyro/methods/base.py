"""What a method is: a network that reads X-rays, what only its training needs, and an objective."""

from typing import Any, ClassVar

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.labels.findings import check_findings
from vkd_pyro.distributions import ReportLikelihood
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.model import ImageModel
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import check_probability
from vkd_pyro.utils.notebook import notebook_html


class Method(PyroModule):
    """A way of learning to read X-rays. One's own is a subclass in a file of its own, named in a config:

        method:
          class_path: my_method.MyMethod
          init_args: {...}

    Its constructor takes `findings`, names of the K labels, whatever else it likes, and hands on the first three below.

    Args:
        findings: names of the K labels.
        model: reads X-rays; it alone is kept after training.
        guide: what only training needs; None for nothing. What reads reports is its `report_encoder`.

    Attributes:
        reads_reports: whether training reads reports.
        fills_unknown_labels: whether labels that are not known are taken from the report.
    """

    model: ImageModel
    guide: Any  # of its own kind in each method
    reads_reports: ClassVar[bool] = True
    fills_unknown_labels: bool = False

    def __init__(self, findings: tuple[str, ...], model: ImageModel, guide: PyroModule | None = None) -> None:
        super().__init__()
        self.findings = check_findings("findings", findings)
        self.model, self.guide = model, guide

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The objective on one batch, in its parts.

        Args: a batch; beta, what the schedule says for this step: the weight of what draws image and report together.
        """
        raise NotImplementedError

    def report_predictive(
        self, batch: Batch, features: Tensor, num_samples: int, seed: int
    ) -> PosteriorPredictive | None:
        """What the reports of a batch say of the findings; None where nothing in the method classifies reports.

        Args: a batch; features of its images, float [B, F]; S; seed of the draws.
        """
        return None

    @property
    def image_model(self) -> ImageModel:
        """What is kept of the model when training has ended."""
        return self.model

    @property
    def report_likelihood(self) -> ReportLikelihood | None:
        """What observes reports while learning; None where nothing does."""
        return getattr(self.model, "report_likelihood", None) if self.reads_reports else None

    @property
    def report_encoder(self) -> ReportEncoder | None:
        """What reads reports while learning; None where nothing does."""
        return getattr(self.guide, "report_encoder", None) if self.reads_reports else None

    def _repr_html_(self) -> str:
        """Parts of model and guide with their numbers of parameters, for a notebook."""
        rows = [
            {"of": of, "part": name, "class": type(part).__name__} | _sizes(part)
            for of, owner in (("model", self.model), ("guide", self.guide))
            for name, part in ([] if owner is None else owner.named_children())
        ]
        objective = getattr(self, "objective", None)
        how = [] if objective is None else [f"objective: {type(objective).__name__}"]
        return notebook_html(f"{type(self).__name__} of {len(self.findings)} findings", rows, *how)


def _sizes(part: nn.Module) -> dict[str, int]:
    """How many numbers are trained, and how many stay."""
    trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
    return {"trained": trained, "frozen": sum(p.numel() for p in part.parameters()) - trained}


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
        check_probability("method.dropout", dropout)
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

    def report_loss(self, batch: Batch) -> Tensor | None:
        """- log t(y | x_T), scalar, to warm it up; None for one that looks at the image, too."""
        if self.image_features:
            return None
        return -(batch.has_report * log_likelihood(self(batch)[1], batch.labels, batch.known)).mean()

    def posterior_predictive(self, batch: Batch, image_features: Tensor) -> PosteriorPredictive:
        """t(y_k = 1 | x_T), float [1, B, K]; there is nothing to draw."""
        return PosteriorPredictive(self(batch, image_features)[1].sigmoid()[None])


def log_likelihood(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """sum_k t_k log p_k + (1 - t_k) log(1 - p_k) over the counted pairs. Args: [B, K] each. Returns: float [B]."""
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return -(losses * counted).sum(-1)
