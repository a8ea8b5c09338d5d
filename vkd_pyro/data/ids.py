"""Names of patients and studies: the same one spelled in two ways, several lost in one, none at all.

Names are text throughout. Spreadsheets and programs that take them for numbers lose leading zeros, add ".0", round long
ones and write "nan" for none; each of these puts one person in two splits, or many people in one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

NONE = {
    *("", "nan", "na", "n/a", "n.a.", "<na>", "nat", "none", "null", "(null)", "nil", "undefined", "missing", "n/d"),
    *("n.d.", "-", "--", "---", "?", ".", "_", "___", "unk", "unknown", "unbekannt", "unspecified", "undisclosed"),
    *("not available", "not known", "not stated", "not recorded", "not given", "no id", "xxxx", "xxxxx", "redacted"),
    *("anonymous", "anonymized", "anonymised", "anon", "deidentified", "de-identified"),
}
"""Cells that name nobody, in small letters."""
ERROR = re.compile(r"#(?:N/?[AV]|N/A N/A|REF!|VALUE!|WERT!|NAME\?|NULL!|NUM!|ZAHL!|DIV/0!|BEZUG!|SPILL!|#*)", re.I)
"""What spreadsheets write where a formula fails, or a column is too narrow."""
SCIENTIFIC = re.compile(r"[+-]?\d(?:[.,]\d+e\+?|e\+)\d+", re.I)
"""A number with an exponent; without a point and a plus, as in 1E5, it may be a name."""
DATE = re.compile(
    r"\d{1,2}[-. ](Jan|Feb|Mar|Mrz|Apr|May|Mai|Jun|Jul|Aug|Sep|Oct|Okt|Nov|Dec|Dez)\.?([-. ]\d{2,4})?"
    r"|\d{4}-\d{2}-\d{2}( 00:00(:00)?)?|\d{1,2}/\d{1,2}/\d{4}"
)
"""What spreadsheets make of a name such as 3-4 or MAR4."""
NUMBERED = re.compile(r"([^\W\d_]*+)[ _-]*+0*(?=[1-9]|0(?!\d))(\d++)")
"""A number, after letters or not, of which leading zeros and what stands between say nothing."""
PADDED = re.compile(r"(?<![^-])([^\W\d_]*+)0+(?=[1-9]|0(?!\d))(\d++[^\W\d_]*+)(?![^-])")
"""Zeros before the only number of a part between dashes; those in the middle of a hash, or of 1.05, say something."""
DIGITS = 15
"""So many digits of a number are kept by a spreadsheet; those after them become zeros."""


def names_nobody(cell: str) -> bool:
    """Whether a cell is blank, a word for a missing value, or an error of a spreadsheet."""
    return cell.strip().lower() in NONE or ERROR.fullmatch(cell.strip()) is not None


def spelling(name: str) -> str:
    """What two spellings of a name have in common: "p3", "P3", "P-003" and " p3 " give the same, as do "3", "003",
    "3.0" and '="3"', and "2019-003a" and "2019-3A"."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join("-" if unicodedata.category(c) == "Pd" else c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r'^=?"(.*)"$', r"\1", text.strip()).strip(" '\"")
    text = re.sub(r"^(\d{1,3})((?:[, ]\d{3})+)$", lambda found: re.sub("[, ]", "", found[0]), text)
    text = re.sub(r"^([^.,]*\d)[.,]0+$", r"\1", text)  # with a point before it, it may be the end of a UID
    if numbered := NUMBERED.fullmatch(text):
        return f"{numbered[1]}{numbered[2]}"
    return PADDED.sub(r"\1\2", re.sub(r"[\s_-]+", "-", text))


def spelled_twice(names: Iterable[str]) -> list[set[str]]:
    """Sets of names that are spellings of the same one."""
    groups: dict[str, set[str]] = {}
    for name in set(names):
        groups.setdefault(spelling(name), set()).add(name)
    return [group for group in groups.values() if len(group) > 1]


def rounded(names: Iterable[str]) -> str:
    """How a spreadsheet has rounded numbers, so that several of them have become one; "" where it has not."""
    names = set(names)
    if any(SCIENTIFIC.fullmatch(name.strip()) for name in names):
        return "numbers such as 5.001E+11, of which a spreadsheet keeps the first digits alone"
    long = [name for name in names if name.isascii() and name.isdigit() and len(name.lstrip("0")) > DIGITS]
    if len(long) > 3 and not any(name.lstrip("0")[DIGITS:].strip("0") for name in long):
        return f"numbers of more than {DIGITS} digits, all of which end in zeros, as a spreadsheet rounds them"
    return ""


def dated(names: Iterable[str]) -> int:
    """How many of the names look like dates."""
    return sum(DATE.fullmatch(name) is not None for name in set(names))


def crowded(names: Sequence[str]) -> int:
    """How many rows the commonest name has, where these are suspiciously many beside others; else 0."""
    counts = Counter(names)
    if len(counts) <= 5:
        return 0
    most = max(counts.values())
    others = (len(names) - most) / (len(counts) - 1)
    return most if most >= 8 and most > 0.2 * len(names) and most > 5 * others else 0
