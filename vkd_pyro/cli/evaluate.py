"""`vkd evaluate`: numbers, figures and a page of a run or bundle."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse, parts_of_config
from vkd_pyro.artifacts.folders import check_not_bundle
from vkd_pyro.cli.evaluated import data_options, evaluated, names_bundle
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError


def evaluate_parser() -> ArgumentParser:
    """Arguments of `vkd evaluate`."""
    parser = new_parser(
        "evaluate",
        "Evaluates a run's best epoch, or a bundle: evaluation.json, predictions.parquet, figures and a page. On other "
        "data: --config FILE, of which the data part is used, and any --data.* option of vkd train.",
    )
    parser.add_argument("run", type=Path, help="a folder that vkd train has written; or a bundle, with --config")
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="test", help="which studies")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z for each image")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--level", type=Literal["study", "image"], default="study", help="a row a study, or an image")
    parser.add_argument(
        "--fusion",
        type=Literal["mean", "product"],
        default="mean",
        help="of the images of a study: the mean of their probabilities, z from each one's prior, or from the product",
    )
    parser.add_argument(
        "--folds",
        type=Path,
        nargs="+",
        default=[],
        help="the runs of the other folds of cross-fitting (--data.task.folds.fold): all as one, each patient by the "
        "model that never saw them",
    )
    parser.add_argument("--config", type=Path | None, help="a config with the data to evaluate on, if not the run's")
    parser.add_argument("--output", type=Path | None, help="a folder to write; by default one in RUN/evaluation/")
    add_allowed(parser)
    add_trusted(parser)
    parser.add_argument("--page", type=bool, default=True, help="figures and index.html, with intervals")
    parser.add_argument("--resamples", type=PositiveInt, default=1000, help="of the patients, for intervals")
    parser.add_argument(
        "--prevalence",
        type=str,
        nargs="+",
        default=[],
        help="predictive values also where findings are as frequent as that, such as Pneumothorax=0.02",
    )
    parser.add_argument("--samples", type=Path | None, help="a netCDF file for ArviZ, of every draw of every image")
    parser.add_argument(
        "--against",
        type=Path | None,
        help="another method on the same studies, such as image_only: its run, evaluated by vkd evaluate, or the "
        "folder of its evaluation; the page begins with the difference",
    )
    parser.add_argument("--loggers", action="store_true", help="numbers and figures go to the run's loggers, too")
    parser.add_argument("--beside", type=Path | None, help="another run, whose z is shown beside this one's")
    parser.add_argument(
        "--heatmaps",
        action="store_true",
        help="scores class activation against the corpus's boxes or masks: pointing game, intersection over union",
    )
    parser.add_argument(
        "--cases", type=NonNegativeInt, default=0, help="so many X-rays of patients on the page, with class activation"
    )
    return parser


def main(arguments: list[str]) -> None:
    """Evaluates a run, or a bundle on data that is named."""
    own, options = data_options(arguments)
    settings = parse(evaluate_parser(), own)
    changes = options
    if settings.config is not None:
        changes = ["--config", yaml.safe_dump(parts_of_config(settings.config, "data")), *changes]
    if settings.folds:
        _evaluate_folds(settings, changes, f"vkd evaluate {' '.join(arguments)}")
        return
    if (settings.level, settings.fusion) == ("image", "product"):
        raise UserError("--fusion product joins the images of a study, and --level image keeps them apart; drop one")
    for name in ("output", "samples"):
        if settings[name] is not None:
            check_not_bundle(settings[name], f"--{name}")
    check_output(settings)
    from vkd_pyro.evaluation.evaluate import evaluate_run
    from vkd_pyro.evaluation.tables import prevalences

    trained = evaluated(settings.run, changes, settings.allow_module, settings.trusted_key, settings.split)
    prevalence = prevalences(settings.prevalence, trained.method.findings)
    folder = output_folder(settings, changes, trained.data.corpus.name)
    localized = localized_of(trained, settings) if settings.heatmaps else None
    loggers = loggers_of_run(settings) if settings.loggers else []
    evaluation, rows = evaluate_run(
        trained, settings.split, settings.num_samples, settings.level, settings.fusion, settings.seed
    )
    kind = ", image" if settings.level == "image" else ", product" if settings.fusion == "product" else ""
    say(f"{settings.run}, {evaluation.data['corpus']}, {settings.split} split{kind}")
    if changes:
        say(f"other data than the run's: {' '.join(own[1:] + options)}")
    say(evaluation)
    if localized is not None:
        say_heatmaps(localized)
    if settings.samples is not None:
        from vkd_pyro.reporting.write import save_samples

        draws = settings.samples, settings.num_samples, settings.seed
        save_samples(trained.method, trained.data, settings.split, *draws)
        say(f"written: {settings.samples}")
    if settings.page:
        beside = None if settings.beside is None else z_of(settings.beside, changes, settings, rows)
        extras = extras_of(trained, evaluation, rows, settings, beside, f"vkd evaluate {' '.join(arguments)}")
        more = {"localization": localized, "against": _against(settings, evaluation)}
        write_page(evaluation, folder, replace(extras, **more), settings.resamples, prevalence)
    else:
        write_numbers(evaluation, folder, localized)
    if loggers:
        log(loggers, evaluation, settings.run, folder)


def loggers_of_run(settings: Namespace) -> list[Any]:
    """Those that the run's config names, which `--loggers` asks for."""
    if names_bundle(settings.run):
        raise UserError(f"--loggers: {settings.run} is a bundle, which names none; give its run")
    from vkd_pyro.training.tracking import loggers_of

    return loggers_of(settings.run, settings.allow_module)


def log(loggers: list[Any], evaluation: Any, run: Path, folder: Path) -> None:
    """Sends an evaluation to the loggers of its run."""
    from vkd_pyro.training.tracking import log_evaluation
    from vkd_pyro.training.trainer import quiet

    with quiet():
        log_evaluation(loggers, run, evaluation, folder)
    say(f"sent to {', '.join(type(one).__name__ for one in loggers)}: numbers, findings, figures, as {folder.name}")


def _against(settings: Namespace, evaluation: Any) -> Any:
    """Name of the other method, and the difference to it of macro30 AUC; None where none was asked for."""
    if settings.against is None:
        return None
    from vkd_pyro.cli.compare import load
    from vkd_pyro.evaluation.comparison import paired_difference

    theirs = load(settings.against, settings.split)
    return settings.against.resolve().name, paired_difference([evaluation], [theirs], "macro", settings.resamples)


def _evaluate_folds(settings: Namespace, changes: list[str], command: str) -> None:
    """Several runs as one; what is of one model alone (thresholds, maps of z, cases) is left out."""
    from vkd_pyro.data.cohort import cohort_of
    from vkd_pyro.evaluation.cross_fitting import join_folds
    from vkd_pyro.evaluation.evaluate import evaluate_run
    from vkd_pyro.reporting.method import method_facts
    from vkd_pyro.reporting.sections import Extras

    for name in ("config", "samples", "beside", "cases", "heatmaps", "prevalence", "loggers"):
        if changes or settings[name]:
            raise UserError(f"--{name if settings[name] else 'data'}: is of one run; leave it out, or --folds")
    if settings.output is None:
        raise UserError("--output: not given, and the folds have no folder in common; name one")
    check_not_bundle(settings.output, "--output")
    check_output(settings)
    parts, first = [], None
    for path in (settings.run, *settings.folds):
        trained = evaluated(path, [], settings.allow_module, settings.trusted_key)
        first = first or trained
        how = settings.split, settings.num_samples, settings.level, settings.fusion, settings.seed
        parts.append(evaluate_run(trained, *how)[0])
        say(f"{path}: {len(parts[-1].study_ids):,} rows", flush=True)
    assert first is not None
    joined = join_folds(parts)
    say(joined)
    if not settings.page:
        write_numbers(joined, settings.output)
        return
    extras = Extras(
        name=f"{first.path.resolve().name} and {len(settings.folds)} more folds",
        card=first.bundle.card,
        command=command,
        cohort=cohort_of(first.data),
        method=method_facts(first.method, first.data, config_of_run(first.path)),
        against=_against(settings, joined),
    )
    write_page(joined, settings.output, extras, settings.resamples)


def check_output(settings: Namespace) -> None:
    """Raises `UserError` before anything is computed: files that would be lost, a run that is not there."""
    output, samples, beside = settings.output, settings.samples, settings.beside
    taken = output is not None and output.exists() and (not output.is_dir() or any(output.iterdir()))
    if taken and not (output / "evaluation.json").is_file():
        raise UserError(f"--output: {output} holds something else than an evaluation; choose another folder")
    if samples is not None and samples.suffix != ".nc":
        raise UserError(f"--samples: found {samples.name}, expected a netCDF file, e.g. {samples.stem}.nc")
    if samples is not None and samples.exists():
        raise UserError(f"--samples: {samples} exists already; choose another file, or delete it")
    if beside is not None and not (beside / "config.yaml").is_file():
        raise UserError(f"--beside: {beside} is not a run; expected a folder that vkd train has written")


def localized_of(trained: Any, settings: Namespace) -> Any:
    """The `Localization` of a run's heat maps; thresholds are chosen on the validation split where it has regions."""
    from vkd_pyro.evaluation.heatmaps import has_regions, score_maps
    from vkd_pyro.evaluation.tables import localization

    method, data = trained.method, trained.data
    scores = score_maps(method, data, settings.split, seed=settings.seed)
    chosen = None
    if settings.split != "validation" and has_regions(data, "validation", method.findings):
        chosen = score_maps(method, data, "validation", seed=settings.seed)
    return localization(scores, chosen, settings.resamples)


def say_heatmaps(localized: Any) -> None:
    """A line a finding: how often its map points at what was drawn, and how often the centre of the image does."""
    say("heat maps: hit rate, that of the centre, mIoU")
    for finding, row in localized.table.iterrows():
        say(f"{finding:<28}{row['hit rate']:.2f}  {row['hit rate of the centre']:.2f}  {row['mIoU']:.2f}")


def write_numbers(evaluation: Any, folder: Path, localized: Any = None) -> None:
    """Without a page; that of an earlier evaluation would contradict the numbers, and goes."""
    from vkd_pyro.evaluation.saved import save_evaluation
    from vkd_pyro.reporting.sections import plain
    from vkd_pyro.reporting.write import remove_page

    more = {} if localized is None else {"heatmaps": plain(localized.parts())}
    remove_page(folder)
    save_evaluation(evaluation, folder, evaluation.summary() | more)
    say(f"written: {folder}/evaluation.json, predictions.parquet")


def write_page(
    evaluation: Any, folder: Path, extras: Any, num_resamples: int, prevalence: dict[str, float] | None = None
) -> None:
    """Numbers, figures and page."""
    from vkd_pyro.reporting.write import save_all

    assessed = save_all(evaluation, folder, extras, num_resamples, prevalence)
    say("with intervals over patients: " + ", ".join(f"{name} {v:.3f}" for name, v in assessed.averages.items()))
    say(f"written: {folder}/index.html, evaluation.json, predictions.parquet, checklist.html, figures/, tables/")


def z_of(path: Path, changes: list[str], settings: Namespace, rows: Any) -> Any:
    """Means of z given the image by another run, of the studies of `rows`, [N, D]."""
    from vkd_pyro.artifacts.run import load_run
    from vkd_pyro.evaluation.evaluate import evaluate_run

    theirs = evaluate_run(load_run(path, changes, settings.allow_module), settings.split, 1, settings.level)[1]
    if theirs.study_ids.tolist() != rows.study_ids.tolist():
        raise UserError(f"--beside: {path} has other studies in its {settings.split} split; name a run on the same")
    return theirs.prior_locs


def extras_of(
    trained: Any, evaluation: Any, rows: Any, settings: Namespace, beside: Any = None, command: str = ""
) -> Any:
    """The `Extras` of the page: what is computed or read for it alone; `beside` is z of another run."""
    from vkd_pyro.data.cohort import cohort_of
    from vkd_pyro.reporting.maps import maps_of
    from vkd_pyro.reporting.method import method_facts
    from vkd_pyro.reporting.sections import Extras
    from vkd_pyro.reporting.write import cases_of, mismatch_of, training_table

    z = {"z given the image": rows.prior_locs, "z given the report": rows.posterior_locs}
    if beside is not None:
        z[f"z given the image, {settings.beside.resolve().name}"] = beside
    by_id = {study.study_id: study.report for study in trained.data.studies(settings.split)}
    reports = trained.data.selection.report([by_id.get(study, {}) for study in evaluation.study_ids])
    with_report = not all(map(math.isnan, evaluation.kl_per_study)) and settings.level == "study"
    return Extras(
        name=trained.path.resolve().name,
        training=training_table(trained.path),
        maps=maps_of(evaluation, z, reports),
        mismatch=mismatch_of(trained.method, trained.data, settings.split) if with_report else None,
        cases=cases_of(trained.method, trained.data, evaluation, settings.cases) if settings.cases else None,
        card=trained.bundle.card,
        command=command,
        cohort=cohort_of(trained.data),
        method=method_facts(trained.method, trained.data, config_of_run(trained.path)),
    )


def config_of_run(path: Path) -> dict[str, Any]:
    """The settings of a run; {} of a bundle, which has none, and of a run made from Python."""
    from vkd_pyro.artifacts.config import read_yaml
    from vkd_pyro.artifacts.run import CONFIG

    known = (path / CONFIG).is_file() and (path / CONFIG).stat().st_size
    return read_yaml(path / CONFIG) if known else {}


def output_folder(settings: Namespace, changes: list[str], corpus: str) -> Path:
    """Each way to evaluate has a folder of its own, other data by what was asked for; none is in a bundle."""
    if settings.output is not None:
        return settings.output
    if names_bundle(settings.run):
        raise UserError(f"--output: not given, and {settings.run} is a bundle, which never changes; name a folder")
    other = f"{corpus}-{hashlib.sha256(repr(changes).encode()).hexdigest()[:8]}-" if changes else ""
    level = "-image" if settings.level == "image" else "-product" if settings.fusion == "product" else ""
    return settings.run / "evaluation" / f"{other}{settings.split}{level}"
