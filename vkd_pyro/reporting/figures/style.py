"""What all figures share: colours, `STYLE` and the layout of their panels; no global state of pyplot.

Colours are told apart by colour-blind readers (Okabe & Ito 2008), and nothing is told by colour alone: lines also
differ in dashes, points in their markers.
"""

import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vkd_pyro.metrics import Interval

BLUE, VERMILLION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#8A8F98"
INK = "#20242b"
"""The colour of text and axes; in a page it is the colour of the page's own text, be that light or dark."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a finding may be called $x$
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,  # laid out as it is saved: text is as wide
    "figure.facecolor": "none",
    "grid.alpha": 0.25,
    "grid.color": GRAY,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "path.simplify_threshold": 0.3,  # a curve of 100,000 steps stays a small file
    "savefig.dpi": "figure",
    "svg.fonttype": "none",
    "svg.hashsalt": "vkd",
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
}

WIDTH, HALF = 7.2, 3.6
"""Inches of a figure as wide as the page, and of one that stands beside another."""


def interval_text(value: Interval | float, digits: int = 3) -> str:
    """An estimate with its interval, "0.912 [0.880, 0.941]"; a number alone, "0.912"; "undefined" where it is NaN."""
    undefined = not isinstance(value, Interval) and math.isnan(value)
    return "undefined" if undefined else f"{value:.{digits}f}"


def grid(
    number: int, columns: int, aspect: float, width: float = WIDTH, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """So many axes in rows, each `aspect` times as high as wide; shared ones have numbers at the outer ones only."""
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width, width / columns * aspect * rows + 0.5))
    every = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for unused in every[number:]:
        unused.remove()
    axes = list(every[:number])
    for above_nothing in axes[-columns:]:
        above_nothing.tick_params(labelbottom=True)
        above_nothing.xaxis.set_in_layout(not share or above_nothing in every[-columns:])
    return figure, axes


def legend_above(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """A legend above the axes, where no line runs through it."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=columns)


def panel_title(axes: Axes, title: str, below: str) -> None:
    """A bold title, and a line of numbers under it."""
    axes.set_title(wrapped(title, 23), fontsize=8, pad=13)
    axes.annotate(below, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=7.5)


def say_undefined(axes: Axes, title: str, measure: str) -> None:
    """An empty panel that says in words that its measure is undefined."""
    panel_title(axes, title, f"{measure} undefined")
    axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", va="center", color=GRAY)


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most so many characters; no word is split at a hyphen."""
    return textwrap.fill(text, width, break_on_hyphens=False)
