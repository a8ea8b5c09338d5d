"""A run: the folder that a training writes.

runs/<name>/
  config.yaml     every setting, resolved
  data.json       what there was in each split, what was left out and why, the label policies
  bad_images.csv  images that could not be read, where some were skipped
  metrics.csv     one row an epoch
  checkpoints/    best.ckpt, last.ckpt, previous.ckpt: report branch included, never the frozen language model
  bundle/         the image-only model of the best epoch
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.checkpoints import LAST, PREVIOUS, load_checked
from vkd_pyro.model import VKD, ImageOnly
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder

CHECKPOINTS, BUNDLE, CONFIG, METRICS = "checkpoints", "bundle", "config.yaml", "metrics.csv"
DATA, BAD_IMAGES = "data.json", "bad_images.csv"


def leads() -> bool:
    """Whether this process writes the run: the first of those that train together."""
    first_machine = int(os.environ.get("NODE_RANK", 0)) == 0  # of use before Lightning knows the ranks
    return rank_zero_only.rank == 0 and first_machine  # type: ignore[attr-defined]  # Lightning's own attribute


def check_ready(run: Path, resume: bool) -> None:
    """Raises `UserError` where a new run would overwrite another, or where there is nothing to resume."""
    if resume:
        begun = (run / CONFIG).is_file() and not (run / METRICS).exists()
        if not (has_checkpoint(run) or begun):
            raise UserError(f"{run}: no {CHECKPOINTS}/{LAST} to resume from; start a new run, without --resume")
        if (run / BUNDLE).exists():
            raise UserError(f"{run}: this run is complete; there is nothing to resume")
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run}: holds another run; choose another --run, or go on with that one by --resume {run}")


def has_checkpoint(run: Path) -> bool:
    """Whether there is one to go on from; a run that ended before its first begins again."""
    return any((run / CHECKPOINTS / name).is_file() for name in (LAST, PREVIOUS))


@contextmanager
def claimed(run: Path, resume: bool) -> Iterator[None]:
    """Makes the folder of a run; where training fails before its first checkpoint, nothing is left behind."""
    check_ready(run, resume)  # again, since preparing the data takes its time
    private_folder(run)
    try:
        yield
    except BaseException:
        if not any((run / CHECKPOINTS).glob("*.ckpt")):
            shutil.rmtree(run)
        raise


def start_with(network: VKD | ImageOnly, run: Path) -> None:
    """Puts the best weights of a complete run into a network of the same shape and the same findings.

    Raises:
        UserError: the run is not complete, or its network or findings are others.
    """
    theirs = load_bundle(run / BUNDLE).findings
    if theirs != network.findings:
        raise UserError(
            f"start_from: {run} has learned the findings {', '.join(theirs)}, and data.task.findings is "
            f"{', '.join(network.findings)}; leave data.task.findings to the run"
        )
    load_checkpoint(network, run)


def load_checkpoint(network: VKD | ImageOnly, run: Path, name: str = "best") -> None:
    """Puts the weights of a run's checkpoint into a network of the same shape."""
    path = run / CHECKPOINTS / f"{name}.ckpt"
    state = load_checked(path)["state_dict"]
    theirs = {key.removeprefix("vkd."): value for key, value in state.items()}
    ours = network.state_dict()
    for key in [*theirs, *ours]:
        shapes = [list(getattr(one[key], "shape", ())) if key in one else "none" for one in (theirs, ours)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path}: of another network than this arm and config describe ({key}: found {shapes[0]}, expected "
                f"{shapes[1]}); give the arm and the model of that run"
            )
    network.load_state_dict(theirs)
