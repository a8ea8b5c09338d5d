"""Trainings as a trial of a study: one, or one a fold."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import optuna
import torch
from lightning.pytorch.callbacks import Callback

from vkd_pyro.data.study_data import StudyData
from vkd_pyro.training.fitting import fit
from vkd_pyro.tuning.study import Goal
from vkd_pyro.utils.epochs import MONITORED
from vkd_pyro.utils.errors import UserError, one_line


class SearchError(UserError):
    """What no other settings would mend."""


class Report(Callback):
    """Keeps the metric of a training; for a trial with one training, tells the study each epoch and ends it early.

    Attributes:
        value: the metric at the best epoch so far, by `training.monitor`, which is the one that a run keeps.
    """

    def __init__(self, goal: Goal, trial: optuna.trial.Trial | None) -> None:
        self.trial, self.goal = trial, goal
        self.value, self.least = math.nan, math.inf

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.goal.metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise SearchError(f"--metric: found {self.goal.metric}, expected one of {known}")
        value, monitored = float(metrics[self.goal.metric]), float(metrics[MONITORED])
        if monitored < self.least:
            self.value, self.least = value, monitored
        if self.trial is None or not math.isfinite(value):
            return
        self.trial.report(value, trainer.current_epoch)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last and self.trial.should_prune():
            raise optuna.TrialPruned


def train_trial(
    trial: optuna.trial.Trial,
    goal: Goal,
    folds: Sequence[StudyData],
    make: Callable[[], Mapping[str, Any]],
    run: Path,
) -> float:
    """Trains once a fold, on data without a test split, and gives the mean of what is sought.

    Args:
        trial: is told of each epoch; of each fold, where there are several, the mean up to it.
        goal: what is sought.
        folds: the data of each training.
        make: the arguments of `fit` but data and run, with fresh weights at each call.
        run: folder of the training, or of one a fold.

    Raises:
        optuna.TrialPruned: others did better at the same epoch, or fold.
        UserError: the metric is not logged, or undefined; as `fit` else.
    """
    values: list[float] = []
    for number, data in enumerate(folds):
        assert not data.has("test"), "a search must not see the test split"
        report = Report(goal, trial if len(folds) == 1 else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one setting among many; a training with the best one says them
            of_fold = run if len(folds) == 1 else run / f"fold{number}"
            fit(data=data, run=of_fold, progress=False, callbacks=[report], **make())
        if not math.isfinite(report.value):
            raise UserError(f"{goal.metric} is not a number at the epoch that is kept")
        values.append(report.value)
        if len(folds) > 1:
            trial.report(fmean(values), number)
            if len(values) < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
    return fmean(values)


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
