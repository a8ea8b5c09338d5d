"""A search for settings: its values by trial, and by each option."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from vkd_pyro.reporting.figures.style import BLUE, GRAY, STYLE, VERMILLION, grid
from vkd_pyro.utils.errors import UserError

KINDS: dict[str, dict[str, Any]] = {
    "complete": {"color": BLUE, "marker": "o"},
    "pruned": {"color": GRAY, "marker": "x"},
}
"""How trials that have a value are drawn."""
TIGHT: Any = {"borderaxespad": 0.2, "borderpad": 0, "columnspacing": 0.7, "fontsize": 6.5, "handlelength": 1,
              "handletextpad": 0.3}  # fmt: skip
"""A legend in one line, between a panel and its title."""
OTHERS = ("trial", "state", "value", "epochs", "seconds", "reason")
"""Columns that are not options."""


@rc_context(STYLE)
def search_history(
    trials: pd.DataFrame, metric: str, maximize: bool, importances: Mapping[str, float] | None = None
) -> Figure:
    """Values of trials in the order that they began, with the best so far; then by each option that was searched.

    Args: a row a trial, with the columns of `OTHERS` and one an option; what is sought; whether more is better; shares
        of the variance of the values by option, of which the greatest come first.
    Returns: an axes for the history, one an option. The axis of values shows the complete trials; what lies outside is
        drawn at its edge.
    Raises: UserError, where no trial was complete.
    """
    importances = importances or {}
    complete = trials[(trials["state"] == "complete") & trials["value"].notna()]
    if complete.empty:
        raise UserError("no trial was complete; there is nothing to show")
    options = [name for name in trials.columns if name not in OTHERS]
    options.sort(key=lambda name: -importances.get(name, 0.0))
    figure, axes_of = grid(1 + len(options), 3, 0.8)
    low, high = complete["value"].min(), complete["value"].max()
    room = 0.06 * (high - low) or abs(high) * 0.01 or 0.01
    shown = trials[trials["state"].isin(list(KINDS)) & trials["value"].notna()]
    shown = shown.assign(value=shown["value"].clip(low - room, high + room))
    history = axes_of[0]
    _points(history, shown, shown["trial"])
    best = complete["value"].cummax() if maximize else complete["value"].cummin()
    history.step(complete["trial"], best, where="post", color=VERMILLION, linewidth=1.2, label="best so far")
    failed = trials[trials["state"] == "failed"]
    if len(failed):
        edge = low - room if maximize else high + room
        history.plot(failed["trial"], [edge] * len(failed), "v", color=VERMILLION, markersize=3.5, label="failed")
    history.set_title("all trials", pad=14)
    history.legend(ncols=4, loc="lower left", bbox_to_anchor=(-0.02, 1), **TIGHT)
    history.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes, name in zip(axes_of[1:], options, strict=True):
        _slice(axes, shown, name)
        share = f" ({importances[name]:.0%})" if name in importances else ""
        axes.set_title(textwrap.fill(_short(name) + share, 36), pad=4)
    for axes in axes_of:
        axes.set_ylim(low - 2 * room, high + 2 * room)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    note = "; share of the variance in brackets" if importances else ""
    figure.supxlabel(f"trial, then each option{note}", x=0.01, horizontalalignment="left", fontsize=8.5)
    figure.supylabel(f"{metric}, validation", fontsize=8.5)
    return figure


def _points(axes: Axes, rows: pd.DataFrame, places: "pd.Series[Any]") -> None:
    for kind, look in KINDS.items():
        of_kind = rows["state"] == kind
        if of_kind.any():
            axes.plot(places[of_kind], rows["value"][of_kind], linestyle="", markersize=3.5, label=kind, **look)


def _slice(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    values = rows[name]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        _points(axes, rows, values)
        positive = values.dropna()
        if len(positive) and positive.min() > 0 and positive.max() / positive.min() >= 10:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return
    named = values.astype(str)
    names = sorted(named.unique())
    _points(axes, rows, named.map({each: float(place) for place, each in enumerate(names)}))
    width = max(4, 36 // len(names))  # characters that a panel has room for
    labels = [textwrap.fill(textwrap.shorten(each, 6 * width, placeholder="..."), width) for each in names]
    axes.set_xticks(np.arange(len(names)), labels, fontsize=5.5)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _short(name: str) -> str:
    """An option without what all begin with."""
    return ".".join(name.split(".")[-2:])
