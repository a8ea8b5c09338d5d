"""Quotes in a CSV file that are not closed, or closed rows later: what lies between becomes one cell in silence."""

import csv
import io
import re
from collections.abc import Sequence

MOST_SHAPES, LOOKED_AT = 20, 2000
"""A column whose cells have more shapes than this is free text; so many rows are looked at for them."""


def stray_quote(text: str, separator: str) -> tuple[int, str] | None:
    """The line of the row in which a quote stands that should not, and what is wrong; None where there is none.

    RFC 4180 is checked: a quoted cell ends before a separator or the end of its line. Where a second stray quote makes
    the file well-formed, the cell between them has lines that look like rows: as many separators, and in each column
    cells of the same shape as the others'.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    several: list[tuple[int, list[str]]] = []
    first, shapes = 1, _Shapes()
    try:
        for row in rows:
            if rows.line_num > first and any(map(_is_long, row)):
                several.append((first, row))
            shapes.add(row)
            first = rows.line_num + 1
    except csv.Error:
        return first, "a quote is not closed where its cell ends"
    cells = ((line, row, place) for line, row in several for place in range(len(row)) if _is_long(row[place]))
    line = next((line for line, row, place in cells if _has_rows(row, place, separator, shapes)), None)
    return None if line is None else (line, "a quote stands there that swallows the rows below")


class _Shapes:
    """The shapes of the cells of each column, such as "a/0.a" of "images/17.png"."""

    def __init__(self) -> None:
        self.columns: list[set[str]] = []
        self.rows = 0

    def add(self, row: Sequence[str]) -> None:
        """Counts the cells of a row in, of the first rows; the header is none of them."""
        self.rows += 1
        if not 1 < self.rows <= LOOKED_AT:
            return
        self.columns += [set() for _ in range(len(row) - len(self.columns))]
        for column, cell in zip(self.columns, row, strict=False):
            if len(column) <= MOST_SHAPES:
                column.add(_shape(cell))

    def match(self, cells: Sequence[str], begin: int) -> bool:
        """Whether cells look like those of the columns from `begin` on, and at least one of them says so."""
        columns = self.columns[begin : begin + len(cells)]
        told = [(cell, column) for cell, column in zip(cells, columns, strict=False) if len(column) <= MOST_SHAPES]
        fits = all(_shape(cell) in column for cell, column in told)
        return fits and any(cell.strip() for cell, _ in told)


def _is_long(cell: str) -> bool:
    """Whether a cell has several lines."""
    return "\n" in cell or "\r" in cell


def _shape(cell: str) -> str:
    """A cell with its runs of capitals, small letters and digits as one "A", "a" or "0"."""
    return re.sub("[0-9]+", "0", re.sub("[a-z]+", "a", re.sub("[A-Z]+", "A", cell.strip())))


def _has_rows(row: Sequence[str], place: int, separator: str, shapes: _Shapes) -> bool:
    """Whether a cell has rows in it: the rest of one, whole ones, or the beginning of another."""
    lines = [line.split(separator) for line in row[place].splitlines()]
    width = len(row)
    if any(len(line) == width and shapes.match(line, 0) for line in lines[1:-1]):
        return True
    if place:
        return len(lines[-1]) == place + 1 and shapes.match(lines[-1][:-1], 0)
    return len(lines[0]) == width and shapes.match(lines[0][1:], 1)
