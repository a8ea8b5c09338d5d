"""Densities of a healthy chest: trunk, lungs, heart, mediastinum, bones, vessels; and a calcified granuloma."""

import numpy as np

from vkd_pyro.synthetic.drawing.scene import Scene
from vkd_pyro.synthetic.drawing.shapes import Array, bump, soft


def healthy_chest(scene: Scene) -> Array:
    """Density of a healthy chest [H, W]."""
    facts, body = scene.facts, scene.facts.anatomy
    air = scene.lungs["right"] + scene.lungs["left"]
    air_density = 0.40 + 0.10 * body.hyperinflation - 0.06 * facts.low_volumes
    torso = _torso(scene)
    soft_tissue = (0.62 + 0.08 * body.habitus) * torso + 0.10 * soft(scene.y - scene.base, 0.2) + _breasts(scene)
    texture = 0.028 * scene.tissue * (0.35 + air)
    return soft_tissue - air_density * air + _middle(scene) + _bones(scene) * torso + vessels(scene) * air + texture


def _torso(scene: Scene) -> Array:
    """Outline of neck, shoulders and trunk, 0 to 1 [H, W]."""
    away = np.abs(scene.straight)
    shoulders = soft(scene.y - 0.02 - 0.32 * np.clip(away - 0.12, 0.0, None), 0.06)
    neck = soft(0.13 - away, 0.05)
    reach = scene.width + 0.05 + 0.05 * scene.facts.anatomy.habitus + 0.20 * soft(0.36 - scene.y, 0.35)
    return np.maximum(shoulders * soft(reach - away, 0.04), neck)


def _breasts(scene: Scene) -> Array:
    """Breast shadows over the lower zones, or the faint pectoral shadow of men."""
    body = scene.facts.anatomy
    strength, height = (0.13, 0.66) if body.sex == "woman" else (0.03, 0.5)
    round_edge = 0.19 - np.hypot(np.abs(scene.straight) - 0.22, 1.1 * (scene.y - height + 0.05))
    return strength * (0.4 + 0.6 * body.habitus) * soft(round_edge, 0.14)


def _middle(scene: Scene) -> Array:
    """Mediastinum, heart, aortic knob, windpipe and spine."""
    body, y = scene.facts.anatomy, scene.y
    aorta = bump(np.hypot(scene.offset - 0.062 - 0.03 * body.aorta, (y - 0.32) * 0.8), 0.035 + 0.015 * body.aorta)
    trachea = bump(scene.offset + 0.004, 0.018) * soft(0.36 - y, 0.05)
    spine = bump(scene.offset, 0.04) * (1.0 + 0.25 * np.cos(2.0 * np.pi * y / 0.062))
    hila = bump(np.hypot(np.abs(scene.offset) - 0.085, 0.6 * (y - 0.46)), 0.04)
    band = mediastinum(scene, 1.0)
    return 0.16 * band + heart(scene, 1.0) + 0.15 * aorta - 0.10 * trachea + 0.07 * spine + 0.10 * hila


def mediastinum(scene: Scene, widening: float) -> Array:
    """Density of the upper mediastinum, 0 to 1 [H, W]; 1 is the healthy width."""
    wide = scene.facts.anatomy.mediastinum * widening * (1.1 if scene.facts.view == "AP" else 1.0)
    waist = 0.012 * np.cos(2.0 * np.pi * (scene.y - 0.24) / 0.45)
    return soft(wide + waist - np.abs(scene.offset - 0.008), 0.04) * soft(scene.y - 0.14, 0.1)


def heart(scene: Scene, enlargement: float) -> Array:
    """Density of the heart [H, W]; 1 is the healthy size. Portable films and shallow breath magnify it a little."""
    facts = scene.facts
    magnified = 1.0 + 0.10 * (facts.view == "AP") + 0.10 * facts.low_volumes - 0.12 * facts.anatomy.hyperinflation
    half = facts.anatomy.heart_size * magnified * enlargement
    dx = scene.offset - 0.36 * half - 0.02 * facts.rotation
    dy = scene.y - scene.base + 0.70 * half + 0.02
    tilted = np.hypot((dx - 0.25 * dy) / half, dy / (0.85 * half))
    return 0.30 * soft(1.0 - tilted, 0.22)


def _bones(scene: Scene) -> Array:
    """Ribs, clavicles and shoulder blades."""
    y, away = scene.y, np.abs(scene.offset)
    inside = soft(scene.cage + 0.10, 0.15) * soft(scene.base + 0.12 - y, 0.2)
    back = np.cos(2.0 * np.pi * ((y - _rib_curve(away)) / 0.083 - scene.facts.anatomy.rib_phase))
    front = np.cos(2.0 * np.pi * ((y - 0.5 * away) / 0.10 + scene.facts.anatomy.rib_phase))
    ribs = 0.075 * soft(back - 0.35, 0.9) + 0.035 * soft(front - 0.5, 0.9) * soft(away - 0.14, 0.1)
    collar = y - 0.175 + 0.18 * (away - 0.05) - 0.5 * np.clip(away - 0.2, 0.0, None) ** 2
    clavicle = bump(collar, 0.016) * soft(away - 0.035, 0.02)
    blade = soft(away - scene.width + 0.04, 0.05) * soft(0.42 - y, 0.2) * soft(y - 0.15, 0.1)
    return ribs * inside + 0.12 * clavicle + 0.05 * blade


def _rib_curve(away: Array | float) -> Array:
    """Drop of the back ribs at a distance from the midline: first up, then down."""
    return 1.7 * np.square(away - 0.10)


def vessels(scene: Scene) -> Array:
    """Lung vessels: branches that fan out from the hila and thin out."""
    down = scene.y - 0.46
    away = np.abs(scene.offset) - 0.06
    radius = np.hypot(away, down)
    fan = np.cos(9.0 * np.arctan2(down, away + 0.02) + 1.2 * scene.tissue)
    return 0.07 * soft(fan, 1.6) * bump(radius, 0.22)


def granuloma(scene: Scene) -> Array:
    """What is seen but has no label: a calcified granuloma. (Other such facts shape the scene itself.)"""
    side = scene.facts.anatomy.granuloma
    if not side:
        return np.zeros((1, 1), np.float32)
    x, y = scene.at(side, 0.55, 0.45)
    return 0.35 * bump(np.hypot(scene.x - x, scene.y - y), 0.014)
