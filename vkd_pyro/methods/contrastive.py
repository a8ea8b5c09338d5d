"""Contrastive alignment: an image and its own report are closer than it and the reports of others."""

from collections.abc import Callable

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
from vkd_pyro.utils.errors import check_count, check_number, check_probability


class Embeddings(PyroModule):
    """Where images and reports meet, and how far apart each image and its own report are there.

    A subclass makes its networks from the width of the image's features and a report encoder, and gives `contrast`.

    Args:
        report_encoder: reads reports.
    """

    def __init__(self, report_encoder: ReportEncoder) -> None:
        super().__init__()
        self.report_encoder = report_encoder

    def contrast(self, images: Tensor, reports: Tensor, others: Tensor) -> Tensor:
        """A of each study. Args: features, float [B, F] and [B, R]; which reports are of another study than which
        image, bool [B, B]. Returns: float [B], of studies that have a report."""
        raise NotImplementedError

    def forward(self, batch: Batch, image_features: Tensor) -> Tensor:
        """A of each study, 0 without a report. Args: a batch; float [B, F]. Returns: float [B]."""
        rows = batch.has_report.nonzero()[:, 0]
        alignment = image_features.new_zeros(len(batch), dtype=torch.float32)
        if not len(rows):
            return alignment
        names = [batch.study_ids[row] for row in rows.tolist()]
        others = torch.tensor([[one != other for other in names] for one in names], device=rows.device)
        reports = self.report_encoder(batch.report, batch.report_mask)
        return alignment.index_put((rows,), self.contrast(image_features[rows], reports[rows], others))


class UnitVectors(Embeddings):
    r"""ConVIRT (Zhang et al. 2022, arXiv 2010.00747): directions, compared by their cosine.

        A_i = - lambda log softmax_j(<v_i, u_j> / tau)_i - (1 - lambda) log softmax_j(<u_i, v_j> / tau)_i

    where v and u are unit vectors of image and report, and the softmax is over the reports (images) of the batch.

    Args:
        image_features: width of the image's features.
        report_encoder: reads reports.
        temperature: tau.
        image_share: lambda, the share of finding the report of an image.
        width: of the common space.
    """

    def __init__(
        self,
        image_features: int,
        report_encoder: ReportEncoder,
        temperature: float = 0.1,
        image_share: float = 0.75,
        width: int = 128,
    ) -> None:
        check_number("method.embeddings.temperature", temperature, above=0)
        check_probability("method.embeddings.image_share", image_share)
        check_count("method.embeddings.width", width)
        super().__init__(report_encoder)
        self.temperature, self.image_share = temperature, image_share
        self.of_images = projection(image_features, width)
        self.of_reports = projection(report_encoder.features_dim, width)

    def contrast(self, images: Tensor, reports: Tensor, others: Tensor) -> Tensor:
        """The formula above."""
        v, u = (normalize(vector.float(), dim=-1) for vector in (self.of_images(images), self.of_reports(reports)))
        with no_autocast(v):
            similarity = v @ u.T / self.temperature
        own = torch.eye(len(v), dtype=torch.bool, device=v.device)
        similarity = similarity.masked_fill(~(others | own), -torch.inf)
        found = [similarity.log_softmax(dim).diagonal() for dim in (1, 0)]
        return -(self.image_share * found[0] + (1 - self.image_share) * found[1])


class Contrastive(Method):
    r"""An image is nearer to its own report than to those of others: jointly with the labels, or before them.

        jointly        loss = L(f, y) + beta w A
        as pretraining loss = (1 - beta) L(f, y) + beta w A,  with beta = 1 first, then 0 (`Switch(before=1, after=0)`)

    where A is what the embeddings say, and L the Bernoulli cross-entropy summed over findings. Other images of the same
    study are not contrasted. A study without a report has no A.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        embeddings: makes the common space from (features_dim, report_encoder).
        weight: w.
        pretraining: whether the alignment comes before the labels.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        embeddings: Callable[[int, ReportEncoder], Embeddings] = UnitVectors,
        weight: float = 1.0,
        pretraining: bool = False,
    ) -> None:
        check_number("method.weight", weight)
        guide = embeddings(image_encoder.features_dim, report_encoder)
        super().__init__(findings, ImageClassifier(image_encoder, len(findings)), guide)
        self.weight, self.pretraining = weight, pretraining

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The parts above; the alignment is A."""
        features = self.model.image_encoder(batch.images)
        supervised = log_likelihood(self.model.head(features).float(), batch.labels, batch.known)
        return Terms(
            log_likelihood=supervised * ((1 - beta) if self.pretraining else 1.0),
            auxiliary=torch.zeros_like(supervised),
            alignment=self.guide(batch, features),
            auxiliary_weight=0.0,
            alignment_weight=beta * self.weight,
        )


def projection(inputs: int, width: int) -> nn.Sequential:
    """Two layers from features into a common space (ConVIRT, Sec. 3.1)."""
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
