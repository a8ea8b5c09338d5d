"""ROC and precision-recall curves: a panel of all findings and their mean, and a panel a finding."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.figures.style import BLUE, GRAY, INK, STYLE, grid, interval_text, panel_title, say_undefined

Curve = tuple[ArrayLike, ArrayLike]
"""x and y of a line, [P] each."""


@rc_context(STYLE)
def roc(curves: Mapping[str, Curve], aucs: Mapping[str, Interval | float]) -> Figure:
    """ROC curves: all findings with their mean in the first panel, then a panel a finding.

    Args:
        curves: of each of K findings, false and true positive rate, both rising from 0 to 1.
        aucs: of each finding; one that is NaN is said to be undefined, and is not in the mean.
    Returns: K + 1 axes. The mean is over findings, of the sensitivity at equal specificity.
    """
    chance = {finding: ([0, 1], [0, 1]) for finding in curves}
    labels = ("1 - specificity (false positive rate)", "sensitivity")
    return _panels_of_curves(curves, aucs, "AUC", labels, _tpr_at, chance)


@rc_context(STYLE)
def precision_recall(
    curves: Mapping[str, Curve],
    average_precisions: Mapping[str, Interval | float],
    prevalences: Mapping[str, float],
) -> Figure:
    """Precision-recall curves, as `roc`.

    Args:
        curves: of each of K findings, recall and precision, in the order of scikit-learn (recall falling to 0) or its
            reverse.
        average_precisions: of each finding, as the AUCs of `roc`.
        prevalences: of each finding: the precision of a random order.
    Returns: K + 1 axes. The mean is over findings, of the precision at equal recall, without interpolation, so that
        the area under it is the mean of the average precisions.
    """
    chance = {finding: ([0, 1], [prevalences[finding]] * 2) for finding in curves}
    return _panels_of_curves(
        curves, average_precisions, "AP", ("recall (sensitivity)", "precision"), _precision_at, chance
    )


def _panels_of_curves(
    curves: Mapping[str, Curve],
    areas: Mapping[str, Interval | float],
    measure: str,
    labels: tuple[str, str],
    at: Callable[[NDArray[np.float64], Curve], NDArray[np.float64]],
    chance: Mapping[str, Curve],
) -> Figure:
    """A panel of all curves and their mean, by `at` on a grid of x, then one a finding, beside what chance gives."""
    figure, (overview, *panels) = grid(len(curves) + 1, 4, 1.08, share=True)
    defined = [finding for finding in curves if not math.isnan(_estimate(areas[finding]))]
    rates = np.linspace(0, 1, 501)
    for finding in defined:
        overview.plot(*curves[finding], color=GRAY, linewidth=0.7)
    handles = {}
    if defined:
        mean = np.mean([at(rates, curves[finding]) for finding in defined], axis=0)
        handles["mean over findings"] = overview.plot(rates, mean, color=INK, linewidth=2)[0]
        area = float(np.mean([_estimate(areas[finding]) for finding in defined]))
        panel_title(overview, f"mean of {len(defined)} of {len(curves)}", f"macro {measure} {area:.3f}")
    else:
        say_undefined(overview, "All findings", measure)
    for axes, finding in zip(panels, curves, strict=True):
        if finding not in defined:
            say_undefined(axes, finding, measure)
            continue
        handles["chance"] = axes.plot(*chance[finding], color=GRAY, linewidth=1, linestyle=":")[0]
        handles["the finding"] = axes.plot(*curves[finding], color=BLUE)[0]
        panel_title(axes, finding, f"{measure} {interval_text(areas[finding])}")
    for axes in (overview, *panels):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), box_aspect=1)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    figure.supxlabel(labels[0], fontsize=8.5)
    figure.supylabel(labels[1], fontsize=8.5)
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=3)
    return figure


def _tpr_at(grid: NDArray[np.float64], curve: Curve) -> NDArray[np.float64]:
    """True positive rate where the false positive rate is that of the grid; linear between the points, 0 at 0."""
    return np.concatenate([[0.0], np.interp(grid[1:], np.asarray(curve[0]), np.asarray(curve[1]))])


def _precision_at(grid: NDArray[np.float64], curve: Curve) -> NDArray[np.float64]:
    """Precision at the highest threshold whose recall is at least that of the grid: what average precision sums."""
    recall, precision = np.asarray(curve[0], float), np.asarray(curve[1], float)
    if recall[0] > recall[-1]:
        recall, precision = recall[::-1], precision[::-1]
    return precision[np.searchsorted(recall, grid).clip(max=len(recall) - 1)]


def _estimate(area: Interval | float) -> float:
    return area.estimate if isinstance(area, Interval) else area
