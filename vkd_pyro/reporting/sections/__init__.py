"""The page of an evaluation: which tables and figures it has, and what is said of them.

assessment   `Assessment`, the tables of an evaluation, for the page and for JSON
extras       `Extras`, what a page shows beyond the evaluation
head         what was evaluated
ranking      averages, findings, curves
calibration  scores and errors of probabilities
uncertainty  what uncertainty is worth, out-of-distribution images
clinical     predictive values, decision curves, what to refer
together     all findings of a study at once
checks       replicated label vectors beside those observed
decisions    operating points and conformal sets
subgroups    by patient and view
failures     where it was wrong
heatmaps     whether heat maps show what radiologists drew
cohort       who was studied
method       formulas, parts, training, software
latent       the use of z, reports that disagree with their images
model        training, example cases, model card
"""

import re
from collections.abc import Iterator
from typing import Any

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.reporting.page import Page, Section
from vkd_pyro.reporting.sections import (
    calibration,
    checks,
    clinical,
    cohort,
    decisions,
    failures,
    head,
    heatmaps,
    latent,
    method,
    model,
    ranking,
    subgroups,
    together,
    uncertainty,
)
from vkd_pyro.reporting.sections.assessment import Assessment, plain
from vkd_pyro.reporting.sections.extras import Extras


def page_of(evaluation: Evaluation, assessed: Assessment, extras: Extras) -> Page:
    """The whole page; a part of which nothing is known is left out."""
    parts: list[Section | None] = [
        ranking.summary(evaluation, assessed),
        ranking.findings(evaluation, assessed),
        ranking.curves(evaluation, assessed),
        calibration.calibration(evaluation, assessed),
        uncertainty.uncertainty(evaluation, assessed),
        decisions.decisions(evaluation, assessed),
        clinical.clinical(evaluation, assessed),
        together.together(assessed),
        checks.checks(assessed),
        subgroups.subgroups(assessed),
        failures.failures(assessed),
        heatmaps.heatmaps(extras.localization),
        uncertainty.ood(evaluation),
        latent.latent(evaluation, extras),
        latent.reports(evaluation, extras),
        model.training(extras),
        model.cases(extras),
        cohort.cohort(extras),
        method.method(extras),
        model.card(extras),
    ]
    warning = evaluation.latent_use.warning
    return Page(
        title=f"Evaluation of {extras.name}",
        evaluated=head.evaluated(evaluation, extras),
        sections=[part for part in parts if part is not None],
        warnings=[warning] if warning else [],
        verdict=ranking.verdict(evaluation, assessed, extras.against),
    )


def figures_of(page: Page) -> Iterator[tuple[str, Any]]:
    """Names for files, and figures; no example cases, which are of patients."""
    for section in page.sections:
        if section.name != "cases":
            for each in section.figures:
                yield re.sub(r"[^a-z0-9]+", "_", each.title.lower()).strip("_"), each.figure
