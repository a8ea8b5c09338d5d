"""The networks that are measured, and batches for them; how well they were trained changes no cost."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vkd_pyro import VKD
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS as FINDINGS
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder, TransformerBlock
from vkd_pyro.methods import NoReport
from vkd_pyro.model import ImageModel


class Embedded(ReportEncoder):
    """A Transformer block on token embeddings that are there already: `LanguageModelEncoder` without its frozen model.

    Args:
        width: of the embeddings.
        heads, feed_forward, dropout: of the block; those of MiniLM.
    """

    def __init__(self, width: int = 384, heads: int = 12, feed_forward: int = 1536, dropout: float = 0.5) -> None:
        super().__init__()
        self.features_dim = self.width = width
        self.heads, self.feed_forward, self.dropout = heads, feed_forward, dropout
        self.block = TransformerBlock(width, heads, feed_forward, dropout)

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """Random embeddings, float16 [128, width]; what they are changes no cost."""
        return list(torch.randn(len(reports), 128, self.width).half())

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: float [B, T, width]; bool [B, T]. Returns: float32 [B, width]."""
        return self.block(report, mask)


class NoNetwork(ImageEncoder):
    """In place of an image network: the first pixels are the features, and its parameters are there, but idle."""

    def __init__(self, network: ImageEncoder) -> None:
        super().__init__()
        self.network, self.features_dim = network, network.features_dim

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim]."""
        return images.flatten(1)[:, : self.features_dim]


def made_up_batch(size: int, image_size: int, width: int = 384, num_findings: int = len(FINDINGS)) -> Batch:
    """B studies of noise; a fifth of the labels are unknown, and a fifth of the studies have no report."""
    random = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.rand(size, 1, image_size, image_size, generator=random),
        report=torch.randn(size, 128, width, generator=random),
        report_mask=torch.arange(128) < torch.randint(16, 129, (size, 1), generator=random),
        has_report=torch.rand(size, generator=random) < 0.8,
        labels=(torch.rand(size, num_findings, generator=random) < 0.2).float(),
        known=torch.rand(size, num_findings, generator=random) < 0.8,
        study_ids=tuple(map(str, range(size))),
    )


def xray_vkd(image_encoder: ImageEncoder, device: str = "cpu") -> VKD:
    """The network of the paper: K = 14, D = 512."""
    torch.manual_seed(0)
    return VKD(FINDINGS, image_encoder, Embedded()).to(device)


def images_only(encoder: ImageEncoder, latent_dim: int = 512) -> ImageModel:
    """A model with the heads of the paper, in eval mode."""
    torch.manual_seed(0)
    return NoReport(FINDINGS, encoder, latent_dim).model.eval()
