"""What a radiologist says of a film: each finding affirmed, hedged, denied, resolved, or passed over."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vkd_pyro.synthetic.epidemiology import CAUSES, draw_finding
from vkd_pyro.synthetic.facts import Facts, Finding

Rng = np.random.Generator


@dataclass(frozen=True)
class Remark:
    """What the radiologist says of one finding.

    Attributes:
        finding: One of the findings' names.
        stance: "affirmed", "hedged", "denied" or "resolved" (seen on an earlier film only).
        side: "left", "right", "both", or "".
        zone: "upper", "mid", "lower", or "".
        grade: 0 mild, 1 moderate, 2 severe.
        extent: 0 (small) to 1.
        kind: A device's or a pleural lesion's kind, else "".
    """

    finding: str
    stance: str
    side: str = ""
    zone: str = ""
    grade: int = 0
    extent: float = 0.0
    kind: str = ""


@dataclass(frozen=True)
class Reading:
    """All that the radiologist says of a film; a finding without a remark is passed over in silence.

    Attributes:
        sex: "woman" or "man".
        age: Years.
        view: "PA" or "AP".
        compared: Whether an earlier film is at hand.
        remarks: At most one a finding.
        asides: What is seen but has no label, as (name in `ASIDES`, side or "").
    """

    sex: str
    age: int
    view: str
    compared: bool
    remarks: tuple[Remark, ...]
    asides: tuple[tuple[str, str], ...]

    def of(self, *stances: str) -> list[Remark]:
        """The remarks with one of these stances."""
        return [remark for remark in self.remarks if remark.stance in stances]


DENIED: dict[str, float] = {
    "Enlarged Cardiomediastinum": 0.55,
    "Cardiomegaly": 0.70,
    "Lung Opacity": 0.45,
    "Lung Lesion": 0.15,
    "Edema": 0.45,
    "Consolidation": 0.55,
    "Pneumonia": 0.35,
    "Atelectasis": 0.08,
    "Pneumothorax": 0.80,
    "Pleural Effusion": 0.75,
    "Pleural Other": 0.08,
    "Fracture": 0.35,
    "Support Devices": 0.05,
}
"""How often an absent finding is said to be absent."""

UNDENIED_BESIDE: dict[str, tuple[str, ...]] = {
    "Lung Opacity": ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
    "Consolidation": ("Pneumonia", "Lung Opacity"),
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
}
"""Finding to those whose presence keeps a radiologist from denying it."""

MISSED = (0.14, 0.03, 0.0)
HEDGED = (0.35, 0.12, 0.03)
"""How often a present finding is passed over, or hedged, by grade (mild, moderate, severe)."""

FALSE_HEDGE, RESOLVED = 0.012, 0.03
"""How often an absent finding is hedged, or, beside an earlier film, said to be gone."""

NOTICED = 0.85
"""How often a fact without a label is mentioned."""


def grade(severity: float) -> int:
    """0 mild, 1 moderate, 2 severe."""
    return int(severity > 0.4) + int(severity > 0.7)


def read(facts: Facts, later: bool, rng: Rng) -> Reading:
    """What a radiologist says of the film of `facts`; a `later` study of a patient is always compared to an earlier."""
    compared = later or rng.random() < 0.3
    present = {finding.name: finding for finding in facts.findings}
    remarks = [
        _remark_present(present[name], rng) if name in present else _remark_absent(name, present, compared, rng)
        for name in CAUSES
    ]
    return Reading(
        sex=facts.anatomy.sex,
        age=facts.anatomy.age,
        view=facts.view,
        compared=compared,
        remarks=tuple(remark for remark in remarks if remark is not None),
        asides=tuple(aside for aside in _asides(facts) if rng.random() < NOTICED),
    )


def _remark_present(finding: Finding, rng: Rng) -> Remark | None:
    level, chance = grade(finding.severity), rng.random()
    if chance < MISSED[level]:
        return None
    return _remark(finding, "hedged" if chance < MISSED[level] + HEDGED[level] else "affirmed")


def _remark_absent(name: str, present: Mapping[str, Finding], compared: bool, rng: Rng) -> Remark | None:
    imagined, chance = draw_finding(name, {}, rng), rng.random()
    if chance < FALSE_HEDGE:
        return _remark(imagined, "hedged")
    if compared and chance < FALSE_HEDGE + RESOLVED:
        return _remark(imagined, "resolved")
    if rng.random() < DENIED[name] and not any(other in present for other in UNDENIED_BESIDE.get(name, ())):
        return Remark(name, "denied")
    return None


def _remark(finding: Finding, stance: str) -> Remark:
    level = grade(finding.severity)
    return Remark(finding.name, stance, finding.side, finding.zone, level, finding.extent, finding.kind)


def _asides(facts: Facts) -> list[tuple[str, str]]:
    """The facts without a label that can be seen, as (name, side or "")."""
    body = facts.anatomy
    seen = {
        ("tortuous aorta", ""): body.aorta > 0.6,
        ("hyperinflation", ""): body.hyperinflation > 0.5,
        ("low lung volumes", ""): facts.low_volumes > 0.5,
        ("scoliosis", "right" if body.scoliosis < 0.0 else "left"): abs(body.scoliosis) > 0.5,
        ("granuloma", body.granuloma): bool(body.granuloma),
        ("raised diaphragm", body.raised_diaphragm): bool(body.raised_diaphragm),
        ("rotation", "right" if facts.rotation < 0.0 else "left"): abs(facts.rotation) > 0.8,
        ("underexposure", ""): facts.exposure < -0.8,
        ("breasts", ""): body.sex == "woman" and body.habitus > 0.7,
    }
    return [aside for aside, visible in seen.items() if visible]
