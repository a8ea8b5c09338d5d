"""Forest plots: differences, or areas, with their intervals."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures.style import BLUE, GRAY, STYLE, WIDTH, wrapped


@rc_context(STYLE)
def forest(
    names: Sequence[str],
    estimates: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    title: str = "",
    reference: float = 0,
    signed: bool = True,
) -> Figure:
    """Forest plot: an estimate with its interval a line, the first on top.

    Args: G names; estimates and both ends of their intervals, [G], NaN undefined; the value of no difference;
    whether numbers have a sign, as differences do.
    Returns: one axes. A filled marker says that the interval leaves the reference out.
    """
    estimates, lows, highs = (np.asarray(values, float) for values in (estimates, lows, highs))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * len(names)))
    axes = figure.subplots()
    axes.axvline(reference, color=GRAY, linewidth=1, linestyle="--")
    for row, (estimate, low, high) in enumerate(zip(estimates, lows, highs, strict=True)):
        clear = low > reference or high < reference
        axes.plot([low, high], [row, row], color=BLUE, linewidth=1.6)
        face = BLUE if clear else "white"
        axes.plot([estimate], [row], marker="s", markersize=5, color=BLUE, markerfacecolor=face)
        text = format(Interval(estimate, low, high), "+.3f" if signed else ".3f")
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set_yticks(range(len(names)), [wrapped(name, 44) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), title=title)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
