"""What data knows of encoders and likelihoods: how they turn texts and images into tensors once, before training."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class Preparation(Protocol):
    """Texts to tensors. Every report encoder, and every report likelihood, is one; data never asks for more."""

    @property
    def preparation(self) -> dict[str, Any]:
        """What `prepare` depends on, for JSON: a prepared store serves the same only."""

    def prepare(self, reports: Sequence[str]) -> Sequence[Tensor]:
        """One tensor a report: ids, int64 [T], or embeddings, float [T, E]. Of an encoder T >= 1, also for ""."""


class FeatureExtractor(Protocol):
    """Images to features that do not change in training: an image encoder whose first part is frozen is one."""

    @property
    def feature_preparation(self) -> dict[str, Any]:
        """What features depend on, for JSON: a store of features serves encoders with the same only."""

    def extract(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, F]."""
