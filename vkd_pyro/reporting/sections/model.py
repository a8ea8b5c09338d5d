"""The trained model: its training curves, example cases, and its card."""

from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Section
from vkd_pyro.reporting.sections.extras import Extras


def training(extras: Extras) -> Section | None:
    if extras.training is None:
        return None
    return Section("training", figures=[CaptionedFigure("Training curves", figures.training_curves(extras.training))])


def cases(extras: Extras) -> Section | None:
    if extras.cases is None:
        return None
    lead = (
        "Images of patients: handle this page as you handle those. The surest and the most uncertain of one finding, "
        "in turn. Colour is where the image speaks for it; where all is gray, nothing does."
    )
    return Section("cases", lead=lead, figures=[CaptionedFigure("Examples", figures.cases(*extras.cases))])


def card(extras: Extras) -> Section:
    text = [line for line in extras.card.splitlines() if line and not line.startswith("#")]
    limits = (
        "Intended use: research. Not a medical device: not for diagnosis, triage or treatment.",
        "Limits: figures hold for patients, scanners and labelling like those evaluated; labels are what was said, "
        "not what was there; intervals are over patients, of one trained model.",
    )
    return Section("card", notes=[*text, *limits])
