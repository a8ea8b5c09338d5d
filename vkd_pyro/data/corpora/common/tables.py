"""Tables of a corpus: read by column name, plain or gzipped, with an error that names what is wrong.

No cell is quoted in an error: it may be a patient's.
"""

import difflib
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.csv_files import read_cells
from vkd_pyro.data.labels.findings import UNMENTIONED
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import check_plain

CODES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0, "": UNMENTIONED}
CODES |= {"1,0": 1.0, "0,0": 0.0, "-1,0": -1.0}  # with a decimal comma, as tables separated by semicolons have it

AGAIN = "rows that name an image again"
"""Why readers leave such rows out."""


def find_table(folder: Path, name: str) -> Path | None:
    """`folder/name`, gzipped or not; None where there is neither."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def need_table(folder: Path, name: str) -> Path:
    """The path of a table, plain or gzipped; `UserError` where there is neither."""
    path = find_table(folder, name)
    if path is None:
        raise UserError(f"{folder / name}: not found (nor {name}.gz); expected it in the corpus as downloaded")
    return path


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All of a CSV file as text, blank cells as "": `read_cells`.

    Names of columns are stripped; rows at the end whose cells are all blank are dropped.

    Raises:
        UserError: not readable, a row of another length than the header, a quote that swallows rows, a column missing
            or twice, or no row.
    """
    try:
        check_plain(path)
        table = read_cells(path, columns)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        found = _what_is_wrong(error)
        raise UserError(f"{path}: not readable as CSV ({found}); fetch it again, or save it as CSV in UTF-8") from error
    table.columns = names = [name.strip() for name in table.columns]
    if twice := [name for name, count in Counter(table.columns).items() if name and count > 1]:
        raise UserError(f"{path}: {len(twice)} of its columns stand there twice; leave one of each")
    if missing := [column for column in columns if column not in table]:
        raise UserError(
            f"{path}: column {missing[0]!r} not found among the {len(table.columns)} of its first line"
            f"{_hint(missing[0], names)}; expected {', '.join(columns)}"
        )
    told = len(table)
    while told and not "".join(table.iloc[told - 1]).strip():
        told -= 1
    if not told:
        raise UserError(f"{path}: no row below its header; fetch it again")
    return table[:told]


def _what_is_wrong(error: Exception) -> str:
    """What is wrong with a table, in words that quote none of its cells."""
    text = str(error)
    if row := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text):
        return f"row {row[1]} has {row[3]} cells, expected {row[2]}"
    if "UTF8" in text:
        return "it is not text in UTF-8"
    return type(error).__name__ if "\n" in text else text.split(":")[0]


def _hint(missing: str, names: Sequence[str]) -> str:
    """What may be wrong where a column is missing. A name that is not near is not told: it may be a patient's cell."""
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(missing.lower(), lower, n=1, cutoff=0.7)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""


def read_labels(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float32]:
    """The label columns of a table, float32 [N, K]: 1, 0, -1 uncertain, -2 blank.

    Raises:
        UserError: a cell is none of 1, 0, -1 and blank.
    """
    cells = table[list(columns)].apply(lambda column: column.str.strip().map(CODES)).to_numpy(dtype=np.float32)
    if np.isnan(cells).any():
        row, column = (int(i[0]) for i in np.nonzero(np.isnan(cells)))
        raise UserError(f"{path}: row {row + 2}, column {columns[column]!r}: expected 1, 0, -1 or blank")
    return cells


def cells_of(table: pd.DataFrame, column: str) -> list[str]:
    """The cells of a column; blank ones where there is no such column."""
    return table[column].tolist() if column in table else [""] * len(table)


def group_rows(table: pd.DataFrame, by: str) -> dict[str, list[Any]]:
    """The rows of each group, named tuples, in the order of the table; pandas' own groups take minutes for as many as
    MIMIC-CXR has studies."""
    groups: dict[str, list[Any]] = {}
    for row in table.itertuples():
        groups.setdefault(getattr(row, by), []).append(row)
    return groups


def check_known(path: Path, table: pd.DataFrame, column: str, pattern: str) -> None:
    """Raises `UserError` naming the first row whose cell does not match: its columns may be shifted."""
    strange = ~table[column].str.fullmatch(pattern)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise UserError(f"{path}: row {row + 2}: {column!r} is not of the form {pattern}; are its columns shifted?")


def agreed(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What all rows of the labels of a study say, [N, K] -> [K]; NaN where two of them say different things."""
    same = (labels == labels[0]) | (np.isnan(labels) & np.isnan(labels[0]))
    return np.where(same.all(axis=0), labels[0], np.float32(np.nan))


def study_labels(
    path: Path, studies: Sequence[str], labels: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """What all rows of each study say, study -> [K], NaN where they differ; and what there is to tell of that.

    Args:
        path: of the table.
        studies: of each of N rows.
        labels: of each row, [N, K], known throughout.
    """
    rows: dict[str, list[int]] = {}
    for row, study in enumerate(studies):
        rows.setdefault(study, []).append(row)
    found = {study: labels[of[0]] if len(of) == 1 else agreed(labels[of]) for study, of in rows.items()}
    differ = sum(int(np.isnan(found[study]).sum()) for study, of in rows.items() if len(of) > 1)
    told = f"{path}: {differ:,} labels on which rows of a study differ, and are taken as unknown; fetch the table again"
    return found, [told] * (differ > 0)


def one_row_each(path: Path, table: pd.DataFrame, image: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The first row of each image; and what there is to tell of those whose rows differ in "view", which is unknown.

    Args:
        path: of the table.
        table: with the column "view", of a `View` each.
        image: the columns that name an image.
    """
    differ = table.drop_duplicates([*image, "view"]).duplicated(image, keep=False)
    once = table.drop_duplicates(image)
    odd = differ[once.index]
    if not odd.any():
        return once, []
    row = int(np.flatnonzero(odd)[0])
    told = (
        f"{path}: {odd.sum():,} images have several views, as that of row {once.index[row] + 2}, and count as of none"
    )
    return once.assign(view=once["view"].mask(odd, "unknown")), [f"{told}; fetch the table again"]
