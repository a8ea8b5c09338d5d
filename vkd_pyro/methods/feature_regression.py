"""Feature regression: the image's features learn to predict the report's."""

from torch import Tensor, nn

from vkd_pyro.data.batch import Batch
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.base import Method, ReportClassifier, log_likelihood
from vkd_pyro.model import ImageClassifier
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import check_number


class FeatureRegression(Method):
    r"""Feature regression, the report's side trained as a classifier (hints: Romero et al. 2015, arXiv 1412.6550).

        loss = L(f, y) + beta w ||P h_I - h_T||^2 / dim(h_T) + L(t, y)

    where h_I and h_T are the features of image and report, each h_T standardised to mean 0 and variance 1, so that w
    means the same for any encoder; P is linear; L is the Bernoulli cross-entropy summed over findings, of the image's
    classifier f and the report's t; and the report's features get no gradient from the second term. A study without a
    report has the first term only.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        weight: w.
        dropout: of the report's classifier.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        check_number("method.weight", weight)
        model = ImageClassifier(image_encoder, len(findings))
        guide = ReportClassifier(report_encoder, len(findings), dropout=dropout)
        guide.projection = nn.Linear(image_encoder.features_dim, report_encoder.features_dim)
        super().__init__(findings, model, guide)
        self.weight, self.dropout = weight, dropout

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The parts above; the alignment is the mean squared error of the regression."""
        features = self.model.image_encoder(batch.images)
        reports, teacher = self.guide(batch)
        targets = nn.functional.layer_norm(reports.detach(), reports.shape[-1:])
        has_report = batch.has_report.float()
        return Terms(
            log_likelihood=log_likelihood(self.model.head(features).float(), batch.labels, batch.known),
            auxiliary=has_report * log_likelihood(teacher, batch.labels, batch.known),
            alignment=has_report * (self.guide.projection(features).float() - targets).square().mean(-1),
            auxiliary_weight=1.0,
            alignment_weight=beta * self.weight,
        )

    def report_predictive(self, batch: Batch, features: Tensor, num_samples: int, seed: int) -> PosteriorPredictive:
        """The probabilities of the report's classifier."""
        return self.guide.posterior_predictive(batch, features)
