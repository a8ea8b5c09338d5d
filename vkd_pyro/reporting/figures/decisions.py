"""Decision curves: whether acting on the model is better than acting on all, or on none."""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import BLUE, GRAY, INK, STYLE, grid, wrapped


@rc_context(STYLE)
def decision_curves(curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """Net benefit by threshold, a panel a finding.

    Args: of each of K findings, thresholds, and net benefit of the model and of yes to all, [T] each.
    Returns: K axes; what is far below 0 is cut off.
    """
    figure, panels = grid(len(curves), 4, 1.0)
    for axes, (finding, (thresholds, model, everyone)) in zip(panels, curves.items(), strict=True):
        top = max(float(np.max(model)), float(np.max(everyone)), 1e-3)
        axes.axhline(0, color=INK, linewidth=0.8, label="no to all")
        axes.plot(thresholds, everyone, color=GRAY, linestyle="--", label="yes to all")
        axes.plot(thresholds, model, color=BLUE, linewidth=1.6, label="model")
        axes.set_ylim(-top / 3, 1.1 * top)
        axes.set_xlim(0, min(1.0, 8 * top + 0.1))
        axes.set_title(wrapped(finding, 23), fontsize=8)
    figure.supxlabel("threshold probability")
    figure.supylabel("net benefit")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure
