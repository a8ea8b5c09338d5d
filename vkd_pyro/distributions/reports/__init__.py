"""Likelihoods of the report given z, and the image's features or not. To add one: a file like `embedding.py`.

==================  ============================================================  ========================
likelihood          what is observed of a report                                  given z
==================  ============================================================  ========================
`WordPresence`      which words and pairs of words of a vocabulary are in it      independent Bernoullis
`WordCounts`        how often they are                                            multinomial
`ReportEmbedding`   what a frozen language model gives                            normal
`ReportFacts`       presence, side and severity of each finding                   categorical
==================  ============================================================  ========================
"""

from vkd_pyro.distributions.reports.base import LinearOutputs, ReportLikelihood
from vkd_pyro.distributions.reports.embedding import ReportEmbedding
from vkd_pyro.distributions.reports.facts import Facts, ReportFacts
from vkd_pyro.distributions.reports.words import TermCounts, TermPresence, WordCounts, WordPresence

__all__ = [
    "Facts",
    "LinearOutputs",
    "ReportEmbedding",
    "ReportFacts",
    "ReportLikelihood",
    "TermCounts",
    "TermPresence",
    "WordCounts",
    "WordPresence",
]
