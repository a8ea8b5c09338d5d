"""The interface of a likelihood of the report given z, and the network in front of all of them."""

import abc
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.utils.serialization import describe


class ReportLikelihood(nn.Module, abc.ABC):
    """p(x_T | z), or p(x_T | z, x_I): what is observed of a report, and how likely it is.

    What is observed of each report is computed once, by `prepare`; what must be known of all training reports, such as
    a vocabulary, is learned once, by `observe_reports`. A subclass keeps its constructor's arguments as attributes.

    Args:
        latent_dim: D.
        features_dim: width of the image features that are seen beside z; 0 is z alone.
    """

    def __init__(self, latent_dim: int, features_dim: int = 0) -> None:
        super().__init__()
        self.latent_dim, self.features_dim = latent_dim, features_dim

    @abc.abstractmethod
    def prepare(self, reports: Sequence[str]) -> Sequence[Tensor]:
        """What is observed of each report: int64 [T] or float [T, E]; it may be empty."""

    @property
    def preparation(self) -> dict[str, Any]:
        """What `prepare` depends on, for JSON: a prepared store serves likelihoods with the same only."""
        return describe(self)

    @abc.abstractmethod
    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Called once before training with what was prepared of the training reports.

        What it takes from them it keeps in buffers, so that checkpoints bring it back.
        """

    @abc.abstractmethod
    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        """A distribution over what is observed of a report.

        Args:
            z: float [..., B, latent_dim].
            features: float [B, features_dim], or None.
        Returns: batch shape [..., B]. Its `log_prob` takes prepared reports, padded by -1 to [B, T] or [B, T, E].
        """


class LinearOutputs(nn.Module):
    """W_z z + W_h h + b, from z and, where it is seen, the image's features h.

    Args:
        latent_dim: D.
        features_dim: width of h; 0 is z alone.
        num_outputs: V.
    """

    def __init__(self, latent_dim: int, features_dim: int, num_outputs: int) -> None:
        super().__init__()
        self.of_z = nn.Linear(latent_dim, num_outputs)
        self.of_features = nn.Linear(features_dim, num_outputs, bias=False) if features_dim else None

    def forward(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Args: float [..., B, D]; float [B, F] or None. Returns: float [..., B, V]."""
        outputs = self.of_z(z)
        if self.of_features is not None and features is not None:
            outputs = outputs + self.of_features(features)
        return full_precision(outputs)
