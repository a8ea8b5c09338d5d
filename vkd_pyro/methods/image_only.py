"""The baseline without z and without reports."""

from vkd_pyro.data.batch import Batch
from vkd_pyro.elbo import Terms, TraceVKD_ELBO
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.methods.base import Method
from vkd_pyro.model import ImageClassifier


class ImageOnly(Method):
    """y ~ p(y | x_I): the image encoder and a linear head; loss = - log p(y | x_I).

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
    """

    reads_reports = False

    def __init__(self, findings: tuple[str, ...], image_encoder: ImageEncoder) -> None:
        super().__init__(findings, ImageClassifier(image_encoder, len(findings)))

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The log-likelihood; beta weighs nothing."""
        return TraceVKD_ELBO().terms(self.model, None, batch, beta)
