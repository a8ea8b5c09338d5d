"""Multi-task learning: the image's features predict the findings and the report, without z."""

from collections.abc import Callable

import torch
from pyro.nn import PyroModule
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import ReportLikelihood
from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.base import Method, ReportClassifier, log_likelihood
from vkd_pyro.model import ImageClassifier
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import check_number


class Heads(PyroModule):
    """What only training needs: p(x_T | h), and the teacher t(y | x_T) or None."""

    def __init__(self, report_likelihood: ReportLikelihood, teacher: ReportClassifier | None) -> None:
        super().__init__()
        self.report_likelihood, self.teacher = report_likelihood, teacher

    @property
    def report_encoder(self) -> ReportEncoder | None:
        """What reads reports; None without a teacher."""
        return None if self.teacher is None else self.teacher.report_encoder

    def report_loss(self, batch: Batch) -> Tensor | None:
        """That of the teacher; None without one."""
        return None if self.teacher is None else self.teacher.report_loss(batch)


class MultiTask(Method):
    r"""One image encoder with two heads, one for the findings and one for what is observed of the report.

        loss = - log p(y | h) - w_R log p(x_T | h) - log t(y | x_T)        h the image's features

    What `VKD` with a report likelihood is without its z: the baseline that shows what z adds. With a report encoder,
    labels that are not known are what a teacher t makes of the report, which learns from the others and is not taught.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_likelihood: makes p(x_T | h) from (features_dim, 0).
        report_encoder: reads reports for the teacher; None leaves unknown labels out.
        report_weight: w_R.
        dropout: of the teacher.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_likelihood: Callable[[int, int], ReportLikelihood],
        report_encoder: ReportEncoder | None = None,
        report_weight: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        check_number("method.report_weight", report_weight)
        teacher = None if report_encoder is None else ReportClassifier(report_encoder, len(findings), dropout=dropout)
        heads = Heads(report_likelihood(image_encoder.features_dim, 0), teacher)
        super().__init__(findings, ImageClassifier(image_encoder, len(findings)), heads)
        self.report_weight, self.dropout = report_weight, dropout
        self.fills_unknown_labels = teacher is not None

    @property
    def report_likelihood(self) -> ReportLikelihood:
        """p(x_T | h)."""
        return self.guide.report_likelihood

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The parts above; beta weighs nothing."""
        features = self.model.image_encoder(batch.images)
        logits, has_report = self.model.head(features).float(), batch.has_report
        labels, known, taught = batch.labels, batch.known, torch.zeros_like(features[:, 0])
        if self.guide.teacher is not None:
            _, teacher = self.guide.teacher(batch)
            taught = has_report * log_likelihood(teacher, labels, known)
            filled = has_report[:, None] & ~known
            labels, known = torch.where(filled, teacher.detach().sigmoid(), labels), known | filled
        words = torch.zeros_like(taught)
        if batch.observed is not None:
            words = has_report * self.report_likelihood(features).log_prob(batch.observed)
        return Terms(
            log_likelihood=log_likelihood(logits, labels, known),
            auxiliary=taught,
            alignment=torch.zeros_like(taught),
            auxiliary_weight=1.0,
            alignment_weight=0.0,
            others={"report": words},
            weights={"report": self.report_weight},
        )

    def report_predictive(
        self, batch: Batch, features: Tensor, num_samples: int, seed: int
    ) -> PosteriorPredictive | None:
        """The teacher's probabilities; None without one."""
        teacher = self.guide.teacher
        return None if teacher is None else teacher.posterior_predictive(batch, features)
