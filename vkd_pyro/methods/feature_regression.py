"""Feature regression: the image's features learn to predict the report's."""

from typing import Any

from pyro.nn import PyroModule
from torch import nn

from vkd_pyro.data.batch import Batch
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.base import ReportClassifier, Rival, log_likelihood
from vkd_pyro.utils.errors import UserError


class FeatureRegression(Rival):
    r"""Feature regression, the report's side trained as a classifier (hints: Romero et al. 2015, arXiv 1412.6550).

        loss = L(f, y) + beta w ||P h_I - h_T||^2 / dim(h_T) + L(t, y)

    where h_I and h_T are the features of image and report, each h_T standardised to mean 0 and variance 1, so that w
    means the same for any encoder; P is linear; L is the Bernoulli cross-entropy summed over findings, of the image's
    classifier f and the report's t; and the report's features get no gradient from the second term. A study without a
    report has the first term only.

    Args:
        weight: w.
        dropout: of the report's classifier.
    """

    def __init__(self, weight: float = 1.0, dropout: float = 0.1) -> None:
        if weight < 0:
            raise UserError(f"rival.weight: found {weight}, expected at least 0")
        self.weight, self.dropout = weight, dropout

    def report_branch(self, image_features: int, report_encoder: ReportEncoder, num_findings: int) -> PyroModule:
        """See `Rival`: the report's classifier, and P."""
        branch = ReportClassifier(report_encoder, num_findings, dropout=self.dropout)
        branch.projection = nn.Linear(image_features, report_encoder.features_dim)
        return branch

    def terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        """See `Rival`; `kl` is the mean squared error of the regression."""
        features = model.image_encoder(batch.images)
        reports, teacher = guide(batch)
        targets = nn.functional.layer_norm(reports.detach(), reports.shape[-1:])
        has_report = batch.has_report.float()
        return Terms(
            log_likelihood=log_likelihood(model.head(features).float(), batch.labels, batch.known),
            auxiliary=has_report * log_likelihood(teacher, batch.labels, batch.known),
            kl=has_report * (guide.projection(features).float() - targets).square().mean(-1),
            auxiliary_weight=1.0,
            kl_weight=kl_weight * self.weight,
        )
