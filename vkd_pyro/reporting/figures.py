"""Figures: plain functions of arrays -> matplotlib `Figure`. What is undefined is said in words, never drawn as 0.

One style, `STYLE`; no global state of pyplot. Colours are told apart by colour-blind readers (Okabe & Ito 2008), and
nothing is told by colour alone: lines also differ in dashes, points in their markers.
"""

import hashlib
import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written

BLUE, VERMILLION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#8A8F98"
INK = "#20242b"
"""The colour of text and axes; in a page it is the colour of the page's own text, be that light or dark."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a finding may be called $x$
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,  # laid out as it is saved: text is as wide
    "figure.facecolor": "none",
    "grid.alpha": 0.25,
    "grid.color": GRAY,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "path.simplify_threshold": 0.3,  # a curve of 100,000 steps stays a small file
    "savefig.dpi": "figure",
    "svg.fonttype": "none",
    "svg.hashsalt": "vkd",
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
}

WIDTH, HALF = 7.2, 3.6
"""Inches of a figure as wide as the page, and of one that stands beside another."""

Curve = tuple[ArrayLike, ArrayLike]
"""x and y of a line, [P] each."""

Bins = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Of each bin of a reliability diagram: mean prediction, observed share, count; [B] each, NaN where a bin is empty."""


class IntervalLike(Protocol):
    """An estimate with its interval; NaN is undefined."""

    @property
    def estimate(self) -> float:
        """The number."""

    @property
    def low(self) -> float:
        """Where its interval begins."""

    @property
    def high(self) -> float:
        """Where its interval ends."""


def interval_text(value: IntervalLike | float, digits: int = 3) -> str:
    """As "0.912 [0.880, 0.941]"; "0.912" of a number without an interval; "undefined" of NaN."""
    estimate, low, high = _parts(value)
    if math.isnan(estimate):
        return "undefined"
    if isinstance(value, float | int):
        return f"{estimate:.{digits}f}"
    interval = "undefined" if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f}, {high:.{digits}f}"
    return f"{estimate:.{digits}f} [{interval}]"


def _parts(value: IntervalLike | float) -> tuple[float, float, float]:
    if isinstance(value, float | int):
        return float(value), math.nan, math.nan
    return value.estimate, value.low, value.high


# ------------------------------------------------------------------------------- curves of findings


@rc_context(STYLE)
def roc(curves: Mapping[str, Curve], aucs: Mapping[str, IntervalLike | float]) -> Figure:
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
    average_precisions: Mapping[str, IntervalLike | float],
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
    areas: Mapping[str, IntervalLike | float],
    measure: str,
    labels: tuple[str, str],
    at: Callable[[NDArray[np.float64], Curve], NDArray[np.float64]],
    chance: Mapping[str, Curve],
) -> Figure:
    """A panel of all curves and their mean, by `at` on a grid of x, then one a finding, beside what chance gives."""
    figure, (overview, *panels) = _grid(len(curves) + 1, 4, 1.08, share=True)
    defined = [finding for finding in curves if not math.isnan(_parts(areas[finding])[0])]
    grid = np.linspace(0, 1, 501)
    for finding in defined:
        overview.plot(*curves[finding], color=GRAY, linewidth=0.7)
    handles = {}
    if defined:
        mean = np.mean([at(grid, curves[finding]) for finding in defined], axis=0)
        handles["mean over findings"] = overview.plot(grid, mean, color=INK, linewidth=2)[0]
        area = float(np.mean([_parts(areas[finding])[0] for finding in defined]))
        _panel_title(overview, f"mean of {len(defined)} of {len(curves)}", f"macro {measure} {area:.3f}")
    else:
        _say_undefined(overview, "All findings", measure)
    for axes, finding in zip(panels, curves, strict=True):
        if finding not in defined:
            _say_undefined(axes, finding, measure)
            continue
        handles["chance"] = axes.plot(*chance[finding], color=GRAY, linewidth=1, linestyle=":")[0]
        handles["the finding"] = axes.plot(*curves[finding], color=BLUE)[0]
        _panel_title(axes, finding, f"{measure} {interval_text(areas[finding])}")
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


# ----------------------------------------------------------------------------- calibration and uncertainty


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


@rc_context(STYLE)
def uncertainty_histograms(total: ArrayLike, right: ArrayLike) -> Figure:
    """How uncertain right and wrong answers are.

    Args:
        total: [N], total uncertainty of an answer in nats; NaN is left out.
        right: bool [N], whether the answer is.
    Returns: one axes; of each kind of answer, the shares that fall in equal bins, which sum to 1.
    """
    total, right = np.asarray(total, float), np.asarray(right, bool)
    figure = Figure(figsize=(HALF, 3.0))
    axes = figure.subplots()
    known = total[~np.isnan(total)]
    edges = np.linspace(0, known.max() if known.size and known.max() > 0 else 1, 26)
    styles = {"right": (BLUE, "-", ""), "wrong": (VERMILLION, "--", "////")}
    for (name, (color, dashes, hatch)), chosen in zip(styles.items(), (right, ~right), strict=True):
        values = total[chosen & ~np.isnan(total)]
        shares = np.histogram(values, edges)[0] / max(len(values), 1)
        label = f"{name}: {len(values):,} answers" + (f", median {np.median(values):.2f}" if len(values) else "")
        axes.stairs(shares, edges, color=color, linewidth=1.4, linestyle=dashes, label=label)
        face = "none" if hatch else (color, 0.2)
        axes.stairs(shares, edges, facecolor=face, edgecolor=(color, 0.6), linewidth=0, fill=True, hatch=hatch)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="total uncertainty (nats)", ylabel="share of such answers")
    axes.set_ylim(bottom=0)
    _legend_above(figure, axes, columns=1)
    return figure


@rc_context(STYLE)
def referral(
    shares: ArrayLike, metric: ArrayLike, random: ArrayLike, oracle: ArrayLike | None = None, name: str = "macro AUC"
) -> Figure:
    """What is left to answer well when the most uncertain studies are referred to a reader.

    Args:
        shares: [R], of the studies that are referred.
        metric, random, oracle: [R], of those that are kept: by uncertainty, by lot, and by who would be wrong.
        name: of the metric.
    Returns: one axes.
    """
    figure = Figure(figsize=(HALF, 3.0))
    axes = figure.subplots()
    if oracle is not None:
        axes.plot(shares, oracle, color=GREEN, linestyle="-.", label="wrong ones first (oracle)")
    axes.plot(shares, metric, color=BLUE, linewidth=2, label="most uncertain first")
    axes.plot(shares, random, color=GRAY, linestyle="--", label="at random")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="studies referred", ylabel=f"{name} of the rest")
    _legend_above(figure, axes)
    return figure


@rc_context(STYLE)
def risk_coverage(
    coverages: ArrayLike, risks: ArrayLike, oracle: ArrayLike | None = None, name: str = "error rate"
) -> Figure:
    """Risk among the surest answers, against the share that is answered (El-Yaniv & Wiener 2010).

    Args:
        coverages: [R], share of the answers that are given, the surest first.
        risks, oracle: [R], risk among them: by our uncertainty, and by who would be wrong.
        name: of the risk.
    Returns: one axes; the dashed line is the risk of the largest coverage, which answering at random would keep.
    """
    coverages, risks = np.asarray(coverages, float), np.asarray(risks, float)
    figure = Figure(figsize=(HALF, 3.0))
    axes = figure.subplots()
    axes.plot(coverages, risks, color=BLUE, linewidth=2, label="surest first")
    axes.axhline(risks[np.argmax(coverages)], color=GRAY, linestyle="--", label="at random")
    if oracle is not None:
        axes.plot(coverages, oracle, color=GREEN, linestyle="-.", label="right ones first (oracle)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="answers given (coverage)", ylabel=f"{name} among them")
    axes.set_ylim(bottom=0)
    _legend_above(figure, axes)
    return figure


# --------------------------------------------------------------------------------- z and its training


def latent_map(points: ArrayLike, labels: ArrayLike, title: str = "") -> Figure:
    """A map of z in the plane, by t-SNE: a point a study, its marker and colour the label.

    Args:
        points: [N, 2].
        labels: [N]; 1 present, 0 absent, NaN unknown.
    Returns: one axes.
    """
    return latent_maps({title: (points, labels)})


@rc_context(STYLE)
def latent_maps(maps: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Maps of z side by side: of each title, points and labels as of `latent_map`. An axes a map."""
    columns = min(len(maps), 3)
    figure, panels = _grid(len(maps), columns, 1.02, width=HALF if columns == 1 else WIDTH)
    kinds = {"unknown": (GRAY, "x", 0.5), "absent": (BLUE, "o", 0.35), "present": (VERMILLION, "^", 0.8)}
    handles = {}
    for axes, (title, (points, labels)) in zip(panels, maps.items(), strict=True):
        points, labels = np.asarray(points, float), np.asarray(labels, float)
        chosen = {"unknown": np.isnan(labels), "absent": labels == 0, "present": labels == 1}
        for kind, (color, marker, alpha) in kinds.items():
            if not chosen[kind].any():
                continue
            x, y = points[chosen[kind]].T
            look: Any = {"marker": marker, "alpha": alpha, "linewidths": 0.8 if marker == "x" else 0}
            axes.scatter(x, y, s=9, color=color, rasterized=True, **look)
            handles[kind] = axes.scatter([], [], s=20, color=color, **(look | {"alpha": 1}))
        axes.set(xticks=(), yticks=(), box_aspect=1)
        axes.spines[:].set_visible(True)
        axes.spines[:].set(color=GRAY, alpha=0.5)
        axes.set_title(_wrapped(title, 60 // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)
    return figure


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
    Returns: an axes a panel. The dotted line is the epoch of the lowest val/nll, where there is one.
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
    figure, axes_of = _grid(len(panels), 3, 0.78)
    best = float(table["epoch"].iloc[int(table["val/nll"].argmin())]) if "val/nll" in known else None
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
    note = "" if best is None else f"; dotted: epoch {best:.0f}, of the lowest validation negative log-likelihood"
    figure.supxlabel(f"epoch{note}", x=0.01, horizontalalignment="left", fontsize=8.5)
    return figure


# --------------------------------------------------------------------------- comparisons and examples


@rc_context(STYLE)
def forest(
    names: Sequence[str],
    estimates: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    title: str = "",
    reference: float = 0,
) -> Figure:
    """Forest plot: an estimate with its interval a line, the first on top.

    Args: G names; estimates and both ends of their intervals, [G], NaN undefined; the value of no difference.
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
        text = "undefined" if np.isnan(estimate) else f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set_yticks(range(len(names)), [_wrapped(name, 44) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), title=title)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


@rc_context(STYLE)
def cases(images: ArrayLike, overlays: ArrayLike | None, captions: Sequence[str]) -> Figure:
    """Example studies: image, and beside it the image with its overlay, under a caption.

    Args: images [n, H, W], gray; overlays [n, H, W, 3] in [0, 1] or uint8, or None; n captions.
    Returns: n axes, or 2 n with overlays.
    """
    pictures = [np.asarray(images)] if overlays is None else [np.asarray(images), np.asarray(overlays)]
    number, each = len(pictures[0]), len(pictures)
    figure, panels = _grid(number * each, 4, 1.25, width=WIDTH * min(number * each, 4) / 4)
    for index, axes in enumerate(panels):
        study, kind = divmod(index, each)
        axes.imshow(pictures[kind][study], cmap="gray")
        axes.set_axis_off()
        if kind == 0:
            width = 24 if each == 1 else 52
            axes.set_title("\n".join(_wrapped(line, width) for line in captions[study].split("\n")), weight="normal")
    return figure


# -------------------------------------------------------------------------------------------- helpers


def _grid(
    number: int, columns: int, aspect: float, width: float = WIDTH, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """So many axes in rows, each `aspect` times as high as wide; shared ones have numbers at the outer ones only."""
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width, width / columns * aspect * rows + 0.5))
    every = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for unused in every[number:]:
        unused.remove()
    axes = list(every[:number])
    for above_nothing in axes[-columns:]:
        above_nothing.tick_params(labelbottom=True)
        above_nothing.xaxis.set_in_layout(not share or above_nothing in every[-columns:])
    return figure, axes


def _legend_above(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Where no line runs through it."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=columns)


def _panel_title(axes: Axes, title: str, below: str) -> None:
    """A bold title, and a line of numbers under it."""
    axes.set_title(_wrapped(title, 23), fontsize=8, pad=13)
    axes.annotate(below, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=7.5)


def _say_undefined(axes: Axes, title: str, measure: str) -> None:
    _panel_title(axes, title, f"{measure} undefined")
    axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", va="center", color=GRAY)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


# ------------------------------------------------------------------------------------------------ files

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@rc_context(STYLE)
def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes NAME.png (150 dots an inch) and NAME.svg into a folder, on white, each whole or not at all."""
    _settle(figure)
    for kind, metadata in (("png", None), ("svg", _NO_METADATA)):
        with written(folder / f"{name}.{kind}") as unfinished:
            figure.savefig(unfinished, format=kind, facecolor="white", metadata=metadata)


@rc_context(STYLE)
def svg(figure: Figure, alt: str = "", prefix: str | None = None) -> str:
    """A figure as an SVG element to put into a page: always the same text for the same figure.

    Args:
        alt: what a reader who does not see it is told.
        prefix: what its ids begin with, for no two elements of a page may share one; by default a hash of the figure,
            which differs between different figures.
    """
    _settle(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    prefix = f"s{hashlib.sha256(stream.getvalue()).hexdigest()[:12]}" if prefix is None else prefix
    root = ElementTree.fromstring(stream.getvalue())
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _in_page(name, value, prefix))
        if element.tag == f"{{{SVG}}}style":
            element.text = f"#{prefix} {(element.text or '').strip()}"  # matplotlib's is of every element of a page
    root.attrib.update({"id": prefix, "role": "img", "aria-label": alt})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _settle(figure: Figure) -> None:
    """Lays a figure out once and for all: every drawing would move its axes a little further."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _in_page(name: str, value: str, prefix: str) -> str:
    """An attribute's value with our prefix before every id, and the page's text colour for ink."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", f"{{{XLINK}}}href"):
        return re.sub("^#", f"#{prefix}-", value)
    return value.replace("url(#", f"url(#{prefix}-").replace(INK, "currentColor")


_NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""No date, so that the same figure is the same file."""
