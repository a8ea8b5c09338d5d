"""Training: the Lightning module, and `fit`, which writes a run."""

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import numpy as np
import pandas as pd
import pyro
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from vkd_pyro import metrics
from vkd_pyro.after_training import AfterTraining, calibrate
from vkd_pyro.bundle import check_rebuildable, save_bundle
from vkd_pyro.callbacks import BestCheckpoint, MetricsTable, RelativeEarlyStopping
from vkd_pyro.collapse import LatentUse, beta_so_far, warn_if_ignored
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.dataset import derive_seed
from vkd_pyro.data.loading import StudyData
from vkd_pyro.distributions import Likelihood, seeded
from vkd_pyro.elbo import Cyclical, KLSchedule, Terms, TraceVKD_ELBO
from vkd_pyro.errors import UserError, one_line
from vkd_pyro.files import write_json, written
from vkd_pyro.model import VKD, ImageOnly
from vkd_pyro.outputs import StudyOutputs, study_outputs
from vkd_pyro.rivals import Rival
from vkd_pyro.run import (
    BAD_IMAGES,
    BUNDLE,
    CHECKPOINTS,
    CONFIG,
    DATA,
    METRICS,
    claimed,
    load_checkpoint,
    refuse_unless_ready,
    start_with,
)

Arm = Literal["vkd", "vkd_without_mi", "no_report", "image_only", "rival"]


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
        patience: epochs without val/nll falling by `tolerance` before training stops; None never stops early.
        tolerance: the relative fall of val/nll that counts.
        num_samples: S, draws of z for each validation prediction.
        precision: of Lightning: "32-true", "bf16-mixed", "16-mixed".
        accelerator: "auto", "cpu", "gpu".
        devices: how many; one for now.
        accumulate_batches: batches an optimiser step.
    """

    max_epochs: int = 20
    optimizer: Callable[[Iterable[Tensor]], Optimizer] = Adam
    learning_rate_schedule: Literal["constant", "one_cycle", "plateau"] = "constant"
    gradient_clip: float | None = 1.0
    patience: int | None = 5
    tolerance: float = 0.01
    num_samples: int = 20
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    accumulate_batches: int = 1

    @property
    def device(self) -> torch.device:
        """Where this process computes what can be computed before the trainer starts."""
        on_gpu = self.accelerator in ("auto", "gpu") and torch.cuda.is_available()
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if on_gpu else "cpu")

    def __post_init__(self) -> None:
        for name in ("max_epochs", "num_samples", "accumulate_batches"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name}: found {getattr(self, name)}, expected at least 1")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"training.patience: found {self.patience}, expected at least 1, or null for no early stop")
        if self.devices != 1:
            raise UserError(f"training.devices: found {self.devices}; training on several is not supported yet: set 1")


class VKDTrainer(L.LightningModule):
    """What happens in one step, and what is measured after each epoch."""

    def __init__(
        self,
        vkd: VKD | ImageOnly,
        objective: TraceVKD_ELBO | Rival,
        kl_schedule: KLSchedule,
        training: Training,
        seed: int,
        use_reports: bool,
    ) -> None:
        super().__init__()
        self.vkd, self.objective, self.kl_schedule, self.training_settings = vkd, objective, kl_schedule, training
        self.seed, self.use_reports = seed, use_reports
        self._outputs: list[StudyOutputs] = []

    def on_train_start(self) -> None:
        if self.use_reports:
            self.kl_schedule.validate(self.steps_per_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout and z of a step depend on the step alone, so a resumed run draws what an uninterrupted one would.
        torch.manual_seed(derive_seed(self.seed, "noise", self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        beta = self.kl_schedule(self.global_step + 1, self.steps_per_epoch)
        terms = self._terms(batch, beta)
        parts = {
            "loss": terms.loss,
            "log_likelihood": terms.log_likelihood.mean(),
            "auxiliary": terms.auxiliary.mean(),
            "kl": terms.kl.mean(),
        }
        if isinstance(terms.tightening, Tensor):
            parts["tightening"] = terms.tightening.mean()
        self._log({f"train/{name}": value for name, value in parts.items()}, len(batch), prog_bar=True)
        self._log({"train/beta": beta}, len(batch))
        return terms.loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        with seeded(derive_seed("validation", batch_idx), batch.images.device):
            loss = self._terms(batch, beta=1.0).loss
        self._log({"val/loss": loss}, len(batch))
        self._outputs.append(study_outputs(self.vkd, batch, self.training_settings.num_samples, seed=0))

    def on_validation_epoch_end(self) -> None:
        summary = summarise(self._outputs)
        self._outputs.clear()
        if math.isnan(summary["val/nll"]):
            raise UserError(
                "val/nll is not a number: no label of the validation split is known; more studies are needed"
            )
        steps = self.global_step if self.use_reports else 0  # without reports beta weighs nothing
        betas = beta_so_far(self.kl_schedule, steps, self.steps_per_epoch)
        self.log_dict(summary | {f"val/{name}": beta for name, beta in betas.items()})
        if self.training_settings.learning_rate_schedule == "plateau":
            cast(ReduceLROnPlateau, self.lr_schedulers()).step(summary["val/nll"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        # Lightning would step a plateau schedule after the epoch's checkpoint, which would then miss the step;
        # it was stepped when its metric was known.
        if metric is None:
            scheduler.step()

    def configure_optimizers(self) -> Any:
        settings = self.training_settings
        optimizer = settings.optimizer([p for p in self.vkd.parameters() if p.requires_grad])
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
        try:
            with pyro.get_param_store().scope():  # parameters belong to the optimiser, not to Pyro's global store
                terms = self.objective.terms(self.vkd.model, self.vkd.guide, batch, kl_weight=beta)
            if not self.global_step and not terms.loss.isfinite():
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
            raise UserError(
                f"the training diverged in epoch {self.current_epoch}, step {self.global_step}: parameters are not "
                "numbers any more; set a lower learning rate, or training.gradient_clip"
            ) from error

    def _log(self, values: dict[str, Any], batch_size: int, prog_bar: bool = False) -> None:
        self.log_dict(values, batch_size=batch_size, prog_bar=prog_bar, on_step=False, on_epoch=True, sync_dist=True)


def summarise(outputs: list[StudyOutputs]) -> dict[str, float]:
    """Metrics of a validation epoch; those of the report are NaN in arms without reports."""
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


# --------------------------------------------------------------------------------------------- fit


def fit(
    vkd: VKD,
    data: StudyData,
    run: str | Path,
    arm: Arm = "vkd",
    objective: TraceVKD_ELBO | None = None,
    kl_schedule: KLSchedule | None = None,
    training: Training | None = None,
    seed: int = 0,
    config: str = "",
    start_from: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    rival: Rival | None = None,
    after_training: AfterTraining | None = None,
) -> VKD | ImageOnly:
    """Trains one arm and writes a run; returns the network of the best epoch, in eval mode.

    Args:
        vkd: with fresh weights; `image_only` uses its image encoder alone.
        data: the corpus, ready for training.
        run: folder to write, refused if it holds another run.
        arm: "vkd"; "vkd_without_mi" (w_MI = 0); "no_report" (no KL, no auxiliary); "image_only" (no z);
            "rival" (no z, reports by another method).
        objective: `TraceVKD_ELBO()` by default.
        kl_schedule: `Cyclical()` by default.
        training: how to train.
        seed: of the order, the augmentation and the noise; the weights' seed is the caller's.
        config: text of `config.yaml`, so that the run can be evaluated and resumed from the command line.
        start_from: a run of the same arm or of the same network, whose best weights to begin with (fine-tuning).
        resume: go on from `checkpoints/last.ckpt` of `run`.
        progress: show a progress bar.
        rival: the method of the arm "rival"; it takes the place of `objective`.
        after_training: how the trained model is calibrated; `AfterTraining()` by default.
    """
    run, training = Path(run), training or Training()
    refuse_unless_ready(run, resume)
    network, method, use_reports = ready_for_arm(arm, vkd, data, objective or TraceVKD_ELBO(), rival)
    # What cannot be written is found before training.
    description, summary = (json.loads(json.dumps(d, default=str)) for d in (data.description(), data.summary()))
    if start_from is not None and not resume:
        start_with(network, Path(start_from))
    if resume:
        refuse_changed_data(run, summary)
    else:  # a resumed run finds in its checkpoint what was taken from the labels
        show_labels(network, data)
    warn_of_absent_findings(data)
    encoder = vkd.guide.report_encoder.to(training.device) if use_reports else None
    loaders = data.train_loader(encoder, seed), data.evaluation_loader("validation", encoder)

    module = VKDTrainer(network, method, kl_schedule or Cyclical(), training, seed, use_reports)
    best = BestCheckpoint(run / CHECKPOINTS)
    with quiet():
        trainer = make_trainer(training, run, best, progress)
        last = run / CHECKPOINTS / "last.ckpt"
        with claimed(run, resume, keep_if=last):
            if not resume:
                (run / CONFIG).write_text(config)
                write_json(run / DATA, summary)
                if data.bad_list:
                    with written(run / BAD_IMAGES) as file:
                        pd.DataFrame(data.bad_list, columns=["study", "problem"]).to_csv(file, index=False)
            network.train()  # Lightning keeps the mode it finds
            try:
                trainer.fit(module, *loaders, ckpt_path=last if resume else None, weights_only=True)
            except SystemExit as error:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from error
    load_checkpoint(network, run)
    if trainer.is_global_zero:
        card = write_card(arm, data, float(best.best_model_score or math.nan))
        calibration = calibrate(network.to(training.device), data, after_training)
        save_bundle(run / BUNDLE, network.model, network.findings, data.transform, card, description, calibration)
        warn_if_ignored(run / METRICS)
    return network.eval()


def ready_for_arm(
    arm: Arm, vkd: VKD, data: StudyData, objective: TraceVKD_ELBO, rival: Rival | None = None
) -> tuple[VKD | ImageOnly, TraceVKD_ELBO | Rival, bool]:
    """As `for_arm`; raises `UserError` for what these data could not train, or what no bundle could rebuild."""
    network, method, use_reports = for_arm(arm, vkd, objective, rival)
    check_rebuildable(network.model)
    refuse_unfit_labels(network, method, data)
    if use_reports and not data.count("train")["with a report"]:
        raise UserError(
            f"{data.corpus.name}: no training study has a report, so the arm {arm} has nothing to learn from them; "
            "use no_report or image_only, or check data.report and where the reports are"
        )
    refuse_unlabelled_validation(data)
    return network, method, use_reports


def for_arm(
    arm: Arm, vkd: VKD, objective: TraceVKD_ELBO, rival: Rival | None = None
) -> tuple[VKD | ImageOnly, TraceVKD_ELBO | Rival, bool]:
    """Network, objective, and whether reports are used, of an arm."""
    if (arm == "rival") != (rival is not None):
        raise UserError(
            f"arm: found {arm!r} and {'a' if rival else 'no'} rival; "
            "a rival, e.g. vkd_pyro.rivals.LogitDistillation, is trained by the arm 'rival', and by no other"
        )
    if rival is not None:
        return rival.network(vkd), rival, True
    if arm == "image_only":
        return ImageOnly(vkd.findings, vkd.model.image_encoder), objective, False
    if arm == "vkd_without_mi":
        objective = copy(objective)
        objective.auxiliary_weight, objective.unknown_labels = 0.0, "ignored"  # no classifier to fill them in
    return vkd, objective, arm != "no_report"


def refuse_unfit_labels(network: VKD | ImageOnly, method: TraceVKD_ELBO | Rival, data: StudyData) -> None:
    """Raises `UserError` where labels stay uncertain, or become soft, and a likelihood does not model that."""
    model: list[Any] = likelihoods(network.model) or [network.model]  # without z, it is a Bernoulli itself
    if getattr(method, "unknown_labels", "ignored") == "from_report":
        refuse_unteachable([*model, *likelihoods(network.guide)], data)
    for part in [*model, *likelihoods(network.guide)]:
        name = type(part).__name__
        if data.train_policy.takes("keep") and not getattr(part, "takes_uncertain", False):
            raise UserError(
                f"data.train_policy.uncertain: 'keep' wants a likelihood with an outcome 'uncertain', found {name}; "
                "use ignore, zeros, ones or soft, or ThreeOutcomeLikelihood as model.likelihood and model.auxiliary"
            )
        if data.train_policy.takes("soft") and not getattr(part, "takes_soft", True):
            raise UserError(
                f"data.train_policy.uncertain: 'soft' wants a likelihood of labels between 0 and 1, found {name}; "
                "use ignore, zeros or ones, or BernoulliLikelihood as model.likelihood and model.auxiliary"
            )


def refuse_unteachable(likelihoods: list[Any], data: StudyData) -> None:
    """Raises `UserError` where unknown labels could not be taken from the report."""
    for part in likelihoods:
        if not getattr(part, "takes_soft", True):
            raise UserError(
                f"objective.unknown_labels: 'from_report' wants likelihoods of labels between 0 and 1, found "
                f"{type(part).__name__}; use ignored, or BernoulliLikelihood as model.likelihood and model.auxiliary"
            )
    targets = data.targets("train", data.train_policy)
    without = [f for f, n in zip(data.findings, (targets == 0).sum(axis=0), strict=True) if n == 0]
    if without:  # the report's classifier would stay as it began, or say that all have it
        raise UserError(
            "objective.unknown_labels: 'from_report' wants studies known to be without a finding, and there are none "
            f"of {', '.join(without)}; use ignored, leave those out of data.findings, or count blank labels as zeros"
        )


def likelihoods(network: torch.nn.Module) -> list[Likelihood]:
    """Those that are parts of a network."""
    return [part for part in network.modules() if isinstance(part, Likelihood)]


def show_labels(network: VKD | ImageOnly, data: StudyData) -> None:
    """Lets each likelihood refuse labels that it has no outcome for, and take what it needs of the training labels."""
    train = torch.from_numpy(data.targets("train", data.train_policy))
    validation = torch.from_numpy(data.targets("validation", data.eval_policy))
    for part in likelihoods(network):
        part.check_labels(train)
        part.check_labels(validation)
        part.see_labels(train)


def refuse_unlabelled_validation(data: StudyData) -> None:
    """Raises `UserError` where no epoch could be told from another."""
    if np.isnan(data.targets("validation", data.eval_policy)).all():
        raise UserError(
            f"{data.corpus.name}: no label of the {len(data.studies('validation')):,} validation studies is known; "
            "check that the label table names the same studies, or that data.eval_policy keeps some label"
        )


def refuse_changed_data(run: Path, summary: dict[str, Any]) -> None:
    """Raises `UserError` where a run would go on with other studies or labels than it began with."""
    path = run / DATA
    if path.is_file() and json.loads(path.read_text()) != summary:
        raise UserError(f"{path}: the data is not what this run began with; put it back, or start a new run")


def warn_of_absent_findings(data: StudyData) -> None:
    """Warns of each finding that is never positive in training: nothing can be learned of it."""
    positive = (data.targets("train", data.train_policy) > 0).sum(axis=0)
    absent = [finding for finding, n in zip(data.findings, positive, strict=True) if n == 0]
    if absent:
        warnings.warn(f"never positive in training, so not learnt: {', '.join(absent)}", stacklevel=3)


def write_card(arm: Arm, data: StudyData, nll: float) -> str:
    """The bundle's model card, in Markdown."""
    sizes = {split: len(data.studies(split)) for split in ("train", "validation")}
    return (
        f"# Findings in chest X-rays: {arm}\n\n"
        f"Trained on {data.corpus.name}: {sizes['train']} studies, chosen on {sizes['validation']} "
        f"(negative log-likelihood {nll:.4f} nats a label).\n\n"
        f"Findings: {', '.join(data.findings)}.\n\n"
        "For research. Not a medical device: not for diagnosis, triage or treatment. "
        "Its probabilities hold for patients, scanners and labelling like those it was trained on.\n"
    )


def make_trainer(training: Training, run: Path, best: ModelCheckpoint, progress: bool) -> L.Trainer:
    """Lightning's trainer, with what happens between epochs; nothing is written before it fits."""
    last = ModelCheckpoint(run / CHECKPOINTS, "last", every_n_epochs=1, enable_version_counter=False)
    callbacks: list[Callback] = [MetricsTable(run / METRICS), best, last]
    if training.patience is not None:
        callbacks.append(RelativeEarlyStopping(training.patience, training.tolerance))
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=5))
    try:
        return L.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
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


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's banners, and warnings that are Lightning's own to mend, off the screen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", "(?s).*treespec, LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)
