"""Maps of z in the plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import BLUE, GRAY, GREEN, HALF, INK, STYLE, VERMILLION, WIDTH, grid, wrapped

LOOKS: dict[str, tuple[str, str, float]] = {
    "unknown": (GRAY, "x", 0.5),
    "absent": (BLUE, "o", 0.35),
    "present": (VERMILLION, "^", 0.8),
    "not said": (GRAY, "s", 0.6),
    "left": (VERMILLION, "<", 0.8),
    "right": (GREEN, ">", 0.8),
    "both": (INK, "D", 0.8),
    "mild": (GREEN, "v", 0.8),
    "moderate": (VERMILLION, "^", 0.8),
    "severe": (INK, "D", 0.9),
}
"""Colour, marker and opacity of what a study may be, in the order of the legend."""


@rc_context(STYLE)
def latent_maps(maps: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Maps of z side by side, by t-SNE: a point a study, its marker and colour what it is.

    Args: by title, points [N, 2] and words [N], each one of `LOOKS`.
    Returns: an axes a map.
    """
    columns = min(len(maps), 3)
    figure, panels = grid(len(maps), columns, 1.02, width=HALF if columns == 1 else WIDTH)
    handles = {}
    for axes, (title, (points, words)) in zip(panels, maps.items(), strict=True):
        points, words = np.asarray(points, float), np.asarray(words)
        for word, (color, marker, alpha) in LOOKS.items():
            if not (chosen := words == word).any():
                continue
            look: Any = {"marker": marker, "alpha": alpha, "linewidths": 0.8 if marker == "x" else 0}
            x, y = points[chosen].T
            axes.scatter(x, y, s=9, color=color, rasterized=True, **look)
            handles[word] = axes.scatter([], [], s=20, color=color, **(look | {"alpha": 1}))
        axes.set(xticks=(), yticks=(), box_aspect=1)
        axes.spines[:].set_visible(True)
        axes.spines[:].set(color=GRAY, alpha=0.5)
        axes.set_title(wrapped(title, 60 // columns))
    shown = [word for word in LOOKS if word in handles]
    figure.legend([handles[word] for word in shown], shown, loc="outside lower left", ncols=len(shown))
    return figure
