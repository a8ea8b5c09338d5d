"""`vkd prepare`: writes a corpus as training reads it."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vkd_pyro.artifacts.config import add_data, add_method, new_parser, parse, with_parts_of_config
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.cli.executor import OPTIONS as OF_EXECUTOR
from vkd_pyro.cli.executor import add_executor, executor_of
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.cli.train import CONFIG, OTHERS, PARTS, train_parser
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written

OPTIONS = ("output", "features", "reuse", *OF_EXECUTOR)


def prepare_parser() -> ArgumentParser:
    """Arguments of `vkd prepare`."""
    parser = new_parser(
        "prepare",
        "Writes a store: images resized, what the report encoder computes before training, labels. Train from it with "
        "the same config and --data.loading.store. Interrupted, the same command goes on. Without a method that reads "
        "reports, in the config or as --method, no report is prepared. Then vkd train --store OUTPUT knows them.",
        usage="--config CONFIG --output OUTPUT [--method NAME] [options]",
    )
    parser.add_argument("--config", action="config", help="the config that will be trained; or a name of vkd configs")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--features",
        type=int,
        metavar="V",
        help="also write features of each image and of V - 1 augmented versions of it, by the config's image encoder, "
        "FrozenImageEncoder or LastBlocksEncoder; train from them with --data.loading.features true",
    )
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="STORE",
        help="another store of the same studies: its images, and its features and reports where they would be made "
        "alike, are taken from there; for another report encoder or likelihood on the same features",
    )
    add_executor(parser)
    add_data(parser)
    add_method(parser, required=False)
    return parser


def main(arguments: list[str]) -> None:
    """Writes a store, or goes on with one."""
    check_names(arguments, PARTS, (*OPTIONS, *OTHERS))  # a config may have what training alone reads
    say_stage("loading the libraries", arguments)
    from vkd_pyro.data.store import prepare
    from vkd_pyro.training.settings import Training

    settings = parse(prepare_parser(), with_parts_of_config(arguments, "data", "method"))
    # Of the config: where training will read, not what is read now.
    settings.data.loading.store, settings.data.loading.features = None, False
    encoder, observation, data = report_encoder_of(settings), report_likelihood_of(settings), data_of(settings)
    features = image_features_of(settings, data.loading.augmentation)
    for part in (encoder, observation, features and features.extractor):
        if part is not None:
            part.to(Training().device)
    say("reading the corpus", flush=True)
    selection, output = data.selection, settings.output
    with executor_of(settings) as executor:
        counts = prepare(
            *(selection, encoder, output, selection.bad_images),
            observation=observation,
            features=features,
            executor=executor,
            reuse=settings.reuse,
        )
    say(f"prepared: {settings.output}: {', '.join(f'{counts[n]:,} {n}' for n in ('studies', 'images', 'reports'))}")
    for reason, count in counts["left_out"].items():
        say(f"  left out {count:>8,} {reason}")
    if settings.get("method") is None:
        say(f"next: vkd train with the same config and --data.loading.store {settings.output}")
        return
    with written(settings.output / CONFIG) as file:
        file.write_text(config_of_training(arguments, settings.output, features is not None), encoding="utf-8")
    say(f"next: vkd train --store {settings.output} --run RUN")


def config_of_training(arguments: list[str], store: Path, features: bool) -> str:
    """The config of a training from this store: that of the same options, as text of a YAML file."""
    options, rest = [f"--{option}" for option in OPTIONS], list(arguments)
    kept: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument in options:
            rest = rest[1:]
        elif argument.split("=")[0] not in options:
            kept.append(argument)
    where = [f"--data.loading.store={store}", f"--data.loading.features={str(features).lower()}"]
    return train_parser().dump(parse(train_parser(), [*kept, *where]), skip_unset=False)


def data_of(settings: Namespace) -> Any:
    """The data alone."""
    parser = new_parser("prepare", "")
    add_data(parser)
    return parser.instantiate(Namespace(data=settings.data)).data


def report_encoder_of(settings: Namespace) -> Any:
    """The report encoder alone, without the method around it; None where there is none."""
    from vkd_pyro.encoders.report import ReportEncoder

    return _part_of(settings, "report_encoder", ReportEncoder)


def report_likelihood_of(settings: Namespace) -> Any:
    """The report likelihood alone; None where there is none. Its widths are of no matter to what it prepares."""
    from vkd_pyro.distributions import ReportLikelihood

    return _part_of(settings, "report_likelihood", ReportLikelihood, latent_dim=1, features_dim=0)


def image_features_of(settings: Namespace, augmentation: Any) -> Any:
    """What makes features of the images; None where they are not asked for."""
    from vkd_pyro.data.images.transforms import Augmentation
    from vkd_pyro.data.store.features import ImageFeatures
    from vkd_pyro.encoders.image import ImageEncoder

    if settings.features is None:
        return None
    encoder = _part_of(settings, "image_encoder", ImageEncoder)
    if not hasattr(encoder, "feature_preparation"):
        raise UserError(
            f"--features: wants an image encoder whose first part is frozen, found {type(encoder).__name__}; take "
            "FrozenImageEncoder or LastBlocksEncoder"
        )
    again = _part_of(settings, "image_encoder", ImageEncoder)
    if encoder.feature_preparation != again.feature_preparation:
        raise UserError(
            "--features: the first part of the image encoder has weights that are drawn anew each time, so training "
            "would not know the features; give it pretrained ones, e.g. --method.image_encoder.backbone.weights FILE"
        )
    return ImageFeatures(encoder.eval(), settings.features, augmentation or Augmentation())


def _part_of(settings: Namespace, name: str, base: type, **arguments: int) -> Any:
    method = settings.get("method")
    described = None if method is None else method.init_args.get(name)
    if described is None:
        return None
    given = described.get("init_args", None) or Namespace()
    described = Namespace(class_path=described.class_path, init_args=Namespace(**{**vars(given), **arguments}))
    parser = new_parser("prepare", "")
    parser.add_subclass_arguments(base, name)
    return parser.instantiate(Namespace({name: described}))[name]
