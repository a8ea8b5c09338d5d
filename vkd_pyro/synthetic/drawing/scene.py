"""Coordinates and anatomy of one chest.

Coordinates run over [0, 1] from the top left corner, so a chest looks the same at every image size. The image is
seen as radiologists see it: the patient's right is on the left of the image.
"""

from functools import cached_property

import numpy as np

from vkd_pyro.synthetic.drawing.shapes import GRAIN, Array, direction, field, frequencies, grid, soft
from vkd_pyro.synthetic.facts import Facts

HILUM = 0.055
"""Distance from the midline at which the lungs begin, in image widths."""


class Scene:
    """Coordinates and anatomy of one chest; every array broadcasts to [H, W]."""

    def __init__(self, facts: Facts, image_size: int) -> None:
        self.facts = facts
        self.size = image_size
        self.x, self.y = grid(image_size)
        body = facts.anatomy
        self.width = body.chest_width
        self.top = 0.10 + 0.02 * body.habitus
        self.base = body.lung_depth + 0.06 * body.hyperinflation - 0.12 * facts.low_volumes
        self.coefficients = np.random.default_rng(facts.texture_seed).standard_normal((2, GRAIN, GRAIN))

    @cached_property
    def straight(self) -> Array:
        """Signed distance from the middle of the rib cage, positive to the patient's left [1, W]."""
        return self.x - 0.5

    @cached_property
    def offset(self) -> Array:
        """Signed distance from the spine, which scoliosis bends and rotation moves, positive to the left [H, W]."""
        bend = 0.035 * self.facts.anatomy.scoliosis * np.sin(2.5 * np.pi * self.y)
        return self.straight - 0.02 * self.facts.rotation - bend

    @cached_property
    def tissue(self) -> Array:
        """Texture of soft tissue and lungs, mean 0, about unit variance [H, W]."""
        frequency = frequencies()
        spectrum = self.coefficients[0] / frequency**1.1 * (frequency > 4.0)
        return 22.0 * field(self.size, spectrum)

    def diaphragm(self, side: str) -> Array:
        """Height y of the diaphragm [H, W]; it falls towards the chest wall."""
        body = self.facts.anatomy
        raised = 0.07 * (body.raised_diaphragm == side) + 0.018 * (side == "right")
        bow = 0.6 * (1.0 - 0.8 * body.hyperinflation)
        inward = np.abs(np.abs(self.straight) - 0.45 * self.width)
        return self.base - raised + bow * inward**2 / self.width

    @cached_property
    def lungs(self) -> dict[str, Array]:
        """Mask of each lung, 0 to 1 [H, W]."""
        return {side: self._lung(side) for side in ("right", "left")}

    def _lung(self, side: str) -> Array:
        across = self.offset * direction(side)
        inner = soft(across - HILUM + 0.02, 0.05)
        below = soft(self.diaphragm(side) - self.y, 0.025)
        return inner * below * soft(self.cage, 0.10)

    @cached_property
    def cage(self) -> Array:
        """Inside of the rib cage: positive inside, 0 on the chest wall [H, W]."""
        return 1.0 - np.abs(self.straight / self.width) ** 2.4 - self._narrowing(self.y)

    def _narrowing(self, y: Array | float) -> Array:
        """How much of the rib cage's width is lost at height `y`: nothing in the lower chest, all (1) at the top."""
        return np.clip((0.62 - y) / (0.62 - self.top), 0.0, None) ** 2.6

    def _reach(self, y: Array | float) -> Array:
        """Half the width of the rib cage at height `y`."""
        return self.width * np.clip(1.0 - self._narrowing(y), 1e-3, None) ** (1.0 / 2.4)

    def at(self, side: str, across: float, down: float) -> tuple[float, float]:
        """Image coordinates (x, y) of a place in the lung of `side`; see `Finding` for `across` and `down`."""
        y = self.top + 0.06 + down * (self.base - self.top - 0.10)
        inner, outer = HILUM + 0.03, float(self._reach(y)) - 0.04
        return 0.5 + direction(side) * (inner + across * max(outer - inner, 0.0)), y

    def wall(self, side: str) -> Array:
        """Distance to the chest wall, inwards, in image widths; on the other side of the body it is negative [H, W]."""
        across = self.straight * direction(side)
        return np.where(across > 0.0, self._reach(self.y) - across, -1.0)
