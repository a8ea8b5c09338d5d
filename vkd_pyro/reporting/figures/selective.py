"""What uncertainty is worth: where the wrong answers are, and what is left when the most uncertain are not answered."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import BLUE, GRAY, GREEN, HALF, STYLE, VERMILLION, legend_above


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
    legend_above(figure, axes, columns=1)
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
    legend_above(figure, axes)
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
    legend_above(figure, axes)
    return figure
