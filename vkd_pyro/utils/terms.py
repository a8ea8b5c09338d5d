"""Terms of a report: its words and pairs of neighbouring words, as numbers, and a vocabulary of them.

A term is 62 bits of its sha256. What is prepared, stored and learned from holds no text, but a number can be told by
whoever guesses its word: a vocabulary hides its words from no one who has a list of names.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.utils.errors import UserError

WORD = re.compile(r"[^\W_]+|[.;:?!]")
"""Letters and digits of any script, or what ends a clause."""
NO_TERM = torch.iinfo(torch.int64).max
"""What fills the unused places of a vocabulary: above every term."""


@lru_cache(maxsize=1 << 20)
def term(text: str) -> int:
    """The number of a word, or of two words with a space between: in [0, 2^62), the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


def terms_of(report: str, stop_words: Collection[str] = (), only: Collection[str] | None = None) -> Tensor:
    """The terms of a report in their order, with repeats, int64 [T]: words, and pairs within a clause.

    Words of the stop list, or that are not among `only`, are passed over, alone and in pairs; what stood around them is
    then no pair.
    """

    def counts(word: str) -> bool:
        return word[0].isalnum() and word not in stop_words and (only is None or word in only)

    text = unicodedata.normalize("NFC", report).lower()
    words = [word if counts(word) else "" for word in WORD.findall(text)]
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
        self._is_learned = False  # beside the terms, so that no step waits for a device to say so
        self.terms: Tensor
        self.register_buffer("terms", torch.full((size,), NO_TERM))

    def learn(self, reports: Sequence[Tensor]) -> Tensor:
        """Takes the most frequent terms of reports, int64 [T] each. Returns: in how many each is, float [size].

        Raises:
            UserError: no term is in `min_count` of them.
        """
        counts = Counter(one for report in reports for one in set(report.tolist()))
        often = sorted((one for one, n in counts.items() if n >= self.min_count), key=lambda one: (-counts[one], one))
        kept = sorted(often[: self.size])
        if not kept:
            most = f"the most frequent is in {max(counts.values())}" if counts else "none has a word"
            raise UserError(
                f"min_count: found no word in at least {self.min_count} of the {len(reports):,} training reports "
                f"({most}), expected a vocabulary; lower min_count, or look at what data.selection.report takes"
            )
        self.terms.fill_(NO_TERM)
        self.terms[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
        self._is_learned = True
        found = torch.zeros(self.size)
        found[: len(kept)] = torch.tensor([float(counts[one]) for one in kept])
        return found

    def __len__(self) -> int:
        return int((self.terms != NO_TERM).sum())

    def forward(self, terms: Tensor) -> Tensor:
        """The column of each term, int64 of the same shape; -1 for one that is not in the vocabulary, and padding.

        Raises:
            UserError: it was never learned.
        """
        if not self._is_learned:
            raise UserError(
                "vocabulary: found none, since no reports were shown to it, so every report would be empty; call "
                "vkd_pyro.training.requirements.observe_training(method, data) before the first step"
            )
        columns = torch.searchsorted(self.terms, terms.contiguous()).clamp(max=self.size - 1)
        return torch.where(self.terms[columns] == terms, columns, -1).masked_fill(terms < 0, -1)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._is_learned = len(self) > 0
