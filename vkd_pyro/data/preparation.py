"""What data knows of what reads reports: how it turns texts into tensors once, before training."""

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
