"""Labels from reports, in the manner of CheXpert's labeller (Irvin et al. 2019).

    report --sections--> sentences --words--> names of findings --scope--> mentions --aggregation--> labels

Abbreviations and misspellings are read as what they stand for (`spelling`), names are found by phrases (`phrases`), and
a grammar of cues tells which are denied or hedged (`cues`, `scope`). What is said of an organ (the heart is enlarged,
the lungs are clear) counts as a mention too; what an indication, a history or a comparison names does not.

Where it leaves CheXpert: an organ that is named and not judged ("heart size is stable") mentions nothing, "the lungs
are clear" denies Lung Opacity, "atelectasis or pneumonia" makes both uncertain, and so is what an
addendum takes back.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vkd_pyro.data.labels import phrases
from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.data.labels.names import DEVICE, DEVICES, FINDING, JUDGEMENT, ORGAN, Name, names_in
from vkd_pyro.data.labels.scope import values_of
from vkd_pyro.data.labels.skeleton import Skeleton
from vkd_pyro.data.labels.words import Word, sentences_of
from vkd_pyro.data.lines import plain
from vkd_pyro.data.sections import ADDENDUM, READ, sections_of

MASK = "___"
STRENGTH = [UNMENTIONED, ABSENT, UNCERTAIN, PRESENT]
"""The values of a finding, the weakest first: where a report has two, the stronger counts."""

BESIDE = frozenset(["a", "but", "mild", "mildly", "of", "persistent", "stable", "the", "unchanged", ":"])
"""What may stand between a judgement and its organ: an enlarged but stable heart."""


@dataclass(frozen=True)
class Mention:
    """A place in a report that says something of a finding.

    Args:
        finding: one of the 14.
        start: where it begins in the report, in characters.
        end: where it has ended.
        value: PRESENT, ABSENT or UNCERTAIN.
        later: whether an addendum says so.
    """

    finding: str
    start: int
    end: int
    value: float
    later: bool = False


class Labeller:
    """Reports -> labels of the 14 CheXpert findings.

    A finding of a report is PRESENT where any mention says so, else UNCERTAIN where any does, else ABSENT, and
    UNMENTIONED where there is none; but what an addendum denies or hedges is UNCERTAIN where the report affirms it.
    Heart failure makes Cardiomegaly uncertain. No Finding is PRESENT where nothing but Support Devices is present or
    uncertain, and else UNMENTIONED, as in a report that says nothing of what is seen.
    """

    findings = CHEXPERT_FINDINGS

    def label(self, reports: Iterable[str], progress: bool = False) -> NDArray[np.float32]:
        """Labels of each report, PRESENT, ABSENT, UNCERTAIN or UNMENTIONED. Returns: float32 [N, 14]."""
        read = map(plain, tqdm(reports, desc="label", unit="report", disable=not progress))
        rows = [_aggregate(_mentions(text), _says_anything(text)) for text in read]
        return np.array(rows, dtype=np.float32).reshape(-1, len(self.findings))

    def mask(self, reports: Iterable[str]) -> list[str]:
        """The reports with `___` in place of all that mentions a finding, to measure what else tells the labels."""
        return [_masked(text, mentions) for text, mentions in self.mentions(reports)]

    def mentions(self, reports: Iterable[str]) -> Iterator[tuple[str, list[Mention]]]:
        """Each report, and the places in it that say something of a finding, in their order."""
        for text in reports:
            yield text, _mentions(plain(text))


def _says_anything(text: str) -> bool:
    """Whether a report says anything of what is seen."""
    return any(re.search(r"[^\W_]", text[s.start : s.end]) for s in sections_of(text) if s.name in ("", *READ))


def _aggregate(mentions: list[Mention], said: bool) -> list[float]:
    """Mentions of one report -> its 14 labels; `said`: there was anything to read."""
    labels = dict.fromkeys(CHEXPERT_FINDINGS, UNMENTIONED)
    for mention in mentions:
        labels[mention.finding] = max(labels[mention.finding], mention.value, key=STRENGTH.index)
    for finding, value in labels.items():
        later = {mention.value for mention in mentions if mention.finding == finding and mention.later}
        if value == PRESENT and later and PRESENT not in later:
            labels[finding] = UNCERTAIN
    found = any(v in (PRESENT, UNCERTAIN) for finding, v in labels.items() if finding != DEVICES)
    labels["No Finding"] = PRESENT if said and not found else UNMENTIONED
    return list(labels.values())


def _masked(text: str, mentions: list[Mention]) -> str:
    pieces, done = [], 0
    for mention in mentions:
        if mention.start >= done:
            pieces += [text[done : mention.start], MASK]
        done = max(done, mention.end)
    return "".join([*pieces, text[done:]])


def _mentions(text: str) -> list[Mention]:
    found: list[Mention] = []
    for section in sections_of(text):
        if section.name in ("", *READ):
            for words in sentences_of(text, section.start, section.end):
                found += _of_sentence(words, section.name == ADDENDUM)
    return sorted(found, key=lambda mention: mention.start)


def _of_sentence(words: list[Word], later: bool) -> list[Mention]:
    names = names_in(words)
    if not names:
        return []
    values = values_of(Skeleton(words, names))
    found = []
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        if name.kind == ORGAN:
            found += _judged_organ(words, names, values, number)
        elif name.kind in (FINDING, DEVICE) and value is not None:
            found += _at(words, name.means, name, name, value)
            if name.text in phrases.HEART_FAILURE and value != ABSENT:
                found += _at(words, ("Cardiomegaly",), name, name, UNCERTAIN)
    return [Mention(m.finding, m.start, m.end, m.value, later) for m in found] if later else found


def _at(words: list[Word], findings: Iterable[str], first: Name, last: Name, value: float) -> list[Mention]:
    start = words[min(first.first, last.first)].start
    end = words[max(first.last, last.last) - 1].end
    return [Mention(finding, start, end, value) for finding in findings]


def _judged_organ(words: list[Word], names: list[Name], values: list[float | None], number: int) -> list[Mention]:
    """What its sentence says of the organ; nothing where it says nothing.

    Normal is often said of several organs at once, abnormal of the one just named.
    """
    organ = phrases.ORGANS[names[number].means[0]]
    for judgement, near in _judgements(words, names, number):
        value = organ.said.get(names[judgement].text)
        if value == ABSENT or (value is not None and near):
            said = values[judgement] if value == PRESENT else value
            return _at(words, organ.findings, names[number], names[judgement], PRESENT if said is None else said)
    return []


def _judgements(words: list[Word], names: list[Name], number: int) -> Iterator[tuple[int, bool]]:
    """Judgements that may be of the organ `names[number]`, likeliest first, and whether no other name is nearer."""
    named, before, after = names[number], range(number - 1, -1, -1), range(number + 1, len(names))
    if before and {word.text for word in words[names[before[0]].last : named.first]} <= BESIDE:
        yield before[0], True
    near = True
    for place in after:
        following = names[place + 1] if place + 1 < len(names) else None
        of_the_following = (
            following is not None and names[place].last == following.first and following.kind != JUDGEMENT
        )
        if names[place].kind == JUDGEMENT and not of_the_following:
            yield place, near
        near = near and names[place].kind == JUDGEMENT
    yield from ((place, False) for place in before)
