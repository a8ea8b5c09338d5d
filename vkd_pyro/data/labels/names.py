"""Finds names in a sentence: of findings, devices, organs, what is judged of these, and what only looks like one."""

from dataclasses import dataclass
from functools import cache

from vkd_pyro.data.labels import phrases
from vkd_pyro.data.labels.words import Word

FINDING, DEVICE, ORGAN, JUDGEMENT, PASSED, ARTEFACT = "F", "D", "O", "J", "X", "A"
"""Kinds of name, by their letters in a skeleton."""
DEVICES = "Support Devices"


@dataclass(frozen=True)
class Name:
    """A name in a sentence.

    Attributes:
        kind: one of the letters above.
        text: the phrase.
        means: the findings it names, or the organ's key.
        first: its first word, by number.
        last: the one after its last word.
    """

    kind: str
    text: str
    means: tuple[str, ...]
    first: int
    last: int


def names_in(words: list[Word]) -> list[Name]:
    """The longest names from left to right; none overlap."""
    index, names, place = _index(), [], 0
    while place < len(words):
        for length in index.lengths.get(words[place].text, ()):
            phrase = tuple(word.text for word in words[place : place + length])
            if len(phrase) == length and (known := index.phrases.get(phrase)):
                if known[0]:
                    names.append(Name(known[0], " ".join(phrase), known[1], place, place + length))
                place += length
                break
        else:
            place += 1
    return [name for name, following in zip(names, [*names[1:], None], strict=False) if _judges(name, following, names)]


def _judges(name: Name, following: Name | None, names: list[Name]) -> bool:
    """Whether a name is more than a word of the finding after it ("lung nodule", "borderline cardiomegaly").

    A judgement wants an organ, too.
    """
    if name.kind not in (ORGAN, JUDGEMENT):
        return True
    of_finding = following is not None and following.kind == FINDING and following.first == name.last
    return not of_finding and (name.kind == ORGAN or any(other.kind == ORGAN for other in names))


@dataclass(frozen=True)
class _Index:
    phrases: dict[tuple[str, ...], tuple[str, tuple[str, ...]]]
    lengths: dict[str, list[int]]


@cache
def _index() -> _Index:
    known: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
    for phrase in phrases.LOOKALIKES + phrases.FURTHER_ORGANS:
        known[tuple(phrase.split())] = (PASSED, ())
    for phrase in phrases.NO_NAMES:
        known[tuple(phrase.split())] = ("", ())
    for phrase in phrases.ARTEFACTS:
        known[tuple(phrase.split())] = (ARTEFACT, ())
    for key, organ in phrases.ORGANS.items():
        known |= {tuple(phrase.split()): (JUDGEMENT, ()) for phrase in organ.said}
        known |= {tuple(phrase.split()): (ORGAN, (key,)) for phrase in organ.names}
    named: dict[tuple[str, ...], list[str]] = {}
    for finding, names in phrases.FINDINGS.items():
        for phrase in names:
            named.setdefault(tuple(phrase.split()), []).append(finding)
    for words, findings in named.items():
        known[words] = (DEVICE if set(findings) == {DEVICES} else FINDING, tuple(dict.fromkeys(findings)))
    lengths: dict[str, set[int]] = {}
    for words in known:
        lengths.setdefault(words[0], set()).add(len(words))
    return _Index(known, {word: sorted(found, reverse=True) for word, found in lengths.items()})
