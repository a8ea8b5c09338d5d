"""Headings in the text of a report, wherever it comes from: INDICATION: ... FINDINGS: ... IMPRESSION: ...

A heading is a known name before a colon at the beginning of a line. Within a line it begins a sentence with a capital;
the commonest stand without a full stop before them too, as in "INDICATION: Cough FINDINGS: Effusion".
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
    ADDENDUM: r"(?:addend(?:um|a)(?: (?:#?\d+|begins?|by [\w. ]{1,30}|to (?:the )?(?:above )?report))?|correction|"
    r"amend(?:ment|ed report)|revised report)",
    "indication": r"(?:clinical|(?:underlying )?medical condition|"
    r"(?:clinical )?indications?(?: for (?:exam|examination|study))?|reason(?: for)?(?: this| the)?"
    r"(?: exam| examination| study| test| visit| order)?|clinical (?:information|data|details|statement|question|"
    r"context|diagnosis|concern|background|symptoms|presentation)|(?:admitting|preop|preoperative|working|ordering|"
    r"pre-?procedure) diagnosis|"
    r"signs? and symptoms?|symptoms?|(?:clinical )?question|request(?:ed)?(?: for)?|complaint|chief complaint)",
    "history": r"(?:(?:clinical |patient |medical |past medical |brief |relevant )?(?:history|hx)|"
    r"history of present illness|hpi)",
    "comparison": r"(?:comparisons?(?: (?:study|studies|exam|examination|film|films|made|date|dates))?|"
    r"compared? (?:to|with)|"
    r"prior (?:studies|study|exams?|films?|imaging)|priors?)",
    "technique": r"(?:techniques?|procedures?(?: comments| description)?|protocol|views?|number of views|"
    r"imaging technique)",
    "examination": r"(?:exams?|examinations?|study|studies|type of (?:exam|study)|exam type|exam date|study date|date|"
    r"patient(?: name)?|name|mrn|dob|age|sex|accession(?: number)?|referring (?:physician|doctor)|"
    r"ordering (?:physician|"
    r"provider)|radiologist|dictated by|signed by|electronically signed by|recommendation(?:s|\(s\))?|"
    r"notification(?:s|\(s\))?)",
}
"""Section -> what heads it, in small letters."""

COMMON = (
    r"(?:findings|impression|conclusion|indications?|comparisons?|technique|examination|reason for (?:exam|examination|"
    r"study)|(?:clinical )?(?:history|information))"
)
"""Names that head a section wherever a colon follows."""

MAIN = re.compile("findings|impression|indication")
"""Those of them that hardly stand before a colon in a sentence."""

BRIEF = ("comparison", "technique", "examination")
"""Sections of a sentence; what follows it in the same line is of the section around them."""

IMAGED = r"(?:[a-z0-9 ,/&()-]{0,50}\b(?:chest|cxr)\b[a-z0-9 ,/&()-]{0,50})"
"""What was imaged heads what was seen: "CHEST, 2 VIEWS:"."""

NOT_SEEN = re.compile(
    r"\b(?:exam\w*|indication|comparison|technique|history|clinical|reason|study|procedure|prior|previous|tubes?|wall|"
    r"lines?|pain|is|are|was|no)\b"
)
"""With one of these, what was imaged is no heading of what was seen."""

_ANY = "|".join(NAMES.values())
_LINE = re.compile(
    rf"(?:^|(?<=\n))[ \t*#]*+({_ANY}|{IMAGED})[ \t]*(?::|[-\u2013\u2014][ \t]|(?=[ \t]*(?:\r?\n|$)))", re.IGNORECASE
)
_INLINE = re.compile(rf"(?<=[.!?;:\])])[ \t]*({_ANY})[ \t]*:|(?<=\s)({COMMON})[ \t]*:", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?](?=\s+\S)")


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
    name. A comparison within a line ends with its sentence, and what follows is of the section before.
    """
    heads = _heads(text)
    ends = [match.start() for _, match in heads] + [len(text)]
    sections = [Section("", 0, ends[0])]
    seen, around = any(name in READ for name, _ in heads), ""
    for (name, match), end in zip(heads, ends[1:], strict=True):
        start, over, following = match.end(), None, ""
        if not seen:
            over = _first_statement(text, start, end)
        if over is None and name in BRIEF and (not seen or (around in READ and _within_line(text, match))):
            over, following = _first_sentence(text, start, end), around
        sections.append(Section(name, start, end if over is None else over))
        sections += [] if over is None else [Section(following, over, end)]
        around = name if name in READ else around if following else ""
    return [section for section in sections if text[section.start : section.end].strip()]


def _heads(text: str) -> list[tuple[str, re.Match[str]]]:
    """The headings in their order, each with the section that it begins."""
    found = {match.start(): match for match in (*_inline(text), *_LINE.finditer(text))}
    heads: list[tuple[str, re.Match[str]]] = []
    for _, match in sorted(found.items()):
        if (name := _name(match)) and not (heads and match.start() < heads[-1][1].end()):
            heads.append((name, match))
    return heads


def _within_line(text: str, match: re.Match[str]) -> bool:
    return bool(text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip())


def _first_sentence(text: str, start: int, end: int) -> int | None:
    """Where the second sentence begins; None where there is none."""
    found = _SENTENCE.search(text, start, end)
    return found.end() if found else None


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
    """Headings within a line: with a capital; in small letters after a full stop, where the report begins with a
    heading; and without one, where that is in small letters too ("in comparison:" is none)."""
    first = _LINE.match(text)
    headed = first is not None and bool(_name(first))
    small = headed and first is not None and first[1].islower()
    return [
        match
        for match in _INLINE.finditer(text)
        if _words(match)[0].isupper()
        or (headed and text.endswith((".", "!", "?"), 0, match.start()))
        or (small and MAIN.fullmatch(_words(match)))
    ]


def _words(match: re.Match[str]) -> str:
    """The name that stands in a heading."""
    return next(filter(None, match.groups()))


def _name(match: re.Match[str]) -> str:
    """The section that a heading begins; "" where it only looks like one."""
    words, colon = " ".join(_words(match).lower().split()), match[0].rstrip().endswith(":")
    for name, pattern in NAMES.items():
        if re.fullmatch(pattern, words):
            # Without a colon only what is a heading and nothing else: "Impression", in a line of its own.
            return name if colon or name not in ("examination", "technique") else ""
    return FINDINGS if colon and not NOT_SEEN.search(words) else ""
