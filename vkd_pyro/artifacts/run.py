"""A run: the folder that a training writes.

runs/<name>/
  config.yaml     every setting, resolved
  data.json       what there was in each split, what was left out and why, the label policies
  bad_images.csv  images that could not be read, where some were skipped
  metrics.csv     one row an epoch
  checkpoints/    best.ckpt, last.ckpt, previous.ckpt: report branch included, never the frozen language model
  bundle/         the image-only model of the best epoch
  tracking/       what training.loggers write, where there are any
  .lock           held by the process that trains
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vkd_pyro.artifacts.bundle import Bundle, findings_of, load_bundle
from vkd_pyro.artifacts.checkpoints import LAST, PREVIOUS, load_checked
from vkd_pyro.artifacts.config import add_data, add_method, judge, new_parser, parse, read_yaml
from vkd_pyro.artifacts.guard import MAX_WEIGHTS, guarded, regular_file
from vkd_pyro.artifacts.parts import no_larger_than
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.methods.base import Method
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import UNFINISHED, private_folder, remove_unfinished
from vkd_pyro.utils.locks import LOCK, locked
from vkd_pyro.utils.reading import read_text

CHECKPOINTS, BUNDLE, CONFIG, METRICS = "checkpoints", "bundle", "config.yaml", "metrics.csv"
DATA, BAD_IMAGES, TRACKING = "data.json", "bad_images.csv", "tracking"
MAX_CONFIG = 2**20
"""Bytes of config.yaml, at most (1 MiB)."""
COMMAND = "vkd train"
OF_THE_RUN = ("loading.store", "selection.labels", "task.max_train_studies")
"""Settings of a run's data that make no sense with any other."""


def leads() -> bool:
    """Whether this process writes the run: the first of those that train together."""
    first_machine = int(os.environ.get("NODE_RANK", 0)) == 0  # of use before Lightning knows the ranks
    return rank_zero_only.rank == 0 and first_machine  # type: ignore[attr-defined]  # Lightning's own attribute


def check_ready(run: Path, resume: bool) -> None:
    """Raises `UserError` where a new run would overwrite another, or where there is nothing to resume."""
    if resume:
        check_begun(run)
    elif run.exists() and (not run.is_dir() or any(_of_others(run))):
        raise UserError(
            f"{run}: holds another run; choose another --run, or go on with that one by --resume {run} (in Python: "
            "another run, or resume=True)"
        )


def check_begun(run: Path) -> None:
    """Raises `UserError` where there is no run that can be gone on with: from its last checkpoint, or from nothing."""
    if not (run / CONFIG).is_file():
        raise UserError(f"{run}: not a run; expected a folder with {CONFIG}, as vkd train writes")
    if (run / BUNDLE).exists():
        raise UserError(f"{run}: this run is complete; there is nothing to resume")
    # An epoch ends in a row of metrics, and then in a checkpoint.
    if not has_checkpoint(run) and (run / METRICS).is_file() and len(read_text(run / METRICS).splitlines()) > 2:
        raise UserError(
            f"{run}: {METRICS} has rows of several epochs, but there is no {CHECKPOINTS}/{LAST} to resume from; put "
            "back a copy of it, or start a new run in another folder, without --resume"
        )


def has_checkpoint(run: Path) -> bool:
    """Whether there is one to go on from; a run that ended before its first begins again."""
    return any((run / CHECKPOINTS / name).is_file() for name in (LAST, PREVIOUS))


def _of_others(run: Path) -> Iterator[Path]:
    """What is in a folder besides what a training that ended before its first file leaves."""
    return (path for path in run.iterdir() if path.name != LOCK and not UNFINISHED.fullmatch(path.name))


@contextmanager
def claimed(run: Path, resume: bool) -> Iterator[None]:
    """The folder of a run, and no other process that writes to it while the block lasts.

    Where a new run fails before its first checkpoint, what was written of it is removed; of a run that was there
    before, and of what others put there, nothing is.

    Raises:
        UserError: another process trains into it; or as `check_ready`.
    """
    check_ready(run, resume)
    made = not run.exists()
    private_folder(run)
    with locked(run, COMMAND):
        check_ready(run, resume)  # again: another may have begun, or ended, a moment ago
        remove_unfinished(run)
        remove_unfinished(run / CHECKPOINTS)
        try:
            yield
        except BaseException:
            if not resume and not any((run / CHECKPOINTS).glob("*.ckpt")):
                _remove(run, made)
            raise


def check_not_live(run: Path) -> None:
    """Raises `UserError` where another process trains into a run: better before the data is read than after."""
    with locked(run, COMMAND):
        pass


def _remove(run: Path, made: bool) -> None:
    """Removes what a training writes before its first checkpoint; the folder too, if the training made it."""
    for name in (CHECKPOINTS, TRACKING):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (METRICS, BAD_IMAGES, DATA, CONFIG, LOCK):  # without its lock the folder is another's who asks
        (run / name).unlink(missing_ok=True)
    if made:
        with suppress(OSError):  # others have put something there
            run.rmdir()


@dataclass(frozen=True)
class Run:
    """A complete run, loaded.

    Attributes:
        path: of its folder.
        method: with the weights of its best epoch, on the device that its training would use.
        data: it was trained on, or other data that was asked for.
        bundle: that it left.
    """

    path: Path
    method: Method
    data: StudyData
    bundle: Bundle


def load_run(path: str | Path, changes: list[str] | None = None, allow: Sequence[str] = ()) -> Run:
    """A complete run: its method, its data and its bundle.

    Args:
        path: of the run's folder, which may have been moved.
        changes: options of `vkd train` that name other data (--config, --data.*). What belongs to the model (its
            findings, its image size) and the rest of the run's data settings stay; what belongs to the data of the
            run (its store, its labels, its number of studies; on another corpus its folds) does not.
        allow: modules that classes named in the run may be of, beside this package's: they are imported, which runs
            their code. What `changes` name is the caller's own, and needs no leave.

    Raises:
        UserError: not a run, or one that is not complete; settings that do not go together; a class of a module that
            is not allowed.
    """
    path, changes = Path(path), changes or []
    another_corpus = any(change == "--config" or change.startswith("--data.selection.corpus") for change in changes)
    dropped = (*OF_THE_RUN, "task.folds") if another_corpus else OF_THE_RUN if changes else ()
    config = read_yaml(config_of(path))
    known: dict[str, Any] = {name: config[name] for name in ("seed", "data", "method") if name in config}
    judge(known, evaluation_parser, allow, path / CONFIG)
    arguments = ["--config", yaml.safe_dump(known), *(f"--data.{name}=null" for name in dropped), *changes]
    parser = evaluation_parser()
    settings = without_weights(parse(parser, arguments))
    if not (path / BUNDLE).is_dir():
        load_checked(path / CHECKPOINTS / "best.ckpt")  # a run that has not even that says so
        raise UserError(f"{path}: its training has not ended; go on with vkd train --resume {path}")
    bundle = load_bundle(path / BUNDLE, allow)
    if changes:
        as_trained(settings, bundle)
    wrong = guarded(path / CONFIG, "give the run as it was written", "its method or data cannot be built", named=False)
    with wrong, no_larger_than(4 * MAX_WEIGHTS):  # a frozen language model among them
        parts = parser.instantiate(settings)
    load_checkpoint(parts.method, path)
    on_gpu = torch.cuda.is_available() and (config.get("training") or {}).get("accelerator") != "cpu"
    return Run(path, parts.method.to("cuda" if on_gpu else "cpu"), parts.data, bundle)


def evaluation_parser() -> ArgumentParser:
    """Reads what an evaluation needs of a run's config: seed, data and method."""
    parser = new_parser("evaluate", "")
    parser.add_argument("--config", action="config")
    parser.add_argument("--seed", type=int, default=0)
    add_data(parser)
    add_method(parser)
    return parser


def data_parser() -> ArgumentParser:
    """Reads the data of a config alone."""
    parser = new_parser("evaluate", "")
    parser.add_argument("--config", action="config")
    add_data(parser)
    return parser


def data_of(path: Path, allow: Sequence[str] = ()) -> StudyData:
    """The data that a run was trained on; arguments and errors as of `load_run`."""
    known = {"data": read_yaml(config_of(path))["data"]}
    judge(known, data_parser, allow, path / CONFIG)
    data: StudyData = data_parser().instantiate(parse(data_parser(), ["--config", yaml.safe_dump(known)])).data
    return data


def load_data(changes: list[str], bundle: Bundle) -> StudyData:
    """Data that options of `vkd train` name (--config, --data.*), with the findings and image size of a bundle."""
    parser = data_parser()
    settings = parse(parser, changes)
    as_trained(settings, bundle)
    return parser.instantiate(settings).data


def as_trained(settings: Namespace, bundle: Bundle) -> None:
    """Puts the findings and the reading of images of a bundle into settings of other data."""
    settings.data.task.findings = list(bundle.findings)
    settings.data.selection.image_size = bundle.transform.size
    settings.data.selection.scaled_jpeg = bundle.transform.scaled_jpeg


def without_weights(settings: Namespace) -> Namespace:
    """Settings without the pretrained image weights that training started from, since a checkpoint follows.

    A folder that says what the network is, beside its weights, stays.
    """
    settings = settings.clone()
    encoder = settings.method.init_args.get("image_encoder")
    while encoder is not None:
        if "weights" in encoder.init_args and "architecture" not in encoder.init_args:
            encoder.init_args.weights = None
        encoder = encoder.init_args.get("backbone")
    return settings


def config_of(run: Path) -> Path:
    """The config.yaml of a run.

    Raises:
        UserError: there is none, or it is damaged or empty.
    """
    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"{run}: not a run; expected a folder with {CONFIG}, as vkd train writes")
    again = "put back a copy of it"
    if (size := regular_file(path, again).stat().st_size) > MAX_CONFIG:
        raise UserError(f"{path}: {size:,} bytes, more than the limit of {MAX_CONFIG:,}; {again}")
    if not read_text(path):
        raise UserError(f"{path}: empty, since the run was made from Python; evaluate it there, by vkd_pyro.evaluate")
    return path


def start_with(method: Method, run: Path) -> None:
    """Puts the best weights of a complete run into a method whose image model has the same shape and findings.

    What only training needs is taken over too where this method has one.

    Raises:
        UserError: the run is not complete, or its model or findings are others.
    """
    theirs = findings_of(run / BUNDLE)
    if theirs != method.findings:
        raise UserError(
            f"start_from: {run} has learned the findings {', '.join(theirs)}, and data.task.findings is "
            f"{', '.join(method.findings)}; leave data.task.findings to the run"
        )
    load_checkpoint(method, run, parts=("model.",) if method.guide is None else ("model.", "guide."))


def load_checkpoint(
    method: Method, run: Path, name: str = "best", parts: tuple[str, ...] = ("model.", "guide.")
) -> None:
    """Puts the weights of a run's checkpoint into a method of the same shape: of these parts.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another network.
    """
    path = run / CHECKPOINTS / f"{name}.ckpt"
    state = load_checked(path)["state_dict"]
    found = {key.removeprefix("method."): value for key, value in state.items()}
    theirs = {key: value for key, value in found.items() if key.startswith(parts)}
    ours = method.state_dict()
    for key in [*theirs, *ours]:
        shapes = [list(getattr(one[key], "shape", ())) if key in one else "none" for one in (theirs, ours)]
        numbers = isinstance(theirs.get(key), torch.Tensor)
        if shapes[0] == shapes[1] and numbers and not torch.isfinite(theirs[key]).all():
            raise UserError(f"{path}: {key} has values that are not finite; train again")
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path}: of another network than this method and config describe ({key}: found {shapes[0]}, expected "
                f"{shapes[1]}); give the method of that run"
            )
    method.load_state_dict(theirs)
