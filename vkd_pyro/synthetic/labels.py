"""Labels of a study: the truth, or as made from its report, with errors."""

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.synthetic.epidemiology import CAUSES
from vkd_pyro.synthetic.facts import Facts
from vkd_pyro.synthetic.reading import Reading, Remark

Rng = np.random.Generator

NO_LABELS = 0.03
"""Share of studies without any label."""

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
