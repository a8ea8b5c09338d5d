"""Training: `fit`, which writes a run."""

import json
import shutil
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pandas as pd
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng

from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.artifacts.run import (
    BAD_IMAGES,
    BUNDLE,
    CHECKPOINTS,
    CONFIG,
    DATA,
    METRICS,
    claimed,
    has_checkpoint,
    leads,
    load_checkpoint,
    start_with,
)
from vkd_pyro.data.loading.dataset import Share, StudyDataset, TrainingBatches
from vkd_pyro.data.loading.settings import Loader
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.evaluation.collapse import warn_if_ignored
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule, Cyclical
from vkd_pyro.training.callbacks import BestCheckpoint
from vkd_pyro.training.card import write_card
from vkd_pyro.training.check.programs import check_programs
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.posthoc import Posthoc, calibrate
from vkd_pyro.training.requirements import (
    check_settings,
    check_trainable,
    mark_fitted,
    observe_labels,
    observe_reports,
    warn_of_absent_findings,
)
from vkd_pyro.training.resuming import check_same_data, resume_from, settings_of
from vkd_pyro.training.settings import Training
from vkd_pyro.training.stopping import stoppable
from vkd_pyro.training.tracking import hyperparameters, opened
from vkd_pyro.training.trainer import compile_encoders, make_trainer, quiet
from vkd_pyro.training.warm_up import warm_up
from vkd_pyro.utils.epochs import best_epoch
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import full_disk, write_json, written


@isolate_rng()
def fit(
    method: Method,
    data: StudyData,
    run: str | Path,
    beta_schedule: BetaSchedule | None = None,
    training: Training | None = None,
    posthoc: Posthoc | None = None,
    seed: int = 0,
    config: str = "",
    start_from: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Method:
    """Trains a method and writes a run; returns it with the weights of the best epoch, in eval mode.

    With several devices it runs in as many processes, of which the first alone writes; all must see the run's folder.
    The global generators (torch, numpy, python) are afterwards what they were before. Stopped by hand, it leaves the
    method as `stoppable` says.

    Args:
        method: with fresh weights.
        data: the corpus, ready for training.
        run: folder to write, refused if it holds another run.
        beta_schedule: of the weight of what draws image and report together; `Cyclical()` by default.
        training: how to train.
        posthoc: how the trained model is calibrated; `Posthoc()` by default.
        seed: of the order, the augmentation and the noise; the weights' seed is the caller's.
        config: text of `config.yaml`, so that the run can be evaluated and resumed from the command line.
        start_from: a run of the same image model, whose best weights to begin with (fine-tuning).
        resume: go on from the newest whole checkpoint of `run`.
        progress: a line for each epoch, and a bar within it in a terminal or a notebook.
        callbacks: of Lightning, more than ours; after ours, but before an epoch's checkpoints.
    """
    run, training = Path(run), training or Training()
    with claimed(run, resume) if leads() else nullcontext(), stoppable(method, run):
        goes_on = resume and has_checkpoint(run)  # else from the beginning
        check_settings(method, training, seed, fresh=not goes_on)
        check_trainable(method, data)
        # What cannot be written is found before training.
        json.dumps(data.description(), default=str)
        summary = json.loads(json.dumps(data.summary(), default=str))
        if resume:
            check_same_data(run, summary)
        processes = training.devices * training.num_nodes
        settings = settings_of(method, data, beta_schedule or Cyclical(), training, seed, processes)
        if not goes_on:  # one that goes on finds in its checkpoint what was taken from the labels
            observe_labels(method, data)
            if start_from is not None:
                start_with(method, Path(start_from))
        best = BestCheckpoint(run / CHECKPOINTS, training.monitor)
        with quiet():
            trainer = make_trainer(training, run, best, progress, callbacks)
        if leads():
            warn_of_absent_findings(data)
        train_loader, validation_loader = loaders(method, data, training, seed, trainer)
        observe_reports(method, cast(StudyDataset, train_loader.dataset))
        batches = cast(TrainingBatches, train_loader.batch_sampler)
        last = resume_from(run, batches, settings) if goes_on else None
        if last is not None and data.loading.features:  # the trainer would do it too late to know whose they are
            load_checkpoint(method, run, last.stem)
        data.check_features(method.model.image_encoder)
        check_programs(method, cast(StudyDataset, train_loader.dataset), training.device)
        mark_fitted(method, run)
        if not goes_on:
            warm_up(method.to(training.device), cast(StudyDataset, train_loader.dataset), training.report_warm_up, seed)
        if training.compile:
            compile_encoders(method)
        module = MethodTraining(method, beta_schedule or Cyclical(), training, seed, settings)
        if leads() and not goes_on:
            begin(run, config, summary, data.unreadable)
        elif leads() and config:  # what may change while it goes on
            write_config(run, config)
        method.train()  # Lightning keeps the mode it finds
        told = hyperparameters(config) or settings
        with quiet(), full_disk(run), opened(training.loggers, run, told) as trainer.loggers:
            trainer.fit(module, train_loader, validation_loader, ckpt_path=last, weights_only=True)
        if leads():
            finish(method, data, run, training, posthoc)
        load_checkpoint(method, run)
        return method.eval()


def finish(
    method: Method, data: StudyData, run: str | Path, training: Training | None = None, posthoc: Posthoc | None = None
) -> Method:
    """Writes the bundle of the best epoch so far, calibrated, which completes a run; `fit` ends with it.

    Of a run that was interrupted, or diverged after a good epoch, it makes one that can be used.

    Args:
        method: of the run's network; with the weights of the best epoch afterwards, in eval mode.
        data: the run was trained on.
        run: folder of the run.
        training: how it was trained; only the device counts.
        posthoc: how the model is calibrated.

    Raises:
        UserError: the run has no best epoch yet, or is of another network.
    """
    run, training = Path(run), training or Training()
    if has_checkpoint(run) and not (run / CHECKPOINTS / "best.ckpt").is_file():
        raise UserError(f"{run}: no epoch of it has ended yet, so none is the best; go on by vkd train --resume {run}")
    load_checkpoint(method, run)
    table = pd.read_csv(run / METRICS)
    nll = float(table["val/nll"].iloc[best_epoch(table)])
    calibration = calibrate(method.to(training.device), data, posthoc)
    card = write_card(method, data, nll, training.monitor)
    description = json.loads(json.dumps(data.description(), default=str))
    if getattr(method, "keep_report_likelihood", False):
        warnings.warn(
            "method.keep_report_likelihood: true, so the bundle holds what the report likelihood learned of the "
            "reports; of words, hashes that a list of names would tell. Hand it to nobody who may not read the reports",
            stacklevel=2,
        )
    save_bundle(run / BUNDLE, method.image_model, method.findings, data.transform, card, description, calibration)
    warn_if_ignored(run / METRICS, method)
    return method.eval()


def loaders(method: Method, data: StudyData, training: Training, seed: int, trainer: Trainer) -> tuple[Loader, Loader]:
    """Batches of the training and of the validation split for this process; reports prepared where they are read."""
    share = Share(trainer.global_rank, trainer.world_size)
    preparation = None if method.report_encoder is None else method.report_encoder.to(training.device)
    observation = None if method.report_likelihood is None else method.report_likelihood.to(training.device)
    train = data.train_loader(preparation, seed, share, training.device, observation)
    return train, data.evaluation_loader("validation", preparation, share=share, observation=observation)


def begin(run: Path, config: str, summary: dict[str, Any], bad_images: list[tuple[str, str]]) -> None:
    """Writes what a run holds before its first step, its config first: by that it can be gone on with.

    What is there of an epoch that ended before the first checkpoint is removed.
    """
    write_config(run, config)
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    (run / METRICS).unlink(missing_ok=True)
    write_json(run / DATA, summary)
    if bad_images:
        with written(run / BAD_IMAGES) as file:
            pd.DataFrame(bad_images, columns=["study", "problem"]).to_csv(file, index=False)


def write_config(run: Path, config: str) -> None:
    """Writes the text of config.yaml, whole or not at all."""
    with written(run / CONFIG) as unfinished:
        unfinished.write_text(config, encoding="utf-8")
