"""What a report says of each finding beyond its label: on which side it is, and how severe."""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import PRESENT, UNCERTAIN
from vkd_pyro.data.labels.labeller import STRENGTH, Labeller, Mention

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "presence": ("not mentioned", "absent", "uncertain", "present"),
    "side": ("not said", "left", "right", "both"),
    "severity": ("not said", "mild", "moderate", "severe"),
}
"""The values of each, by their codes 0, 1, 2, 3."""

SIDES = {
    1: re.compile(r"\bleft\b|\bleft[- ]sided\b|\blingula|\b(?:lll|lul|lt|l)\b(?![/-])", re.IGNORECASE),
    2: re.compile(r"\bright\b|\bright[- ]sided\b|\b(?:rll|rul|rml|rt|r)\b(?![/-])", re.IGNORECASE),
    3: re.compile(r"\bbilat|\bboth\b|\bbibasilar|\bbibasal|\bbiapical|\bb/l\b", re.IGNORECASE),
}
SEVERITIES = {
    1: re.compile(r"\bmild|\bsmall\b|\bminimal|\btiny\b|\bslight|\bsubtle|\btrace\b|\bminor\b|\bborderline", re.I),
    2: re.compile(r"\bmoderate|\bmod\b", re.I),
    3: re.compile(r"\bsevere|\blarge\b|\bmassive|\bmarked|\bextensive|\bdense\b|\bgross|\bconsiderable", re.I),
}
CLAUSE_END = re.compile(
    r"(?<!\b[LRlr]t)(?<!\b[LRlr])[.;!?]\s|\n\s*\n|,\s(?=and\b|but\b|with no\b|no\b)|\b(?:without|with no|no)\b"
)
JOINT = re.compile(r"\b(?:and|with|but|or|over|while|status post)\b|,")
"""Between two mentions: what follows the last of these is of the second."""
OF_CHANGES = re.compile(r"\b(?:gross|slight|minimal|mild|significant)ly (?:un|dis|in|de)[a-z]+ed\b", re.IGNORECASE)
"""These say how much something changed, or was displaced, not how much there is of it."""


def facts_of(reports: Iterable[str]) -> NDArray[np.int64]:
    """Codes of presence, side and severity of each finding in each report, int64 [N, K, 3]: see `ATTRIBUTES`.

    Side and severity are those said beside a mention that affirms or hedges: in its clause, up to what is said of the
    mentions next to it. Both sides of several mentions make "both", and the gravest severity counts.
    """
    labeller = Labeller()
    return np.array([_facts(text, mentions, labeller.findings) for text, mentions in labeller.mentions(reports)])


def _facts(text: str, mentions: list[Mention], findings: tuple[str, ...]) -> NDArray[np.int64]:
    codes = np.zeros((len(findings), 3), np.int64)
    spans = sorted({(mention.start, mention.end) for mention in mentions})
    for mention in mentions:
        row = codes[findings.index(mention.finding)]
        row[0] = max(row[0], STRENGTH.index(mention.value))
        if mention.value in (PRESENT, UNCERTAIN):
            said = OF_CHANGES.sub("", _said_of(text, mention, spans))
            sides = {code for code, words in SIDES.items() if words.search(said)} | ({int(row[1])} - {0})
            row[1] = 0 if not sides else 3 if len(sides) > 1 else sides.pop()
            row[2] = max([int(row[2]), *(code for code, words in SEVERITIES.items() if words.search(said))])
    return codes


def _said_of(text: str, mention: Mention, spans: list[tuple[int, int]]) -> str:
    """What of a mention's clause is said of it, and not of those before or after it."""
    before = max((end for _, end in spans if end <= mention.start), default=0)
    after = min((start for start, _ in spans if start >= mention.end), default=len(text))
    first = _last(CLAUSE_END, text, before, mention.start)
    if first is None:
        first = _last(JOINT, text, before, mention.start) if before else 0
    ended = CLAUSE_END.search(text, mention.end, after)
    last = ended.start() if ended else after
    if ended is None and after < len(text):
        joints = [joint.start() for joint in JOINT.finditer(text, mention.end, after)]
        last = joints[-1] if joints else mention.end
    return text[before if first is None else first : last]


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> int | None:
    """Where the last match ends."""
    ends = [match.end() for match in pattern.finditer(text, start, end)]
    return ends[-1] if ends else None
