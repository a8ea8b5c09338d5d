"""A page as HTML that needs nothing else: no network, no script, readable on a screen, a phone and paper."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.checklist import Checklist
from vkd_pyro.reporting.figures import interval_text, svg
from vkd_pyro.reporting.page import SECTIONS, CaptionedFigure, Cell, Page, Table, Undefined
from vkd_pyro.utils.files import written


def render(page: Page) -> str:
    """The page as HTML: the same text for the same content."""
    sections = sorted(page.sections, key=lambda section: list(SECTIONS).index(section.name))
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            page=page,
            sections=[(section, SECTIONS[section.name]) for section in sections],
            laid_out=_laid_out,
            drawn=_drawn,
        )
    )


def write_page(page: Page, path: Path) -> None:
    """Writes the page, whole or not at all."""
    write_text(path, render(page))


def write_checklists(checklists: Sequence[Checklist], page: Page, path: Path) -> None:
    """Writes what of the checklists the page beside it answers, whole or not at all."""
    template = _environment().get_template("checklist.html.j2")
    write_text(path, template.render(checklists=checklists, page=page, headings=SECTIONS))


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all."""
    with written(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vkd_pyro.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return environment


# ---------------------------------------------------------------------------------- how a cell is shown


@dataclass(frozen=True)
class Shown:
    """A cell as text: `interval` is the bracketed part, `reason` says why it is undefined, or what to beware of."""

    text: str
    interval: str = ""
    reason: str = ""
    is_number: bool = True

    @property
    def footnote(self) -> str:
        """The reason, as it is said below a table."""
        return f"undefined: {self.reason}" if "undefined" in self.text + self.interval else self.reason


def shown(cell: Cell, digits: int = 3, undefined: str = Table.undefined) -> Shown:
    """How a cell is shown; `digits` and `undefined` as of `Table`."""
    if isinstance(cell, str):
        return Shown(cell, is_number=False)
    if isinstance(cell, bool):
        return Shown("yes" if cell else "no", is_number=False)
    if isinstance(cell, Undefined):
        return Shown("undefined", reason=cell.reason)
    if isinstance(cell, Integral):
        return Shown(f"{int(cell):,}")
    text = interval_text(float(cell) if isinstance(cell, Real) else cell, digits)
    estimate, _, interval = text.partition(" ")
    note = cell.note if isinstance(cell, Interval) else ""
    return Shown(estimate, interval, reason=note or (undefined if "undefined" in text else ""))


def _laid_out(table: Table) -> dict[str, Any]:
    """The cells as they are shown, which columns hold numbers, and the reasons in the order of their footnotes."""
    rows = [[shown(cell, table.digits, table.undefined) for cell in row] for row in table.rows]
    reasons = list(dict.fromkeys(cell.footnote for row in rows for cell in row if cell.reason))
    numeric = [all(cell.is_number for cell in column) for column in zip(*rows, strict=True)]
    return {"rows": rows, "reasons": reasons, "numeric": numeric or [False] * len(table.columns)}


def _drawn(captioned: CaptionedFigure, name: str) -> dict[str, Any]:
    """A figure as SVG, whose ids begin with `name`, and its natural width in CSS pixels (96 an inch)."""
    alt = captioned.alt or re.sub(r"\s+", " ", f"{captioned.title}. {captioned.caption}").strip()
    width = captioned.figure.get_figwidth()
    return {"svg": Markup(svg(captioned.figure, alt, name)), "width": math.ceil(width * 96), "wide": width > 4}
