"""Reports as sets of words: which terms of a vocabulary are in a report, or how often."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from vkd_pyro.data.labels import phrases
from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.reports.base import LinearOutputs, ReportLikelihood
from vkd_pyro.utils.errors import check_count
from vkd_pyro.utils.terms import NO_TERM, Vocabulary, terms_of

STOP_WORDS = ("a", "an", "and", "are", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to",
              "was", "were", "with", "within", "xxxx")  # fmt: skip
"""Words that say nothing of a chest. Those that deny or hedge are not among them. XXXX stands for what was removed."""

FindingPhrases = Literal["kept", "left_out", "only"]
FINDING_WORDS = frozenset(word for names in phrases.FINDINGS.values() for name in names for word in name.split())
"""The words of the labeller's phrases."""
DENIALS = frozenset(
    ("absent", "cleared", "free", "negative", "neither", "never", "no", "nor", "not", "resolved", "without")
)
"""Words that deny a finding, which `only` keeps beside those that name one."""


class _Terms(dist.TorchDistribution):
    """Terms of a vocabulary of V, as a padded list of them, int64 [..., B, T], where -1 is none.

    Args:
        logits: float [..., B, V].
        vocabulary: gives the column of a term; without, terms are columns. One that is not in it takes no part.
    """

    arg_constraints: ClassVar = {"logits": constraints.independent(constraints.real, 1)}
    support = constraints.independent(constraints.real, 1)

    def __init__(self, logits: Tensor, vocabulary: Vocabulary | None = None) -> None:
        self.logits, self.vocabulary = logits, vocabulary
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def sum_at(self, values: Tensor, terms: Tensor) -> Tensor:
        """The sum of values, float [..., B, V], at the terms listed. Returns: float [..., B]."""
        columns = terms if self.vocabulary is None else self.vocabulary(terms)
        places = columns.clamp(min=0).expand(*values.shape[:-1], -1)
        return (values.gather(-1, places) * (columns >= 0)).sum(-1)

    def terms(self, columns: Tensor) -> Tensor:
        """The terms of columns; -1 stays."""
        if self.vocabulary is None:
            return columns
        return torch.where(columns >= 0, self.vocabulary.terms[columns.clamp(min=0)], -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        return type(self)(self.logits.expand(*batch_shape, -1), self.vocabulary)


class TermPresence(_Terms):
    """Which terms are there, independently: term v ~ Bernoulli(logits_v). Sparse: only what is there is listed."""

    def log_prob(self, value: Tensor) -> Tensor:
        """sum_v x_v l_v - log(1 + exp(l_v)), where x_v is 1 for the terms listed, each at most once. Float [..., B]."""
        return self.sum_at(self.logits, value) - softplus(self.logits).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The terms that are there, int64 [..., B, V], with -1 for the others."""
        shape = (*sample_shape, *self.logits.shape)
        present = torch.bernoulli(self.logits.sigmoid().expand(shape)).bool()
        return self.terms(torch.where(present, torch.arange(shape[-1], device=present.device), -1))


class TermCounts(_Terms):
    """Terms that are each drawn from the same V, given how many there are: term_t ~ Categorical(logits).

    Their order is not modelled: the density is that of the sequence, without the multinomial coefficient, which does
    not depend on the logits. A draw has `NUM_TERMS`.
    """

    NUM_TERMS = 64

    def log_prob(self, value: Tensor) -> Tensor:
        """sum_t log softmax(l)[term_t]. Float [..., B]."""
        return self.sum_at(self.logits.log_softmax(-1), value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Int64 [..., B, NUM_TERMS]."""
        drawn = torch.distributions.Categorical(logits=self.logits).sample((self.NUM_TERMS, *sample_shape))
        return self.terms(drawn.movedim(0, -1))


class _WordLikelihood(ReportLikelihood):
    """Terms of a vocabulary that is learned on the training reports; arguments as of `WordPresence`."""

    def __init__(
        self,
        latent_dim: int,
        features_dim: int = 0,
        vocabulary_size: int = 1500,
        min_count: int = 5,
        stop_words: tuple[str, ...] = STOP_WORDS,
        finding_phrases: FindingPhrases = "kept",
    ) -> None:
        super().__init__(latent_dim, features_dim)
        check_count(f"{type(self).__name__}.vocabulary_size", vocabulary_size)
        check_count(f"{type(self).__name__}.min_count", min_count)
        self.vocabulary_size, self.min_count = vocabulary_size, min_count
        self.stop_words, self.finding_phrases = tuple(stop_words), finding_phrases
        self.vocabulary = Vocabulary(vocabulary_size, min_count)
        self.outputs = LinearOutputs(latent_dim, features_dim, vocabulary_size)
        torch.nn.init.zeros_(self.outputs.of_z.bias)

    @property
    def preparation(self) -> dict[str, Any]:
        """What the terms of a report depend on; the vocabulary is learned from them."""
        choice = {} if self.finding_phrases == "kept" else {"finding_phrases": self.finding_phrases}
        return {"observed": type(self).__name__, "stop_words": list(self.stop_words)} | choice

    def terms_of(self, report: str) -> Tensor:
        """The terms of a report that are observed, in their order, with repeats, int64 [T]."""
        left_out = FINDING_WORDS if self.finding_phrases == "left_out" else frozenset[str]()
        only = FINDING_WORDS | DENIALS if self.finding_phrases == "only" else None
        return terms_of(report, left_out.union(self.stop_words), only)

    def logits(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """One number a term, float [..., B, V]; unused places of the vocabulary are never there."""
        unused = self.vocabulary.terms == NO_TERM
        return self.outputs(z, features).masked_fill(unused, -1e4)


class WordPresence(_WordLikelihood):
    """Which words, and pairs of neighbouring words, of a vocabulary are in the report: independent Bernoullis given z.

        p(x_T | z) = prod_v Bernoulli(x_v | logits = (W_z z + W_h h + b)_v)

    Args:
        latent_dim: D.
        features_dim: width of the image features h that are seen beside z; 0 is z alone.
        vocabulary_size: V, the terms that most training reports have.
        min_count: training reports that a term must be in.
        stop_words: words that are passed over.
        finding_phrases: words of the phrases that name a finding (those of the labeller): "kept" as any other;
            "left_out", alone and in pairs; or "only" those and the words that deny them.
    """

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """The different terms of each report, int64 [T]."""
        return [self.terms_of(report).unique() for report in reports]

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Learns the vocabulary, and begins with how frequent each term is."""
        reports = list(reports)
        share = (self.vocabulary.learn(reports) + 0.5) / (len(reports) + 1)
        with torch.no_grad():
            self.outputs.of_z.bias.copy_(share.logit())

    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        """Which terms are there, as their numbers: batch shape [..., B]."""
        return TermPresence(self.logits(z, features), self.vocabulary)


class WordCounts(_WordLikelihood):
    """How often words, and pairs of neighbouring words, of a vocabulary are in the report: a multinomial given z.

        p(x_T | z) = prod_t Categorical(x_t | logits = W_z z + W_h h + b)

    Args: as of `WordPresence`.
    """

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """The terms of each report, as often as they occur, int64 [T]."""
        return [self.terms_of(report) for report in reports]

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Learns the vocabulary, and begins with how frequent each term is."""
        counts = self.vocabulary.learn(list(reports)) + 0.5
        with torch.no_grad():
            self.outputs.of_z.bias.copy_((counts / counts.sum()).log())

    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        """Terms, as their numbers: batch shape [..., B]."""
        return TermCounts(self.logits(z, features), self.vocabulary)
