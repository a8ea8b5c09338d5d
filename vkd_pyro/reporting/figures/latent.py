"""Maps of z in the plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import BLUE, GRAY, HALF, STYLE, VERMILLION, WIDTH, grid, wrapped


@rc_context(STYLE)
def latent_maps(maps: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Maps of z side by side, by t-SNE: a point a study, its marker and colour the label.

    Args: by title, points [N, 2] and labels [N]; 1 present, 0 absent, NaN unknown.
    Returns: an axes a map.
    """
    columns = min(len(maps), 3)
    figure, panels = grid(len(maps), columns, 1.02, width=HALF if columns == 1 else WIDTH)
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
        axes.set_title(wrapped(title, 60 // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)
    return figure
