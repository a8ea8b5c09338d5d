"""`vkd tune`: searches for settings of a training, on training and validation alone."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import config_path, parse
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.cli.train import (
    OTHERS,
    PARTS,
    build,
    describe_data,
    train_parser,
    with_config_of_a_run,
    with_objective,
    without_allowed,
)
from vkd_pyro.utils.errors import UserError

OWN = ("space", "study", "storage", "trials", "folds", "metric", "mode", "pruner", "keep")
"""Options that `vkd train` does not have."""


def tune_parser() -> ArgumentParser:
    """Options of `vkd tune`, and those of `vkd train`."""
    parser = train_parser()
    parser.prog, parser.usage = "vkd tune", "%(prog)s --config CONFIG --space SPACE --study STUDY [options]"
    parser.description = (
        "Searches for the settings with the best validation metric, from the options of vkd train that a space names. "
        "It never sees the test split. The same command goes on with a study, also in several processes at once."
    )
    parser.add_argument(
        "--space", type=str, nargs="+", default=[], help="YAML of options and their distributions, one or more"
    )
    parser.add_argument("--study", type=Path | None, help="folder to write, or to go on with; its name is the study's")
    parser.add_argument(
        "--storage",
        type=str | None,
        help="address of a database, such as postgresql://host/name, for workers on several machines; by default a "
        "file in the folder of the study",
    )
    parser.add_argument("--trials", type=PositiveInt, default=30, help="finished ones in all, of all workers")
    parser.add_argument(
        "--folds",
        type=PositiveInt,
        default=1,
        help="a trial trains once a fold and has the mean of its values: cross-validation within the training and "
        "validation studies, by patient; 1 is one training, judged by the validation split",
    )
    parser.add_argument("--metric", type=str, default="val/nll", help="a validation column of metrics.csv")
    parser.add_argument(
        "--mode", type=Literal["min", "max"] | None, help="which is the best; by default max for an AUC, else min"
    )
    parser.add_argument(
        "--pruner",
        type=Literal["median", "hyperband", "none"],
        default="median",
        help="ends a trial that is worse, at an epoch, than the median of others; or by successive halving",
    )
    parser.add_argument("--keep", type=Literal["best", "all", "none"], default="best", help="runs of which trials")
    return parser


def main(arguments: list[str]) -> None:
    """Searches, or goes on with a search."""
    check_names(arguments, PARTS, (*OTHERS, *OWN))
    say_stage("loading the libraries", arguments)
    parser = tune_parser()
    arguments = with_config_of_a_run(arguments)
    settings = parse(parser, arguments)
    _check(settings, arguments)
    try:
        from vkd_pyro.tuning.results import best_of, run_of, tidy, write_best, write_picture, write_table
        from vkd_pyro.tuning.space import read_space
        from vkd_pyro.tuning.study import Goal, open_study, pruner_of, search
        from vkd_pyro.tuning.trial import failure, train_trial
    except ModuleNotFoundError as error:
        raise UserError(f"vkd tune needs {error.name}: pip install 'vkd-pyro[tune]'") from error

    space = read_space([Path(config_path(name)) for name in settings.space])
    goal, folder, trials = Goal(settings.metric, settings.mode), settings.study, settings.trials
    of_folds = {"folds": settings.folds} if settings.folds > 1 else {}

    def settings_with(options: list[str]) -> Namespace:
        return with_objective(parse(parser, [*arguments, *options]))

    _check_space(settings.space, space, arguments, settings_with)
    say("reading the corpus", flush=True)
    data_of = DataOf(settings.folds)
    base = build(with_objective(settings))
    say(describe_data(data_of(settings, lambda: base)[0].summary()), flush=True)
    identity = {"config": comparable(settings), "space": space.description()} | of_folds
    pruner = pruner_of(settings.pruner, settings.training.max_epochs, settings.folds)
    try:
        first = space.params(as_dict(with_objective(settings)))
    except ValueError as error:
        first = None
        say(f"the config as it stands is not tried: {error}")
    study = open_study(folder, goal, pruner, settings.seed, identity, settings.storage, first=first)

    def run_trial(trial: Any, options: list[str]) -> float:
        tried = settings_with(options)

        def parts() -> Namespace:
            return build(tried, trained=tried.start_from is not None)

        def make() -> dict[str, Any]:
            built = parts()
            kept = {name: built[name] for name in ("method", "beta_schedule", "training", "posthoc")}
            return kept | {"seed": tried.seed, "config": config_of(tried), "start_from": tried.start_from}

        return train_trial(trial, goal, data_of(tried, parts), make, run_of(folder, trial.number))

    def after(trial: Any) -> None:
        best = best_of(study)
        if best is not None and best.number == trial.number:
            write_best(study, folder, goal, config_of(settings_with(space.options(best.params))))
        write_table(study, folder)
        tidy(study, folder, settings.keep)
        say(line_of(trial, goal, best), flush=True)

    search(study, space, run_trial, failure, trials, after)
    best = best_of(study)
    if best is None:
        raise UserError(f"{folder}: no trial was complete; trials.csv says why")
    write_table(study, folder)
    tidy(study, folder, settings.keep)
    write_best(study, folder, goal, config_of(settings_with(space.options(best.params))))
    write_picture(study, folder, goal)
    say(f"best: trial {best.number}, {goal.metric} {best.value:.4f}: {shown(best.params)}")
    say(f"written: {folder}/best.yaml, trials.csv, search.png")
    say(f"next: vkd train --config {folder}/best.yaml --run runs/best")


class DataOf:
    """The data of a trial's trainings, without test splits; read once where trials do not differ in it."""

    def __init__(self, num_folds: int) -> None:
        self.num_folds = num_folds
        self.known: tuple[str, Any] | None = None

    def __call__(self, settings: Namespace, parts: Callable[[], Namespace]) -> Any:
        described = yaml.safe_dump(as_dict(settings)["data"])
        if self.known is None or self.known[0] != described:
            data = parts().data
            folds = data.inner_folds(self.num_folds) if self.num_folds > 1 else [data.without_test()]
            self.known = described, folds
        return self.known[1]


def _check(settings: Namespace, arguments: list[str]) -> None:
    """Raises `UserError` for options that a search cannot have, and those that it lacks."""
    for name in ("resume", "finish"):
        if settings[name] is not None:
            raise UserError(f"--{name}: is of one training; a search goes on by its own command again")
    if any(argument.split("=")[0] == "--run" for argument in arguments):
        raise UserError("--run: trials have folders of their own, below --study; leave it out")
    if not settings.space:
        raise UserError("--space: not given; name a YAML file of options, or spaces/training, which ships")
    if settings.study is None:
        raise UserError("--study: not given; name a folder for the search, e.g. --study tuning/mine")
    if settings.training.devices * settings.training.num_nodes > 1:
        raise UserError("training.devices: a trial has one; start the same command once for each device")
    if settings.study.is_dir() and any(settings.study.iterdir()) and not (settings.study / ".study.lock").is_file():
        raise UserError(f"--study: {settings.study} holds something else than a study; choose another folder")


def _check_space(names: list[str], space: Any, arguments: list[str], settings_with: Callable[..., Namespace]) -> None:
    """Raises `UserError` where the config does not have an option, or it does not take one of its values."""
    try:
        check_names([*arguments, *space.examples()[0]], PARTS, (*OTHERS, *OWN))
        for options in space.examples():
            settings_with(options)
    except UserError as error:
        raise UserError(f"{', '.join(names)}: {error}") from error


def as_dict(settings: Namespace) -> dict[str, Any]:
    """The settings of a training alone, as YAML has them."""
    kept = without_allowed(settings)
    for name in OWN:
        kept.pop(name, None)
    kept.run = None
    found: dict[str, Any] = yaml.safe_load(train_parser().dump(kept, skip_unset=False))
    return found


def config_of(settings: Namespace) -> str:
    """The text of a config for `vkd train`."""
    return yaml.safe_dump({name: value for name, value in as_dict(settings).items() if name != "run"}, sort_keys=False)


def comparable(settings: Namespace) -> dict[str, Any]:
    """What trials of a study have in common: the settings but those that only change speed."""
    from vkd_pyro.training.resuming import SPEED

    found = as_dict(settings)
    for name in SPEED:
        *above, last = name.split(".")
        part: Any = found
        for key in above:
            part = part[key]
        part.pop(last, None)
    return found


def shown(params: dict[str, Any]) -> str:
    """What a trial tried, for a person."""
    values = {name: f"{v:.4g}" if isinstance(v, float) else textwrap.shorten(str(v), 80) for name, v in params.items()}
    return ", ".join(f"{'.'.join(name.split('.')[-2:])} {value}" for name, value in values.items())


def line_of(trial: Any, goal: Any, best: Any) -> str:
    """What became of a trial."""
    from vkd_pyro.tuning.results import state_of
    from vkd_pyro.tuning.study import FAILED

    state = state_of(trial)
    value = f"{goal.metric} {trial.value:.4f}" if state == "complete" else trial.user_attrs.get(FAILED, "")
    so_far = f"; best so far {best.value:.4f}, trial {best.number}" if best is not None else ""
    return f"trial {trial.number}: {state}{value and ', '}{value}; {shown(trial.params)}{so_far}"
