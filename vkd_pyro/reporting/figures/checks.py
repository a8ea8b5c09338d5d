"""Posterior predictive checks: replicated labels beside those that were observed."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures.style import BLUE, INK, STYLE, VERMILLION, WIDTH, wrapped

LOOKS = ((BLUE, "s", 0.16), (VERMILLION, "^", -0.16))
"""Colour, marker and offset of each version of the replicas."""

Row = tuple[str, float, Sequence[Interval]]
"""A name, what was observed, and what each version replicates."""


@rc_context(STYLE)
def predictive_checks(counts: Sequence[Row], pairs: Sequence[Row], versions: Sequence[str]) -> Figure:
    """What was observed, and the intervals of what was replicated.

    Args:
        counts: rows of the number of findings a study, with shares of the studies.
        pairs: rows of pairs of findings, with numbers of studies; none where there is no pair.
        versions: names of what replicates, at most two.
    Returns: an axes for the counts and, where there are pairs, one for them.
    """
    rows = max(len(counts), len(pairs))
    figure = Figure(figsize=(WIDTH, 1.2 + 0.27 * rows))
    axes = figure.subplots(1, 2 if pairs else 1, squeeze=False)[0]
    _draw(axes[0], counts, versions)
    axes[0].set(xlabel="share of the studies", ylabel="findings in a study")
    if pairs:
        _draw(axes[1], pairs, versions)
        axes[1].set(xlabel="studies that have both")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], versions: Sequence[str]) -> None:
    """A line a row, from the top."""
    places = np.arange(len(rows))
    axes.plot(
        [row[1] for row in rows], places, linestyle="none", color=INK, marker="o", markersize=4.5, label="observed"
    )
    for number, (version, (color, marker, offset)) in enumerate(zip(versions, LOOKS, strict=False)):
        found = [row[2][number] for row in rows]
        axes.hlines(places - offset, [i.low for i in found], [i.high for i in found], color=color, linewidth=1.4)
        middles = [i.estimate for i in found]
        axes.plot(middles, places - offset, linestyle="none", color=color, marker=marker, markersize=3.5, label=version)
    axes.set_yticks(places, [wrapped(row[0], 30) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
