"""Words of a report as the phrases spell them: abbreviations written out, misspellings mended.

A word is mended only where it is long, no right word, and one edit from a single term (two, where it is longer than
seven letters). Right words that are as near ("infusion", "module") are listed, since they would be turned otherwise.
"""

import re
from functools import cache, lru_cache

from vkd_pyro.data.labels import phrases
from vkd_pyro.data.labels.abbreviations import ABBREVIATIONS, RIGHT_WORDS, TERMS

SHORTEST, LONG = 5, 8
"""Letters of a word that may be mended, and of one that may have two errors."""


@lru_cache(maxsize=65536)
def spelled_out(word: str) -> tuple[str, ...]:
    """The word or words that `word`, in small letters, stands for."""
    if written := ABBREVIATIONS.get(word):
        return tuple(written.split())
    if word.startswith("no") and word[2:] in TERMS and len(word) > LONG:
        return ("no", word[2:])  # nopneumothorax
    if len(word) < SHORTEST or not word.isalpha() or word in _right_words():
        return (word,)
    allowed = 2 if len(word) >= LONG else 1
    near = [(distance, term) for term in _like(word) if (distance := edits(word, term, allowed)) <= allowed]
    nearest = min(near, default=(0, ""))[0]
    terms = {term for distance, term in near if distance == nearest}
    if len({re.sub("[sd]$", "", term) for term in terms}) != 1:
        return (word,)
    # "effusoin" is as far from the plural as from the singular, which mean the same; "exclued" ends as one tense does.
    return (min(terms, key=lambda term: (term[-1] != word[-1] or word[-1] != "d", len(term))),)


@cache
def _right_words() -> frozenset[str]:
    return TERMS | RIGHT_WORDS | {word for phrase in phrases.every_phrase() for word in phrase.split()}


def _like(word: str) -> list[str]:
    """Terms that may be near: about as long, and the same at either end."""
    return [
        term
        for term in TERMS
        if abs(len(term) - len(word)) <= 2
        and (term[0] == word[0] or term[1] == word[0])
        and (term[0] == word[0] or term[-1] == word[-1])
    ]


def edits(first: str, second: str, most: int) -> int:
    """Letters to insert, delete, replace, or swap with their neighbour; `most` + 1 where there are more."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        above, before_that = row, before
        row = [i]
        for j, other in enumerate(second, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, before_that[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before = above
    return min(row[-1], most + 1)
