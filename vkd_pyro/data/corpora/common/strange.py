"""What is strange in the columns of a corpus of one's own: refused where a patient's split is at stake, else told.

A message names rows, and quotes no cell: it may be a patient's.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vkd_pyro.data.corpora.common.files import near_miss
from vkd_pyro.data.ids import crowded, dated, names_nobody, rounded, spelled_twice
from vkd_pyro.utils.errors import UserError

ALIKE = "differ only in case, leading zeros, separators or a .0"


def check_names(path: Path, table: pd.DataFrame, column: str) -> None:
    """Checks that each row names its patient, or its study.

    Raises:
        UserError: a blank cell, a word for none, or numbers that a spreadsheet has rounded.
    """
    nobody = np.flatnonzero([names_nobody(cell) for cell in table[column]])
    if len(nobody):
        raise UserError(
            f"{path}: row {nobody[0] + 2}: its {column!r} is blank, or a word for none such as nan, as in "
            f"{len(nobody):,} of {len(table):,} rows; give each its {column}, a name of its own where it is not known"
        )
    if how := rounded(table[column]):
        raise UserError(
            f"{path}: column {column!r} has {how}, so different ones may have become one; save the column as text, "
            "from where it comes"
        )


def strange_patients(path: Path, patients: Sequence[str], splits: Sequence[str]) -> list[str]:
    """What is strange in the names of patients, given the split of each row.

    Raises:
        UserError: two spellings of a name are in different splits.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(patients):
        rows[name].append(row)
    groups = spelled_twice(rows)
    found = []
    if groups:
        first = min((sorted(rows[name][0] for name in group) for group in groups), key=lambda pair: pair[1])
        told = f"{path}: {len(groups):,} patients are spelled in several ways that {ALIKE} (rows {first[0] + 2} and "
        told += f"{first[1] + 2})"
        fix = "write each patient in one way, and different people so that more of their names differs"
        if apart := sum(len({splits[row] for name in group for row in rows[name]}) > 1 for group in groups):
            raise UserError(f"{told}, and {apart:,} of them would be in two splits; {fix}")
        found.append(f"{told}, and count as {sum(map(len, groups)):,}; {fix}")
    if dates := dated(patients):
        found.append(
            f"{path}: {dates:,} patients have dates for names, which a spreadsheet makes of others such as 3-4, and "
            "several people may share one; save the column as text, from where it comes"
        )
    if most := crowded(patients):
        found.append(
            f"{path}: one patient has {most:,} of the {len(patients):,} rows; if that is a word for people who are not "
            "known, give each of them a name of their own"
        )
    return found


def strange_studies(path: Path, studies: Sequence[str]) -> list[str]:
    """What is strange in the names of studies."""
    if groups := spelled_twice(studies):
        told = f"{path}: {len(groups):,} studies are spelled in several ways that {ALIKE}, and count as several"
        return [f"{told}; write each study in one way"]
    return []


def not_understood(
    path: Path, column: str, cells: Sequence[str], known: Callable[[str], bool], expected: str
) -> list[str]:
    """Tells of cells that are taken for unknown since they were not understood."""
    strange = [row for row, cell in enumerate(cells) if not known(cell)]
    if not strange:
        return []
    count = f"{len(strange):,} cells are" if len(strange) > 1 else "a cell is"
    told = f"{path}: column {column!r}: {count} not understood, as in row {strange[0] + 2}, and counted as unknown"
    return [f"{told}; expected {expected}, or blank"]


def check_images(path: Path, files: Sequence[Path], patients: Sequence[str], splits: Sequence[str]) -> list[bool]:
    """Which files exist.

    Raises:
        UserError: two rows name the same file; or files of two patients or splits are one, by a link.
    """
    named: dict[str, int] = {}
    linked: dict[tuple[int, int], int] = {}
    exists = []
    for row, file in enumerate(files):
        earlier = named.setdefault(os.path.normpath(file), row)
        if earlier != row:
            raise UserError(
                f"{path}: row {row + 2}: its image is in an earlier row too, row {earlier + 2}; leave one of them"
            )
        exists.append(os.path.isfile(file))
        if exists[-1]:
            status = os.stat(file)
            first = linked.setdefault((status.st_dev, status.st_ino), row)
            if (patients[first], splits[first]) != (patients[row], splits[row]):
                raise UserError(
                    f"{path}: row {row + 2}: its image is the file of row {first + 2}, by a link, of another patient "
                    "or split; leave one of them"
                )
    return exists


def missing_images(path: Path, cells: Sequence[str], exists: Sequence[bool]) -> list[str]:
    """Tells how images that were not found might be."""
    missing = [row for row, there in enumerate(exists) if not there]
    how = near_miss(path.parent, cells[missing[0]]) if missing else ""
    if not how:
        return []
    told = f"{path}: {len(missing):,} images are not found; that of row {missing[0] + 2} would be {how}"
    return [f"{told}; correct the column 'image'"]
