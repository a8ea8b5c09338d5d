"""The tables of a page as files for a paper: CSV, and LaTeX with booktabs."""

import csv
import io
import re
from collections.abc import Iterator

from vkd_pyro.reporting.html import shown
from vkd_pyro.reporting.page import Page, Table

SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def tables_of(page: Page) -> Iterator[tuple[str, Table]]:
    """A name for its files, and each table of a page."""
    for section in page.sections:
        for table in section.tables:
            yield re.sub(r"[^a-z0-9]+", "_", f"{section.name} {table.title}".lower()).strip("_"), table


def as_csv(table: Table) -> str:
    """Cells as the page shows them; what could be taken for a formula by a spreadsheet begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([[_safe(cell) for cell in row] for row in [list(table.columns), *_texts(table)]])
    return buffer.getvalue()


def as_latex(table: Table) -> str:
    """A table with booktabs' rules, its title as caption; numbers to the right."""
    numeric = [all(shown(row[k]).is_number for row in table.rows) for k in range(len(table.columns))]
    lines = [
        r"\begin{table}",
        rf"\caption{{{table.title.translate(SPECIAL)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}",
        r"\toprule",
        _row(list(table.columns)),
        r"\midrule",
        *map(_row, _texts(table)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _texts(table: Table) -> list[list[str]]:
    cells = [[shown(cell, table.digits, table.undefined) for cell in row] for row in table.rows]
    return [[f"{cell.text} {cell.interval}".strip() for cell in row] for row in cells]


def _row(cells: list[str]) -> str:
    return " & ".join(cell.translate(SPECIAL) for cell in cells) + r" \\"


def _safe(cell: str) -> str:
    number = re.fullmatch(r"[-+]?[\d.,]+%?( \[.*\])?", cell)
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") and not number else cell
