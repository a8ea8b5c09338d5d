"""How patients, studies and images came to be in each split: a flow diagram."""

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vkd_pyro.reporting.figures.style import GRAY, INK, STYLE, WIDTH, wrapped

LINE = 0.2
"""Inches of a line of text."""


@rc_context(STYLE)
def flow(corpus: str, excluded: Mapping[str, int], included: Mapping[str, Mapping[str, int]]) -> Figure:
    """What was left out of a corpus and why, what was included, and what of it is in each split.

    Args:
        corpus: its name.
        excluded: counts by reason.
        included: of each split, counts by what is counted.
    """
    left = [line for why, n in excluded.items() for line in wrapped(f"{n:,} {why}", 52).split("\n")] or ["nothing"]
    total = {what: sum(split[what] for split in included.values()) for what in next(iter(included.values()), {})}
    side, each = LINE * (len(left) + 2), LINE * (len(total) + 2)
    rows = [LINE * 2, LINE * 2.4 + side, LINE * 4.8 + side + each]  # tops of the second, third and fourth row
    height = rows[2] + each + 0.1
    figure = Figure(figsize=(WIDTH, height))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    width, stem = 2.4, 1.3
    _box(axes, (0.1, 0.05), (width, rows[0] - 0.05), [corpus])
    _box(axes, (0.3 + width, rows[0] + LINE * 0.2), (WIDTH - width - 0.4, side), ["left out", *left])
    _box(axes, (0.1, rows[1]), (width, each), ["included", *_lines(total)])
    _arrow(axes, (stem, rows[0]), (stem, rows[1]))
    _arrow(axes, (stem, rows[0] + LINE * 0.2 + side / 2), (0.3 + width, rows[0] + LINE * 0.2 + side / 2))
    wide = (WIDTH - 0.2) / max(1, len(included))
    for number, (split, counts) in enumerate(included.items()):
        x = 0.1 + number * wide
        _arrow(axes, (stem, rows[1] + each), (x + wide / 2 - 0.1, rows[2]))
        _box(axes, (x, rows[2]), (wide - 0.2, each), [split, *_lines(counts)])
    return figure


def _lines(counts: Mapping[str, int]) -> list[str]:
    return [f"{count:,} {what}" for what, count in counts.items()]


def _box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], lines: Sequence[str]) -> None:
    """Lines in a box, the first bold."""
    axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor=GRAY, linewidth=0.9))
    first = corner[1] + (size[1] - LINE * (len(lines) - 1)) / 2
    for number, line in enumerate(lines):
        weight = "normal" if number else "bold"
        axes.text(corner[0] + 0.12, first + LINE * number, line, va="center", color=INK, fontweight=weight)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": GRAY, "linewidth": 0.9})
