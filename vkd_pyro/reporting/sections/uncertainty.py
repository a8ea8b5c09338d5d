"""What the uncertainty is worth, and which images are out of distribution."""

import numpy as np

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.posthoc.ood import FLAGGED_SHARE
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Undefined
from vkd_pyro.reporting.sections.assessment import Assessment


def uncertainty(e: Evaluation, assessed: Assessment) -> Section:
    selective = assessed.selective
    recalibrated = not np.isnan(e.calibrated).all()
    p, probability = (e.calibrated, "recalibrated probability") if recalibrated else (e.probabilities, "probability")
    known = ~np.isnan(e.labels) & ~np.isnan(p)
    right = ((p >= 0.5) == (e.labels == 1))[known]
    parts: dict[str, Cell] = {"total uncertainty, mean (nats a finding)": float(e.uncertainty.mean())}
    latent = e.latent_uncertainty
    if not np.isnan(latent).all():
        parts["latent uncertainty, the part that z carries"] = float(np.nanmean(latent))
    return Section(
        "uncertainty",
        lead="Total uncertainty is H(E p) of a finding, in nats (at most 0.693); what z carries of it is its mutual "
        "information with z. The trained network is taken as it is: epistemic uncertainty is not in these numbers.",
        facts={
            **parts,
            "wrong answers, most uncertain fifth": _percent(selective.uncertain_error),
            "wrong answers, the rest": _percent(selective.other_error),
            "ratio": selective.ratio,
            "the same ratio, by the sum of probabilities": assessed.selective_by_probability.ratio,
            "wrong answers, were every answer no": _percent(selective.never),
        },
        notes=[
            "Where findings are rare nearly all wrong answers are missed positives, and whatever grows with the "
            "probabilities finds them: uncertainty says more than probabilities only where its ratio is above theirs."
        ],
        figures=[
            CaptionedFigure(
                "Uncertainty of right and of wrong answers",
                figures.uncertainty_histograms(e.uncertainty[known], right),
                f"Pairs of study and finding; an answer is yes from a {probability} of 1/2 on.",
            ),
            CaptionedFigure(
                "Referral",
                figures.referral(
                    selective.shares, selective.error, selective.random, selective.oracle, "share of wrong answers"
                ),
                "Studies by the total uncertainty of all their findings.",
            ),
        ],
    )


def _percent(share: float) -> Cell:
    return Undefined("no label is known, or all uncertainties are equal") if np.isnan(share) else f"{share:.1%}"


def ood(e: Evaluation) -> Section | None:
    if np.isnan(e.ood).all():
        return None
    flagged = float((e.ood[~np.isnan(e.ood)] <= FLAGGED_SHARE).mean())
    notes = ["An image that is not flagged need not be read rightly, nor one that is flagged wrongly."]
    images = e.data.get("splits", {}).get(e.how.get("split"), {}).get("images", 0)
    if images > len(e.ood):
        notes.append(
            "A study with several images is flagged by the one furthest from the training images, with allowance for "
            "their number."
        )
    return Section(
        "ood",
        lead="How far an image's features, its z and its uncertainty are from those of training images.",
        facts={
            "flagged as unlike the training images": f"{flagged:.1%}",
            "expected, were they alike": f"{FLAGGED_SHARE:.0%}",
        },
        notes=notes,
    )
