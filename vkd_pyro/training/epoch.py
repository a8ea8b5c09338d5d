"""What is kept of an epoch: means over its steps, and what validation found, of all processes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from vkd_pyro import metrics
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.outputs import StudyOutputs


class EpochMeans:
    """Means of what training steps report, over the batches of an epoch so far, of all processes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.batches = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Those of one more batch; nothing waits for the device."""
        for name, value in values.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value.float()
        self.batches += 1

    @property
    def mean_loss(self) -> float:
        """Of this process; it waits for the device."""
        return float(self.sums["loss"]) / self.batches

    def means(self) -> dict[str, float]:
        """By name; a process waits for the others."""
        processes = self.state_dict()["sums"]
        return {name: float(np.mean([sums[name] for sums in processes])) / self.batches for name in self.sums}

    def state_dict(self) -> dict[str, Any]:
        """The sums of each process, and what is the same in all; it waits for the others."""
        sums = gathered([{name: total.item() for name, total in self.sums.items()}])
        return {"sums": sums, "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any], rank: int) -> None:
        """As they were in this process."""
        self.sums = {name: torch.tensor(total) for name, total in state["sums"][rank].items()}
        self.batches = state["batches"]


@dataclass(frozen=True)
class Validated:
    """A batch of the validation split: its number among those of all processes, its loss, what was said of it."""

    number: int
    loss: float
    outputs: StudyOutputs


def in_order(batches: list[Validated]) -> list[Validated]:
    """By their numbers, each study once: a process without a batch of its own has seen one of another's."""
    first = {batch.outputs.study_ids[0]: batch for batch in sorted(batches, key=lambda batch: -batch.number)}
    return sorted(first.values(), key=lambda batch: batch.number)


def gathered(parts: list[Any]) -> list[Any]:
    """Those of all processes, in the order of their ranks; each must ask for them."""
    if not (dist.is_available() and dist.is_initialized()):
        return parts
    lists: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(lists, parts)
    return [part for one in lists for part in one]


def summarise(outputs: list[StudyOutputs]) -> dict[str, float]:
    """Metrics of a validation epoch; those of the report are NaN where no report is read."""
    rows = StudyOutputs.concatenate(outputs).mean_over_images()
    image, report, labels = rows.probabilities, rows.report_probabilities, rows.labels
    return {
        "val/nll": metrics.negative_log_likelihood(image, labels),
        "val/macro_auc": metrics.macro_auroc(image, labels),
        "val/micro_auc": metrics.micro_auroc(image, labels),
        "val/report_macro_auc": metrics.macro_auroc(report, labels),
        "val/report_micro_auc": metrics.micro_auroc(report, labels),
        **{f"val/{name}": value for name, value in LatentUse.of(rows).columns().items()},
    }
