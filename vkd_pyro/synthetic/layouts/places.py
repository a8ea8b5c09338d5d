"""Where the findings of a study are drawn, as radiologists would box them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.synthetic.drawing.scene import Scene
from vkd_pyro.synthetic.facts import Facts, Finding

Corners = NDArray[np.float64]
"""[2, 2]: left and top edge, right and bottom edge, as shares of the image's width and height."""


def places(facts: Facts, image_size: int) -> Iterator[tuple[Finding, Corners]]:
    """Each finding on each side that it is on, and a box about it."""
    scene = Scene(facts, image_size)
    for finding in facts.findings:
        for side in finding.sides:
            x, y = scene.at(side, finding.across, finding.down) if side else (0.55, scene.base - 0.1)
            half = 0.05 + 0.1 * finding.extent if side else 0.2
            yield finding, np.clip(((x - half, y - half), (x + half, y + half)), 0.0, 1.0)
