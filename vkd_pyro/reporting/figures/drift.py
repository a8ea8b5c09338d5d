"""Months of predictions beside what was usual."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures.style import BLUE, GRAY, INK, STYLE, WIDTH


@rc_context(STYLE)
def drift(
    months: Sequence[str],
    flagged: Sequence[Interval],
    usual: float,
    findings: Sequence[str],
    psi: ArrayLike,
    drifted: ArrayLike,
) -> Figure:
    """Share of images unlike those learned from, month by month; below it how far each finding's probabilities moved.

    Args:
        months: M names.
        flagged: their shares, M; `usual` is what it was.
        findings: K names.
        psi: population stability index above chance, [K, M]; NaN unknown.
        drifted: bool [K, M]; these are marked.
    """
    index, marked = np.asarray(psi, float), np.asarray(drifted, bool)
    height = 1.9 + 0.24 * len(findings)
    figure = Figure(figsize=(WIDTH, height))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 0.24 * len(findings) + 0.2])
    _shares(above, flagged, usual)
    shades = below.imshow(np.clip(index, 0, None), cmap="Blues", vmin=0, vmax=0.5, aspect="auto")
    for k, m in np.ndindex(index.shape):
        text = "?" if np.isnan(index[k, m]) else f"{max(index[k, m], 0):.2f}{' !' if marked[k, m] else ''}"
        weight = "bold" if marked[k, m] else "normal"
        below.text(m, k, text, ha="center", va="center", fontsize=7, weight=weight, color=_ink(float(index[k, m])))
    below.set_title("Probabilities of each finding: stability index above chance; ! is drift")
    below.set_yticks(range(len(findings)), findings)
    many = len(months) > 6
    below.set_xticks(range(len(months)), months, rotation=30 if many else 0, ha="right" if many else "center")
    below.grid(False)
    figure.colorbar(shades, ax=below, shrink=0.8, pad=0.01)
    return figure


def _shares(axes: Axes, flagged: Sequence[Interval], usual: float) -> None:
    at = np.arange(len(flagged))
    shares = np.array([[one.estimate, one.low, one.high] for one in flagged]).T
    axes.axhline(usual, color=GRAY, dashes=(4, 3), label=f"usual: {usual:g}")
    axes.errorbar(at, shares[0], np.abs(shares[1:] - shares[0]), fmt="o-", color=BLUE, capsize=2, ms=4)
    axes.set_ylim(bottom=0)
    axes.set_title("Share of images unlike those the model learned from, with 95 % intervals")
    axes.legend(loc="upper left")


def _ink(value: float) -> str:
    return "white" if value > 0.3 else INK
