"""Contrastive alignment: an image and its own report are closer than it and the reports of others."""

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import normalize

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions.base import no_autocast
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.base import Method, log_likelihood
from vkd_pyro.model import ImageClassifier
from vkd_pyro.utils.errors import UserError


class Projections(PyroModule):
    """Features of images and reports to one space: two layers each (ConVIRT, Sec. 3.1)."""

    def __init__(self, image_features: int, report_encoder: ReportEncoder, width: int) -> None:
        super().__init__()
        self.report_encoder = report_encoder
        self.of_images = _projection(image_features, width)
        self.of_reports = _projection(report_encoder.features_dim, width)

    def forward(self, batch: Batch, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """Args: a batch; float [B, F]. Returns: unit vectors of images and of reports, float [B, width] each."""
        reports = self.of_reports(self.report_encoder(batch.report, batch.report_mask))
        return normalize(self.of_images(image_features).float(), dim=-1), normalize(reports.float(), dim=-1)


class Contrastive(Method):
    r"""ConVIRT (Zhang et al. 2022, arXiv 2010.00747), jointly with the labels or before them.

        jointly        loss = L(f, y) + beta w A
        as pretraining loss = (1 - beta) L(f, y) + beta w A,  with beta = 1 first, then 0 (`Switch(before=1, after=0)`)

        A = - lambda log softmax_j(<v_i, u_j> / tau)_i - (1 - lambda) log softmax_j(<u_i, v_j> / tau)_i

    where v and u are unit vectors of image and report, the softmax is over the reports (images) of the batch, and L is
    the Bernoulli cross-entropy summed over findings. Other images of the same study are left out of the softmax.
    A study without a report has no A.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        weight: w.
        temperature: tau.
        image_share: lambda, the share of finding the report of an image.
        width: of the common space.
        pretraining: whether the alignment comes before the labels.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        weight: float = 1.0,
        temperature: float = 0.1,
        image_share: float = 0.75,
        width: int = 128,
        pretraining: bool = False,
    ) -> None:
        if weight < 0 or temperature <= 0 or not 0 <= image_share <= 1:
            raise UserError(
                f"method: found weight {weight}, temperature {temperature} and image_share {image_share}, expected at "
                "least 0, above 0, and a share between 0 and 1"
            )
        super().__init__(
            findings,
            ImageClassifier(image_encoder, len(findings)),
            Projections(image_encoder.features_dim, report_encoder, width),
        )
        self.weight, self.temperature, self.image_share = weight, temperature, image_share
        self.width, self.pretraining = width, pretraining

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The parts above; the alignment is A."""
        features = self.model.image_encoder(batch.images)
        supervised = log_likelihood(self.model.head(features).float(), batch.labels, batch.known)
        return Terms(
            log_likelihood=supervised * ((1 - beta) if self.pretraining else 1.0),
            auxiliary=torch.zeros_like(supervised),
            alignment=self._alignment(self.guide(batch, features), batch),
            auxiliary_weight=0.0,
            alignment_weight=beta * self.weight,
        )

    def _alignment(self, vectors: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """A, float [B]; 0 without a report."""
        images, reports = vectors
        rows = batch.has_report.nonzero()[:, 0]
        alignment = images.new_zeros(len(batch))
        if not len(rows):
            return alignment
        with no_autocast(images):
            similarity = images[rows].float() @ reports[rows].float().T / self.temperature
        names = [batch.study_ids[row] for row in rows.tolist()]
        same = torch.tensor([[one == other for other in names] for one in names], device=images.device)
        similarity = similarity.masked_fill(
            same & ~torch.eye(len(names), dtype=torch.bool, device=same.device), -torch.inf
        )
        own = [similarity.log_softmax(dim).diagonal() for dim in (1, 0)]
        found = self.image_share * own[0] + (1 - self.image_share) * own[1]
        return alignment.index_put((rows,), -found)


def _projection(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
