"""Where maps point: hit rates beside those of chance."""

from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures.style import BLUE, GRAY, STYLE, VERMILLION, WIDTH, legend_above, wrapped


@rc_context(STYLE)
def pointing(
    names: Sequence[str], rates: Sequence[Interval], centre: Sequence[float], random: Sequence[float]
) -> Figure:
    """A finding a line, the first on top: its hit rate with its interval, the centre's, and that of a random place."""
    figure = Figure(figsize=(WIDTH, 1.2 + 0.27 * len(names)))
    axes = figure.subplots()
    rows = range(len(names))
    for row, rate in zip(rows, rates, strict=True):
        axes.plot([rate.low, rate.high], [row, row], color=BLUE, linewidth=1.6)
        beside: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axes.annotate(f"{rate:.2f}", (1.02, row), **beside)
    marks: Any = {"linestyle": "none", "markersize": 5}
    axes.plot([rate.estimate for rate in rates], rows, marker="s", color=BLUE, label="the model's map", **marks)
    axes.plot(centre, rows, marker="o", color=VERMILLION, markerfacecolor="none", label="the centre", **marks)
    axes.plot(random, rows, marker="x", color=GRAY, label="a random place", **marks)
    axes.set_yticks(rows, [wrapped(name, 44) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.02, 1.02), xlabel="hit rate")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    legend_above(figure, axes, 3)
    return figure
