"""The parts of a page: sections of facts, tables and figures, and what stands in its head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from vkd_pyro.metrics import Interval

SECTIONS = {
    "summary": "Summary",
    "findings": "Finding by finding",
    "curves": "ROC and precision-recall",
    "calibration": "Calibration",
    "uncertainty": "Uncertainty",
    "decisions": "Decisions",
    "clinical": "Clinical use",
    "joint": "Findings together",
    "checks": "Predictive checks",
    "subgroups": "Subgroups",
    "failures": "Failures",
    "heatmaps": "Heat maps",
    "ood": "Out-of-distribution images",
    "latent": "Latent space",
    "reports": "Reports",
    "cases": "Example cases",
    "training": "Training",
    "cohort": "Patients and images",
    "method": "Method",
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
        folded: shown when asked for, since few readers need it.
        digits: after the point of a number that is no count.
        undefined: why a number that is NaN is undefined; an `Undefined` cell brings its own reason.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    digits: int = 3
    folded: bool = False
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
        formula: text of several lines, shown as it stands before the facts.
    """

    name: str
    lead: str = ""
    highlights: Mapping[str, Cell] = field(default_factory=dict)
    facts: Mapping[str, Cell] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Sequence[CaptionedFigure] = ()
    notes: Sequence[str] = ()
    formula: str = ""

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
        verdict: the result in a sentence or two.
    """

    title: str
    evaluated: Evaluated
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()
    verdict: str = ""

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sections: found more than one of {', '.join(sorted(repeated))}, expected one each")
