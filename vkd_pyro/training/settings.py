"""How to train: the settings."""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from vkd_pyro.training.loggers import RunLogger, check_kinds
from vkd_pyro.utils.epochs import Monitor
from vkd_pyro.utils.errors import UserError, check_choice, check_count, one_line

Schedule = Literal["constant", "one_cycle", "plateau"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
WORDS = {
    "learning_rate_schedule": get_args(Schedule),
    "monitor": get_args(Monitor),
    "precision": get_args(Precision),
    "accelerator": get_args(Accelerator),
}
"""What some settings may be."""


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        max_epochs: passes over the training studies.
        optimizer: makes the optimiser from the parameters.
        learning_rate_schedule: "constant"; "one_cycle" (up to the optimiser's rate and down to 0 over the whole
            training, momentum or beta1 the other way: torch's OneCycleLR); or "plateau" (a tenth after 3 epochs
            without a better val/nll).
        gradient_clip: largest norm of the gradient; None for no clipping.
        monitor: what chooses the epoch that is kept: "val/nll", the least, a proper score; or "val/macro_auc", the
            greatest, for the ranking alone (then the probabilities lean on the calibration).
        patience: epochs without a better one before training stops; None never stops early.
        tolerance: the relative fall of val/nll, or of 1 less val/macro_auc, that counts as better.
        num_samples: S, draws of z for each validation prediction.
        precision: of Lightning: "32-true", "bf16-mixed", "16-mixed".
        accelerator: "auto", "cpu", "gpu".
        devices: how many, on each node; each has its own process and its own batches.
        num_nodes: machines.
        accumulate_batches: batches an optimiser step.
        sync_batchnorm: normalise by all devices' rows together; on GPUs only. Else each device normalises by its own
            batch, and the running statistics are averaged over devices at each checkpoint and validation.
        freeze_batchnorm: normalise by the running statistics as they are, also while training.
        compile: compile the encoders by torch.compile; for a GPU, since a CPU was slower for it.
        checkpoint_steps: optimiser steps between checkpoints within an epoch; None for the ends of epochs alone.
        report_warm_up: steps in which the report branch learns alone, from labelled reports, before the training; 0 is
            none. It helps where few studies are labelled, and the branch fills in the labels of the others.
        loggers: where metrics go besides metrics.csv: `TensorBoard`, `MLflow`, `WandB`, or a `RunLogger` of one's own.
    """

    max_epochs: int = 20
    optimizer: Callable[[Iterable[Tensor]], Optimizer] = Adam
    learning_rate_schedule: Schedule = "constant"
    gradient_clip: float | None = 1.0
    monitor: Monitor = "val/nll"
    patience: int | None = 5
    tolerance: float = 0.01
    num_samples: int = 20
    precision: Precision = "32-true"
    accelerator: Accelerator = "auto"
    devices: int = 1
    num_nodes: int = 1
    accumulate_batches: int = 1
    sync_batchnorm: bool = False
    freeze_batchnorm: bool = False
    compile: bool = False
    checkpoint_steps: int | None = 1000
    report_warm_up: int = 0
    loggers: list[RunLogger] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where this process computes what can be computed before the trainer starts."""
        on_gpu = self.accelerator in ("auto", "gpu") and torch.cuda.is_available()
        number = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0) if self.devices > 1 else 0)
        return torch.device(f"cuda:{number}" if on_gpu else "cpu")

    def __post_init__(self) -> None:
        for name in ("max_epochs", "num_samples", "devices", "num_nodes", "accumulate_batches"):
            check_count(f"training.{name}", getattr(self, name))
        for name, words in WORDS.items():
            check_choice(f"training.{name}", getattr(self, name), words)
        if self.report_warm_up < 0:
            raise UserError(f"training.report_warm_up: found {self.report_warm_up}, expected steps, or 0 for none")
        for name, without in (("patience", "no early stop"), ("checkpoint_steps", "none within an epoch")):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"training.{name}: found {value}, expected at least 1, or null for {without}")
        if not 0 <= self.tolerance < 1:
            raise UserError(f"training.tolerance: found {self.tolerance}, expected a share from 0 to below 1")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError(
                f"training.gradient_clip: found {self.gradient_clip}, expected more than 0, or null for none"
            )
        check_kinds(self.loggers)
        if self.precision == "16-mixed" and self.device.type == "cpu":
            raise UserError("training.precision: 16-mixed wants a GPU; on a CPU use 32-true or bf16-mixed")

    def check_optimizer(self) -> None:
        """Raises `UserError` where the optimiser refuses its numbers, such as a learning rate below 0."""
        try:
            rates = [group["lr"] for group in self.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups]
        except (ValueError, TypeError) as error:
            raise UserError(f"training.optimizer: {one_line(error)}; see the optimiser's page in torch") from error
        if strange := [rate for rate in rates if not math.isfinite(rate)]:
            raise UserError(f"training.optimizer: found learning rate {strange[0]}, expected a number")
