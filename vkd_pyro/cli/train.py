"""`vkd train`: trains a method and writes a run."""

import argparse
import pydoc
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser, Namespace, lazy_instance

from vkd_pyro.artifacts.config import add_allowed, add_data, add_method, judge, new_parser, parse, read_yaml
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.utils.errors import UserError, check_seed

PARTS = {
    "data": "StudyData",
    "method": "Method",
    "beta_schedule": "BetaSchedule",
    "training": "Training",
    "posthoc": "Posthoc",
}
"""Options of `train_parser` that make an object, and the class each is of; known here without an import of it."""
OTHERS = ("config", "run", "resume", "finish", "start_from", "store", "allow_module", "seed")
CONFIG = "config.yaml"
"""Of a run, and of a store: every setting of the training."""


def train_parser() -> ArgumentParser:
    """Every setting of a training; groups are named after what they make."""
    from vkd_pyro.schedules import BetaSchedule, Cyclical
    from vkd_pyro.training.posthoc import Posthoc
    from vkd_pyro.training.settings import Training

    parser = new_parser(
        "train",
        "Trains a method and writes a run. Any field of the config is an option too: --data.loading.batch_size 16",
        usage="--config CONFIG --run RUN [--method NAME] [options]",
    )
    parser.add_argument("--config", action="config", help="YAML with any of these fields; or a name of vkd configs")
    parser.add_argument("--run", type=Path, help="folder to write, e.g. runs/mine; refused if it holds another run")
    parser.add_argument(
        "--resume",
        type=Path | None,
        help="a run to go on with, from its last checkpoint, by its own config; an option may make it longer or faster",
    )
    parser.add_argument(
        "--finish", type=Path | None, help="a run that was interrupted: make the bundle of its best epoch so far"
    )
    parser.add_argument(
        "--start_from", type=Path | None, help="a complete run whose model and best weights to begin with (fine-tuning)"
    )
    parser.add_argument(
        "--store", type=Path | None, help="a folder of vkd prepare: the config it was made with, read from it"
    )
    add_allowed(parser)
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and noise")
    add_data(parser)
    add_method(parser)
    parser.add_subclass_arguments(BetaSchedule, "beta_schedule", default=lazy_instance(Cyclical))
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(Posthoc, "posthoc")
    return parser


def main(arguments: list[str]) -> None:
    """Trains, or goes on with a run."""
    check_names(arguments, PARTS, OTHERS)
    say_stage("loading the libraries", arguments)
    from vkd_pyro.artifacts.run import check_not_live, check_ready, has_checkpoint, leads
    from vkd_pyro.training.fitting import finish, fit

    settings = with_objective(parse(train_parser(), with_config_of_a_run(arguments)))
    resume = settings.resume is not None
    if resume or settings.finish is not None:
        settings.run = settings.resume or settings.finish
    if settings.run is None:
        raise UserError("--run: not given; name a folder for the run, e.g. --run runs/mine")
    if leads():  # before anything takes its time
        check_ready(settings.run, resume or settings.finish is not None)
        if resume or settings.finish is not None:
            check_not_live(settings.run)
    if settings.finish is not None:
        parts = build(settings, trained=True)
        finish(parts.method, parts.data, settings.run, parts.training, parts.posthoc)
        say(f"finished: {settings.run} (bundle/, of its best epoch so far)")
        say(f"next: vkd evaluate {settings.run}")
        return
    goes_on = resume and has_checkpoint(settings.run)
    if leads():
        say("reading the corpus", flush=True)
    parts = build(settings, trained=goes_on or settings.start_from is not None)
    if leads():
        say(describe_data(parts.data.summary()), flush=True)
        for logger in parts.training.loggers:
            if logger.sends_to:
                say(f"metrics and settings are sent to {logger.sends_to}", flush=True)
    fit(
        method=parts.method,
        data=parts.data,
        run=settings.run,
        beta_schedule=parts.beta_schedule,
        training=parts.training,
        posthoc=parts.posthoc,
        seed=settings.seed,
        config=train_parser().dump(without_allowed(settings), skip_unset=False),
        start_from=settings.start_from,
        resume=resume,
    )
    if not leads():
        return
    say(f"trained: {settings.run} ({CONFIG}, data.json, metrics.csv, checkpoints/, bundle/)")
    say(f"next: vkd evaluate {settings.run}")


def without_allowed(settings: Namespace) -> Namespace:
    """The settings without what the caller trusts, and where it goes on, which are for nobody else to take over."""
    kept = settings.clone()
    kept.allow_module, kept.resume, kept.finish, kept.store = [], None, None, None
    return kept


def with_objective(settings: Namespace) -> Namespace:
    """The settings with the objective that `VKD` takes by default written out, so that a run's config says all."""
    from vkd_pyro.elbo import TraceVKD_ELBO
    from vkd_pyro.methods import VKD

    arguments = settings.method.init_args
    if issubclass(cast(type, pydoc.locate(settings.method.class_path)), VKD) and arguments.objective is None:
        parser = new_parser("train", "")
        parser.add_subclass_arguments(TraceVKD_ELBO, "objective")
        default = {"objective": {"class_path": "vkd_pyro.elbo.TraceVKD_ELBO"}}
        settings.method.init_args.objective = parser.parse_object(default).objective
    return settings


def build(settings: Namespace, trained: bool = False) -> Namespace:
    """The objects that a training's settings describe, weights drawn from its seed.

    With `trained`, a checkpoint will follow, so the pretrained weights that training started from are not needed.
    """
    import torch

    from vkd_pyro.artifacts.run import without_weights

    check_seed(settings.seed)
    torch.manual_seed(settings.seed)
    return train_parser().instantiate(without_weights(settings) if trained else settings)


def describe_data(summary: dict[str, Any]) -> str:
    """What `StudyData.summary` says, for a person: splits, what was left out and why, policies."""
    lines = [f"data: {summary['corpus']}"]
    for split, n in summary["splits"].items():
        lines.append(
            f"  {split:<11}{n['studies']:>8,} studies, {n['images']:,} images, {n['patients']:,} patients; "
            f"{n['with a report']:,} with a report, {n['without any label']:,} without any label"
        )
    lines += [f"  left out   {count:>8,} {reason}" for reason, count in summary["left_out"].items()]
    for name in ("train_policy", "eval_policy"):
        arguments = {key: value for key, value in summary[name]["init_args"].items() if value is not None}
        lines.append(f"  {name}: {', '.join(f'{key} {value}' for key, value in arguments.items())}")
    lines += [f"  {name}: {summary[name]}" for name in ("folds", "label_share", "control") if name in summary]
    return "\n".join(lines)


def with_config_of_a_run(arguments: list[str]) -> list[str]:
    """`--resume RUN` stands for all the settings of a run, `--start_from RUN` for its method and its findings.

    Options may follow; whether a training can go on with them is decided when its checkpoint is read.
    """
    from vkd_pyro.artifacts.run import config_of

    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--resume", "--finish", "--start_from", "--store"):
        options.add_argument(name, type=Path, nargs="?")
    options.add_argument("--config", nargs="?")
    options.add_argument("--allow_module", nargs="+", default=[])
    chosen, others = options.parse_known_args(arguments)
    allow = chosen.allow_module
    for name in ("resume", "finish"):
        run = getattr(chosen, name)
        if run is None:
            continue
        given = {"--config": chosen.config, "--start_from": chosen.start_from, "--resume": chosen.resume}
        if (other := next((key for key, value in given.items() if value and key != f"--{name}"), None)) or (
            other := next((option for option in others if option.split("=")[0] == "--run"), None)
        ):
            raise UserError(f"--{name}: a run goes on with its own settings; leave out {other}")
        path = config_of(run)
        judge(read_yaml(path), train_parser, allow, path)
        return ["--config", str(path), f"--{name}", str(run), *others]
    if chosen.store is not None:
        return ["--config", yaml.safe_dump(_config_of_store(chosen.store, allow)), *_without_store(arguments)]
    if chosen.start_from is not None:
        return ["--config", yaml.safe_dump(_method_of(chosen.start_from, allow)), *arguments]
    return arguments


def _config_of_store(store: Path, allow: list[str]) -> dict[str, Any]:
    """What a store was prepared for, reading from where it lies now."""
    path = store / CONFIG
    if not path.is_file():
        raise UserError(
            f"--store: {store} has no {CONFIG}, which vkd prepare writes where its config has a method; give --config "
            f"and --data.loading.store {store}"
        )
    config = read_yaml(path)
    judge(config, train_parser, allow, path)
    config["data"]["loading"]["store"] = str(store)
    return {name: config[name] for name in ("seed", *PARTS) if name in config}


def _without_store(arguments: list[str]) -> list[str]:
    places = [number for number, argument in enumerate(arguments) if argument == "--store"]
    hidden = {place + step for place in places for step in (0, 1)}
    return [a for number, a in enumerate(arguments) if number not in hidden and not a.startswith("--store=")]


def _method_of(run: Path, allow: list[str]) -> dict[str, Any]:
    from vkd_pyro.artifacts.bundle import findings_of
    from vkd_pyro.artifacts.run import BUNDLE, config_of

    if not (run / BUNDLE).is_dir():
        raise UserError(f"--start_from: {run} is not a complete run; expected a folder that vkd train has written")
    findings = list(findings_of(run / BUNDLE))
    path = config_of(run)
    method = {"method": read_yaml(path).get("method")}
    judge(method, _method_parser, allow, path)
    return method | {"data": {"task": {"findings": findings}}}


def _method_parser() -> ArgumentParser:
    parser = new_parser("train", "")
    parser.add_argument("--config", action="config")
    add_method(parser, linked=False)
    return parser
