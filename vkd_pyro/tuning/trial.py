"""One training as a trial of a study."""

import math
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import torch
from lightning.pytorch.callbacks import Callback

from vkd_pyro.data.study_data import StudyData
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.fitting import fit
from vkd_pyro.training.posthoc import Posthoc
from vkd_pyro.training.settings import Training
from vkd_pyro.tuning.study import Goal
from vkd_pyro.utils.errors import UserError, one_line


class SearchError(UserError):
    """What no other settings would mend."""


class Report(Callback):
    """Tells a study the metric of each epoch, and ends a trial that its pruner would end.

    Attributes:
        value: the metric at the epoch of the lowest val/nll so far, which is the one that a run keeps.
    """

    def __init__(self, trial: optuna.trial.Trial, goal: Goal) -> None:
        self.trial, self.goal = trial, goal
        self.value, self.nll = math.nan, math.inf

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.goal.metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise SearchError(f"--metric: found {self.goal.metric}, expected one of {known}")
        value, nll = float(metrics[self.goal.metric]), float(metrics["val/nll"])
        if nll < self.nll:
            self.value, self.nll = value, nll
        if not math.isfinite(value):
            return
        self.trial.report(value, trainer.current_epoch)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last and self.trial.should_prune():
            raise optuna.TrialPruned


def train_trial(
    trial: optuna.trial.Trial,
    goal: Goal,
    method: Method,
    data: StudyData,
    run: Path,
    beta_schedule: BetaSchedule | None = None,
    training: Training | None = None,
    posthoc: Posthoc | None = None,
    seed: int = 0,
    config: str = "",
    start_from: Path | None = None,
) -> float:
    """Trains, on data without a test split, and gives what is sought; arguments from `method` on as of `fit`.

    Raises:
        optuna.TrialPruned: others did better at the same epoch.
        UserError: the metric is not logged, or undefined; as `fit` else.
    """
    assert not data.has("test"), "a search must not see the test split"
    report = Report(trial, goal)
    options: Any = {"posthoc": posthoc, "seed": seed, "config": config, "start_from": start_from, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one setting among many; a training with the best one says them
        fit(method, data, run, beta_schedule, training, callbacks=[report], **options)
    if not math.isfinite(report.value):
        raise UserError(f"{goal.metric} is not a number at the epoch of the lowest val/nll")
    return report.value


def failure(error: Exception) -> str | None:
    """Why an error is of a trial's settings, in one line; None where it is of the machine, or of the program.

    Of the settings: what a user could mend by other ones, a divergence among it, and too little memory.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return f"too little memory: {one_line(error)[:120]}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError | SearchError):
            return None
        cause = cause.__cause__
    return one_line(error) if isinstance(error, UserError) else None
