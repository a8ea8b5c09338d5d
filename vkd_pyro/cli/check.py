"""`vkd check`: what a training would be, in words; and whether its guide is the posterior of its program."""

import argparse
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import judge, new_parser, parse, read_yaml
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.cli.train import OTHERS, PARTS, build, train_parser, with_config_of_a_run
from vkd_pyro.utils.errors import UserError, check_count

FRESH = ""
"""What stands for networks as they are before training, in place of a run."""

SIMULATION: dict[str, dict[str, Any]] = {
    "--sbc": {
        "nargs": "?",
        "const": FRESH,
        "metavar": "RUN",
        "help": "instead: simulation-based calibration and expected coverage of the guide, of a trained run, or of "
        "these settings before training",
    },
    "--simulations": {"type": int, "default": 500, "help": "of z, labels and report under the program, for --sbc"},
    "--draws": {"type": int, "default": 99, "help": "of the guide for each simulation, for --sbc"},
    "--split": {"default": "validation", "help": "whose images --sbc takes: train, validation or test"},
    "--output": {"type": Path, "help": "a folder that --sbc writes sbc.json and its figures to"},
}
"""Options of the check by simulation, beside those of `vkd train`."""


def main(arguments: list[str]) -> None:
    """Prints what `vkd train` would do with the same options; the exit code is 2 where it would not train."""
    own, others = _own_options(arguments)
    if own.sbc is not None:
        check_simulation(own, others, arguments)
        return
    check_names(others, PARTS, OTHERS)
    say_stage("loading the libraries", others)
    from vkd_pyro.training.check import inspect_training

    parser = _parser()
    settings = parse(parser, with_config_of_a_run(others))
    say("reading the corpus", flush=True)
    parts = build(settings, trained=settings.start_from is not None)
    inspection = inspect_training(
        method=parts.method,
        data=parts.data,
        beta_schedule=parts.beta_schedule,
        training=parts.training,
        seed=settings.seed,
        start_from=settings.start_from,
    )
    say(inspection)
    if inspection.problems:
        raise UserError(f"would not train: {'; '.join(inspection.problems)}")


def check_simulation(own: argparse.Namespace, others: list[str], arguments: list[str]) -> None:
    """Prints what `check_guide` finds, and writes it where that is asked for."""
    check_count("--simulations", own.simulations, least=2)
    check_count("--draws", own.draws)
    if own.output is not None and own.output.exists() and (not own.output.is_dir() or any(own.output.iterdir())):
        raise UserError(f"--output: {own.output} exists already; choose another folder")
    if own.sbc == FRESH:
        check_names(others, PARTS, OTHERS)
    say_stage("loading the libraries", arguments)
    from vkd_pyro.evaluation.simulated_guide import check_can_simulate, check_guide, features_for

    method, data, schedule, seed = _fresh(others) if own.sbc == FRESH else _trained(Path(own.sbc), others)
    check_can_simulate(method)
    features = features_for(method, data, own.split, own.simulations)
    of = "before training" if own.sbc == FRESH else own.sbc
    say(f"{type(method).__name__}, {of}, on {len(features):,} images of {data.corpus.name}, {own.split} split")
    found = check_guide(method, features, own.simulations, own.draws, seed, schedule)
    say(found)
    if own.output is not None:
        from vkd_pyro.reporting.posterior import save_check

        save_check(found, own.output)
        say(f"written: {own.output}/sbc.json, figures of ranks and of expected coverage")


def _fresh(options: list[str]) -> tuple[Any, ...]:
    """Method, data, schedule and seed of settings, the networks as a training would begin with them."""
    from vkd_pyro.evaluation.simulated_guide import check_can_simulate
    from vkd_pyro.training.requirements import observe_training

    settings = parse(_parser(), with_config_of_a_run(options))
    if settings.start_from is not None:
        raise UserError(f"--start_from: name the run by --sbc {settings.start_from}")
    say("reading the corpus", flush=True)
    parts = build(settings)
    check_can_simulate(parts.method)  # before all reports are read
    observe_training(parts.method, parts.data)
    return parts.method, parts.data, parts.beta_schedule, settings.seed


def _trained(run: Path, options: list[str]) -> tuple[Any, ...]:
    """Method, data, schedule and seed of a run; options name other data, and modules that it may name."""
    from vkd_pyro.artifacts.run import load_run

    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--allow_module", nargs="+", default=[])
    chosen.add_argument("--seed", type=int, default=0)
    named, changes = chosen.parse_known_args(options)
    trained = load_run(run, changes, named.allow_module)
    return trained.method, trained.data, _schedule_of(run, named.allow_module), named.seed


def _schedule_of(run: Path, allow: list[str]) -> Any:
    """The schedule of beta that a run was trained with."""
    from vkd_pyro.artifacts.run import config_of
    from vkd_pyro.schedules import BetaSchedule

    def parser() -> ArgumentParser:
        made = new_parser("check", "")
        made.add_argument("--config", action="config")
        made.add_subclass_arguments(BetaSchedule, "beta_schedule")
        return made

    path = config_of(run)
    stored = {"beta_schedule": read_yaml(path).get("beta_schedule")}
    judge(stored, parser, allow, path)
    return parser().instantiate(parse(parser(), ["--config", yaml.safe_dump(stored)])).beta_schedule


def _parser() -> ArgumentParser:
    parser = train_parser()
    parser.prog, parser.usage = "vkd check", "%(prog)s --config CONFIG [--method NAME] [--sbc [RUN]] [options]"
    parser.description = (
        "Says what vkd train would do with the same options, from one batch: random variables, parameters, what "
        "trains and what does not, and what does not go together. Writes nothing. With --sbc, whether the guide is the "
        "posterior of the program, by simulation."
    )
    for name, how in SIMULATION.items():  # for the help alone: they are read before
        parser.add_argument(name, **how)
    return parser


def _own_options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of the check by simulation, and the rest.

    Raises:
        UserError: a number that is none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, how in SIMULATION.items():
        parser.add_argument(name, **how)
    try:
        return parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}") from error
