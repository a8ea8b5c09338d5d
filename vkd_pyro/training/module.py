"""What happens in a step of training, and what is measured after each epoch."""

import math
from functools import cached_property
from typing import Any, cast

import lightning as L
import numpy as np
import pyro
import torch
import torch.distributed as dist
from pyro.distributions import validation_enabled
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.loading.dataset import derive_seed
from vkd_pyro.distributions import noise_of_places, seeded
from vkd_pyro.elbo import Terms
from vkd_pyro.evaluation.collapse import beta_so_far
from vkd_pyro.evaluation.outputs import study_outputs
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.epoch import EpochMeans, Validated, gathered, in_order, summarise
from vkd_pyro.training.requirements import warn_of_a_free_posterior
from vkd_pyro.training.resuming import Settings
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.epochs import MONITORED, monitored
from vkd_pyro.utils.errors import UserError, one_line

CHECK_EVERY = 50
"""Steps between two looks at whether the loss is still a number."""


class MethodTraining(L.LightningModule):
    """What happens in one step, and what is measured after each epoch."""

    def __init__(
        self, method: Method, beta_schedule: BetaSchedule, training: Training, seed: int, settings: Settings
    ) -> None:
        super().__init__()
        self.method, self.beta_schedule, self.training_settings = method, beta_schedule, training
        self.seed, self.settings = seed, settings
        self.epoch_so_far = EpochMeans()
        self._validated: list[Validated] = []

    def on_train_start(self) -> None:
        if self.method.reads_reports:
            self.beta_schedule.validate(self.steps_per_epoch)
            warn_of_a_free_posterior(self.method, self.beta_schedule, self.steps_per_epoch)
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
        if not self._finite():
            raise UserError(self._diverged("parameters are not numbers any more"))

    def _finite(self) -> bool:
        return bool(torch.stack([parameter.isfinite().all() for parameter in self.parameters()]).all())

    def _diverged(self, what: str) -> str:
        """What happened, and what helps: a run's settings are fixed, so it is another run that wants other ones."""
        optimizer: Any = self.optimizers()
        rate, clip = optimizer.param_groups[0]["lr"], self.training_settings.gradient_clip
        cures = [f"a lower learning rate (found {rate:g})"]
        cures += [] if clip is not None else ["a training.gradient_clip (found null)"]
        cures += ["training.precision bf16-mixed"] if self.training_settings.precision == "16-mixed" else []
        run = self.trainer.default_root_dir
        kept = f"; the best epoch before it is kept: vkd train --finish {run}" if self.current_epoch else ""
        return (
            f"the training diverged in epoch {self.current_epoch}, step {self.global_step} or some before: {what}; "
            f"begin another run with {', or '.join(cures)}{kept}"
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
        summary[MONITORED] = monitored(summary, self.training_settings.monitor)
        if math.isnan(summary[MONITORED]):
            raise UserError(
                "training.monitor: val/macro_auc is not a number, since no finding of the validation split has studies "
                "with it and without; take val/nll, or more studies"
            )
        steps = self.global_step if self.method.reads_reports else 0  # without reports beta weighs nothing
        betas = beta_so_far(self.beta_schedule, steps, self.steps_per_epoch)
        self.log_dict(summary | {f"val/{name}": beta for name, beta in betas.items()})
        if self.training_settings.learning_rate_schedule == "plateau":
            cast(ReduceLROnPlateau, self.lr_schedulers()).step(summary["val/nll"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds where the next step is, with which settings, and the metrics of the epoch's steps so far."""
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        checkpoint["position"] = {"epoch": epochs.processed, "batch": self.epoch_so_far.batches}
        checkpoint["settings"] = self.settings
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
            if "more than 1 value per channel" in str(error):
                raise UserError(
                    "data.loading.batch_size: batch normalisation wants more than one value to normalise by, found "
                    f"batches of {len(batch)}; set it higher, or training.freeze_batchnorm to true"
                ) from error
            if "invalid values" not in str(error):  # what a distribution says of its parameters, and of values
                raise
            if "within the support" in str(error) and self._finite():
                raise UserError(
                    f"a label, or what is observed of a report, lies outside of what its likelihood can say "
                    f"({one_line(error)[:120]}...); see data.task.train_policy, or name another method.likelihood"
                ) from error
            raise UserError(self._diverged("parameters are not numbers any more")) from error
