"""The model card of a bundle, as the Hugging Face hub reads it: metadata, then Markdown."""

from importlib import resources

from jinja2 import Environment, StrictUndefined

from vkd_pyro import __version__
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.methods.base import Method
from vkd_pyro.utils.epochs import Monitor

SPLITS = ("train", "validation")


def write_card(method: Method, data: StudyData, nll: float, monitor: Monitor = "val/nll") -> str:
    """What the model is for, what it is not for, and on whom it was trained; of patients numbers alone.

    Args: trained; the corpus; the validation negative log-likelihood of its best epoch, in nats a label;
    by what that epoch was chosen.
    """
    source = resources.files(__package__).joinpath("card.md.j2").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string(source)
    return template.render(
        method=type(method).__name__,
        corpus=data.corpus.name,
        findings=data.findings,
        counts={split: data.count(split) for split in SPLITS},
        views=data.selection.views,
        size=data.transform.size,
        reads_reports=method.reads_reports,
        nll=nll,
        monitor=monitor,
        version=__version__,
    )
