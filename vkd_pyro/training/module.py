"""How to train: the settings, what happens in a step, and Lightning's trainer."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import pyro
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from pyro.distributions import validation_enabled
from torch import Tensor, nn
from torch.distributed import is_torchelastic_launched
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from vkd_pyro import metrics
from vkd_pyro.artifacts.checkpoints import CheckedIO
from vkd_pyro.artifacts.run import CHECKPOINTS, METRICS
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.dataset import derive_seed
from vkd_pyro.distributions import noise_of_places, seeded
from vkd_pyro.elbo import Terms
from vkd_pyro.evaluation.collapse import LatentUse, beta_so_far
from vkd_pyro.evaluation.outputs import StudyOutputs, study_outputs
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.callbacks import LastCheckpoint, MetricsTable, RelativeEarlyStopping
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError, one_line

CHECK_EVERY = 50
"""Steps between two looks at whether the loss is still a number."""


class MethodTraining(L.LightningModule):
    """What happens in one step, and what is measured after each epoch."""

    def __init__(self, method: Method, beta_schedule: BetaSchedule, training: Training, seed: int, rows: int) -> None:
        super().__init__()
        self.method, self.beta_schedule, self.training_settings = method, beta_schedule, training
        self.seed, self.rows = seed, rows
        self.epoch_so_far = EpochMeans()
        self._validated: list[Validated] = []

    def on_train_start(self) -> None:
        if self.method.reads_reports:
            self.beta_schedule.validate(self.steps_per_epoch)
        if self.training_settings.freeze_batchnorm:
            for layer in self._normalisations():
                layer.eval()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout and z of a step depend on the step alone, so a resumed run draws what an uninterrupted one would.
        torch.manual_seed(derive_seed(self.seed, "noise", self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx % CHECK_EVERY == 0:
            self.check_loss()
        beta = self.beta_schedule(self.global_step + 1, self.steps_per_epoch)
        noise = derive_seed(self.seed, "z", self.current_epoch, batch_idx)
        with noise_of_places(noise, self.global_rank, self.trainer.world_size):
            terms = self._terms(batch, beta)
        parts = terms.means()
        self.epoch_so_far.add({name: value.detach() for name, value in parts.items()} | {"beta": torch.tensor(beta)})
        return terms.loss

    def on_validation_start(self) -> None:
        self.check_loss()
        self.average_statistics()

    def check_loss(self) -> None:
        """Raises `UserError` where a loss of the epoch so far was no number, in any process; waits for the device."""
        if self.epoch_so_far.batches:
            diverged = (~self.epoch_so_far.sums["loss"].isfinite()).float().to(self.device)
            if self.trainer.world_size > 1:
                dist.all_reduce(diverged)
            if diverged > 0:
                raise UserError(self._diverged("a loss is not a number"))

    def check_weights(self) -> None:
        """Raises `UserError` where a parameter, alike in all processes, is no number."""
        if not torch.stack([parameter.isfinite().all() for parameter in self.parameters()]).all():
            raise UserError(self._diverged("parameters are not numbers any more"))

    def _diverged(self, what: str) -> str:
        return (
            f"the training diverged in epoch {self.current_epoch}, step {self.global_step} or some before: {what}; "
            "set a lower learning rate, or training.gradient_clip"
        )

    def average_statistics(self) -> None:
        """Gives all processes the mean of their running statistics of BatchNorm."""
        if self.trainer.world_size > 1:
            for layer in self._normalisations():
                for statistic in (layer.running_mean, layer.running_var):
                    dist.all_reduce(statistic)
                    statistic /= self.trainer.world_size

    def _normalisations(self) -> list[Any]:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
        return [layer for layer in self.modules() if isinstance(layer, kinds)]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        number = batch_idx * self.trainer.world_size + self.global_rank
        with seeded(derive_seed("validation", number), batch.images.device):
            loss = self._terms(batch, beta=1.0).loss.item()
        outputs = study_outputs(self.method, batch, self.training_settings.num_samples, seed=0)
        self._validated.append(Validated(number, loss, outputs))

    def on_validation_epoch_end(self) -> None:
        validated = in_order(gathered(self._validated))
        self._validated.clear()
        rows = [len(batch.outputs.study_ids) for batch in validated]
        summary = summarise([batch.outputs for batch in validated])
        summary["val/loss"] = float(np.average([batch.loss for batch in validated], weights=rows))
        summary |= {f"train/{name}": value for name, value in self.epoch_so_far.means().items()}
        self.epoch_so_far = EpochMeans()
        if math.isnan(summary["val/nll"]):
            raise UserError(
                "val/nll is not a number: no label of the validation split is known; more studies are needed"
            )
        steps = self.global_step if self.method.reads_reports else 0  # without reports beta weighs nothing
        betas = beta_so_far(self.beta_schedule, steps, self.steps_per_epoch)
        self.log_dict(summary | {f"val/{name}": beta for name, beta in betas.items()})
        if self.training_settings.learning_rate_schedule == "plateau":
            cast(ReduceLROnPlateau, self.lr_schedulers()).step(summary["val/nll"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds where the next step is, and the metrics of the epoch's steps so far."""
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        position = {"epoch": epochs.processed, "batch": self.epoch_so_far.batches, "seed": self.seed}
        checkpoint["position"] = position | {"rows": self.rows, "processes": self.trainer.world_size}
        checkpoint["epoch_so_far"] = self.epoch_so_far.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the metrics of the epoch's steps so far."""
        self.epoch_so_far.load_state_dict(checkpoint["epoch_so_far"], self.global_rank)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        # Lightning would step a plateau schedule after the epoch's checkpoint, which would then miss the step;
        # it was stepped when its metric was known.
        if metric is None:
            scheduler.step()

    def configure_optimizers(self) -> Any:
        settings = self.training_settings
        optimizer = settings.optimizer([p for p in self.method.parameters() if p.requires_grad])
        schedule: LRScheduler
        if settings.learning_rate_schedule == "one_cycle":
            total = int(self.trainer.estimated_stepping_batches)
            schedule = OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=total)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
        if settings.learning_rate_schedule == "plateau":
            schedule = ReduceLROnPlateau(optimizer, factor=0.1, patience=3)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/nll"}}
        return optimizer

    @cached_property
    def steps_per_epoch(self) -> int:
        """T: optimiser steps an epoch, after accumulation, on all devices together."""
        return int(self.trainer.estimated_stepping_batches) // self.training_settings.max_epochs

    def _terms(self, batch: Batch, beta: float) -> Terms:
        first = not self.global_step
        # Distributions look at their values in the first step and in validation: each look is a wait for the device.
        # Between them a loss that is no number is found by `check_loss`. Parameters belong to the optimiser, not
        # to Pyro's global store.
        try:
            with validation_enabled(first or not self.training), pyro.get_param_store().scope():
                terms = self.method.terms(batch, beta)
            if first and not terms.loss.isfinite():
                raise UserError(
                    f"the loss of the first batch is {terms.loss.item()}: do prior and posterior have the same "
                    "support? vkd check with the same options says more"
                )
            return terms
        except ValueError as error:
            if "Shape mismatch inside plate" in str(error):
                raise UserError(
                    "a distribution of model or guide has no batch shape [B] and event shape [D]: is .to_event(1) "
                    "missing in a family? vkd check with the same options says more"
                ) from error
            if "invalid values" not in str(error):  # what a distribution says of parameters that are NaN
                raise
            raise UserError(self._diverged("parameters are not numbers any more")) from error


class ProgressBar(TQDMProgressBar):
    """With the mean loss of the epoch so far."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        so_far = cast(MethodTraining, pl_module).epoch_so_far
        return {"loss": float(so_far.sums["loss"]) / so_far.batches} if so_far.batches else {}


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


def check_devices(training: Training) -> None:
    """Raises `UserError` for settings that this machine, or what started the processes, cannot serve."""
    if training.sync_batchnorm and training.device.type != "cuda":
        raise UserError("training.sync_batchnorm: PyTorch has it for GPUs only; set it to false")
    processes = int(os.environ.get("WORLD_SIZE", 0)) if is_torchelastic_launched() else 0
    if processes and processes != training.devices * training.num_nodes:
        raise UserError(
            f"training.devices: found {training.devices} on each of {training.num_nodes} nodes, but torchrun has "
            f"started {processes} processes; set devices to its --nproc_per_node, training.num_nodes to its --nnodes"
        )


def make_trainer(training: Training, run: Path, best: ModelCheckpoint, progress: bool) -> L.Trainer:
    """Lightning's trainer, with what happens between epochs; nothing is written before it fits."""
    check_devices(training)
    last = LastCheckpoint(run / CHECKPOINTS, training.checkpoint_steps)
    callbacks: list[Callback] = [MetricsTable(run / METRICS), best, last]
    if training.patience is not None:
        callbacks.append(RelativeEarlyStopping(training.patience, training.tolerance))
    if progress:
        callbacks.append(ProgressBar(refresh_rate=5))
    try:
        return L.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            # Each device keeps its own statistics of BatchNorm between the moments at which they are averaged.
            strategy=DDPStrategy(broadcast_buffers=False) if training.devices * training.num_nodes > 1 else "auto",
            num_nodes=training.num_nodes,
            sync_batchnorm=training.sync_batchnorm,
            use_distributed_sampler=False,  # batches know their process
            plugins=[CheckedIO()],
            precision=training.precision,
            max_epochs=training.max_epochs,
            gradient_clip_val=training.gradient_clip,
            accumulate_grad_batches=training.accumulate_batches,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=run,
        )
    except MisconfigurationException as error:
        raise UserError(f"training.accelerator: {one_line(error)}") from error


def compile_encoders(method: Method, backend: str = "inductor") -> None:
    """Compiles, in place and when first used, what reads images, and of what reads reports the block that is trained.

    Weights keep their names. Reports differ in length from batch to batch, so their code is made for any.
    """
    method.model.image_encoder.compile(backend=backend)
    block = getattr(method.report_encoder, "block", None)
    if block is not None:
        block.compile(backend=backend, dynamic=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's banners, and warnings that are Lightning's own to mend, off the screen."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", "(?s).*treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
