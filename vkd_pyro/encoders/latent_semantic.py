"""A report encoder that learns from few labels: latent semantic analysis of words and of the labeller's facts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.decomposition import TruncatedSVD
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.utils.errors import check_count, check_number, check_probability
from vkd_pyro.utils.terms import NO_TERM, Vocabulary, terms_of

FACT = 2**62
"""Facts are numbered from here, above all terms."""
SCALE = 10.0
"""Makes a feature about 1 in size, for networks and learning rates that expect it."""


class LatentSemanticEncoder(ReportEncoder):
    """Words, pairs of words and facts of a report, weighted and projected on the main directions of all reports.

        features = R V' [tf-idf of the terms, w * facts]

    where V are the leading right singular vectors of the training reports (latent semantic analysis, Deerwester et al.
    1990), and R is a fixed random rotation. V is learned once, from all training reports, labelled or not; what is
    trained is the network behind. R is there for optimisers such as Adam, which give each coordinate a step of the same
    size: in the basis V rare directions would count as much as main ones, and rotated they cannot, so that a network
    trained by Adam does as well from few labels as logistic regression does.

    Facts are what the labeller finds: presence, side and severity of each finding (`vkd_pyro.data.labels.facts`).

    Args:
        width: of the features, directions that are kept.
        vocabulary_size: terms, those that most training reports have.
        min_count: training reports that a term must be in.
        fact_weight: w, beside words whose squared weights sum to 1; 0 is words alone.
        dropout: probability, on the features.
    """

    def __init__(
        self,
        width: int = 400,
        vocabulary_size: int = 16384,
        min_count: int = 2,
        fact_weight: float = 0.5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, count in (("width", width), ("vocabulary_size", vocabulary_size), ("min_count", min_count)):
            check_count(f"LatentSemanticEncoder.{name}", count)
        check_number("LatentSemanticEncoder.fact_weight", fact_weight)
        check_probability("LatentSemanticEncoder.dropout", dropout)
        self.width = self.features_dim = width
        self.vocabulary_size, self.min_count = vocabulary_size, min_count
        self.fact_weight, self.dropout = fact_weight, dropout
        self.vocabulary = Vocabulary(vocabulary_size, min_count)
        self.num_facts = NUM_FACTS if fact_weight else 0
        self.projection: Tensor
        self.inverse_frequency: Tensor
        self.register_buffer("projection", torch.zeros(vocabulary_size + self.num_facts, width))
        self.register_buffer("inverse_frequency", torch.zeros(vocabulary_size))
        self.output = nn.Dropout(dropout)

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """The different terms of each report, and its facts, int64 [T]; 0, which is no term, begins each."""
        terms = [torch.cat([torch.zeros(1, dtype=torch.int64), terms_of(report).unique()]) for report in reports]
        if not self.fact_weight:
            return terms
        return [torch.cat(parts) for parts in zip(terms, _facts(reports), strict=True)]

    @property
    def preparation(self) -> dict[str, Any]:
        """The vocabulary is learned from what is prepared, which depends on whether facts are looked for."""
        return {"encoder": "terms", "facts": bool(self.fact_weight)}

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Learns vocabulary, frequencies and directions of the training reports."""
        reports = list(reports)
        counts = self.vocabulary.learn([report[(report > 0) & (report < FACT)] for report in reports])
        self.inverse_frequency.copy_(((1 + len(reports)) / (1 + counts)).log() + 1)
        lengths = [len(report) for report in reports]
        columns, weights = (part.numpy() for part in self._weighted(torch.cat(reports), torch.tensor(lengths)))
        rows = np.repeat(np.arange(len(reports)), lengths)
        shape = len(reports), len(self.projection)
        matrix = scipy.sparse.coo_matrix((weights, (rows, columns)), shape).tocsr()
        kept = min(self.width, *(size - 1 for size in shape))
        directions = TruncatedSVD(kept, random_state=0).fit(matrix).components_
        normal = np.random.default_rng(0).normal(size=(self.width, self.width))
        rotation = np.linalg.qr(normal)[0][:kept]
        self.projection.copy_(torch.from_numpy(SCALE * directions.T @ rotation))

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: int64 [B, T]; bool [B, T]. Returns: float32 [B, width]."""
        columns, weights = self._weighted(report[mask], mask.sum(1))
        starts = mask.sum(1).cumsum(0) - mask.sum(1)
        return self.output(embedding_bag(columns, self.projection, starts, mode="sum", per_sample_weights=weights))

    def check_reads(self, likelihood: Any) -> None:
        """Raises `UserError` unless a report likelihood observes all terms that are read here, and no facts are."""
        observed = getattr(getattr(likelihood, "vocabulary", None), "terms", None)
        read = self.vocabulary.terms[self.vocabulary.terms != NO_TERM]
        if self.num_facts or observed is None or not torch.isin(read, observed).all():
            super().check_reads(likelihood)

    def read_observed(self, observed: Tensor, likelihood: Any) -> tuple[Tensor, Tensor]:
        """Terms, each once, behind the 0 that begins each report; args as of `ReportEncoder.read_observed`."""
        self.check_reads(likelihood)
        sorted_terms = observed.sort(-1).values
        repeated = sorted_terms.diff(dim=-1, prepend=sorted_terms.new_full((len(observed), 1), -2)) == 0
        mask = nn.functional.pad((sorted_terms >= 0) & ~repeated, (1, 0), value=True)
        return nn.functional.pad(sorted_terms.clamp(min=0), (1, 0)), mask

    def _weighted(self, terms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Column and weight of each term of several reports, one report after another.

        Args: int64 [all terms]; int64 [B], how many each has. Returns: int64 and float of the same length; what is not
        known has weight 0.
        """
        columns = self.vocabulary(terms)
        weights = self.inverse_frequency[columns.clamp(min=0)] * (columns >= 0)
        rows = torch.repeat_interleave(torch.arange(len(lengths), device=terms.device), lengths)
        norms = weights.new_zeros(len(lengths)).index_add_(0, rows, weights.square()).sqrt().clamp(min=1e-6)
        weights = weights / norms[rows]
        if self.num_facts:
            is_fact = terms >= FACT
            columns = torch.where(is_fact, self.vocabulary_size + terms - FACT, columns)
            weights = torch.where(is_fact, self.fact_weight, weights)
        return columns.clamp(min=0), weights


def _facts(reports: Sequence[str]) -> list[Tensor]:
    """The numbers of the facts of each report, int64 [F]: those that say something."""
    from vkd_pyro.data.labels.facts import facts_of

    found = torch.from_numpy(facts_of(reports)).flatten(1)
    return [FACT + 4 * said.nonzero()[:, 0] + said[said > 0] for said in found]


NUM_FACTS = 14 * 3 * 4
"""Findings, times presence, side and severity, times the values of each."""
