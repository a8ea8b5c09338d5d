"""Training: `fit`, which writes a run."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pandas as pd

from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.artifacts.checkpoints import LAST, load_checked, newest
from vkd_pyro.artifacts.run import (
    BAD_IMAGES,
    BUNDLE,
    CHECKPOINTS,
    CONFIG,
    DATA,
    METRICS,
    check_ready,
    claimed,
    has_checkpoint,
    leads,
    load_checkpoint,
    start_with,
)
from vkd_pyro.data.dataset import Share, TrainingBatches
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.evaluation.collapse import warn_if_ignored
from vkd_pyro.methods import Rival
from vkd_pyro.methods.arms import Arm, ready_for_arm, show_labels, warn_of_absent_findings
from vkd_pyro.model import VKD, ImageOnly
from vkd_pyro.schedules import Cyclical, KLSchedule
from vkd_pyro.training.callbacks import BestCheckpoint, rows_before
from vkd_pyro.training.module import VKDTrainer, compile_encoders, make_trainer, quiet
from vkd_pyro.training.posthoc import Posthoc, calibrate
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import write_json, written

__all__ = ["Arm", "Training", "fit"]


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
    posthoc: Posthoc | None = None,
) -> VKD | ImageOnly:
    """Trains one arm and writes a run; returns the network of the best epoch, in eval mode.

    With several devices it runs in as many processes, of which the first alone writes; all must see the run's folder.

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
        resume: go on from the newest whole checkpoint of `run`.
        progress: show a progress bar.
        rival: the method of the arm "rival"; it takes the place of `objective`.
        posthoc: how the trained model is calibrated; `Posthoc()` by default.
    """
    run, training = Path(run), training or Training()
    if leads():
        check_ready(run, resume)
    network, method, use_reports = ready_for_arm(arm, vkd, data, objective or TraceVKD_ELBO(), rival)
    # What cannot be written is found before training.
    description, summary = (json.loads(json.dumps(d, default=str)) for d in (data.description(), data.summary()))
    if resume:
        check_same_data(run, summary)
    goes_on = resume and has_checkpoint(run)  # else from the beginning
    if not goes_on:  # one that goes on finds in its checkpoint what was taken from the labels
        show_labels(network, data)
        if start_from is not None:
            start_with(network, Path(start_from))
    best = BestCheckpoint(run / CHECKPOINTS)
    with quiet():
        trainer = make_trainer(training, run, best, progress)
    share = Share(trainer.global_rank, trainer.world_size)
    if leads():
        warn_of_absent_findings(data)
    encoder = vkd.guide.report_encoder.to(training.device) if use_reports else None
    train_loader = data.train_loader(encoder, seed, share, training.device)
    loaders = train_loader, data.evaluation_loader("validation", encoder, share=share)
    batches = cast(TrainingBatches, train_loader.batch_sampler)
    last = resume_from(run, batches, seed) if goes_on else None
    if training.compile:
        compile_encoders(network)
    module = VKDTrainer(network, method, kl_schedule or Cyclical(), training, seed, use_reports, batches.batch_size)
    with quiet(), claimed(run, resume) if leads() else nullcontext():
        if leads() and not goes_on:
            begin(run, config, summary, data.unreadable)
        network.train()  # Lightning keeps the mode it finds
        try:
            trainer.fit(module, *loaders, ckpt_path=last, weights_only=True)
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error
    load_checkpoint(network, run)
    if leads():
        card = write_card(arm, data, float(best.best_model_score or math.nan))
        calibration = calibrate(network.to(training.device), data, posthoc)
        save_bundle(run / BUNDLE, network.model, network.findings, data.transform, card, description, calibration)
        warn_if_ignored(run / METRICS)
    return network.eval()


def begin(run: Path, config: str, summary: dict[str, Any], bad_images: list[tuple[str, str]]) -> None:
    """Writes what a run holds before its first step."""
    (run / CONFIG).write_text(config)
    write_json(run / DATA, summary)
    if bad_images:
        with written(run / BAD_IMAGES) as file:
            pd.DataFrame(bad_images, columns=["study", "problem"]).to_csv(file, index=False)


def resume_from(run: Path, batches: TrainingBatches, seed: int) -> Path:
    """The newest whole checkpoint; the batches will go on behind the last one that it knows of.

    Raises:
        UserError: no checkpoint is whole, the run has lost what it needs besides, or its steps were of other rows.
    """
    path = newest(run / CHECKPOINTS)
    position = load_checked(path)["position"]
    found = {"processes": batches.share.world, "rows": batches.batch_size, "seed": seed}
    for name, value in found.items():
        if position[name] != value:
            raise UserError(f"{path}: of a training with {name} {position[name]}, found {value}; go on with the same")
    if (run / METRICS).exists() or position["epoch"]:
        rows_before(run / METRICS, position["epoch"])
    if position["epoch"]:
        load_checked(run / CHECKPOINTS / "best.ckpt")  # it will be wanted when training has ended
    damaged = run / CHECKPOINTS / LAST
    if path != damaged and damaged.is_file() and leads():  # out of the way of the next, but not lost
        damaged.replace(damaged.with_suffix(".damaged"))
    batches.resume_at(position["epoch"], position["batch"])
    return path


def check_same_data(run: Path, summary: dict[str, Any]) -> None:
    """Raises `UserError` where a run would go on with other studies or labels than it began with."""
    path = run / DATA
    try:
        same = not path.is_file() or json.loads(path.read_text()) == summary
    except ValueError as error:  # not JSON, or no text
        raise UserError(f"{path}: damaged ({one_line(error)}); put back a copy of it, or start a new run") from error
    if not same:
        raise UserError(f"{path}: the data is not what this run began with; put it back, or start a new run")


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
