"""What data knows of a report encoder: how it turns texts into tensors once, before training."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class Preparation(Protocol):
    """Texts to tensors. Every report encoder is one; data never asks for more."""

    @property
    def preparation(self) -> dict[str, Any]:
        """What `prepare` depends on, for JSON: a prepared store serves encoders with the same only."""

    def prepare(self, reports: Sequence[str]) -> Sequence[Tensor]:
        """One tensor a report: token ids, int64 [T], or token embeddings, float16 [T, E]; T >= 1, also of ""."""
