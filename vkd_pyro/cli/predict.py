"""`vkd predict`: findings of X-rays, by a bundle or an export."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse
from vkd_pyro.cli.executor import add_executor, executor_of
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.text import printable

if TYPE_CHECKING:
    from vkd_pyro.artifacts.predictor import Predictor
    from vkd_pyro.prediction import Predicted, Unread
    from vkd_pyro.prediction.blocks import How
    from vkd_pyro.prediction.overlays import Overlays
    from vkd_pyro.prediction.prediction import UncertaintySources

Write = Callable[["Predicted"], object]


def predict_parser() -> ArgumentParser:
    """Arguments of `vkd predict`."""
    parser = new_parser(
        "predict",
        "Findings of X-rays, from the image alone: probability, interval, uncertainty, whether to refer. A file that "
        "cannot be read is told on standard error, and the rest goes on; the exit code is then 2.",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it, or a folder of vkd export")
    parser.add_argument(
        "images", type=str, nargs="+", help="PNG, JPEG or DICOM files; folders of them; patterns in quotes"
    )
    parser.add_argument("--output", type=Path | None, help="file to write: .csv, .json or .parquet")
    parser.add_argument(
        "--format",
        type=Literal["table", "csv", "json"],
        default="table",
        help="of what is printed, where there is no --output",
    )
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--num_masks", type=int, default=0, help="masks of dropout, each as a network of its own")
    parser.add_argument("--num_augmentations", type=int, default=0, help="augmented versions of each image")
    parser.add_argument("--ensemble", type=Path, nargs="+", default=[], help="further bundles, averaged with the first")
    add_allowed(parser)
    add_trusted(parser)
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--overlay", type=Path | None, help="folder for pictures of where findings are seen")
    parser.add_argument(
        "--overlay_findings", type=str, nargs="+", help="to be shown; by default those answered yes, at most 3 an image"
    )
    parser.add_argument(
        "--query",
        type=str,
        nargs="+",
        default=[],
        help="questions about several findings at once, in quotes: 'Pleural Effusion & ~Edema', 'no abnormality'; "
        "& and, | or, ~ not; from draws of z, not recalibrated",
    )
    parser.add_argument(
        "--group",
        type=str,
        default="auto",
        help="images of one study, judged together: auto (by the StudyInstanceUID of DICOM files), none, folder (those "
        "in one folder), or a CSV file with columns image and study",
    )
    parser.add_argument("--batch_size", type=PositiveInt, default=32, help="images predicted at once")
    parser.add_argument("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute")
    parser.add_argument(
        "--engine",
        type=Literal["auto", "torch", "openvino"],
        default="auto",
        help="what computes: PyTorch for a bundle and OpenVINO for an export, if nothing is said",
    )
    parser.add_argument(
        "--on_mismatch",
        type=Literal["error", "warn"],
        default="error",
        help="where a DICOM header says that it is no chest X-ray of a view that the model knows, or a picture has "
        "hardly any gray levels: leave the file out, or predict it all the same",
    )
    add_executor(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Predicts files; the exit code is 2 where one could not be read."""
    settings = parse(predict_parser(), arguments)
    _check(settings)
    from vkd_pyro.prediction import find_images, studies_of
    from vkd_pyro.prediction.files import check_together

    how = _how(settings)
    images = find_images(settings.images)
    check_together(bundles := how.predictors)
    _say_if_not_calibrated(bundles)
    studies = studies_of(images, settings.group)
    overlays = _overlays(settings, bundles)
    with _predictions(settings, how, studies) as predictions, _writers(settings, bundles, how.uncertainty) as writers:
        if overlays:
            writers.append(overlays.write)
        problems = _write_all(predictions, writers, len(images), quiet=not settings.output and sys.stdout.isatty())
        if settings.output and len(problems) == len(images):
            raise UserError(f"{settings.output}: not written, since none of the images could be read")
    _conclude(settings, len(images), problems, overlays)
    return 2 if problems else 0


def _how(settings: Namespace) -> "How":
    from vkd_pyro.prediction.blocks import How
    from vkd_pyro.prediction.prediction import UncertaintySources

    return How(
        (settings.bundle, *settings.ensemble),
        settings.engine,
        settings.allow_module,
        settings.trusted_key,
        settings.device,
        UncertaintySources(settings.num_samples, settings.num_masks, settings.num_augmentations, settings.seed),
        settings.batch_size,
        settings.on_mismatch,
        settings.level,
        settings.query,
    )


@contextmanager
def _predictions(
    settings: Namespace, how: "How", studies: Sequence[Path | tuple[Path, ...]]
) -> Iterator[Iterator["Predicted | Unread"]]:
    """Made as they are asked for; or block by block, all before the first."""
    from vkd_pyro.prediction.blocks import predicted_in_blocks
    from vkd_pyro.utils.executors import ThisProcess

    with executor_of(settings) as executor:
        if isinstance(executor, ThisProcess):
            yield how.predict(studies)
            return
        blocks = settings.output.with_name(f"{settings.output.name}.blocks")
        with predicted_in_blocks(how, studies, blocks, executor) as predictions:
            yield predictions


def _check(settings: Namespace) -> None:
    """What can be known to be wrong before anything is read."""
    from vkd_pyro.prediction.answers import queries_file
    from vkd_pyro.prediction.tables import check_format, problems_file

    if settings.overlay_findings and not settings.overlay:
        raise UserError("--overlay_findings: what to show, but not where; give --overlay FOLDER")
    if settings.query and settings.output is None and settings.format != "table":
        raise UserError(f"--query: answers have no place in --format {settings.format}; give --output FILE")
    if settings.executor != "process" and (settings.output is None or settings.overlay):
        raise UserError(f"--executor {settings.executor}: writes a file, and no pictures; give --output, no --overlay")
    if settings.output is None:
        return
    if settings.format != "table":
        raise UserError("--format is of what is printed, and --output prints no predictions; drop one of them")
    check_format(settings.output)
    for path in (settings.output, problems_file(settings.output), queries_file(settings.output)):
        if path.exists():
            raise UserError(f"--output: {path} exists already; choose another file, or delete it")


def _say_if_not_calibrated(bundles: Sequence["Predictor"]) -> None:
    from vkd_pyro.prediction.files import calibration_of

    if calibration_of(bundles) is None:
        why = "no bundle's calibration holds for the mean of several" if len(bundles) > 1 else "the bundle has none"
        say(f"vkd: note: no calibration, so no answers and no out-of-distribution score: {why}", file=sys.stderr)


def _overlays(settings: Namespace, bundles: Sequence["Predictor"]) -> "Overlays | None":
    if settings.overlay is None:
        return None
    from vkd_pyro.artifacts.export import Export

    if any(isinstance(bundle, Export) for bundle in bundles):
        raise UserError("--overlay: needs a network's gradients; give bundles and --engine torch")
    from vkd_pyro.prediction.overlays import Overlays

    return Overlays(settings.overlay, bundles, settings.overlay_findings, settings.seed)


@contextmanager
def _writers(
    settings: Namespace, bundles: Sequence["Predictor"], uncertainty: "UncertaintySources"
) -> Iterator[list[Write]]:
    """What is done with each prediction; files are whole when the block ends."""
    from vkd_pyro.prediction.answers import answers_file, queries_file
    from vkd_pyro.prediction.tables import csv_rows, json_objects, provenance, table_file
    from vkd_pyro.utils.files import folders_above

    made_by = provenance([bundle.bundle_hash for bundle in bundles], uncertainty, settings.level)
    with ExitStack() as open_files:
        writers: list[Write] = []
        if settings.output:
            folders_above(settings.output)
            writers.append(open_files.enter_context(table_file(settings.output, made_by)))
            if settings.query:
                writers.append(open_files.enter_context(answers_file(queries_file(settings.output))))
        elif settings.format in ("csv", "json"):
            stream = csv_rows if settings.format == "csv" else json_objects
            writers.append(open_files.enter_context(stream(sys.stdout, made_by)))
        else:
            writers.append(open_files.enter_context(_printed_table(settings.level, _fitted_on(bundles))))
        yield writers


def _write_all(
    predictions: Iterator["Predicted | Unread"], writers: list[Write], number: int, quiet: bool
) -> list["Unread"]:
    """Writes each prediction. Returns: the files that were not read, each told at once."""
    from tqdm import tqdm

    from vkd_pyro.prediction import Unread
    from vkd_pyro.prediction.tables import as_text

    problems = []
    hidden = True if quiet else None  # None: where standard error is no terminal
    progress = tqdm(desc="predict", total=number, unit="image", delay=2, leave=False, disable=hidden)
    for each in predictions:
        progress.update(1 if isinstance(each, Unread) else len(each.images))
        if isinstance(each, Unread):
            problems.append(each)
            tqdm.write(printable(f"vkd: {as_text(each.image)}: {each.problem}"), file=sys.stderr)
            continue
        for write in writers:
            write(each)
    progress.close()
    return problems


def _conclude(settings: Namespace, number: int, problems: list["Unread"], overlays: "Overlays | None") -> None:
    from vkd_pyro.prediction.tables import problems_file, write_problems

    if overlays and settings.format == "table":
        say(f"pictures: {overlays.folder}: {overlays.number:,}")
    if settings.output:
        say(f"written: {settings.output}: {number - len(problems):,} images")
        if problems:
            write_problems(problems_file(settings.output), problems)
            say(f"not read: {problems_file(settings.output)}: {len(problems):,} images")


# ------------------------------------------------------------------------------------ the printed table


@contextmanager
def _printed_table(level: float, fitted_on: str) -> Iterator[Write]:
    """Prints a table of each image, and at the end what its columns are."""
    from vkd_pyro.prediction.answers import lines_of
    from vkd_pyro.prediction.tables import as_text

    seen: list[Predicted] = []  # the first one only

    def write(one: "Predicted") -> None:
        if not seen:
            say(_header(one, level))
            seen.append(one)
        together = ["  one study"] if len(one.images) > 1 else []
        say("\n".join([*map(as_text, one.images), *together, *_lines(one), *lines_of(one)]))

    yield write
    if seen:
        say("\n" + _legend(seen[0], level, fitted_on))


def _fitted_on(bundles: Sequence["Predictor"]) -> str:
    from vkd_pyro.prediction.files import calibration_of

    calibration = calibration_of(bundles)
    return "" if calibration is None else calibration.fitted_on


def _header(one: "Predicted", level: float) -> str:
    columns = (
        f"  {'finding':<{_width(one)}}  probability  {f'{100 * level:.3g} % interval':>14}    raw  uncertainty  from z"
    )
    return f"{columns}{'  networks' if _has_networks(one) else ''}  threshold  answer"


def _lines(one: "Predicted") -> list[str]:
    """Of each finding, the most probable first; and whether the image is unlike those known."""
    raw = np.isnan(one.calibrated)
    p = np.where(raw, one.probabilities, one.calibrated)
    low, high = np.where(raw, one.low, one.calibrated_low), np.where(raw, one.high, one.calibrated_high)
    lines = []
    for k in np.argsort(-p, kind="stable"):
        interval = "-" if np.isnan(low[k]) else f"{low[k]:.3f}-{high[k]:.3f}"
        probability = f"{one.findings[k]:<{_width(one)}}  {p[k]:>10.3f}{'*' if raw[k] else ' '}  {interval:>14}"
        uncertainty = f"{one.probabilities[k]:>5.3f}  {one.total[k]:>5.2f}  {_share(one.latent[k], one.total[k]):>6}"
        if _has_networks(one):
            uncertainty += f"  {_share(one.epistemic[k], one.total[k]):>8}"
        threshold = "-" if np.isnan(one.thresholds[k]) else f"{one.thresholds[k]:.6g}"
        why = f" ({one.undefined[k]})" if one.answers[k] == "unknown" and one.undefined[k] else ""
        lines.append(f"  {probability}  {uncertainty}  {threshold:>9}  {one.answers[k]}{why}")
    if one.flagged:
        lines.append(f"  unlike the images the model learned from: p = {one.ood_p:.2g}")
    return lines


def _width(one: "Predicted") -> int:
    return max(map(len, one.findings))


def _has_networks(one: "Predicted") -> bool:
    return not np.isnan(one.epistemic).all()


def _share(part: float, whole: float) -> str:
    return "-" if np.isnan(part) or not whole else f"{part / whole:.0%}"


def _legend(one: "Predicted", level: float, fitted_on: str) -> str:
    """A line for each column."""
    uncalibrated = np.isnan(one.calibrated)
    networks = ", and which the networks (or masks, or augmented pictures)" if _has_networks(one) else ""
    lines = {
        "probability": f"recalibrated on {fitted_on}" if not uncalibrated.all() else "",
        "interval": f"holds the probability for {100 * level:.3g} % of the draws",
        "raw": "the probability as the model gives it, and its uncertainty in nats, at most 0.69",
        "from z": f"which share of that uncertainty z carries{networks}; the rest lies in the finding itself",
        "threshold": f"of {fitted_on}",
        "answer": "yes: at or above the threshold; no: below it; refer: less than two thirds of the draws say the "
        "same; unknown: there is no threshold",
    }
    if uncalibrated.any():
        lines["probability"] = "; ".join(filter(None, (lines["probability"], "* not recalibrated")))
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items())
