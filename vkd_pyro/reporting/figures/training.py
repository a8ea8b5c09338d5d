"""Training curves."""

from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkd_pyro.reporting.figures.style import BLUE, GRAY, STYLE, VERMILLION, grid
from vkd_pyro.utils.epochs import best_epoch
from vkd_pyro.utils.errors import UserError

TIGHT: Any = {"borderaxespad": 0.2, "borderpad": 0, "fontsize": 7.5, "handletextpad": 0.5}
"""A legend in one line, between a panel and its title."""

CURVES: dict[str, dict[str, str]] = {
    "loss": {"val/loss": "validation", "train/loss": "training"},
    "negative log-likelihood (nats)": {"val/nll": "validation, image"},
    "macro AUC, validation": {"val/macro_auc": "image", "val/report_macro_auc": "report"},
    "micro AUC, validation": {"val/micro_auc": "image", "val/report_micro_auc": "report"},
    "KL(q || p) (nats)": {"val/kl": "validation", "train/kl": "training"},
    "weight of the KL": {"train/beta": "last step of the epoch"},
    "likelihood and auxiliary (nats)": {"train/log_likelihood": "log p(y | x, z)", "train/auxiliary": "log q(y | z)"},
    "active units of z": {"val/active_units_prior": "prior", "val/active_units_posterior": "posterior"},
    "I(z; y), lower bound (nats)": {"val/mutual_information": "validation"},
    "change of p by z": {"val/z_change": "another study", "val/z_spread": "another draw"},
}
"""Panels of `training_curves`, and which columns of metrics.csv they show under which names."""


@rc_context(STYLE)
def training_curves(table: pd.DataFrame) -> Figure:
    """A run's metrics.csv by epoch: a panel for each entry of `CURVES` that has any number.

    Args: a column `epoch`, and whichever columns of `CURVES` there are.
    Returns: an axes a panel. The dotted line is the epoch that was kept, where it is known.
    Raises: UserError, where there is nothing to show.
    """
    known = {c for c in table.columns if table[c].notna().any()}
    panels = {title: {c: n for c, n in names.items() if c in known} for title, names in CURVES.items()}
    panels = {title: names for title, names in panels.items() if names}
    if "epoch" not in known or not panels:
        raise UserError(
            f"metrics.csv: found columns {', '.join(map(str, table.columns)) or 'none'}, expected epoch and one of "
            f"{', '.join(c for names in CURVES.values() for c in names)} with numbers"
        )
    figure, axes_of = grid(len(panels), 3, 0.78)
    best = float(table["epoch"].iloc[best_epoch(table)]) if "val/nll" in known else None
    for axes, (title, names) in zip(axes_of, panels.items(), strict=True):
        for (column, name), color, dashes in zip(names.items(), (BLUE, VERMILLION), ("-", "--"), strict=False):
            rows = table[["epoch", column]].dropna()
            axes.plot(rows["epoch"], rows[column], color=color, linestyle=dashes, marker=".", markersize=3, label=name)
        if best is not None:
            axes.axvline(best, color=GRAY, linewidth=1, linestyle=":")
        axes.set_title(title, pad=14)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1), columnspacing=1, handlelength=1.6, **TIGHT)
    note = "" if best is None else f"; dotted: epoch {best:.0f}, which was kept"
    figure.supxlabel(f"epoch{note}", x=0.01, horizontalalignment="left", fontsize=8.5)
    return figure
