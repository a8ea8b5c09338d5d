"""Labels from reports, in the manner of CheXpert's labeller (Irvin et al. 2019).

    report --words--> phrases of findings --negspacy--> mentions --aggregation--> labels

A blank spaCy pipeline finds phrases; negspacy tells which are denied, and, under a second name, which are hedged; what
is said of an organ (the heart is enlarged, the lungs are clear) counts as a mention too. The phrases: `_phrases`.

Where it leaves CheXpert: an organ that is named and not judged ("heart size is stable") mentions nothing, "the lungs
are clear" denies Lung Opacity, and "atelectasis or pneumonia" makes both uncertain.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vkd_pyro.data.labels import phrases
from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span
    from spacy.vocab import Vocab

MASK = "___"
STRENGTH = [UNMENTIONED, ABSENT, UNCERTAIN, PRESENT]
"""The values of a finding, the weakest first: where a report has two, the stronger counts."""

PARAGRAPH = "¶"
WORD = re.compile(r"\n[ \t\r]*\n|vs\.|\d+\.\d+|\w+(?:'\w+)?|[.!?;,]", re.IGNORECASE)
"""What is read: words, what ends a clause, and the empty line. Hyphens, slashes, brackets, colons only part words."""

DEVICES, JUDGED, OTHER = "Support Devices", "judged", "other"
"""Kinds of phrase: devices, which are denied in a way of their own; what is said of an organ; what is passed over."""

BESIDE = frozenset(["a", "but", "mild", "mildly", "of", "persistent", "stable", "the", "unchanged"])
"""What may stand between a judgement and its organ: an enlarged but stable heart."""


@dataclass(frozen=True)
class Mention:
    """A place in a report that says something of a finding.

    Args:
        finding: one of the 14.
        start: where it begins in the report, in characters.
        end: where it has ended.
        value: PRESENT, ABSENT or UNCERTAIN.
    """

    finding: str
    start: int
    end: int
    value: float


class Labeller:
    """Reports -> labels of the 14 CheXpert findings.

    A finding of a report is PRESENT where any mention says so, else UNCERTAIN where any does, else ABSENT, and
    UNMENTIONED where there is none. Heart failure makes Cardiomegaly uncertain. No Finding is PRESENT where nothing
    but Support Devices is present or uncertain, and else UNMENTIONED, as in an empty report.

    Raises:
        UserError: the libraries of the extra `label` are not installed.
    """

    findings = CHEXPERT_FINDINGS

    def __init__(self) -> None:
        self._pipeline = _pipeline()

    def label(self, reports: Iterable[str], progress: bool = False) -> NDArray[np.float32]:
        """Labels of each report, PRESENT, ABSENT, UNCERTAIN or UNMENTIONED. Returns: float32 [N, 14]."""
        read = self.mentions(tqdm(reports, desc="label", unit="report", disable=not progress))
        rows = [_aggregate(mentions, bool(re.search(r"[^\W_]", text))) for text, mentions in read]
        return np.array(rows, dtype=np.float32).reshape(-1, len(self.findings))

    def mask(self, reports: Iterable[str]) -> list[str]:
        """The reports with `___` in place of all that mentions a finding, to measure what else tells the labels."""
        return [_masked(text, mentions) for text, mentions in self.mentions(reports)]

    def mentions(self, reports: Iterable[str]) -> Iterator[tuple[str, list[Mention]]]:
        """Each report, and the places in it that say something of a finding, in their order."""
        for doc, text in self._pipeline.pipe(((text, text) for text in reports), as_tuples=True, batch_size=256):
            yield text, _mentions(doc)


def _aggregate(mentions: list[Mention], said: bool) -> list[float]:
    """Mentions of one report -> its 14 labels; `said`: there was anything to read."""
    labels = dict.fromkeys(CHEXPERT_FINDINGS, UNMENTIONED)
    for mention in mentions:
        labels[mention.finding] = max(labels[mention.finding], mention.value, key=STRENGTH.index)
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


def _mentions(doc: "Doc") -> list[Mention]:
    """Read-off of a document that went through the pipeline."""
    found: list[Mention] = []
    for sentence in doc.sents:
        entities = list(sentence.ents)
        _hedge_alternatives(doc, entities)
        for number, entity in enumerate(entities):
            if organ := phrases.ORGANS.get(entity.label_):
                found += _judged_organ(doc, entities, number, organ)
            elif entity.label_ not in (JUDGED, OTHER):
                found += _mention(doc, entity.label_.split("|"), entity, entity, _value(entity))
                if entity.text.lower() in phrases.HEART_FAILURE and _value(entity) != ABSENT:
                    found += _mention(doc, ["Cardiomegaly"], entity, entity, UNCERTAIN)
    return sorted(found, key=lambda mention: mention.start)


def _mention(doc: "Doc", findings: Iterable[str], first: "Span", last: "Span", value: float) -> list[Mention]:
    places = doc.user_data["places"]
    start, end = places[min(first.start, last.start)][0], places[max(first.end, last.end) - 1][1]
    return [Mention(finding, start, end, value) for finding in findings]


def _value(entity: "Span") -> float:
    if entity._.denied:
        return ABSENT
    return UNCERTAIN if entity._.hedged else PRESENT


def _hedge_alternatives(doc: "Doc", entities: list["Span"]) -> None:
    """Atelectasis or pneumonia, opacity versus mass: neither is sure, unless both are denied."""
    for first, second in pairwise(entities):
        between = {word.lower_ for word in doc[first.end : second.start]}
        if between & phrases.ALTERNATIVE and second.start - first.end <= 4 and first.label_ != second.label_:
            second._.hedged = True
            first._.hedged = first._.hedged or "with" not in between  # effusion with or without atelectasis


def _judged_organ(doc: "Doc", entities: list["Span"], number: int, organ: phrases.Organ) -> list[Mention]:
    """What its sentence says of the organ; nothing where it says nothing.

    Normal is often said of several organs at once, abnormal of the one just named.
    """
    for judgement, near in _judgements(doc, entities, number):
        value = organ.said.get(judgement.text.lower())
        if value == ABSENT or (value is not None and near):
            value = _value(judgement) if value == PRESENT else value
            return _mention(doc, organ.findings, entities[number], judgement, value)
    return []


def _judgements(doc: "Doc", entities: list["Span"], number: int) -> Iterator[tuple["Span", bool]]:
    """Judgements that may be of the organ `entities[number]`, likeliest first, and whether no other name is nearer."""
    named, before, after = entities[number], entities[:number][::-1], entities[number + 1 :]
    if before and {word.lower_ for word in doc[before[0].end : named.start]} <= BESIDE:
        yield before[0], True
    near = True
    for entity, following in zip(after, [*after[1:], None], strict=False):  # both are empty where nothing is after
        of_the_following = following is not None and entity.end == following.start and following.label_ != JUDGED
        if entity.label_ == JUDGED and not of_the_following:
            yield entity, near
        near = near and entity.label_ == JUDGED
    yield from ((entity, False) for entity in before)


class _Words:
    """spaCy tokenizer of reports: text -> Doc of words, whose `user_data["places"]` holds (start, end) in the text."""

    def __init__(self, vocab: "Vocab") -> None:
        from spacy.tokens import Doc

        self.vocab, self.Doc = vocab, Doc

    def __call__(self, text: str) -> "Doc":
        found = list(WORD.finditer(text))
        doc = self.Doc(self.vocab, words=[match[0].strip() or PARAGRAPH for match in found])
        doc.user_data["places"] = [match.span() for match in found]
        return doc

    def pipe(self, texts: Iterable[str]) -> Iterator["Doc"]:
        return map(self, texts)


def _pipeline() -> "Language":
    """Words, sentences, phrases as entities, and whether each is denied or hedged."""
    try:
        import negspacy.negation  # noqa: F401  (registers its component)
        import spacy
        from spacy.tokens import Span
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; labels from reports need pip install 'vkd-pyro[label]'"
        ) from error
    Span.set_extension("denied", default=False, force=True)
    Span.set_extension("hedged", default=False, force=True)
    pipeline = spacy.blank("en")
    pipeline.tokenizer = _Words(pipeline.vocab)
    pipeline.add_pipe("sentencizer", config={"punct_chars": [".", "!", PARAGRAPH]})
    ruler: Any = pipeline.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    patterns = [{"label": label, "pattern": phrase} for phrase, label in _labelled_phrases().items()]
    ruler.add_patterns(patterns)
    kinds = sorted({pattern["label"] for pattern in patterns} - {DEVICES})
    for name, extension, terms, types in [
        ("denied", "denied", phrases.DENIED, kinds),
        ("removed", "denied", phrases.REMOVED, [DEVICES]),
        ("hedged", "hedged", phrases.HEDGED, None),
    ]:
        config = {"neg_termset": terms, "extension_name": extension, "ent_types": types}
        pipeline.add_pipe("negex", name=name, config=config)
    return pipeline


def _labelled_phrases() -> dict[str, str]:
    """Phrase -> its kind: the findings that it names, joined by "|"; the key of an organ; JUDGED; or OTHER."""
    kinds: dict[str, str] = dict.fromkeys(phrases.LOOKALIKES + phrases.FURTHER_ORGANS, OTHER)
    for key, organ in phrases.ORGANS.items():
        kinds |= dict.fromkeys(organ.said, JUDGED)
        kinds |= dict.fromkeys(organ.names, key)
    named: dict[str, list[str]] = {}
    for finding, names in phrases.FINDINGS.items():
        for phrase in names:
            named.setdefault(phrase, []).append(finding)
    return kinds | {phrase: "|".join(findings) for phrase, findings in named.items()}
