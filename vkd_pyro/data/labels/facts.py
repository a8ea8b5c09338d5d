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
    3: re.compile(r"\bsevere|\blarge\b|\bmassive|\bmarked|\bextensive|\bdense\b|\bgross", re.I),
}
CLAUSE_END = re.compile(r"[.;!?]\s|\n|,\s(?=and\b|but\b|with no\b|no\b)")


def facts_of(reports: Iterable[str]) -> NDArray[np.int64]:
    """Codes of presence, side and severity of each finding in each report, int64 [N, K, 3]: see `ATTRIBUTES`.

    Side and severity are those said in the clause of a mention that affirms or hedges; both sides of several mentions
    make "both", and the gravest severity counts.
    """
    labeller = Labeller()
    return np.array([_facts(text, mentions, labeller.findings) for text, mentions in labeller.mentions(reports)])


def _facts(text: str, mentions: list[Mention], findings: tuple[str, ...]) -> NDArray[np.int64]:
    codes = np.zeros((len(findings), 3), np.int64)
    for mention in mentions:
        row = codes[findings.index(mention.finding)]
        row[0] = max(row[0], STRENGTH.index(mention.value))
        if mention.value in (PRESENT, UNCERTAIN):
            clause = _clause(text, mention)
            sides = {code for code, words in SIDES.items() if words.search(clause)} | ({int(row[1])} - {0})
            row[1] = 0 if not sides else 3 if len(sides) > 1 else sides.pop()
            row[2] = max([int(row[2]), *(code for code, words in SEVERITIES.items() if words.search(clause))])
    return codes


def _clause(text: str, mention: Mention) -> str:
    before = [end.end() for end in CLAUSE_END.finditer(text, 0, mention.start)]
    after = CLAUSE_END.search(text, mention.end)
    return text[before[-1] if before else 0 : after.start() if after else len(text)]
