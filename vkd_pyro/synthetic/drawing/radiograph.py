"""The radiograph that shows what is true of a study.

A radiograph is a sum of densities. `Scene` holds the coordinates and the anatomy of one chest, each drawing function
returns the density that one structure or finding adds (positive is whiter), and the film turns the sum into grey:

    grey = film( body - lungs + heart + bones + ... + sum over findings of DRAWERS[finding] )
"""

import numpy as np

from vkd_pyro.synthetic.drawing.chest import granuloma, healthy_chest
from vkd_pyro.synthetic.drawing.findings import DRAWERS
from vkd_pyro.synthetic.drawing.scene import Scene
from vkd_pyro.synthetic.drawing.shapes import Array, blurred, field
from vkd_pyro.synthetic.facts import Facts


def render(facts: Facts, image_size: int) -> Array:
    """The radiograph of `facts`, uint8 [image_size, image_size]."""
    scene = Scene(facts, image_size)
    density = healthy_chest(scene) + granuloma(scene)
    for finding in facts.findings:
        for side in finding.sides:
            density = density + DRAWERS[finding.name](scene, finding, side)
    return _film(scene, density)


def _film(scene: Scene, density: Array) -> Array:
    """Grey values uint8 [H, W] of a density: blur, grain, exposure and the film's S-curve."""
    facts = scene.facts
    grain = facts.grain * field(scene.size, scene.coefficients[1])
    seen = blurred(density, facts.blur) + grain - 0.45 + 0.08 * facts.exposure
    grey = 255.0 / (1.0 + np.exp(-5.0 * seen))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
