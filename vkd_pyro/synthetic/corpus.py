"""A corpus of drawn chest radiographs with written reports, for tests, examples and controlled experiments.

The idea, in the order of the code:

    facts   = draw_facts(patient, study)   what is true: anatomy, film, findings with side, zone, severity, extent
    image   = render(facts)                a radiograph that shows it
    reading = read(facts)                  what a radiologist says of it: affirmed, hedged, denied, resolved, or nothing
    report  = write_report(reading)        the prose
    labels  = label(reading) or truth(facts)

The report says more about the picture than the labels do: side, zone, severity and extent of each finding, and facts
that have no label (tortuous aorta, scoliosis, low lung volumes, ...). Mild findings are hard to see, and often hedged
or missed by the radiologist.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.report_text import WHOLE
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Sex, Study
from vkd_pyro.synthetic.images import DEVICES, Anatomy, Facts, Finding, render
from vkd_pyro.synthetic.reports import Reading, Remark, write_report

VERSION = 1
"""Counts the changes of what is drawn or written. Numbers are comparable only within one version."""

Rng = np.random.Generator

VISIT, PATIENT, FACTS, READING, REPORT, LABELS = range(6)
"""The streams of random numbers: each step of a study has its own, so that one can change without the others."""


SEXES: dict[str, Sex] = {"woman": "female", "man": "male"}


class SyntheticCorpus(Corpus):
    """Drawn radiographs, one a study, with reports and the 14 CheXpert findings.

    Study i depends on `seed` and i alone: a larger corpus begins with the studies of a smaller one.

    Labels of the train and validation splits are as report labelling makes them: some mild or hedged findings are
    flipped, some hedged or unmentioned ones are NaN, and a few studies have no labels at all. Labels of the **test**
    split are the radiologist's truth, taken from the facts: no noise and no NaN, as in the hand-labelled test set of
    MIMIC-CXR. A few studies of every split have no report.

    Args:
        num_studies: Number of studies.
        image_size: Height and width of the images, in pixels.
        seed: Seed of everything that is drawn.
    """

    name = "synthetic"
    findings = CHEXPERT_FINDINGS

    def __init__(self, num_studies: int = 2000, image_size: int = 64, seed: int = 0) -> None:
        self.num_studies = num_studies
        self.image_size = image_size
        self.seed = seed

    def studies(self) -> list[Study]:
        """All studies; they are drawn anew at each call, so keep the list."""
        return [self.study(index) for index in range(self.num_studies)]

    def study(self, index: int) -> Study:
        """One study: image uint8 [image_size, image_size], report, labels float32 [14] and split.

        Sex and age are those of the anatomy that is drawn and told of; a patient has the same age in all studies.
        """
        facts, patient_id = self.facts(index), f"p{self._first_study(index):06d}"
        split = split_of(self.name, patient_id)
        return Study(
            study_id=f"synthetic-{index:06d}",
            patient_id=patient_id,
            images=(render(facts, self.image_size),),
            views=("frontal",),
            report=self._report(index),
            labels=truth(facts) if split == "test" else label(self.reading(index), self._rng(index, LABELS)),
            split=split,
            sex=SEXES[facts.anatomy.sex],
            age=float(facts.anatomy.age),
        )

    def facts(self, index: int) -> Facts:
        """What is true of study `index`."""
        return draw_facts(self._rng(self._first_study(index), PATIENT), self._rng(index, FACTS))

    def reading(self, index: int) -> Reading:
        """What the radiologist says of study `index`."""
        later = self._first_study(index) < index
        return read(self.facts(index), later, self._rng(index, READING))

    def _report(self, index: int) -> dict[str, str]:
        rng = self._rng(index, REPORT)
        return {} if rng.random() < NO_REPORT else {WHOLE: write_report(self.reading(index), rng)}

    def _rng(self, index: int, stream: int) -> Rng:
        return np.random.default_rng(np.random.SeedSequence([self.seed, index, stream]))

    def _first_study(self, index: int) -> int:
        """Index of the first study of the patient of study `index`; a patient's studies are consecutive."""
        while index > 0 and self._rng(index, VISIT).random() < RETURNS:
            index -= 1
        return index


# Facts ----------------------------------------------------------------------------------------------------------------

RETURNS = 0.25
"""Probability that a study is one more of the same patient."""

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
            findings[name] = _draw_finding(name, findings, study)
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


def _draw_finding(name: str, others: Mapping[str, Finding], rng: Rng) -> Finding:
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


# Reading --------------------------------------------------------------------------------------------------------------

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
    imagined, chance = _draw_finding(name, {}, rng), rng.random()
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


# Labels ---------------------------------------------------------------------------------------------------------------

NO_REPORT = 0.04
NO_LABELS = 0.03
"""Shares of studies without report, and without any label."""

MISLABELLED: dict[str, tuple[float, float]] = {
    "affirmed mildly": (0.92, 0.03),
    "affirmed": (0.985, 0.0),
    "hedged": (0.45, 0.40),
    "denied": (0.005, 0.0),
    "resolved": (0.15, 0.05),
    "silent": (0.002, 0.20),
}
"""How a finding is spoken of, to the probabilities of the labels 1 and NaN; the rest is 0."""


def truth(facts: Facts) -> NDArray[np.float32]:
    """The labels that are true, float32 [14], each 0 or 1."""
    present = {finding.name for finding in facts.findings}
    clear = not present - {"Support Devices"}
    values = [clear if name == "No Finding" else name in present for name in CHEXPERT_FINDINGS]
    return np.asarray(values, dtype=np.float32)


def label(reading: Reading, rng: Rng) -> NDArray[np.float32]:
    """The labels as made from a report, float32 [14]; NaN is unknown."""
    remarks = {remark.finding: remark for remark in reading.remarks}
    labels = {name: _noisy_label(remarks.get(name), rng) for name in CAUSES}
    labels["No Finding"] = _no_finding([labels[name] for name in CAUSES if name != "Support Devices"], reading)
    values = np.asarray([labels[name] for name in CHEXPERT_FINDINGS], dtype=np.float32)
    return np.full_like(values, np.nan) if rng.random() < NO_LABELS else values


def _noisy_label(remark: Remark | None, rng: Rng) -> float:
    spoken = remark.stance if remark else "silent"
    if remark and remark.stance == "affirmed" and remark.grade == 0:
        spoken = "affirmed mildly"
    one, unknown = MISLABELLED[spoken]
    chance = rng.random()
    if chance < one:
        return 1.0
    return float("nan") if chance < one + unknown else 0.0


def _no_finding(others: list[float], reading: Reading) -> float:
    """1 if no other label is, unknown if something was hedged that might be one."""
    if 1.0 in others:
        return 0.0
    hedged = any(remark.finding != "Support Devices" for remark in reading.of("hedged"))
    return float("nan") if hedged else 1.0
