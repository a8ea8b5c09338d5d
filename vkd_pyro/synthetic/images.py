"""Pictures of the synthetic corpus: what is true of a chest (`Facts`), and the radiograph that shows it (`render`).

A radiograph is a sum of densities. `Scene` holds the coordinates and the anatomy of one chest, each drawing function
returns the density that one structure or finding adds (positive is whiter), and the film turns the sum into grey:

    grey = film( body - lungs + heart + bones + ... + sum over findings of DRAWERS[finding] )

Coordinates run over [0, 1] from the top left corner, so a chest looks the same at every image size. The picture is
seen as radiologists see it: the patient's right is on the left of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

Array = np.ndarray

GRAIN = 64
"""Cosine frequencies along an axis in noise and lung texture; the noise is thus the same at every image size."""

HILUM = 0.055
"""Distance from the midline at which the lungs begin, in image widths."""


@dataclass(frozen=True)
class Anatomy:
    """How a patient is built; the same in all studies of the patient.

    Attributes:
        sex: "woman" or "man".
        age: Years.
        habitus: 0 slim to 1 large.
        chest_width: Half the width of the rib cage, in image widths.
        lung_depth: Height y of the healthy diaphragm, in image heights.
        heart_size: Half the width of a healthy heart, in image widths.
        mediastinum: Half the width of a healthy mediastinum, in image widths.
        scoliosis: Sideways bend of the midline, -1 to 1; 0 is straight.
        aorta: Tortuosity of the aorta, 0 to 1.
        hyperinflation: 0 to 1.
        granuloma: Side of a calcified granuloma, or "".
        raised_diaphragm: Side of an elevated hemidiaphragm, or "".
        rib_phase: Where the ribs start, 0 to 1 of their spacing.
    """

    sex: str
    age: int
    habitus: float
    chest_width: float
    lung_depth: float
    heart_size: float
    mediastinum: float
    scoliosis: float
    aorta: float
    hyperinflation: float
    granuloma: str
    raised_diaphragm: str
    rib_phase: float


@dataclass(frozen=True)
class Finding:
    """A finding that is present, and how.

    Attributes:
        name: One of the findings' names.
        side: "left", "right", "both", or "" where sides mean nothing.
        zone: "upper", "mid", "lower", or "" where zones mean nothing.
        severity: 0 (hardly visible) to 1.
        extent: 0 (small) to 1.
        kind: A device's or a pleural lesion's kind, else "".
        across: From the mediastinum (0) to the chest wall (1).
        down: From the apex of the lung (0) to the diaphragm (1).
    """

    name: str
    side: str
    zone: str
    severity: float
    extent: float
    kind: str
    across: float
    down: float

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides to draw: two for "both", one ("" included) otherwise."""
        return ("right", "left") if self.side == "both" else (self.side,)


@dataclass(frozen=True)
class Facts:
    """All that is true of one study: the patient's build, this film, and the findings.

    Attributes:
        anatomy: The patient.
        findings: The findings that are present, at most one of each name; "No Finding" is never among them.
        view: "PA" or "AP" (portable).
        rotation: Rotation of the patient, -1 (to the right) to 1 (to the left).
        low_volumes: Shallow breath, 0 to 1.
        exposure: -1 (too white) to 1 (too black).
        grain: Strength of film noise.
        blur: Standard deviation of the blur, in image widths.
        texture_seed: Seed of noise and lung texture.
    """

    anatomy: Anatomy
    findings: tuple[Finding, ...]
    view: str
    rotation: float
    low_volumes: float
    exposure: float
    grain: float
    blur: float
    texture_seed: int


def render(facts: Facts, image_size: int) -> Array:
    """The radiograph of `facts`, uint8 [image_size, image_size]."""
    scene = Scene(facts, image_size)
    density = _chest(scene) + _incidentals(scene)
    for finding in facts.findings:
        for side in finding.sides:
            density = density + DRAWERS[finding.name](scene, finding, side)
    return _film(scene, density)


# Shapes ---------------------------------------------------------------------------------------------------------------


def _soft(distance: Array, width: float) -> Array:
    """Smooth step: 0 below -width/2, 1 above width/2."""
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(distance: Array | float, width: Array | float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-np.square(distance / width))


def _sign(side: str) -> float:
    """Direction of a side in the image: the patient's left is to the right."""
    return {"left": 1.0, "right": -1.0}[side]


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Array, Array]:
    """Pixel centres x [1, size] and y [size, 1], float32 in (0, 1)."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centres[None, :], centres[:, None]


@lru_cache(maxsize=1)
def _frequencies() -> Array:
    """Length of the wave vector of each cosine pair, float32 [GRAIN, GRAIN], from 1 on."""
    k = np.arange(GRAIN, dtype=np.float32)
    return 1.0 + np.hypot(k[:, None], k[None, :])


def _field(size: int, spectrum: Array) -> Array:
    """A random field [size, size] from cosine coefficients [GRAIN, GRAIN]; coefficient k has k half-waves.

    The Fourier transform stands in for two matrix products: those would wake the threads of the linear algebra
    library for every image, which costs far more than the image itself.
    """
    return (2.0 / GRAIN * _waves(_waves(spectrum, size).T, size).T).astype(np.float32)


def _waves(coefficients: Array, size: int) -> Array:
    """Sums of cosines at the pixel centres, [size, N] from [K, N]."""
    shifted = coefficients * np.exp(0.5j * np.pi / size * np.arange(len(coefficients)))[:, None]
    return 2.0 * size * np.fft.ifft(shifted, n=2 * size, axis=0)[:size].real


def _blurred(image: Array, sigma: float) -> Array:
    """`image` [H, W] under a Gaussian blur of `sigma` image widths; beyond its edges the image is constant."""
    reach = int(np.ceil(3.0 * sigma * len(image)))
    taps = _bump(np.arange(-reach, reach + 1) / len(image), np.sqrt(2.0) * sigma).astype(np.float32)
    return _smeared(_smeared(image, taps / taps.sum()).T, taps / taps.sum()).T


def _smeared(image: Array, taps: Array) -> Array:
    """Weighted sum of copies of `image` [H, W] shifted along its first axis, one a tap."""
    reach = len(taps) // 2
    padded = np.pad(image, ((reach, reach), (0, 0)), mode="edge")
    smeared = np.zeros_like(image)
    for shift, tap in enumerate(taps):
        smeared += tap * padded[shift : shift + len(image)]
    return smeared


# The chest ------------------------------------------------------------------------------------------------------------


class Scene:
    """Coordinates and anatomy of one chest; every array broadcasts to [H, W]."""

    def __init__(self, facts: Facts, image_size: int) -> None:
        self.facts = facts
        self.size = image_size
        self.x, self.y = _grid(image_size)
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
        frequency = _frequencies()
        spectrum = self.coefficients[0] / frequency**1.1 * (frequency > 4.0)
        return 22.0 * _field(self.size, spectrum)

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
        across = self.offset * _sign(side)
        inner = _soft(across - HILUM + 0.02, 0.05)
        below = _soft(self.diaphragm(side) - self.y, 0.025)
        return inner * below * _soft(self.cage, 0.10)

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
        return 0.5 + _sign(side) * (inner + across * max(outer - inner, 0.0)), y

    def wall(self, side: str) -> Array:
        """Distance to the chest wall, inwards, in image widths; on the other side of the body it is negative [H, W]."""
        across = self.straight * _sign(side)
        return np.where(across > 0.0, self._reach(self.y) - across, -1.0)


def _chest(scene: Scene) -> Array:
    """Density of a healthy chest [H, W]."""
    facts, body = scene.facts, scene.facts.anatomy
    air = scene.lungs["right"] + scene.lungs["left"]
    air_density = 0.40 + 0.10 * body.hyperinflation - 0.06 * facts.low_volumes
    torso = _torso(scene)
    soft_tissue = (0.62 + 0.08 * body.habitus) * torso + 0.10 * _soft(scene.y - scene.base, 0.2) + _breasts(scene)
    texture = 0.028 * scene.tissue * (0.35 + air)
    return soft_tissue - air_density * air + _middle(scene) + _bones(scene) * torso + _vessels(scene) * air + texture


def _torso(scene: Scene) -> Array:
    """Outline of neck, shoulders and trunk, 0 to 1 [H, W]."""
    away = np.abs(scene.straight)
    shoulders = _soft(scene.y - 0.02 - 0.32 * np.clip(away - 0.12, 0.0, None), 0.06)
    neck = _soft(0.13 - away, 0.05)
    reach = scene.width + 0.05 + 0.05 * scene.facts.anatomy.habitus + 0.20 * _soft(0.36 - scene.y, 0.35)
    return np.maximum(shoulders * _soft(reach - away, 0.04), neck)


def _breasts(scene: Scene) -> Array:
    """Breast shadows over the lower zones, or the faint pectoral shadow of men."""
    body = scene.facts.anatomy
    strength, height = (0.13, 0.66) if body.sex == "woman" else (0.03, 0.5)
    round_edge = 0.19 - np.hypot(np.abs(scene.straight) - 0.22, 1.1 * (scene.y - height + 0.05))
    return strength * (0.4 + 0.6 * body.habitus) * _soft(round_edge, 0.14)


def _middle(scene: Scene) -> Array:
    """Mediastinum, heart, aortic knob, windpipe and spine."""
    body, y = scene.facts.anatomy, scene.y
    aorta = _bump(np.hypot(scene.offset - 0.062 - 0.03 * body.aorta, (y - 0.32) * 0.8), 0.035 + 0.015 * body.aorta)
    trachea = _bump(scene.offset + 0.004, 0.018) * _soft(0.36 - y, 0.05)
    spine = _bump(scene.offset, 0.04) * (1.0 + 0.25 * np.cos(2.0 * np.pi * y / 0.062))
    hila = _bump(np.hypot(np.abs(scene.offset) - 0.085, 0.6 * (y - 0.46)), 0.04)
    band = _mediastinum(scene, 1.0)
    return 0.16 * band + _heart(scene, 1.0) + 0.15 * aorta - 0.10 * trachea + 0.07 * spine + 0.10 * hila


def _mediastinum(scene: Scene, widening: float) -> Array:
    """Density of the upper mediastinum, 0 to 1 [H, W]; 1 is the healthy width."""
    wide = scene.facts.anatomy.mediastinum * widening * (1.1 if scene.facts.view == "AP" else 1.0)
    waist = 0.012 * np.cos(2.0 * np.pi * (scene.y - 0.24) / 0.45)
    return _soft(wide + waist - np.abs(scene.offset - 0.008), 0.04) * _soft(scene.y - 0.14, 0.1)


def _heart(scene: Scene, enlargement: float) -> Array:
    """Density of the heart [H, W]; 1 is the healthy size. Portable films and shallow breath magnify it a little."""
    facts = scene.facts
    magnified = 1.0 + 0.10 * (facts.view == "AP") + 0.10 * facts.low_volumes - 0.12 * facts.anatomy.hyperinflation
    half = facts.anatomy.heart_size * magnified * enlargement
    dx = scene.offset - 0.36 * half - 0.02 * facts.rotation
    dy = scene.y - scene.base + 0.70 * half + 0.02
    tilted = np.hypot((dx - 0.25 * dy) / half, dy / (0.85 * half))
    return 0.30 * _soft(1.0 - tilted, 0.22)


def _bones(scene: Scene) -> Array:
    """Ribs, clavicles and shoulder blades."""
    y, away = scene.y, np.abs(scene.offset)
    inside = _soft(scene.cage + 0.10, 0.15) * _soft(scene.base + 0.12 - y, 0.2)
    back = np.cos(2.0 * np.pi * ((y - _rib_curve(away)) / 0.083 - scene.facts.anatomy.rib_phase))
    front = np.cos(2.0 * np.pi * ((y - 0.5 * away) / 0.10 + scene.facts.anatomy.rib_phase))
    ribs = 0.075 * _soft(back - 0.35, 0.9) + 0.035 * _soft(front - 0.5, 0.9) * _soft(away - 0.14, 0.1)
    collar = y - 0.175 + 0.18 * (away - 0.05) - 0.5 * np.clip(away - 0.2, 0.0, None) ** 2
    clavicle = _bump(collar, 0.016) * _soft(away - 0.035, 0.02)
    blade = _soft(away - scene.width + 0.04, 0.05) * _soft(0.42 - y, 0.2) * _soft(y - 0.15, 0.1)
    return ribs * inside + 0.12 * clavicle + 0.05 * blade


def _rib_curve(away: Array | float) -> Array:
    """Drop of the back ribs at a distance from the midline: first up, then down."""
    return 1.7 * np.square(away - 0.10)


def _vessels(scene: Scene) -> Array:
    """Lung vessels: branches that fan out from the hila and thin out."""
    down = scene.y - 0.46
    away = np.abs(scene.offset) - 0.06
    radius = np.hypot(away, down)
    fan = np.cos(9.0 * np.arctan2(down, away + 0.02) + 1.2 * scene.tissue)
    return 0.07 * _soft(fan, 1.6) * _bump(radius, 0.22)


def _incidentals(scene: Scene) -> Array:
    """What is seen but has no label: a calcified granuloma. (Other such facts shape the scene itself.)"""
    side = scene.facts.anatomy.granuloma
    if not side:
        return np.zeros((1, 1), np.float32)
    x, y = scene.at(side, 0.55, 0.45)
    return 0.35 * _bump(np.hypot(scene.x - x, scene.y - y), 0.014)


def _film(scene: Scene, density: Array) -> Array:
    """Grey values uint8 [H, W] of a density: blur, grain, exposure and the film's S-curve."""
    facts = scene.facts
    grain = facts.grain * _field(scene.size, scene.coefficients[1])
    seen = _blurred(density, facts.blur) + grain - 0.45 + 0.08 * facts.exposure
    grey = 255.0 / (1.0 + np.exp(-5.0 * seen))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


# The findings ---------------------------------------------------------------------------------------------------------


def _blob(scene: Scene, finding: Finding, side: str, radius: float) -> Array:
    """A soft round patch in the lung, mottled by its texture, 0 to about 1 [H, W]."""
    x, y = scene.at(side, finding.across, finding.down)
    patch = _bump(np.hypot(scene.x - x, 0.8 * (scene.y - y)), radius)
    return patch * np.clip(0.8 + 0.35 * scene.tissue, 0.0, None) * scene.lungs[side]


def _cardiomegaly(scene: Scene, finding: Finding, side: str) -> Array:
    return _heart(scene, 1.05 + 0.38 * finding.severity) - _heart(scene, 1.0)


def _enlarged_cardiomediastinum(scene: Scene, finding: Finding, side: str) -> Array:
    return 0.20 * (_mediastinum(scene, 1.08 + 0.6 * finding.severity) - _mediastinum(scene, 1.0))


def _lung_opacity(scene: Scene, finding: Finding, side: str) -> Array:
    return (0.04 + 0.19 * finding.severity) * _blob(scene, finding, side, 0.06 + 0.09 * finding.extent)


def _lung_lesion(scene: Scene, finding: Finding, side: str) -> Array:
    x, y = scene.at(side, finding.across, finding.down)
    radius = 0.026 + 0.045 * finding.extent
    edge = radius - np.hypot(scene.x - x, scene.y - y)
    return (0.18 + 0.27 * finding.severity) * _soft(edge, 0.025)


def _edema(scene: Scene, finding: Finding, side: str) -> Array:
    """Bat-wing haze about the hilum, fuller vessels, and septal lines at the base."""
    across = np.abs(scene.offset)
    wings = _bump(np.hypot(across - 0.13, 0.7 * (scene.y - 0.50)), 0.10 + 0.06 * finding.extent)
    septa = _bump(across - scene.width + 0.05, 0.05) * np.cos(2.0 * np.pi * scene.y / 0.035) * _soft(scene.y - 0.6, 0.1)
    haze = wings * (0.8 + 0.3 * scene.tissue) + 1.2 * _vessels(scene) + 0.15 * septa
    return (0.02 + 0.17 * finding.severity) * haze * scene.lungs[side]


def _consolidation(scene: Scene, finding: Finding, side: str) -> Array:
    """A dense patch that ends sharply at a fissure below."""
    _, y = scene.at(side, finding.across, finding.down)
    fissure = _soft(y + 0.07 - scene.y, 0.03)
    return (0.06 + 0.24 * finding.severity) * _blob(scene, finding, side, 0.07 + 0.07 * finding.extent) * fissure


def _pneumonia(scene: Scene, finding: Finding, side: str) -> Array:
    """Three ill-defined patches with black bronchi between them."""
    x, y = scene.at(side, finding.across, finding.down)
    step = 0.03 + 0.04 * finding.extent
    patches = sum(
        _bump(np.hypot(scene.x - x - step * dx, scene.y - y - step * dy), 0.9 * step)
        for dx, dy in ((-0.8, 0.5), (0.8, 0.6), (0.0, -0.9))
    )
    return (0.06 + 0.22 * finding.severity) * patches * scene.lungs[side]


def _atelectasis(scene: Scene, finding: Finding, side: str) -> Array:
    """Plates across the base of the lung, with some haze below."""
    x, y = scene.at(side, finding.across, finding.down)
    slope = 0.25 * (finding.across - 0.5)
    line = scene.y - y - slope * (scene.x - x)
    long = _bump(scene.x - x, 0.06 + 0.06 * finding.extent)
    plates = _bump(line, 0.012) + 0.7 * _bump(line - 0.05, 0.010)
    return (0.08 + 0.27 * finding.severity) * (plates + 0.35 * _bump(line - 0.05, 0.07)) * long * scene.lungs[side]


def _pneumothorax(scene: Scene, finding: Finding, side: str) -> Array:
    """Black air without vessels outside a thin white pleural line, widest at the apex."""
    gap = (0.02 + 0.11 * finding.severity) * _soft(0.42 + 0.35 * finding.extent - scene.y, 0.35)
    depth = scene.wall(side) - 0.02
    outside = _soft(gap - depth, 0.012) * scene.lungs[side]
    line = _bump(depth - gap, 0.008) * scene.lungs[side] * _soft(gap - 0.01, 0.01)
    return 0.13 * line - outside * (0.12 + _vessels(scene))


def _pleural_effusion(scene: Scene, finding: Finding, side: str) -> Array:
    """Fluid that fills the base and climbs the chest wall in a meniscus."""
    level = scene.base + 0.06 - 0.25 * finding.severity
    climb = (0.02 + 0.07 * finding.severity) * _bump(np.clip(scene.wall(side), 0.0, None), 0.07)
    air = scene.lungs[side] * (1.0 - 2.5 * _heart(scene, 1.0))
    return (0.16 + 0.16 * finding.severity) * _soft(scene.y - level + climb, 0.05) * air


def _pleural_other(scene: Scene, finding: Finding, side: str) -> Array:
    """Pleural thickening along the chest wall, or calcified plaques on it."""
    wall = scene.wall(side)
    _, y = scene.at(side, finding.across, finding.down)
    if finding.kind == "thickening":
        rim = _soft(0.045 + 0.04 * finding.severity - wall, 0.02) * _bump(scene.y - y, 0.14 + 0.14 * finding.extent)
        return (0.20 + 0.24 * finding.severity) * rim * _soft(wall, 0.01)
    spots = _soft(np.cos(2.0 * np.pi * (scene.y - y) / 0.07), 1.0) * _bump(scene.y - y, 0.09)
    return (0.28 + 0.36 * finding.severity) * spots * _bump(wall - 0.05, 0.024)


def _fracture(scene: Scene, finding: Finding, side: str) -> Array:
    """A rib that breaks off near the chest wall: a black gap, and the outer piece displaced."""
    x, y = scene.at(side, finding.across, finding.down)
    near = _bump(np.hypot(scene.x - x, scene.y - y), 0.05)
    gap = _bump(scene.x - x, 0.010) * _bump(scene.y - y, 0.03)
    piece = _bump(scene.y - y + 0.6 * (scene.x - x) * _sign(side), 0.012) * near
    callus = _bump(np.hypot(scene.x - x, scene.y - y - 0.02), 0.03)
    return (0.24 + 0.44 * finding.severity) * (piece + callus - gap)


def _support_devices(scene: Scene, finding: Finding, side: str) -> Array:
    """One of the devices of `DEVICES`."""
    return (0.20 + 0.36 * finding.severity) * DEVICES[finding.kind](scene, finding)


def _tube(scene: Scene, finding: Finding) -> Array:
    """Endotracheal tube: two thin lines in the windpipe."""
    tip = 0.27 + 0.08 * finding.down
    return _bump(np.abs(scene.offset + 0.004) - 0.011, 0.006) * _soft(tip - scene.y, 0.01)


def _line(scene: Scene, finding: Finding) -> Array:
    """Central venous line: from the neck or the arm to the superior vena cava."""
    sign = _sign(finding.side)
    tip = 0.36 + 0.14 * finding.down
    bend = 0.045 * sign * _soft(scene.y - 0.16, 0.25) - 0.13 * sign
    start = _bump(scene.offset + 0.03 + bend * _soft(0.30 - scene.y, 0.22), 0.008)
    return start * _soft(tip - scene.y, 0.01)


def _feeding_tube(scene: Scene, finding: Finding) -> Array:
    """Enteric tube: down the midline, then to the stomach under the left diaphragm."""
    path = 0.012 + 0.16 * np.clip(scene.y - 0.68, 0.0, None) ** 1.2 * 2.0
    return _bump(scene.offset - path, 0.008)


def _pacemaker(scene: Scene, finding: Finding) -> Array:
    """A generator on the left chest, and its lead."""
    dx, dy = scene.offset - 0.24 - 0.06 * finding.across, scene.y - 0.23 - 0.06 * finding.down
    can = _soft(0.05 - np.hypot(dx, dy), 0.012)
    arch = _bump(np.hypot(scene.offset - 0.10, 0.5 * (scene.y - 0.45)) - 0.12, 0.006) * _soft(0.16 - scene.offset, 0.02)
    return can + 0.7 * arch * _soft(0.66 - scene.y, 0.01)


def _wires(scene: Scene, finding: Finding) -> Array:
    """Sternal wires: a column of small loops."""
    rows = _bump(np.cos(2.0 * np.pi * (scene.y - 0.3) / 0.09) - 1.0, 0.5)
    loops = 1.6 * rows * _soft(0.028 - np.abs(scene.straight), 0.02)
    return loops * _soft(scene.y - 0.27, 0.02) * _soft(0.72 - scene.y, 0.02)


DEVICES: dict[str, Callable[[Scene, Finding], Array]] = {
    "endotracheal tube": _tube,
    "central venous line": _line,
    "enteric tube": _feeding_tube,
    "pacemaker": _pacemaker,
    "sternotomy wires": _wires,
}
"""Device to the function that draws it, 0 to 1 [H, W]."""

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
