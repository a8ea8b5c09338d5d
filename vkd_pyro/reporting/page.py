"""The evaluation as one self-contained page: no network, no script, readable on a screen, a phone and paper."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures import interval_text, svg
from vkd_pyro.utils.files import written

SECTIONS = {
    "summary": "Summary",
    "findings": "Finding by finding",
    "curves": "ROC and precision-recall",
    "calibration": "Calibration",
    "uncertainty": "Uncertainty",
    "decisions": "Decisions",
    "subgroups": "Subgroups",
    "ood": "Out-of-distribution images",
    "latent": "Latent space",
    "reports": "Reports",
    "training": "Training",
    "cases": "Example cases",
    "card": "Model card",
}
"""Names of the sections in their order on the page, and their headings."""


@dataclass(frozen=True)
class Undefined:
    """A number that the data do not define, and why."""

    reason: str


Cell = str | bool | float | Interval | Undefined
"""What a table shows: text; yes or no; a count; a number; an estimate with its interval; or why there is none."""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is the row's heading.

    Attributes:
        title: above it.
        columns: their headings.
        rows: each as long as `columns`.
        note: below it.
        digits: after the point of a number that is no count.
        undefined: why a number that is NaN is undefined; an `Undefined` cell brings its own reason.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    digits: int = 3
    undefined: str = "the data do not define it"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} cells in a row, {len(self.columns)} columns: {row[0]}")


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its caption, and `alt` for a reader who does not see it; by default its title and caption."""

    title: str
    figure: Figure
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: one of `SECTIONS`, which gives its place and its heading.
        lead: what is to be seen here, in a sentence or two.
        highlights: a few numbers shown large, by name; NaN as in a `Table`.
        facts: pairs of a term and what is said of it.
        tables, figures: in their order.
        notes: small print.
    """

    name: str
    lead: str = ""
    highlights: Mapping[str, Cell] = field(default_factory=dict)
    facts: Mapping[str, Cell] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Sequence[CaptionedFigure] = ()
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.name not in SECTIONS:
            raise ValueError(f"section: found {self.name!r}, expected one of {', '.join(SECTIONS)}")


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated.

    Attributes:
        model: its name, e.g. the run's.
        data, split: name of the corpus, and which part of it.
        patients, studies, images: counts.
        labels, positives: known (study, finding) pairs, and those of them that are positive.
        policies: of each label policy, e.g. "training", what it does.
        seed, num_samples: of prediction; samples of z an image, 0 where there is no z.
        bundle_hash, version: of the model, and of this package.
        date: left out where None, which keeps the page the same from run to run.
        more: further facts by name.
    """

    model: str
    data: str
    split: str
    patients: int
    studies: int
    images: int
    labels: int
    positives: int
    policies: Mapping[str, str]
    seed: int
    num_samples: int
    bundle_hash: str
    version: str
    date: str | None = None
    more: Mapping[str, Cell] = field(default_factory=dict)

    def facts(self) -> dict[str, Cell]:
        """By name, in the order of the page."""
        dated: dict[str, Cell] = {} if self.date is None else {"date": self.date}
        return {
            "model": self.model,
            "data": f"{self.data}, {self.split} split",
            "patients": self.patients,
            "studies": self.studies,
            "images": self.images,
            "known labels": self.labels,
            "positive labels": self.positives,
            **{f"label policy, {name}": text for name, text in self.policies.items()},
            "samples of z an image": self.num_samples,
            "seed": str(self.seed),
            "bundle": self.bundle_hash,
            "vkd_pyro": self.version,
            **dated,
            **self.more,
        }


@dataclass(frozen=True)
class Page:
    """The page of an evaluation.

    Attributes:
        title: its heading.
        evaluated: what stands in its head.
        sections: any of them, in any order, each name once.
        warnings: what a reader must know before the numbers.
    """

    title: str
    evaluated: Evaluated
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sections: found more than one of {', '.join(sorted(repeated))}, expected one each")


def render(page: Page) -> str:
    """The page as HTML: the same text for the same content."""
    environment = Environment(
        loader=PackageLoader("vkd_pyro.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    sections = sorted(page.sections, key=lambda section: list(SECTIONS).index(section.name))
    return environment.get_template("evaluation.html.j2").render(
        page=page,
        sections=[(section, SECTIONS[section.name]) for section in sections],
        laid_out=_laid_out,
        drawn=_drawn,
    )


def write_page(page: Page, path: Path) -> None:
    """Writes the page, whole or not at all."""
    text = render(page)
    with written(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------------------- how a cell is shown


@dataclass(frozen=True)
class Shown:
    """A cell as text: `interval` is the bracketed part, `reason` says why something is undefined."""

    text: str
    interval: str = ""
    reason: str = ""
    is_number: bool = True


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
    return Shown(estimate, interval, reason=undefined if "undefined" in text else "")


def _laid_out(table: Table) -> dict[str, Any]:
    """The cells as they are shown, which columns hold numbers, and the reasons in the order of their footnotes."""
    rows = [[shown(cell, table.digits, table.undefined) for cell in row] for row in table.rows]
    reasons = list(dict.fromkeys(cell.reason for row in rows for cell in row if cell.reason))
    numeric = [all(cell.is_number for cell in column) for column in zip(*rows, strict=True)]
    return {"rows": rows, "reasons": reasons, "numeric": numeric or [False] * len(table.columns)}


def _drawn(captioned: CaptionedFigure, name: str) -> dict[str, Any]:
    """A figure as SVG, whose ids begin with `name`, and its natural width in CSS pixels (96 an inch)."""
    alt = captioned.alt or re.sub(r"\s+", " ", f"{captioned.title}. {captioned.caption}").strip()
    width = captioned.figure.get_figwidth()
    return {"svg": Markup(svg(captioned.figure, alt, name)), "width": math.ceil(width * 96), "wide": width > 4}
