"""The one record that Model, Guide and ELBO take whole."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Batch:
    """B images with their reports and labels.

    Attributes:
        images: float [B, 1, height, width] in [0, 1]; of a store of features these, float [B, F].
        report: what the report encoder prepared, padded to the longest report of the batch: token ids, int64 [B, T],
            or token embeddings, float [B, T, E].
        report_mask: bool [B, T]; False is padding. The first token is always there, also without a report.
        has_report: bool [B].
        labels: float [B, K] in [0, 1]; 0 where unknown, and never read there; -1 where an uncertain label is kept.
        known: bool [B, K].
        study_ids: B names; a study with several images occurs several times.
        observed: what the report likelihood prepared, padded by -1: int64 [B, T'] or float [B, T', E]; None where the
            report is not observed.
    """

    images: Tensor
    report: Tensor
    report_mask: Tensor
    has_report: Tensor
    labels: Tensor
    known: Tensor
    study_ids: tuple[str, ...]
    observed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, for a fast copy to a GPU."""
        return self._map(Tensor.pin_memory)

    def without_reports(self) -> "Batch":
        """The same images and labels, as if no report had been written."""
        return replace(self, has_report=torch.zeros_like(self.has_report))

    def __getitem__(self, rows: slice) -> "Batch":
        """A part of the batch."""
        return replace(self._map(lambda tensor: tensor[rows]), study_ids=self.study_ids[rows])

    def _map(self, function) -> "Batch":  # type: ignore[no-untyped-def]
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: function(v) if isinstance(v, Tensor) else v for name, v in tensors.items()})


@dataclass(frozen=True)
class Example:
    """One row of a batch before padding: shapes as in `Batch` without the batch axis; labels with NaN for unknown."""

    image: Tensor
    report: Tensor
    has_report: bool
    labels: Tensor
    study_id: str
    observed: Tensor | None = None


def collate(examples: Sequence[Example]) -> Batch:
    """Stacks examples into a batch; reports are padded to the longest of these, no further."""
    labels = torch.stack([e.labels for e in examples])
    lengths = torch.tensor([len(e.report) for e in examples])
    report = pad_sequence([e.report for e in examples], batch_first=True)
    observed = [e.observed for e in examples if e.observed is not None]
    return Batch(
        images=torch.stack([e.image for e in examples]),
        report=report.float() if report.is_floating_point() else report,
        report_mask=torch.arange(report.shape[1])[None, :] < lengths[:, None],
        has_report=torch.tensor([e.has_report for e in examples]),
        labels=labels.nan_to_num(0.0),
        known=~labels.isnan(),
        study_ids=tuple(e.study_id for e in examples),
        observed=pad_sequence(observed, batch_first=True, padding_value=-1) if observed else None,
    )
