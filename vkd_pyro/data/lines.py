"""Lines of a report: which line breaks are of the page alone, and which end what is said.

Reports are wrapped in the middle of a sentence, or written line by line without full stops:

    There is no pleural          No pneumothorax
    effusion.                    Small left effusion
"""

import re
from itertools import pairwise

PARAGRAPH = "\n\n"
"""What stands between two statements of which the first has no full stop."""

MARKER = re.compile(
    r"[ \t]*(?:[-*•>·\u2013\u2014]+(?=\s|[A-Za-z])|\(?\d{1,2}[.)](?!\d)|#\d{1,2}\b|\(?[a-hA-H]\)(?=\s))[ \t]*"
)
"""What begins an item of a list."""

GOES_ON = re.compile(
    r"(?:[,(/&]|\b(?:a|an|the|of|in|on|at|to|and|or|nor|no|not|with|without|by|for|from|than|as|is|are|was|were|be|been|"
    r"has|have|had|may|might|could|cannot|left|right|bilateral|upper|middle|lower|small|large|moderate|mild|severe|"
    r"pleural|pulmonary|acute|focal|evidence|normal limits of|this|these|that|which|new|any|due|secondary|consistent|"
    r"compatible|suggestive|concerning))[ \t]*$",
    re.IGNORECASE,
)
"""A line that ends so is not at its end."""

NAMES = re.compile(r"(?:Swan|Ganz|Dobb?hoff|Hickman|Kerley|Dr|Impella|Port|Foley|Quinton|Salem|Wet)\b")
"""Capitalised words that begin no sentence."""

LINE = re.compile(r"[^\r\n]+")

BREAK = re.compile(
    r"<\s{0,9}/?\s{0,9}(?:br|p|div|li|tr|h\d)\b[^<>]{0,99}>|\\r\\n|\\n|\\\.br\\|_x000[Dd]_|&#(?:10|13|x0?[aAdD]);|\||"
    r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"
)
"""What breaks a line where a report was kept in a cell of a table, in a message or in a page."""
MARKUP = re.compile(r"<\s{0,9}/?\s{0,9}(?:b|i|u|em|strong|span|font|ul|ol|html|body)\b[^<>]{0,99}>|&nbsp;|&#160;|\*\*")
PLAIN = str.maketrans("\u2018\u2019\u02bc\u00b4\uff1a", "'''':")
"""Apostrophes and the colon, as they are typed elsewhere."""

NARROWEST, FULL = 60, 0.75
"""A page's least width in letters, and the share of it from which on a line is full."""


def plain(text: str) -> str:
    """The text with its lines broken as in a file, and without markup; each character keeps its place."""
    broken = BREAK.sub(lambda found: "\n".ljust(len(found[0])), text)
    return MARKUP.sub(lambda found: " " * len(found[0]), broken).translate(PLAIN)


def unwrapped(text: str) -> str:
    """The text with white space folded, and `PARAGRAPH` where the end of a line ends a statement."""
    bounds = [0, *statement_breaks(text), len(text)]
    statements = [" ".join(text[start:end].split()) for start, end in pairwise(bounds)]
    pieces: list[str] = []
    for statement in filter(None, statements):
        if pieces:
            pieces.append(" " if pieces[-1][-1] in ".!?" else PARAGRAPH)
        pieces.append(statement)
    return "".join(pieces)


def statement_breaks(text: str) -> list[int]:
    """Where in `text` a line begins that does not go on with the one above, in characters."""
    lines = [line for line in LINE.finditer(text) if line[0].strip()]
    width = max((len(line[0].strip()) for line in lines), default=0)
    breaks = []
    for line, following in pairwise(lines):
        blank = len(re.findall(r"\r\n|\n|\r", text[line.end() : following.start()])) > 1
        if ends_statement(line[0].strip(), following[0].strip(), width, blank):
            breaks.append(following.start())
    return breaks


def ends_statement(line: str, following: str, width: int, blank: bool) -> bool:
    """Whether what a line says is at an end where the `following` line begins.

    Args:
        line: as it stands, and the next that is not blank.
        following: that next line.
        width: of the page, in letters.
        blank: whether blank lines are between the two.
    """
    if MARKER.match(following):
        return True
    if re.search(r"[:?=][ \t]*\w+$", line):  # "Effusion: no" is whole
        return True
    if line.endswith(":") or (GOES_ON.search(line) and not (blank and following[:1].isupper())):
        return False
    if blank:
        return True
    if NAMES.match(following):
        return _is_short(line, following, width)
    if re.match(r"[A-Z][a-z]", following):
        return True
    first = re.sub(r"^[^A-Za-z]*", "", line)[:1]
    if following[:1].islower() and first.isupper() and not line.isupper():
        return False
    return _is_short(line, following, width)


def _is_short(line: str, following: str, width: int) -> bool:
    """Whether the next word would still have had its place on the line."""
    return len(line) + 1 + len(following.split()[0]) <= FULL * max(width, NARROWEST)
