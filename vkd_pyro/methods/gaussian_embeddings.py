"""Images and reports as Gaussians in a common space: contrastive alignment that knows how sure it is."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, softplus

from vkd_pyro.distributions.base import no_autocast
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.contrastive import Embeddings, projection
from vkd_pyro.utils.errors import check_count, check_number

INITIAL_SCALE = 0.05  # 128 of them are then about 0.3 of a squared distance; unit vectors are 0 to 4 apart


class GaussianEmbeddings(Embeddings):
    r"""Gaussian embeddings (PCME++: Chun 2024, arXiv 2305.18171; of radiographs: MedProbCLIP, arXiv 2602.16019).

        A_i  = l_ii + mean over other studies j of (l_ij + l_ji) / 2 + w_N [KL(V_i || N(0, I)) + KL(U_i || N(0, I))]
        l_ij = - log sigmoid(s_ij) where j is i, - log sigmoid(- s_ij) else;      s_ij = b - a d(V_i, U_j)
        d    = |v_i - u_j|^2 + sum sigma_i^2 + sum tau_j^2                        the expected squared distance

    where image i is V_i = N(v_i, sigma_i^2) and report j U_j = N(u_j, tau_j^2), with unit vectors v and u; a > 0 and b
    are learned. That the one right pair of a study weighs as much as its wrong ones together is ours.

    Args:
        image_features: width of the image's features.
        report_encoder: reads reports.
        width: of the common space.
        bottleneck_weight: w_N, of the variational information bottleneck.
    """

    def __init__(
        self, image_features: int, report_encoder: ReportEncoder, width: int = 128, bottleneck_weight: float = 1e-4
    ) -> None:
        check_number("method.embeddings.bottleneck_weight", bottleneck_weight)
        check_count("method.embeddings.width", width)
        super().__init__(report_encoder)
        self.bottleneck_weight = bottleneck_weight
        self.of_images = projection(image_features, width)
        self.of_reports = projection(report_encoder.features_dim, width)
        self.scale_of_images = _scale(image_features, width)
        self.scale_of_reports = _scale(report_encoder.features_dim, width)
        self.log_slope = nn.Parameter(torch.tensor(math.log(5.0)))
        self.offset = nn.Parameter(torch.tensor(5.0))

    def contrast(self, images: Tensor, reports: Tensor, others: Tensor) -> Tensor:
        """The formula above; a batch of one study has no wrong pairs."""
        v, u = (normalize(vector.float(), dim=-1) for vector in (self.of_images(images), self.of_reports(reports)))
        sigma = softplus(self.scale_of_images(images).float()) + 1e-4
        tau = softplus(self.scale_of_reports(reports).float()) + 1e-4
        with no_autocast(v):
            cosine = v @ u.T
        distance = 2 - 2 * cosine + sigma.square().sum(-1)[:, None] + tau.square().sum(-1)
        logits = self.offset - self.log_slope.exp() * distance
        own = torch.eye(len(v), device=v.device)
        losses = binary_cross_entropy_with_logits(logits, own, reduction="none")
        wrong = (losses + losses.T) / 2 * others
        return (
            losses.diagonal()
            + wrong.sum(-1) / others.sum(-1).clamp(min=1)
            + self.bottleneck_weight * (_to_standard(v, sigma) + _to_standard(u, tau))
        )


def _scale(inputs: int, width: int) -> nn.Linear:
    """A layer whose softplus begins near `INITIAL_SCALE`."""
    layer = nn.Linear(inputs, width)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, math.log(math.expm1(INITIAL_SCALE)))
    return layer


def _to_standard(loc: Tensor, scale: Tensor) -> Tensor:
    """KL(N(loc, scale^2) || N(0, I)), float [B]. Args: [B, D] each."""
    return (scale.square() / 2 + loc.square() / 2 - 0.5 - scale.log()).sum(-1)
