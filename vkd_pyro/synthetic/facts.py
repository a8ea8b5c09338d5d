"""What is true of a study of the synthetic corpus: the patient's build, the film, the findings."""

from dataclasses import dataclass


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
