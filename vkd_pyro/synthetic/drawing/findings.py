"""Density that each finding adds to a chest."""

from collections.abc import Callable

import numpy as np

from vkd_pyro.synthetic.drawing.chest import heart, mediastinum, vessels
from vkd_pyro.synthetic.drawing.devices import DEVICES
from vkd_pyro.synthetic.drawing.scene import Scene
from vkd_pyro.synthetic.drawing.shapes import Array, bump, direction, soft
from vkd_pyro.synthetic.facts import Finding


def _blob(scene: Scene, finding: Finding, side: str, radius: float) -> Array:
    """A soft round patch in the lung, mottled by its texture, 0 to about 1 [H, W]."""
    x, y = scene.at(side, finding.across, finding.down)
    patch = bump(np.hypot(scene.x - x, 0.8 * (scene.y - y)), radius)
    return patch * np.clip(0.8 + 0.35 * scene.tissue, 0.0, None) * scene.lungs[side]


def _cardiomegaly(scene: Scene, finding: Finding, side: str) -> Array:
    return heart(scene, 1.05 + 0.38 * finding.severity) - heart(scene, 1.0)


def _enlarged_cardiomediastinum(scene: Scene, finding: Finding, side: str) -> Array:
    return 0.20 * (mediastinum(scene, 1.08 + 0.6 * finding.severity) - mediastinum(scene, 1.0))


def _lung_opacity(scene: Scene, finding: Finding, side: str) -> Array:
    return (0.04 + 0.19 * finding.severity) * _blob(scene, finding, side, 0.06 + 0.09 * finding.extent)


def _lung_lesion(scene: Scene, finding: Finding, side: str) -> Array:
    x, y = scene.at(side, finding.across, finding.down)
    radius = 0.026 + 0.045 * finding.extent
    edge = radius - np.hypot(scene.x - x, scene.y - y)
    return (0.18 + 0.27 * finding.severity) * soft(edge, 0.025)


def _edema(scene: Scene, finding: Finding, side: str) -> Array:
    """Bat-wing haze about the hilum, fuller vessels, and septal lines at the base."""
    across = np.abs(scene.offset)
    wings = bump(np.hypot(across - 0.13, 0.7 * (scene.y - 0.50)), 0.10 + 0.06 * finding.extent)
    septa = bump(across - scene.width + 0.05, 0.05) * np.cos(2.0 * np.pi * scene.y / 0.035) * soft(scene.y - 0.6, 0.1)
    haze = wings * (0.8 + 0.3 * scene.tissue) + 1.2 * vessels(scene) + 0.15 * septa
    return (0.02 + 0.17 * finding.severity) * haze * scene.lungs[side]


def _consolidation(scene: Scene, finding: Finding, side: str) -> Array:
    """A dense patch that ends sharply at a fissure below."""
    _, y = scene.at(side, finding.across, finding.down)
    fissure = soft(y + 0.07 - scene.y, 0.03)
    return (0.06 + 0.24 * finding.severity) * _blob(scene, finding, side, 0.07 + 0.07 * finding.extent) * fissure


def _pneumonia(scene: Scene, finding: Finding, side: str) -> Array:
    """Three ill-defined patches with black bronchi between them."""
    x, y = scene.at(side, finding.across, finding.down)
    step = 0.03 + 0.04 * finding.extent
    patches = sum(
        bump(np.hypot(scene.x - x - step * dx, scene.y - y - step * dy), 0.9 * step)
        for dx, dy in ((-0.8, 0.5), (0.8, 0.6), (0.0, -0.9))
    )
    return (0.06 + 0.22 * finding.severity) * patches * scene.lungs[side]


def _atelectasis(scene: Scene, finding: Finding, side: str) -> Array:
    """Plates across the base of the lung, with some haze below."""
    x, y = scene.at(side, finding.across, finding.down)
    slope = 0.25 * (finding.across - 0.5)
    line = scene.y - y - slope * (scene.x - x)
    long = bump(scene.x - x, 0.06 + 0.06 * finding.extent)
    plates = bump(line, 0.012) + 0.7 * bump(line - 0.05, 0.010)
    return (0.08 + 0.27 * finding.severity) * (plates + 0.35 * bump(line - 0.05, 0.07)) * long * scene.lungs[side]


def _pneumothorax(scene: Scene, finding: Finding, side: str) -> Array:
    """Black air without vessels outside a thin white pleural line, widest at the apex."""
    gap = (0.02 + 0.11 * finding.severity) * soft(0.42 + 0.35 * finding.extent - scene.y, 0.35)
    depth = scene.wall(side) - 0.02
    outside = soft(gap - depth, 0.012) * scene.lungs[side]
    line = bump(depth - gap, 0.008) * scene.lungs[side] * soft(gap - 0.01, 0.01)
    return 0.13 * line - outside * (0.12 + vessels(scene))


def _pleural_effusion(scene: Scene, finding: Finding, side: str) -> Array:
    """Fluid that fills the base and climbs the chest wall in a meniscus."""
    level = scene.base + 0.06 - 0.25 * finding.severity
    climb = (0.02 + 0.07 * finding.severity) * bump(np.clip(scene.wall(side), 0.0, None), 0.07)
    air = scene.lungs[side] * (1.0 - 2.5 * heart(scene, 1.0))
    return (0.16 + 0.16 * finding.severity) * soft(scene.y - level + climb, 0.05) * air


def _pleural_other(scene: Scene, finding: Finding, side: str) -> Array:
    """Pleural thickening along the chest wall, or calcified plaques on it."""
    wall = scene.wall(side)
    _, y = scene.at(side, finding.across, finding.down)
    if finding.kind == "thickening":
        rim = soft(0.045 + 0.04 * finding.severity - wall, 0.02) * bump(scene.y - y, 0.14 + 0.14 * finding.extent)
        return (0.20 + 0.24 * finding.severity) * rim * soft(wall, 0.01)
    spots = soft(np.cos(2.0 * np.pi * (scene.y - y) / 0.07), 1.0) * bump(scene.y - y, 0.09)
    return (0.28 + 0.36 * finding.severity) * spots * bump(wall - 0.05, 0.024)


def _fracture(scene: Scene, finding: Finding, side: str) -> Array:
    """A rib that breaks off near the chest wall: a black gap, and the outer piece displaced."""
    x, y = scene.at(side, finding.across, finding.down)
    near = bump(np.hypot(scene.x - x, scene.y - y), 0.05)
    gap = bump(scene.x - x, 0.010) * bump(scene.y - y, 0.03)
    piece = bump(scene.y - y + 0.6 * (scene.x - x) * direction(side), 0.012) * near
    callus = bump(np.hypot(scene.x - x, scene.y - y - 0.02), 0.03)
    return (0.24 + 0.44 * finding.severity) * (piece + callus - gap)


def _support_devices(scene: Scene, finding: Finding, side: str) -> Array:
    """One of the devices of `DEVICES`."""
    return (0.20 + 0.36 * finding.severity) * DEVICES[finding.kind](scene, finding)


DRAWERS: dict[str, Callable[[Scene, Finding, str], Array]] = {
    "Enlarged Cardiomediastinum": _enlarged_cardiomediastinum,
    "Cardiomegaly": _cardiomegaly,
    "Lung Opacity": _lung_opacity,
    "Lung Lesion": _lung_lesion,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _pleural_effusion,
    "Pleural Other": _pleural_other,
    "Fracture": _fracture,
    "Support Devices": _support_devices,
}
"""Finding to the function (scene, finding, side) that returns the density it adds on one side [H, W]."""
