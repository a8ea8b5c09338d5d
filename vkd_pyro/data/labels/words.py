"""A report as sentences of words, each with its place in the text."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from vkd_pyro.data.labels.lists import ANSWERS
from vkd_pyro.data.labels.spelling import spelled_out
from vkd_pyro.data.lines import MARKER, statement_breaks

TOKEN = re.compile(
    r"\([-+]\)|\bvs\.|\b[a-z]/[a-z](?:'d)?(?![a-z/])|\bw/|[-+]ve\b|\d+(?:\.\d+)?|[^\W_]+(?:'[^\W_]+)?|[?;,:()/=+&]|"
    r"[\u2013\u2014]|(?<=\s)--?(?=\s|$)|--",
    re.IGNORECASE,
)
"""What is read. Hyphens and brackets that only part words are not."""

END = re.compile(r"!|(?<!\b[A-Za-z])(?<!\bvs)\.(?!\d)|(?<=\w)\?(?=\s+[A-Z(])")
"""Where a sentence ends; "L. effusion" goes on."""

NUMBERED = re.compile(r"(?<=\s)(?:\(?\d{1,2}[.)](?=\s+[A-Z])|#\d{1,2}(?=\s))|[\u2022\u25cf\u25aa\u25e6]")
LONGEST = 300
"""Words of a sentence; what is longer is no sentence, and read in pieces."""

SIGNS = {
    "\u2014": "--",
    "\u2013": "--",
    "-": "--",
    "=": ":",
    "+ve": "positive",
    "-ve": "negative",
    "(+)": "positive",
    "(-)": "negative",
    "&": "and",
}


@dataclass(frozen=True)
class Word:
    """A word as the phrases spell it, and its place in the report, in characters."""

    text: str
    start: int
    end: int


def sentences_of(text: str, start: int = 0, end: int | None = None) -> Iterator[list[Word]]:
    """The sentences between two places of a report, in their order."""
    end = len(text) if end is None else end
    breaks = {start + place for place in statement_breaks(text[start:end])}
    breaks |= {match.start() for match in NUMBERED.finditer(text, start, end)}
    for match in END.finditer(text, start, end):
        answer = re.match(r"\s+([A-Za-z]+)\s*(?:[.,;]|$)", text[match.end() : end]) if match[0] == "?" else None
        if not (answer and answer[1].lower() in ANSWERS):
            breaks.add(match.end())
    bounds = [start, *sorted(breaks), end]
    for first, last in pairwise(bounds):
        marker = MARKER.match(text, first, last)
        words = _words(text, marker.end() if marker else first, last)
        yield from (words[place : place + LONGEST] for place in range(0, len(words), LONGEST))


def _words(text: str, start: int, end: int) -> list[Word]:
    words = []
    for match in TOKEN.finditer(text, start, end):
        token = unicodedata.normalize("NFKC", match[0]).lower()  # ligatures, as a printed page has them
        if token == "?" and text[match.end() : end].split()[:1] and _answers(text[match.end() : end]):
            token = ":"
        for part in spelled_out(SIGNS.get(token, token)):
            words.append(Word(part, match.start(), match.end()))
    return words


def _answers(rest: str) -> bool:
    return rest.split()[0].lower().strip(".,;") in ANSWERS
