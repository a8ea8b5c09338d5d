"""MeSH terms as the coders of Open-I write them: a heading, then qualifiers after slashes."""

from collections.abc import Iterable

from vkd_pyro.synthetic.facts import Facts, Finding
from vkd_pyro.synthetic.reading import grade

TERMS: dict[str, str] = {
    "Enlarged Cardiomediastinum": "Mediastinum/enlarged",
    "Cardiomegaly": "Cardiomegaly/{grade}",
    "Lung Opacity": "Opacity/lung/{zone}/{side}",
    "Lung Lesion": "Nodule/lung/{zone}/{side}",
    "Edema": "Pulmonary Edema/{grade}",
    "Consolidation": "Consolidation/lung/{zone}/{side}",
    "Pneumonia": "Pneumonia/{zone}/{side}",
    "Atelectasis": "Pulmonary Atelectasis/{zone}/{side}/{grade}",
    "Pneumothorax": "Pneumothorax/{side}/{size}",
    "Pleural Effusion": "Pleural Effusion/{side}/{size}",
    "Pleural Other": "Thickening/pleura/{side}",
    "Fracture": "Fractures, Bone/ribs/{side}",
    "endotracheal tube": "Tube, Inserted/trachea",
    "enteric tube": "Tube, Inserted/stomach",
    "central venous line": "Catheters, Indwelling/{side}",
    "pacemaker": "Implanted Medical Device/{side}",
    "sternotomy wires": "Medical Device/sternum",
}
"""Finding or device -> its term; a qualifier that a finding has not is left out."""

ASIDE_TERMS: dict[str, str] = {
    "tortuous aorta": "Aorta/tortuous",
    "hyperinflation": "Lung/hyperdistention",
    "low lung volumes": "Lung/hypoinflation",
    "scoliosis": "Scoliosis/thoracic vertebrae/{side}",
    "granuloma": "Calcified Granuloma/lung/{side}",
    "raised diaphragm": "Diaphragm/{side}/elevated",
    "underexposure": "Technical Quality of Image Unsatisfactory ",
}
"""What is coded but no finding -> its term; the last ends in a space, as in the original."""

ZONES = {"": "", "upper": "upper lobe", "mid": "hilum", "lower": "base"}


def mesh_terms(facts: Facts, asides: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The `major` terms of a film; `normal` where there is nothing to code."""
    terms = [_term(finding) for finding in facts.findings]
    terms += [ASIDE_TERMS[name].format(side=side) for name, side in asides if name in ASIDE_TERMS]
    return tuple(terms) or ("normal",)


def _term(finding: Finding) -> str:
    level = grade(finding.severity)
    name = finding.kind if finding.name == "Support Devices" else finding.name
    term = TERMS[name].format(
        side="bilateral" if finding.side == "both" else finding.side,
        zone=ZONES[finding.zone],
        grade=("mild", "moderate", "severe")[level],
        size=("small", "moderate", "large")[level],
    )
    return "/".join(part for part in term.split("/") if part)
