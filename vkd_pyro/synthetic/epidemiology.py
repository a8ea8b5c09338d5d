"""What is drawn of patients and studies: anatomy, conditions, findings and their causes, places and severities."""

from collections.abc import Mapping

import numpy as np

from vkd_pyro.synthetic.drawing.devices import DEVICES
from vkd_pyro.synthetic.facts import Anatomy, Facts, Finding

Rng = np.random.Generator

CHRONIC: dict[str, float] = {"heart failure": 0.16, "lung disease": 0.10, "malignancy": 0.07}
ACUTE: dict[str, float] = {"infection": 0.15, "trauma": 0.07, "critical illness": 0.17}
"""Conditions of a patient and of a study, with their probabilities."""

CAUSES: dict[str, dict[str, float]] = {
    "Cardiomegaly": {"": 0.08, "heart failure": 0.70},
    "Enlarged Cardiomediastinum": {"": 0.04, "Cardiomegaly": 0.12, "malignancy": 0.15, "critical illness": 0.08},
    "Edema": {"": 0.02, "heart failure": 0.50, "critical illness": 0.12},
    "Pneumonia": {"": 0.01, "infection": 0.60},
    "Consolidation": {"": 0.01, "Pneumonia": 0.55, "infection": 0.10, "critical illness": 0.08},
    "Lung Lesion": {"": 0.02, "malignancy": 0.55},
    "Pneumothorax": {"": 0.01, "trauma": 0.35, "critical illness": 0.12, "lung disease": 0.06},
    "Fracture": {"": 0.02, "trauma": 0.50},
    "Pleural Effusion": {"": 0.07, "heart failure": 0.35, "Edema": 0.35, "infection": 0.15, "malignancy": 0.30},
    "Atelectasis": {"": 0.10, "critical illness": 0.35, "Pleural Effusion": 0.25},
    "Lung Opacity": {"": 0.09, "Pneumonia": 0.95, "Consolidation": 0.90, "Edema": 0.45, "Atelectasis": 0.30},
    "Pleural Other": {"": 0.04, "malignancy": 0.08, "lung disease": 0.10},
    "Support Devices": {"": 0.12, "heart failure": 0.25, "critical illness": 0.80, "malignancy": 0.15},
}
"""Finding to the probability with which each cause brings it about, "" being none; causes act independently and come
before their effects."""

LOCATIONS: dict[str, tuple[float, tuple[str, ...]]] = {
    "Lung Opacity": (0.25, ("upper", "mid", "lower", "lower")),
    "Lung Lesion": (0.0, ("upper", "upper", "mid", "lower")),
    "Edema": (1.0, ("",)),
    "Consolidation": (0.10, ("upper", "mid", "lower", "lower")),
    "Pneumonia": (0.20, ("upper", "mid", "lower", "lower")),
    "Atelectasis": (0.30, ("mid", "lower", "lower", "lower")),
    "Pneumothorax": (0.0, ("",)),
    "Pleural Effusion": (0.40, ("",)),
    "Pleural Other": (0.20, ("upper", "mid", "lower")),
    "Fracture": (0.0, ("upper", "mid", "lower")),
}
"""Finding to the probability of both sides, and its zones."""

FOLLOWS: dict[str, tuple[str, ...]] = {
    "Consolidation": ("Pneumonia",),
    "Lung Opacity": ("Consolidation", "Pneumonia"),
    "Atelectasis": ("Pleural Effusion",),
}
"""Finding to those beside which it lies."""

DOWN: dict[str, tuple[float, float]] = {"": (0.0, 1.0), "upper": (0.05, 0.3), "mid": (0.35, 0.6), "lower": (0.65, 0.95)}
"""Zone to its reach from the apex of the lung (0) to the diaphragm (1)."""


def draw_facts(patient: Rng, study: Rng) -> Facts:
    """What is true: anatomy and chronic conditions from the patient's numbers, the rest from the study's."""
    chronic = _conditions(CHRONIC, patient)
    anatomy = _draw_anatomy(chronic, patient)
    present = chronic | _conditions(ACUTE, study)
    findings: dict[str, Finding] = {}
    for name, causes in CAUSES.items():
        spared = np.prod([1.0 - p for cause, p in causes.items() if not cause or cause in present or cause in findings])
        if study.random() >= spared:
            findings[name] = draw_finding(name, findings, study)
    shallow = 1.0 - anatomy.hyperinflation
    portable = study.random() < (0.85 if "critical illness" in present else 0.25)
    return Facts(
        anatomy=anatomy,
        findings=tuple(findings.values()),
        view="AP" if portable else "PA",
        rotation=float(study.uniform(-1.0, 1.0)),
        low_volumes=shallow * float(study.beta(1.7, 1.7) if portable else study.beta(1.0, 4.0)),
        exposure=float(study.uniform(-1.0, 1.0)),
        grain=float(study.uniform(0.02, 0.06)),
        blur=float(study.uniform(0.004, 0.010)),
        texture_seed=int(study.integers(2**31)),
    )


def _conditions(probabilities: Mapping[str, float], rng: Rng) -> set[str]:
    return {name for name, probability in probabilities.items() if rng.random() < probability}


def _draw_anatomy(chronic: set[str], rng: Rng) -> Anatomy:
    sex = ("woman", "man")[int(rng.integers(2))]
    age = int(rng.integers(20, 90))
    return Anatomy(
        sex=sex,
        age=age,
        habitus=float(rng.beta(2.0, 2.5)),
        chest_width=float(rng.uniform(0.36, 0.41)) + (0.01 if sex == "man" else 0.0),
        lung_depth=float(rng.uniform(0.77, 0.83)),
        heart_size=float(rng.uniform(0.132, 0.172)),
        mediastinum=float(rng.uniform(0.048, 0.074)),
        scoliosis=float(
            rng.normal(0.0, 0.15) if rng.random() < 0.92 else rng.choice((-1.0, 1.0)) * rng.uniform(0.6, 1)
        ),
        aorta=float(rng.beta(1.0, 2.0) * age / 70.0),
        hyperinflation=float(rng.uniform(0.5, 1.0) if "lung disease" in chronic else rng.beta(1.0, 5.0)),
        granuloma=str(rng.choice(("left", "right"))) if rng.random() < 0.07 else "",
        raised_diaphragm=str(rng.choice(("left", "right"))) if rng.random() < 0.07 else "",
        rib_phase=float(rng.random()),
    )


def draw_finding(name: str, others: Mapping[str, Finding], rng: Rng) -> Finding:
    """A finding of a random look; it lies beside one of `others` if it follows from it."""
    side, zone, kind = "", "", ""
    if name in LOCATIONS:
        both, zones = LOCATIONS[name]
        side = "both" if rng.random() < both else str(rng.choice(("left", "right")))
        zone = str(rng.choice(zones))
    if name == "Pleural Other":
        kind = str(rng.choice(("thickening", "plaques")))
    if name == "Support Devices":
        kind = str(rng.choice(tuple(DEVICES)))
        side = {"central venous line": str(rng.choice(("left", "right"))), "pacemaker": "left"}.get(kind, "")
    across, down = float(rng.uniform(0.1, 0.9)), float(rng.uniform(*DOWN[zone]))
    if name == "Fracture":
        across = 0.85 + 0.15 * across
    for other in FOLLOWS.get(name, ()):
        if other in others:
            beside = others[other]
            side = beside.side
            zone, across, down = (beside.zone, beside.across, beside.down) if beside.zone else (zone, across, down)
            break
    severity, extent = float(0.05 + 0.95 * rng.beta(1.5, 1.8)), float(rng.random())
    return Finding(name, side, zone, severity, extent, kind, across, down)
