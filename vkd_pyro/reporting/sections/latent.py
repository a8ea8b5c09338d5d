"""What z carries, and which reports disagree with their images."""

import numpy as np

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section
from vkd_pyro.reporting.sections.extras import Extras


def latent(e: Evaluation, extras: Extras) -> Section | None:
    lines = str(e.latent_use).splitlines()
    facts = {key: value for key, _, value in (line.partition(": ") for line in lines) if value and key != "warning"}
    other = [line for line in lines if ": " not in line]
    if not lines and not extras.maps:
        return None
    shown = [CaptionedFigure(of.title, figures.latent_maps(of.maps), of.caption) for of in extras.maps]
    return Section("latent", facts=facts, figures=shown, notes=other)


def reports(e: Evaluation, extras: Extras) -> Section | None:
    if np.isnan(e.kl_per_study).all():
        return None
    quantiles = np.quantile(e.kl_per_study[~np.isnan(e.kl_per_study)], [0.5, 0.9, 1])
    facts: dict[str, Cell] = {
        "KL(q(z | report) || p(z | image)): median, 90 %, largest (nats)": ", ".join(f"{q:.2f}" for q in quantiles)
    }
    if (found := extras.mismatch) is not None:
        facts["AUROC of that KL, reports beside other images"] = found.auroc("own")
        facts["AUROC of the mismatch score"] = found.auroc()
    if found is None:
        return Section("reports", lead="How far z of a report is from z of its image.", facts=facts)
    return Section(
        "reports",
        lead="Which report disagrees with its image: how much further its z is from its own image's than from "
        "other images' on average, in nats: the column mismatch_score of predictions.parquet.",
        facts=facts,
        notes=[
            "AUROC: how well it tells reports beside another study's image from those beside their own; 0.5 is chance."
        ],
    )
