"""Whether a posterior is that of its program: ranks of simulated parameters, and expected coverage."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.metrics import EcdfBand
from vkd_pyro.reporting.figures.style import BLUE, GRAY, GREEN, HALF, INK, STYLE, VERMILLION, WIDTH, legend_above

LOOKS = [(color, dashes) for dashes in ("-", "--", "-.") for color in (VERMILLION, BLUE, GREEN, INK)]
"""Colour and dashes of the lines that are named, at most so many."""


@rc_context(STYLE)
def ecdf_differences(differences: Mapping[str, ArrayLike], band: EcdfBand, named: Collection[str] = ()) -> Figure:
    """ECDF of ranks less that of uniform ranks, a line a quantity, and the band that holds all of them together.

    Args:
        differences: by name, [G] each.
        band: of differences, at [G] probabilities.
        named: those that are told apart, such as those that leave the band; the others are gray.
    Returns: one axes.
    """
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.subplots()
    _draw_band(axes, band, "uniform")
    looks = dict(zip(named, LOOKS, strict=False))
    for name, values in differences.items():
        color, dashes = looks.get(name, (GRAY, "-"))
        width = 1.4 if name in looks else 0.8
        label = name if name in looks else "_"
        axes.step(
            band.at, np.asarray(values, float), where="mid", color=color, linestyle=dashes, linewidth=width, label=label
        )
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.set(xlim=(0, 1), xlabel="rank, as a share of the draws", ylabel="ECDF less uniform")
    legend_above(figure, axes, 6)
    return figure


@rc_context(STYLE)
def expected_coverage(coverage: ArrayLike, band: EcdfBand) -> Figure:
    """Expected coverage against credibility (TARP), and the band that holds it where the posterior is right.

    Args: shares, [G]; the band, at [G] credibilities.
    Returns: one axes.
    """
    figure = Figure(figsize=(HALF, 3.4))
    axes = figure.subplots()
    _draw_band(axes, band, "exact posterior")
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":")
    axes.plot(band.at, np.asarray(coverage, float), color=BLUE, linewidth=1.8, label="these draws")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="credibility", ylabel="expected coverage", box_aspect=1)
    legend_above(figure, axes)
    return figure


def _draw_band(axes: Axes, band: EcdfBand, name: str) -> None:
    label = f"{name}, {100 * band.level:.4g} % band"
    axes.fill_between(band.at, band.low, band.high, color=GRAY, alpha=0.3, linewidth=0, label=label)
