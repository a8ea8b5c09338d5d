"""Predictions as files: a row for each image and finding (CSV, Parquet), or an object for each image (JSON).

They are written while they are made; numbers have six digits and are the same in all three. Unknown is blank (null).
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from vkd_pyro import __version__
from vkd_pyro.prediction.files import Predicted
from vkd_pyro.prediction.images import Unread
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written
from vkd_pyro.utils.text import printable

Cell = str | float | int | bool | None
Row = dict[str, Cell]
Write = Callable[[Predicted], None]

OF_IMAGE = {"image": str, "image_sha256": str, "images": int, "unit": str}
OF_FINDING = {
    "finding": str,
    "probability": float,
    "low": float,
    "high": float,
    "calibrated": float,
    "calibrated_low": float,
    "calibrated_high": float,
    "threshold": float,
    "uncertainty_total": float,
    "uncertainty_aleatoric": float,
    "uncertainty_latent": float,
    "uncertainty_epistemic": float,
    "answer": str,
    "conformal": str,
    "undefined": str,
}
OF_NOVELTY = {"ood": float, "ood_p": float, "flagged": bool}
PROVENANCE = {
    "bundle_sha256": str,
    "version": str,
    "num_samples": int,
    "num_masks": int,
    "num_augmentations": int,
    "level": float,
    "seed": int,
}
COLUMNS: dict[str, type] = OF_IMAGE | OF_FINDING | OF_NOVELTY | PROVENANCE
"""Columns, nearly named as the attributes of `Predicted`; `images` is their number, `unit` says whether what was fitted
to studies, or to images, judged them, uncertainty is in nats, and `level` is of the intervals.

`answer` compares `calibrated` to `threshold`: yes at or above it, no below, refer where less than two thirds of the
draws say the same, unknown without a threshold. `conformal` is of another rule, and `undefined` says why either is
unknown."""

FORMATS = (".csv", ".json", ".parquet")
ROW_GROUP = 10_000
"""Rows of a Parquet file that are held until they are written."""


def provenance(bundle_hashes: Sequence[str], uncertainty: UncertaintySources, level: float) -> Row:
    """What made a prediction: the bundles' hashes, joined by "+", our version, draws and seed."""
    return {
        "bundle_sha256": "+".join(bundle_hashes),
        "version": __version__,
        "num_samples": uncertainty.num_samples,
        "num_masks": uncertainty.num_masks,
        "num_augmentations": uncertainty.num_augmentations,
        "level": level,
        "seed": uncertainty.seed,
    }


def rows(one: Predicted, made_by: Row) -> list[Row]:
    """A row a finding, with the cells of `COLUMNS`."""
    first: Row = {
        "image": as_text(one.image),
        "image_sha256": one.image_sha256,
        "images": len(one.images),
        "unit": one.unit,
    }
    last: Row = {"ood": _number(one.ood), "ood_p": _number(one.ood_p), "flagged": _truth(one.flagged)}
    return [first | _of_finding(one, k) | last | made_by for k in range(len(one.findings))]


def _of_finding(one: Predicted, k: int) -> Row:
    numbers = {
        "probability": one.probabilities,
        "low": one.low,
        "high": one.high,
        "calibrated": one.calibrated,
        "calibrated_low": one.calibrated_low,
        "calibrated_high": one.calibrated_high,
        "threshold": one.thresholds,
        "uncertainty_total": one.total,
        "uncertainty_aleatoric": one.aleatoric,
        "uncertainty_latent": one.latent,
        "uncertainty_epistemic": one.epistemic,
    }
    answers = {
        "answer": str(one.answers[k]),
        "conformal": str(one.conformal[k]),
        "undefined": str(one.undefined[k]) or None,
    }
    return {"finding": one.findings[k], **{name: _number(array[k]) for name, array in numbers.items()}, **answers}


def nested(one: Predicted, made_by: Row) -> dict[str, object]:
    """An object of `rows`: what they share once, then the findings by name."""
    of_findings = rows(one, made_by)
    shared = {name: cell for name, cell in of_findings[0].items() if name not in OF_FINDING}
    own = [name for name in OF_FINDING if name != "finding"]
    return {**shared, "findings": {str(row["finding"]): {name: row[name] for name in own} for row in of_findings}}


def as_text(path: Path) -> str:
    """A path as a terminal can show it: control codes, and bytes of another encoding than UTF-8, are escaped."""
    return printable(path)


def _number(value: float | np.floating) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


def _truth(value: bool | np.bool_ | None) -> bool | None:
    return None if value is None else bool(value)


# ---------------------------------------------------------------------------------------------- files


@contextmanager
def table_file(path: Path, made_by: Row) -> Iterator[Write]:
    """Writes predictions to a file, by its name CSV, JSON or Parquet; whole or, after an error, not at all."""
    check_format(path)
    with written(path, replace=False) as unfinished:
        if path.suffix.lower() == ".parquet":
            with parquet_rows(unfinished, made_by) as write:
                yield write
            return
        stream = csv_rows if path.suffix.lower() == ".csv" else json_objects
        with unfinished.open("w", encoding="utf-8", newline="") as file, stream(file, made_by) as write:
            yield write


def check_format(path: Path) -> None:
    """Raises `UserError` where the name says no format."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: found the suffix {path.suffix!r}, expected one of {', '.join(FORMATS)}")


@contextmanager
def csv_rows(file: TextIO, made_by: Row) -> Iterator[Write]:
    """Writes rows as CSV."""
    table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    table.writeheader()
    yield lambda one: table.writerows(rows(one, made_by))


@contextmanager
def json_objects(file: TextIO, made_by: Row) -> Iterator[Write]:
    """Writes a list of objects as JSON, each in one line."""
    before = "[\n"

    def write(one: Predicted) -> None:
        nonlocal before
        file.write(before + json.dumps(nested(one, made_by), allow_nan=False))
        before = ",\n"

    yield write
    file.write("[]\n" if before == "[\n" else "\n]\n")


@contextmanager
def parquet_rows(path: Path, made_by: Row) -> Iterator[Write]:
    """Writes rows as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    waiting: list[Row] = []
    with parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(one: Predicted) -> None:
            waiting.extend(rows(one, made_by))
            if len(waiting) >= ROW_GROUP:
                flush()

        yield write
        if waiting:
            flush()


def problems_file(output: Path) -> Path:
    """Beside the predictions, where the files that were not read are listed."""
    return output.with_name(f"{output.name}.problems.csv")


def write_problems(path: Path, problems: Sequence[Unread]) -> None:
    """A CSV of the files that were not read, and why."""
    with written(path, replace=False) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "problem"])
        table.writerows([as_text(one.image), one.problem] for one in problems)
