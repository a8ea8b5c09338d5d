"""Headings in the text of a report, wherever it comes from: INDICATION: ... FINDINGS: ... IMPRESSION: ...

A heading is a known name before a colon at the beginning of a line; within a line it begins a sentence with a capital.
Names that are not known ("LUNGS:", "PNEUMOTHORAX:") head no section: they say of what the sentence is.
"""

import re
from dataclasses import dataclass

from vkd_pyro.data.lines import FULL, NARROWEST, statement_breaks

FINDINGS, IMPRESSION, ADDENDUM = "findings", "impression", "addendum"
READ = (FINDINGS, IMPRESSION, ADDENDUM)
"""Sections that say what is seen."""

NAMES: dict[str, str] = {
    FINDINGS: r"(?:findings?|results?|reports?|observations?|description|body(?: of report)?|"
    r"(?:wet|preliminary|prelim|final|attending|resident)(?: read| report| interpretation| note)?|"
    r"(?:final|preliminary) (?:findings|impression)|comments?)",
    IMPRESSION: r"(?:(?:findings (?:and|&) |findings ?/ ?)?(?:impressions?|imp)|conclusions?|opinion|interpretation|"
    r"summary|diagnostic impression|radiologic(?:al)? (?:diagnosis|impression)|assessment|final diagnosis)",
    ADDENDUM: r"(?:addend(?:um|a)(?: (?:#?\d+|by [\w. ]{1,30}|to (?:the )?(?:above )?report))?|correction|"
    r"amend(?:ment|ed report)|revised report)",
    "indication": r"(?:(?:clinical )?indications?(?: for (?:exam|examination|study))?|reason(?: for)?(?: this| the)?"
    r"(?: exam| examination| study| test| visit| order)?|clinical (?:information|data|details|statement|question|"
    r"context|diagnosis|concern|background|symptoms|presentation)|(?:admitting|preop|preoperative|working) diagnosis|"
    r"signs? and symptoms?|symptoms?|(?:clinical )?question|request(?:ed)?(?: for)?|complaint|chief complaint)",
    "history": r"(?:(?:clinical |patient |medical |past medical |brief |relevant )?(?:history|hx))",
    "comparison": r"(?:comparisons?(?: (?:study|studies|exam|examination|film|films|made|date|dates))?|"
    r"compared? (?:to|with)|"
    r"prior (?:studies|study|exams?|films?|imaging)|priors?)",
    "technique": r"(?:techniques?|procedures?(?: comments| description)?|protocol|views?|number of views|"
    r"imaging technique)",
    "examination": r"(?:exams?|examinations?|study|studies|type of (?:exam|study)|exam type|exam date|study date|date|"
    r"patient(?: name)?|name|mrn|dob|age|sex|accession(?: number)?|referring (?:physician|doctor)|"
    r"ordering (?:physician|"
    r"provider)|radiologist|dictated by|signed by|electronically signed by|recommendations?|notifications?)",
}
"""Section -> what heads it, in small letters."""

IMAGED = r"(?:[a-z0-9 ,/&()-]{0,50}\b(?:chest|cxr)\b[a-z0-9 ,/&()-]{0,50})"
"""What was imaged heads what was seen: "CHEST, 2 VIEWS:"."""

NOT_SEEN = re.compile(
    r"\b(?:exam\w*|indication|comparison|technique|history|clinical|reason|study|procedure|prior|previous|tubes?|wall|"
    r"lines?|pain|is|are|was|no)\b"
)
"""With one of these, what was imaged is no heading of what was seen."""

_ANY = "|".join(NAMES.values())
_LINE = re.compile(
    rf"(?:^|(?<=\n))[ \t*#]*({_ANY}|{IMAGED})[ \t]*(?::|[-\u2013\u2014][ \t]|(?=[ \t]*(?:\r?\n|$)))", re.IGNORECASE
)
_INLINE = re.compile(rf"(?<=[.!?;:\])])[ \t]+({_ANY})[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Section:
    """A stretch of a report.

    Attributes:
        name: one of `NAMES`, or "" for what stands above the first heading.
        start: where its text begins, below its heading, in characters.
        end: where it has ended.
    """

    name: str
    start: int
    end: int


def sections_of(text: str) -> list[Section]:
    """The sections in their order; one without a name where there is no heading.

    Where no heading announces what is seen, an indication or the like ends with its paragraph, and what follows has no
    name.
    """
    found = sorted({m.start(1): m for m in (*_LINE.finditer(text), *_inline(text))}.values(), key=lambda m: m.start(1))
    heads = [(name, m) for m in found if (name := _name(m))]
    ends = [m.start(1) for _, m in heads] + [len(text)]
    sections = [Section("", 0, ends[0])]
    seen = any(name in READ for name, _ in heads)
    for (name, match), end in zip(heads, ends[1:], strict=True):
        if not seen and (over := _first_statement(text, match.end(), end)):
            sections += [Section(name, match.end(), over), Section("", over, end)]
        else:
            sections.append(Section(name, match.end(), end))
    return [section for section in sections if text[section.start : section.end].strip()]


def _first_statement(text: str, start: int, end: int) -> int | None:
    """Where a line begins that does not go on with the first; a full line that ends with its sentence may go on."""
    section = text[start:end]
    width = max(NARROWEST, *map(len, section.split("\n")))
    for place in statement_breaks(section):
        above = section[:place]
        full = len(above.splitlines()[-1]) > FULL * width
        if above.strip() and (not full or re.search(r"\n[ \t\r]*\n[ \t]*$", above)):
            return start + place
    return None


def _inline(text: str) -> list[re.Match[str]]:
    return [match for match in _INLINE.finditer(text) if match[1][0].isupper()]


def _name(match: re.Match[str]) -> str:
    """The section that a heading begins; "" where it only looks like one."""
    words, colon = " ".join(match[1].lower().split()), match[0].rstrip().endswith(":")
    for name, pattern in NAMES.items():
        if re.fullmatch(pattern, words):
            # Without a colon only what is a heading and nothing else: "Impression", in a line of its own.
            return name if colon or name not in ("examination", "technique") else ""
    return FINDINGS if colon and not NOT_SEEN.search(words) else ""
