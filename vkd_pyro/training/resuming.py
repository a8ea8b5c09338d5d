"""Going on with a training: from which checkpoint, and with which settings."""

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.artifacts.checkpoints import LAST, load_checked, newest, resumption_of
from vkd_pyro.artifacts.run import CHECKPOINTS, DATA, METRICS, leads
from vkd_pyro.data.loading.dataset import TrainingBatches
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.callbacks import rows_before
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import read_json
from vkd_pyro.utils.serialization import public_path

Settings = dict[str, str | bool | int | float | None]

PLACES = {"language_model", "weights", "root", "store", "labels"}
"""Arguments that say where something lies. It may have moved; what is in it is compared by its hash elsewhere."""

SPEED = {
    "training.accelerator",
    "training.checkpoint_steps",
    "training.compile",
    "training.loggers",
    "training.devices",  # with the machines it gives the processes, which are compared
    "training.num_nodes",
    "data.loading.cache_images",
    "data.loading.num_workers",
    "data.loading.timeout",
}
"""Settings that change how fast a training goes, or who is told of it, and nothing that it learns."""

NOT_SETTINGS = nn.Module | Tensor | torch.device | torch.dtype | Path | type | partial
"""Kinds of arguments that are described elsewhere, or that change nothing."""

END = {"training.patience", "training.tolerance"}
"""Settings that say when a training ends; so does max_epochs, which one_cycle's learning rates depend on too."""


def settings_of(
    method: Method, data: StudyData, beta_schedule: BetaSchedule, training: Training, seed: int, processes: int
) -> Settings:
    """What the course of a training depends on, by the names it has in a config: numbers and words.

    Of a method, the arguments that it and its parts keep as attributes; of an optimiser, its defaults. Studies and
    labels are in the run's data.json.
    """
    optimizer = training.optimizer([p for p in method.parameters() if p.requires_grad])
    described: dict[str, Any] = {"seed": seed, "processes": processes}
    for name, module in method.named_modules(prefix="method"):
        described |= {name: public_path(type(module))} | {f"{name}.{key}": value for key, value in _kept(module)}
    if method.report_encoder is not None:
        described["method.report_encoder.preparation"] = method.report_encoder.preparation
    described["beta_schedule"] = beta_schedule
    described |= {f"training.{field.name}": getattr(training, field.name) for field in dataclasses.fields(training)}
    described["training.optimizer"] = {"class_path": public_path(type(optimizer)), **optimizer.defaults}
    described["data.selection.image_size"] = data.selection.image_size
    described["data.selection.views"] = data.selection.views
    described["data.loading"] = data.loading
    return dict(pair for name, value in described.items() for pair in _flat(name, value))


def resume_from(run: Path, batches: TrainingBatches, settings: Settings) -> Path:
    """The newest whole checkpoint; the batches will go on behind the last one that it knows of.

    Raises:
        UserError: no checkpoint is whole, the run has lost what it needs besides, or its steps were made with other
            settings.
    """
    path = newest(run / CHECKPOINTS)
    epoch, batch, theirs = resumption_of(path)
    check_same_settings(path, theirs, settings, epoch)
    if (run / METRICS).exists() or epoch:
        rows_before(run / METRICS, epoch)
    if epoch:
        load_checked(run / CHECKPOINTS / "best.ckpt")  # it will be wanted when training has ended
    damaged = run / CHECKPOINTS / LAST
    if path != damaged and damaged.is_file() and leads():  # out of the way of the next, but not lost
        damaged.replace(damaged.with_suffix(".damaged"))
    batches.resume_at(epoch, batch)
    return path


def check_same_settings(path: Path, theirs: Settings, ours: Settings, epoch: int) -> None:
    """Raises `UserError` where a training would go on otherwise than it began; what only changes its speed may change.

    Args:
        path: of the checkpoint.
        theirs: what it was trained with.
        ours: what it would go on with.
        epoch: epochs that it has behind it.
    """
    may = SPEED | END
    if ours.get("training.learning_rate_schedule") != "one_cycle":
        may = may | {"training.max_epochs"}
    different = [name for name in {**theirs, **ours} if name not in may and not _same(theirs, ours, name)]
    if different:
        name, more = different[0], len(different) - 1
        found, expected = (repr(one[name]) if name in one else "none" for one in (ours, theirs))
        why = " (one_cycle goes over the whole training)" if name == "training.max_epochs" else ""
        others = f", and {more} more setting{'s differ' if more > 1 else ' differs'}" if more else ""
        raise UserError(
            f"{path}: {name}: found {found}, but this run was trained with {expected}{why}{others}; go on with that, "
            "or start a new run in another folder"
        )
    epochs = ours["training.max_epochs"]
    if isinstance(epochs, int) and epochs < epoch:
        raise UserError(
            f"training.max_epochs: found {epochs}, but {epoch} epochs are behind this run; give a larger number, or "
            f"take the best of them by vkd train --finish {path.parent.parent}"
        )


def check_same_data(run: Path, summary: dict[str, Any]) -> None:
    """Raises `UserError` where a run would go on with other studies or labels than it began with."""
    path = run / DATA
    if path.is_file() and read_json(path, "put back a copy of it, or start a new run") != summary:
        raise UserError(f"{path}: the data is not what this run began with; put it back, or start a new run")


def _same(theirs: Settings, ours: Settings, name: str) -> bool:
    if (name in theirs) != (name in ours):
        return False
    one, other = theirs[name], ours[name]
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return one == other or both_nan


def _kept(part: object) -> Iterator[tuple[str, Any]]:
    """The constructor's arguments that a part keeps as attributes, but for those that say where something lies."""
    for name in inspect.signature(type(part)).parameters:
        if name not in PLACES and hasattr(part, name):
            yield name, getattr(part, name)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Numbers and words of a value, by their dotted names; modules and tensors are described by themselves."""
    if isinstance(value, Enum):  # of a library, whose class a checkpoint may not name
        yield name, str(value.value)
    elif value is None or isinstance(value, str | bool | int | float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple | set | frozenset):
        yield name, ", ".join(str(inner) for inner in (sorted(value, key=str) if isinstance(value, set) else value))
    elif not isinstance(value, NOT_SETTINGS) and not inspect.isroutine(value):
        yield name, public_path(type(value))
        for key, inner in _kept(value):
            yield from _flat(f"{name}.{key}", inner)
