"""`vkd recalibrate`: a bundle fitted to the place where it is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse, parts_of_config
from vkd_pyro.artifacts.folders import check_not_bundle
from vkd_pyro.cli.evaluated import data_options, names_bundle
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from vkd_pyro.evaluation.site import Recalibrated


def recalibrate_parser() -> ArgumentParser:
    """Arguments of `vkd recalibrate`."""
    parser = new_parser(
        "recalibrate",
        "Fits a bundle to a site, by 100 or more labelled studies of the site: probabilities, thresholds, conformal "
        "sets, and which images are usual. The weights stay, to the byte. What it is worth is measured on patients of "
        "the site that a fit has not seen. The site's data are named as in vkd evaluate: --config FILE, of which the "
        "data part is used, and any --data.* option of vkd train.",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it; it stays as it is")
    parser.add_argument("--config", type=Path | None, help="a config with the data of the site")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument(
        "--split", type=Literal["all", "train", "validation", "test"], default="all", help="which studies of the site"
    )
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z for each image")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--resamples", type=PositiveInt, default=1000, help="of the patients, for intervals")
    add_allowed(parser)
    add_trusted(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Writes the new bundle, and says what it is worth."""
    own, changes = data_options(arguments)
    settings = parse(recalibrate_parser(), own)
    _check(settings, changes)
    if settings.config is not None:
        changes = ["--config", yaml.safe_dump(parts_of_config(settings.config, "data")), *changes]
    from vkd_pyro.artifacts.bundle import load_bundle, local_bundle, save_recalibrated
    from vkd_pyro.artifacts.run import load_data
    from vkd_pyro.evaluation.site import card_of, recalibrate, site_data

    with local_bundle(settings.bundle) as folder:
        bundle = load_bundle(folder, settings.allow_module, settings.trusted_key)
        data = site_data(load_data(changes, bundle))
        splits = tuple(data.summary()["splits"]) if settings.split == "all" else (settings.split,)
        made = recalibrate(bundle, data, splits, settings.num_samples, settings.resamples, settings.seed)
        card, record = card_of(bundle.card, data.corpus.name, made), {"corpus": data.corpus.name} | made.to_json()
        save_recalibrated(settings.output, folder, made.calibration, card, record)
    say(_told(made))
    say(f"written: {settings.output}; the weights are those of {settings.bundle}, sha256 {bundle.weights_hash[:12]}")


def _check(settings: Any, changes: list[str]) -> None:
    """What can be known to be wrong before anything is read."""
    if not names_bundle(settings.bundle):
        raise UserError(f"{settings.bundle}: not a bundle; expected a folder as vkd train writes to RUN/bundle")
    if settings.config is None and not changes:
        raise UserError("recalibrate: no data of the site; give --config FILE, or --data.selection.corpus")
    if settings.output.exists():
        raise UserError(f"--output: {settings.output} exists already; choose another folder")
    check_not_bundle(settings.output)


def _told(made: "Recalibrated") -> str:
    """What was fitted to whom, and a table of before and after."""
    counts = ", ".join(f"{number:,} {name}" for name, number in made.counts.items())
    width = max(len(change.measure) for change in made.changes)
    lines = [
        f"fitted to {counts}: {made.chosen['study']} (single images: {made.chosen['image']})",
        "",
        f"{'on patients not fitted to':<{width}}  {'before':<22}  {'after':<22}  difference",
        *(
            f"{c.measure:<{width}}  {f'{c.before:.3f}':<22}  {f'{c.after:.3f}':<22}  {c.difference}"
            for c in made.changes
        ),
        "",
        f"thresholds of the site: {', '.join(made.fitted) or 'none'}",
    ]
    lines += [f"threshold of {finding}: {what}" for finding, what in made.kept.items()]
    return "\n".join(lines)
