"""The reliability diagram."""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import BLUE, GRAY, HALF, STYLE, VERMILLION

Bins = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Bins of a reliability diagram: mean prediction, observed share, count; [B] each, NaN where a bin is empty."""


@rc_context(STYLE)
def reliability(raw: Bins, calibrated: Bins | None = None, title: str = "") -> Figure:
    """Reliability diagram: the observed share against the mean prediction of each bin, with the bins' counts below.

    Args:
        raw, calibrated: bins before and after recalibration; those that are NaN or hold nothing are left out.
    Returns: two axes, the diagram and the counts.
    """
    figure = Figure(figsize=(HALF, 4.4))
    diagram, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="perfect")
    styles = {"raw": (VERMILLION, "s", "--", "none"), "recalibrated": (BLUE, "o", "-", BLUE)}
    for (name, (color, marker, dashes, face)), bins in zip(styles.items(), (raw, calibrated), strict=True):
        if bins is None:
            continue
        predicted, observed, count = (np.asarray(values, float) for values in bins)
        filled = ~np.isnan(predicted) & ~np.isnan(observed) & (count > 0)
        look: Any = {"color": color, "marker": marker, "markersize": 4.5, "markerfacecolor": face, "label": name}
        diagram.plot(predicted[filled], observed[filled], linestyle=dashes, **look)
        counts.plot(predicted[filled], count[filled], linestyle="none", **look)
        counts.vlines(predicted[filled], 0.5, count[filled], color=color, linewidth=1, linestyle=dashes)
    diagram.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed share", title=title)
    counts.set(yscale="log", ylabel="count", xlabel="predicted probability")
    counts.set_ylim(bottom=0.5)
    counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    diagram.legend(loc="upper left")
    return figure
