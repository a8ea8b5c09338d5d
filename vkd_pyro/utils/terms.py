"""Terms of a report: its words and pairs of neighbouring words, as numbers, and a vocabulary of them.

A term is the first 8 bytes of its sha256: what is prepared, stored and learned from holds no text.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

WORD = re.compile(r"[a-z0-9]+|[.;:?!]")
NO_TERM = torch.iinfo(torch.int64).max
"""What fills the unused places of a vocabulary: above every term."""


@lru_cache(maxsize=1 << 20)
def term(text: str) -> int:
    """The number of a word, or of two words with a space between: in [0, 2^62), the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


def terms_of(report: str, stop_words: Iterable[str] = ()) -> Tensor:
    """The terms of a report in their order, with repeats, int64 [T]: words, and pairs within a clause.

    Words of the stop list are passed over, alone and in pairs; what stood around them is then no pair.
    """
    stopped = frozenset(stop_words)
    words = [word if word[0].isalnum() and word not in stopped else "" for word in WORD.findall(report.lower())]
    pairs = (f"{one} {other}" for one, other in pairwise(words) if one and other)
    return torch.tensor([term(text) for text in (*filter(None, words), *pairs)], dtype=torch.int64)


class Vocabulary(nn.Module):
    """The terms that most reports of a training split have; it is learned once, and kept with the weights.

    Args:
        size: terms at most.
        min_count: reports that a term must be in.
    """

    def __init__(self, size: int, min_count: int) -> None:
        super().__init__()
        self.size, self.min_count = size, min_count
        self.terms: Tensor
        self.register_buffer("terms", torch.full((size,), NO_TERM))

    def learn(self, reports: Sequence[Tensor], left_out: Iterable[int] = ()) -> Tensor:
        """Takes the most frequent terms of reports, int64 [T] each. Returns: in how many each is, float [size]."""
        counts = Counter(one for report in reports for one in set(report.tolist()))
        for one in left_out:
            counts.pop(one, None)
        often = sorted((one for one, n in counts.items() if n >= self.min_count), key=lambda one: (-counts[one], one))
        kept = sorted(often[: self.size])
        self.terms.fill_(NO_TERM)
        self.terms[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
        found = torch.zeros(self.size)
        found[: len(kept)] = torch.tensor([float(counts[one]) for one in kept])
        return found

    def __len__(self) -> int:
        return int((self.terms != NO_TERM).sum())

    def forward(self, terms: Tensor) -> Tensor:
        """The column of each term, int64 of the same shape; -1 for one that is not in the vocabulary, and padding."""
        columns = torch.searchsorted(self.terms, terms.contiguous()).clamp(max=self.size - 1)
        return torch.where(self.terms[columns] == terms, columns, -1).masked_fill(terms < 0, -1)
