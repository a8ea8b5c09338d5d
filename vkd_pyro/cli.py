"""The `vkd` command. Thin: it reads arguments, calls the library, prints."""

import argparse
import csv
import difflib
import inspect
import json
import pydoc
import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from jsonargparse import ArgumentParser, Namespace, lazy_instance
from jsonargparse.typing import PositiveInt

from vkd_pyro.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0, or 2 for what the user can mend (one line on standard error)."""
    parser = ArgumentParser(
        prog="vkd",
        description="Variational Knowledge Distillation: learn from X-rays and reports, diagnose from X-rays alone.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("train", train_parser(), help="train a model; writes a run")
    commands.add_subcommand("evaluate", evaluate_parser(), help="AUC per finding of a run, on one split")
    commands.add_subcommand("predict", predict_parser(), help="findings of X-rays, by a bundle")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            chosen = _parse(parser, _with_resumed_config(sys.argv[1:] if arguments is None else arguments))
            {"train": train, "evaluate": evaluate, "predict": predict}[chosen.command](chosen[chosen.command])
    except (UserError, OSError) as error:  # OSError: a folder that may not be written, a full disk
        print(f"vkd: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vkd: interrupted; a run goes on from its last epoch with --resume", file=sys.stderr)
        return 130
    return 0


# ------------------------------------------------------------------------------------------- train


def train_parser() -> ArgumentParser:
    """Every setting of a training; groups are named after what they make."""
    import_module("vkd_pyro.data.openi")  # so that --help lists the corpora
    import_module("vkd_pyro.data.synthetic")
    from vkd_pyro.data.loading import StudyData
    from vkd_pyro.elbo import Cyclical, KLSchedule, TraceVKD_ELBO
    from vkd_pyro.model import VKD
    from vkd_pyro.training import Arm, Training

    parser = ArgumentParser(
        description="Trains one arm and writes a run. Any field of the config is an option too: --data.batch_size 16",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML with any of these fields")
    parser.add_argument("--run", type=Path, help="folder to write, e.g. runs/mine; refused if it holds another run")
    parser.add_argument("--resume", type=Path | None, help="a run to go on with, from its last epoch; its own config")
    parser.add_argument("--arm", type=Arm, default="vkd", help="what is trained")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and noise")
    parser.add_class_arguments(StudyData, "data")
    parser.add_class_arguments(VKD, "model")
    parser.link_arguments("data.findings", "model.findings", apply_on="instantiate")
    parser.add_class_arguments(TraceVKD_ELBO, "objective")
    parser.add_subclass_arguments(KLSchedule, "kl_schedule", default=lazy_instance(Cyclical))
    parser.add_class_arguments(Training, "training")
    return parser


def train(settings: Namespace) -> None:
    """`vkd train`."""
    from vkd_pyro.training import CONFIG, fit

    resume = settings.resume is not None
    if resume:
        settings.run = settings.resume
    if settings.run is None:
        raise UserError("--run: not given; name a folder for the run, e.g. --run runs/mine")
    parts = build(settings, trained=resume)
    fit(
        vkd=parts.model,
        data=parts.data,
        run=settings.run,
        arm=settings.arm,
        objective=parts.objective,
        kl_schedule=parts.kl_schedule,
        training=parts.training,
        seed=settings.seed,
        config=train_parser().dump(settings, skip_unset=False),
        resume=resume,
    )
    print(f"trained: {settings.run} ({CONFIG}, metrics.csv, checkpoints/, bundle/)")
    print(f"next: vkd evaluate {settings.run}")


def _with_resumed_config(arguments: list[str]) -> list[str]:
    """`train --resume RUN` stands for `train --config RUN/config.yaml --resume RUN`: a run goes on as it began."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--resume", type=Path, nargs="?")
    options.add_argument("--config", nargs="?")
    chosen, others = options.parse_known_args(arguments)
    if arguments[:1] != ["train"] or chosen.resume is None:
        return arguments
    if others[1:] or chosen.config:
        raise UserError(f"--resume: a run goes on with its own settings; leave out {[*others, '--config'][1]}")
    return ["train", "--config", str(_config_of(chosen.resume)), "--resume", str(chosen.resume)]


def build(settings: Namespace, trained: bool = False) -> Namespace:
    """The objects that a training's settings describe, weights drawn from its seed.

    With `trained`, a checkpoint will follow, so the pretrained weights that training started from are not needed.
    """
    import torch

    if trained and "weights" in settings.model.image_encoder.init_args:
        settings = settings.clone()
        settings.model.image_encoder.init_args.weights = None
    torch.manual_seed(settings.seed)
    return train_parser().instantiate(settings)


def read_run(run: Path) -> Namespace:
    """The settings of a run, from its config.yaml; its folder may have been moved."""
    settings = _parse(train_parser(), ["--config", str(_config_of(run))])
    settings.run = run
    return settings


def _config_of(run: Path) -> Path:
    from vkd_pyro.training import CONFIG

    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"{run}: not a run; expected a folder with {CONFIG}, as vkd train writes")
    if not path.read_text():
        raise UserError(f"{path}: empty, since the run was made from Python; evaluate it there, by vkd_pyro.evaluate")
    return path


# ---------------------------------------------------------------------------------------- evaluate


def evaluate_parser() -> ArgumentParser:
    """Arguments of `vkd evaluate`."""
    parser = ArgumentParser(
        description="Prints AUC per finding of a run's best epoch; writes RUN/evaluation/SPLIT.", exit_on_error=False
    )
    parser.add_argument("run", type=Path, help="a folder that vkd train has written")
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="test", help="which studies")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z for each image")
    return parser


def evaluate(settings: Namespace) -> None:
    """`vkd evaluate`."""
    from vkd_pyro.evaluation import save_evaluation

    folder = settings.run / "evaluation" / settings.split
    evaluation = evaluate_run(settings.run, settings.split, settings.num_samples)
    print(f"{settings.run}, {settings.split} split")
    print(evaluation)
    save_evaluation(evaluation, folder)
    print(f"written: {folder}/evaluation.json, predictions.csv")


def evaluate_run(run: Path, split: str, num_samples: int = 100) -> Any:
    """The `Evaluation` of a run's best epoch."""
    from vkd_pyro.evaluation import evaluate
    from vkd_pyro.training import for_arm, load_checkpoint

    settings = read_run(run)
    parts = build(settings, trained=True)
    network, _, use_reports = for_arm(settings.arm, parts.model, parts.objective)
    load_checkpoint(network, run)
    network.to(parts.training.device)
    return evaluate(network, parts.data, split, num_samples, use_reports)


# ----------------------------------------------------------------------------------------- predict


def predict_parser() -> ArgumentParser:
    """Arguments of `vkd predict`."""
    parser = ArgumentParser(
        description="Probability of each finding in X-rays, from the image alone.", exit_on_error=False
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it")
    parser.add_argument("images", type=Path, nargs="+", help="PNG or JPEG files")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--format", type=Literal["table", "csv", "json"], default="table", help="of what is printed")
    return parser


def predict(settings: Namespace) -> None:
    """`vkd predict`."""
    from vkd_pyro.bundle import load_bundle
    from vkd_pyro.predictive import predict_files

    bundle = load_bundle(settings.bundle)
    probabilities = predict_files(bundle, settings.images, settings.num_samples, settings.seed)
    names = [str(image) for image in settings.images]
    if settings.format == "json":
        rows = [dict(zip(bundle.findings, map(float, row), strict=True)) for row in probabilities]
        print(
            json.dumps([{"image": name, "probabilities": row} for name, row in zip(names, rows, strict=True)], indent=2)
        )
    elif settings.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["image", *bundle.findings])
        writer.writerows([name, *(f"{p:.4f}" for p in row)] for name, row in zip(names, probabilities, strict=True))
    else:
        for name, row in zip(names, probabilities, strict=True):
            print(name)
            for finding, p in sorted(zip(bundle.findings, row, strict=True), key=lambda pair: -pair[1]):
                print(f"  {finding:<28}{p:.3f}")


# ------------------------------------------------------------------------------------------ errors


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses, or raises `UserError` with one line and, for an unknown name, the nearest ones known."""
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        message = " ".join(str(error).split())
        unknown = re.search(r"unrecognized arguments: --([\w.]+)|option '([\w.]+)'|Option '([\w.]+)'", message)
        if unknown:
            name = next(group for group in unknown.groups() if group)
            message += _nearest(name, message)
        raise UserError(message) from error


def _one_line(error: Exception) -> str:
    """The message of an error; from a process that reads images it comes as the last line of a traceback."""
    *_, line = str(error).strip().splitlines() or [type(error).__name__]
    return line.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")


def _nearest(name: str, message: str) -> str:
    """ " (did you mean ...?)", among the options of all commands, or the arguments of the part the message names."""
    if part := re.search(r"class_path '([\w.]+)'", message):
        known = list(inspect.signature(cast(type, pydoc.locate(part[1]))).parameters)
    else:
        parsers = (train_parser(), evaluate_parser(), predict_parser())
        known = list(dict.fromkeys(key for parser in parsers for key in vars(parser.get_defaults().as_flat())))
    near = difflib.get_close_matches(name, known, n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"vkd: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
