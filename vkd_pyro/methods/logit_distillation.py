"""Logit distillation: the image classifier learns what a teacher that reads the report makes of each study."""

from typing import Literal

from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.base import Method, ReportClassifier, log_likelihood
from vkd_pyro.model import ImageClassifier
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import UserError, check_number, check_probability


class LogitDistillation(Method):
    r"""Logit distillation from a teacher t that reads the report (arXiv 2510.24385), trained beside the student f.

        loss = (1 - beta lambda) L(f, y) + beta lambda tau^2 L(f / tau, sigmoid(t / tau)) + L(t, y)

    where L is the Bernoulli cross-entropy summed over findings, f and t are logits, and the teacher gets no gradient
    from the second term. beta is the schedule's: `Switch` lets the teacher learn before it teaches. A study without a
    report has the first term only, unweighted; one without labels the second only. tau^2 keeps gradients at the size
    that they have at tau = 1 (Hinton et al. 2015).

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        teacher: "report", or "image+report" (the student's image features as well).
        share: lambda, the teacher's share of what the student learns, in [0, 1].
        temperature: tau.
        dropout: of the teacher.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        teacher: Literal["report", "image+report"] = "report",
        share: float = 0.5,
        temperature: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        if teacher not in ("report", "image+report"):
            raise UserError(f"method.teacher: found {teacher!r}, expected 'report' or 'image+report'")
        check_probability("method.share", share)
        check_number("method.temperature", temperature, above=0)
        seen = image_encoder.features_dim if teacher == "image+report" else 0
        super().__init__(
            findings,
            ImageClassifier(image_encoder, len(findings)),
            ReportClassifier(report_encoder, len(findings), seen, dropout),
        )
        self.teacher, self.share, self.temperature, self.dropout = teacher, share, temperature, dropout

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The parts above; the alignment is the student's divergence from the teacher, 0 where they agree."""
        features = self.model.image_encoder(batch.images)
        student = self.model.head(features).float()
        _, teacher = self.guide(batch, features)
        has_report, share = batch.has_report.float(), beta * self.share
        return Terms(
            log_likelihood=(1 - share * has_report) * log_likelihood(student, batch.labels, batch.known),
            auxiliary=has_report * log_likelihood(teacher, batch.labels, batch.known),
            alignment=has_report * self._divergence(student, teacher.detach()),
            auxiliary_weight=1.0,
            alignment_weight=share,
        )

    def report_predictive(self, batch: Batch, features: Tensor, num_samples: int, seed: int) -> PosteriorPredictive:
        """The teacher's probabilities."""
        return self.guide.posterior_predictive(batch, features)

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """tau^2 KL(teacher || student) at temperature tau: the cross-entropy less the entropy; float [B]."""
        tau = self.temperature
        targets = (teacher / tau).sigmoid()
        everywhere = targets.new_ones(targets.shape)
        entropy = -log_likelihood(teacher / tau, targets, everywhere)
        return tau**2 * (-log_likelihood(student / tau, targets, everywhere) - entropy)
