"""The model and its training, for a reader who would repeat them."""

from vkd_pyro.reporting.page import Section
from vkd_pyro.reporting.sections.extras import Extras


def method(extras: Extras) -> Section | None:
    if extras.method is None:
        return None
    formulas = "\n\n".join(extras.method.formulas.values())
    return Section("method", facts=dict(extras.method.facts), formula=formulas)
