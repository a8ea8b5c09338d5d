"""Example studies: images and their overlays."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vkd_pyro.reporting.figures.style import STYLE, WIDTH, grid, wrapped


@rc_context(STYLE)
def cases(images: ArrayLike, overlays: ArrayLike | None, captions: Sequence[str]) -> Figure:
    """Example studies: image, and beside it the image with its overlay, under a caption.

    Args: images [n, H, W], gray; overlays [n, H, W, 3] in [0, 1] or uint8, or None; n captions.
    Returns: n axes, or 2 n with overlays.
    """
    shown = [np.asarray(images)] if overlays is None else [np.asarray(images), np.asarray(overlays)]
    number, each = len(shown[0]), len(shown)
    figure, panels = grid(number * each, 4, 1.25, width=WIDTH * min(number * each, 4) / 4)
    for index, axes in enumerate(panels):
        study, kind = divmod(index, each)
        axes.imshow(shown[kind][study], cmap="gray")
        axes.set_axis_off()
        if kind == 0:
            width = 24 if each == 1 else 52
            axes.set_title("\n".join(wrapped(line, width) for line in captions[study].split("\n")), weight="normal")
    return figure
