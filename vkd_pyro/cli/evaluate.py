"""`vkd evaluate`."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.cli.settings import new_parser, parse, parts_of_config
from vkd_pyro.cli.train import build, read_run
from vkd_pyro.errors import UserError

OF_THE_RUN = ("store", "labels", "max_train_studies")
"""Settings of a run's data that make no sense with any other."""


OF_THE_MODEL = ("findings", "image_size")
"""Settings of a run's data that its model was made for."""


def evaluate_parser() -> ArgumentParser:
    """Arguments of `vkd evaluate`."""
    parser = new_parser(
        "evaluate",
        "Prints AUC per finding of a run's best epoch; writes RUN/evaluation/. On other data: --config FILE, of which "
        "the data part is used, and any --data.* option of vkd train.",
    )
    parser.add_argument("run", type=Path, help="a folder that vkd train has written")
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="test", help="which studies")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z for each image")
    parser.add_argument("--level", type=Literal["study", "image"], default="study", help="a row a study, or an image")
    parser.add_argument(
        "--fusion",
        type=Literal["mean", "product"],
        default="mean",
        help="of the images of a study: the mean of their probabilities, z from each one's prior, or from the product",
    )
    parser.add_argument("--config", type=Path | None, help="a config with the data to evaluate on, if not the run's")
    return parser


def main(arguments: list[str]) -> None:
    """`vkd evaluate`."""
    from vkd_pyro.evaluation import save_evaluation

    own, options = _data_options(arguments)
    settings = parse(evaluate_parser(), own)
    changes = options
    if settings.config is not None:
        changes = ["--config", yaml.safe_dump(parts_of_config(settings.config, "data")), *changes]
    if (settings.level, settings.fusion) == ("image", "product"):
        raise UserError("--fusion product joins the images of a study, and --level image keeps them apart; drop one")
    evaluation = evaluate_run(
        settings.run, settings.split, settings.num_samples, settings.level, settings.fusion, changes
    )
    # Each way to evaluate has a folder of its own; other data by what was asked for.
    other = f"{evaluation.data['corpus']}-{hashlib.sha256(repr(changes).encode()).hexdigest()[:8]}-" if changes else ""
    level = "-image" if settings.level == "image" else "-product" if settings.fusion == "product" else ""
    folder = settings.run / "evaluation" / f"{other}{settings.split}{level}"
    print(f"{settings.run}, {evaluation.data['corpus']}, {settings.split} split{level.replace('-', ', ')}")
    if changes:
        print(f"other data than the run's: {' '.join(own[1:] + options)}")
    print(evaluation)
    save_evaluation(evaluation, folder)
    print(f"written: {folder}/evaluation.json, predictions.csv")


def evaluate_run(
    run: Path,
    split: str,
    num_samples: int = 100,
    level: Literal["study", "image"] = "study",
    fusion: Literal["mean", "product"] = "mean",
    changes: list[str] | None = None,
) -> Any:
    """The `Evaluation` of a run's best epoch; `changes` are options of `vkd train` that name other data.

    On other data, what belongs to the model (its findings, its image size) and the rest of the run's data settings
    stay; what belongs to the data of the run (its store, its labels, its number of studies; on another corpus its
    folds) does not.
    """
    from vkd_pyro.bundle import load_bundle
    from vkd_pyro.evaluation import evaluate
    from vkd_pyro.run import BUNDLE, load_checkpoint
    from vkd_pyro.training import for_arm

    changes = changes or []
    another_corpus = any(change == "--config" or change.startswith("--data.corpus") for change in changes)
    dropped = (*OF_THE_RUN, "folds") if another_corpus else OF_THE_RUN if changes else ()
    settings = read_run(run, [*(f"--data.{name}=null" for name in dropped), *changes])
    if changes:
        bundle = load_bundle(run / BUNDLE)
        settings.data.findings, settings.data.image_size = list(bundle.findings), bundle.transform.size
    parts = build(settings, trained=True)
    network, _, use_reports = for_arm(settings.arm, parts.model, parts.objective, parts.get("rival"))
    load_checkpoint(network, run)
    network.to(parts.training.device)
    return evaluate(network, parts.data, split, num_samples, use_reports, level, fusion)


def _data_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments, those of --data.* apart."""
    own, data, rest = [], [], list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--data."):
            own.append(option)
            continue
        if option.split("=")[0].split(".")[1] in OF_THE_MODEL:
            raise UserError(f"{option.split('=')[0]}: belongs to the model of the run; leave it out")
        data.append(option)
        if "=" not in option:
            if not rest:
                raise UserError(f"{option}: no value given")
            data.append(rest.pop(0))
    return own, data
