"""Densities of tubes, lines and other devices."""

from collections.abc import Callable

import numpy as np

from vkd_pyro.synthetic.drawing.scene import Scene
from vkd_pyro.synthetic.drawing.shapes import Array, bump, direction, soft
from vkd_pyro.synthetic.facts import Finding


def _tube(scene: Scene, finding: Finding) -> Array:
    """Endotracheal tube: two thin lines in the windpipe."""
    tip = 0.27 + 0.08 * finding.down
    return bump(np.abs(scene.offset + 0.004) - 0.011, 0.006) * soft(tip - scene.y, 0.01)


def _line(scene: Scene, finding: Finding) -> Array:
    """Central venous line: from the neck or the arm to the superior vena cava."""
    sign = direction(finding.side)
    tip = 0.36 + 0.14 * finding.down
    bend = 0.045 * sign * soft(scene.y - 0.16, 0.25) - 0.13 * sign
    start = bump(scene.offset + 0.03 + bend * soft(0.30 - scene.y, 0.22), 0.008)
    return start * soft(tip - scene.y, 0.01)


def _feeding_tube(scene: Scene, finding: Finding) -> Array:
    """Enteric tube: down the midline, then to the stomach under the left diaphragm."""
    path = 0.012 + 0.16 * np.clip(scene.y - 0.68, 0.0, None) ** 1.2 * 2.0
    return bump(scene.offset - path, 0.008)


def _pacemaker(scene: Scene, finding: Finding) -> Array:
    """A generator on the left chest, and its lead."""
    dx, dy = scene.offset - 0.24 - 0.06 * finding.across, scene.y - 0.23 - 0.06 * finding.down
    can = soft(0.05 - np.hypot(dx, dy), 0.012)
    arch = bump(np.hypot(scene.offset - 0.10, 0.5 * (scene.y - 0.45)) - 0.12, 0.006) * soft(0.16 - scene.offset, 0.02)
    return can + 0.7 * arch * soft(0.66 - scene.y, 0.01)


def _wires(scene: Scene, finding: Finding) -> Array:
    """Sternal wires: a column of small loops."""
    rows = bump(np.cos(2.0 * np.pi * (scene.y - 0.3) / 0.09) - 1.0, 0.5)
    loops = 1.6 * rows * soft(0.028 - np.abs(scene.straight), 0.02)
    return loops * soft(scene.y - 0.27, 0.02) * soft(0.72 - scene.y, 0.02)


DEVICES: dict[str, Callable[[Scene, Finding], Array]] = {
    "endotracheal tube": _tube,
    "central venous line": _line,
    "enteric tube": _feeding_tube,
    "pacemaker": _pacemaker,
    "sternotomy wires": _wires,
}
"""Device to the function that draws it, 0 to 1 [H, W]."""
