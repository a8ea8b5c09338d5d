"""Trains and evaluates the rows of a table over seeds and folds, one at a time or several at once.

Runs that are complete are not trained again, interrupted ones are resumed. What a run prints is in RUN.log beside it.
"""

import argparse
import contextlib
import io
import pydoc
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt
from launching import LAUNCHERS, Launcher

from vkd_pyro import methods
from vkd_pyro.artifacts.config import read_yaml
from vkd_pyro.cli import main as vkd
from vkd_pyro.evaluation.cross_fitting import join_folds
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.saved import load_evaluation
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of


@dataclass(frozen=True)
class Row:
    """What is compared with others.

    Attributes:
        name: of its runs, which are NAME-SEED, or NAME-SEED-foldFOLD.
        configs: for `vkd train`; a later one says what differs from those before it.
        options: of `vkd train`; {seed} in one is the seed.
        start_from: name of the row whose run of the same seed and fold it goes on from; "" for none.
    """

    name: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    start_from: str = ""

    @property
    def method(self) -> str:
        """The class of its method, by path."""
        found = [read_yaml(Path(config)).get("method", {}).get("class_path") for config in self.configs]
        return [class_path for class_path in found if class_path][-1]


@dataclass(frozen=True)
class Plan:
    """How all rows are trained and evaluated.

    Attributes:
        runs: folder of the runs.
        seeds: 0, 1, ... so many.
        folds: of cross-fitting; 0 for the corpus's own splits.
        split: what is evaluated.
        options: of every `vkd train`, after those of the row; `options_for` says which a row takes.
        launcher: who carries them out.
    """

    runs: Path
    seeds: int = 2
    folds: int = 0
    split: str = "test"
    options: tuple[str, ...] = ()
    launcher: Launcher = field(default_factory=Launcher)

    def run(self, name: str, seed: int, fold: int = 0) -> Path:
        """The folder of a run."""
        return self.runs / (f"{name}-{seed}-fold{fold}" if self.folds else f"{name}-{seed}")

    def trainings(self, row: Row) -> list["Training"]:
        """One for each seed and fold."""
        return [self._training(row, seed, fold) for seed in range(self.seeds) for fold in range(self.folds or 1)]

    def _training(self, row: Row, seed: int, fold: int) -> "Training":
        run = self.run(row.name, seed, fold)
        arguments = [word for config in row.configs for word in ("--config", config)]
        arguments += ["--run", str(run), "--seed", str(seed)]
        arguments += [option.replace("{seed}", str(seed)) for option in row.options]
        if self.folds:
            arguments += [f"--data.task.folds.fold={fold}", f"--data.task.folds.num_folds={self.folds}"]
        if row.start_from:
            arguments += ["--start_from", str(self.run(row.start_from, seed, fold))]
        return Training(run, (*arguments, *options_for(row.method, self.options)))

    def evaluation(self, row: Row, seed: int) -> Evaluation:
        """What is evaluated of a row at a seed: with folds, out-of-fold predictions of every study."""
        runs = [self.run(row.name, seed, fold) for fold in range(self.folds or 1)]
        return join_folds([load_evaluation(run / "evaluation" / self.split) for run in runs])

    def config_hash(self, row: Row) -> str:
        """sha256 of the resolved config of a row's first run."""
        return sha256_of(self.run(row.name, 0) / "config.yaml")


@dataclass(frozen=True)
class Training:
    """One run: its folder, and the arguments of the `vkd train` that writes it."""

    run: Path
    arguments: tuple[str, ...]

    def command(self) -> list[str]:
        """What is left to do, as arguments of `vkd`; empty where the run is complete.

        Raises:
            UserError: the folder holds a run with other settings.
        """
        config = self.run / "config.yaml"
        if config.exists():
            theirs, ours = resolved("--config", str(config)), resolved(*self.arguments)
            for name in sorted(theirs.keys() | ours.keys()):
                if theirs.get(name) != ours.get(name):
                    raise UserError(
                        f"{self.run}: was made with other settings than these ({name} {theirs.get(name)}, now "
                        f"{ours.get(name)}); remove it, or choose another --runs"
                    )
        if (self.run / "bundle").exists():
            return []
        if (self.run / "checkpoints" / "last.ckpt").exists():
            return ["train", "--resume", str(self.run), *self.allowed()]
        return ["train", *self.arguments]

    def allowed(self) -> list[str]:
        """Options that allow the modules of one's own that the run names: who named them here trusts them."""
        settings = flat(read_yaml(self.run / "config.yaml"))  # those of the arguments, or `command` refuses the run
        named = [value for key, value in settings.items() if key.endswith("class_path") and value]
        own = {name.rpartition(".")[0] for name in named if not name.startswith(("vkd_pyro.", "torch."))}
        return ["--allow_module", *sorted(own)] if own else []


def options_for(method: str, options: Sequence[str]) -> list[str]:
    """Options of `vkd train` without those of parts that only other methods have: no report encoder for NoReport."""
    shipped = [part for part in vars(methods).values() if isinstance(part, type)]
    of_any = {name for part in shipped for name in signature(part).parameters}
    ours = signature(pydoc.locate(method)).parameters
    found, kept = [], True
    for word in options:
        if word.startswith("--"):
            part = word.removeprefix("--method.").split("=")[0].split(".")[0]
            kept = not word.startswith("--method.") or part in ours or part not in of_any
        found += [word] * kept  # a value follows its option
    return found


def resolved(*arguments: str) -> dict[str, Any]:
    """Every setting that arguments of `vkd train` come to, by its dotted name, but for the run's folder."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            code = vkd(["train", *arguments, "--print_config"])
        except SystemExit as done:
            code = done.code
    if code:
        sys.exit(code)  # it has said why
    return flat(yaml.safe_load(printed.getvalue()) | {"run": None})


def flat(settings: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(settings, dict):
        return {name: settings}
    parts = (flat(value, f"{name}.{key}" if name else str(key)) for key, value in settings.items())
    return {key: value for part in parts for key, value in part.items()}


# ------------------------------------------------------------------------ running, one or several at once


def evaluations(rows: Sequence[Row], plan: Plan) -> dict[str, list[Evaluation]]:
    """Trains what is not trained yet, evaluates what is not evaluated yet: of each row, an evaluation a seed."""
    for wave in waves(rows):
        trainings = [training for row in wave for training in plan.trainings(row)]
        left = [(training.run, command) for training in trainings if (command := training.command())]
        plan.launcher.carry_out(left)
    missing = [
        training
        for row in rows
        for training in plan.trainings(row)
        if not (training.run / "evaluation" / plan.split / "evaluation.json").exists()
    ]
    how = ["--split", plan.split, "--page=false"]
    plan.launcher.carry_out([(t.run, ["evaluate", str(t.run), *how, *t.allowed()]) for t in missing])
    return {row.name: [plan.evaluation(row, seed) for seed in range(plan.seeds)] for row in rows}


def waves(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that start from nothing, then those that start from runs of others."""
    for row in rows:
        if row.start_from and row.start_from not in [other.name for other in rows]:
            raise UserError(
                f"{row.name}: starts from {row.start_from}, which is not among the rows; give what that needs"
            )
    return [[row for row in rows if not row.start_from], [row for row in rows if row.start_from]]


# --------------------------------------------------------------------------------------- command line


def add_plan(parser: argparse.ArgumentParser, runs: str) -> None:
    """The options that make a `Plan`, and where the result goes."""
    parser.add_argument("--seeds", type=PositiveInt, default=2, help="0, 1, ... so many")
    parser.add_argument(
        "--folds", type=NonNegativeInt, help="cross-fitting by patient in so many; 0 is the corpus's own splits"
    )
    parser.add_argument("--runs", type=Path, default=Path(runs), help="folder of the runs")
    parser.add_argument(
        "--jobs", type=PositiveInt, help="at once; by default one a GPU, or what a cluster has room for"
    )
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local", help="where runs are trained")
    parser.add_argument(
        "--launcher_options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of jobs: slurm_partition=gpu gpus_per_node=1 timeout_min=600, as submitit has them; or, of Ray, "
        "address=auto num_cpus=4 num_gpus=1",
    )
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")


def launcher_of(given: argparse.Namespace) -> Launcher:
    """The `Launcher` of these options."""
    return Launcher(given.launcher, given.jobs, tuple(given.launcher_options), given.runs / "jobs")


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What the user can mend ends the program with one line; Ctrl-C and SIGTERM end it with its children."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
