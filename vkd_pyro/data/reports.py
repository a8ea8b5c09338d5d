"""From a radiology report to the text that a report encoder reads: its sections, and which of them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vkd_pyro.data.labels.labeller import Labeller
from vkd_pyro.data.lines import PARAGRAPH, plain, unwrapped
from vkd_pyro.data.sections import ADDENDUM, FINDINGS, IMPRESSION, READ, sections_of
from vkd_pyro.utils.errors import UserError

WHOLE, LAST_PARAGRAPH = "report", "last_paragraph"
"""Names for the text of a report without sections, and for its end where it has neither findings nor impression."""

HEADER = re.compile(r"\n ((?=[0-9 ()/,&.'#-]*+[A-Z])[A-Z0-9 ()/,&.'#-]++):(?=\s)")
"""A section's header in MIMIC-CXR, as its publisher's own code finds it; but the next line may be a header, too, and
there may be numbers in it: "CHEST, 2 VIEWS"."""

NOTHING = re.compile(
    r"n/?a\.?|#n/a|nan|none|null|nil|na|<na>|unknown|tbd|"
    r"(?:(?:the |this |final |formal |full |official |radiology |dictated |written |typed )*(?:report|result|"
    r"reading|dictation|impression|text)s? )?"
    r"(?:is |are |was |has been )?(?:still )?(?:to follow|pending|unavailable|not (?:yet )?(?:available|"
    r"dictated|reported|done|"
    r"provided|given)|awaited|missing|in progress|see (?:above|below|pacs|ris|report|separate report|attached))|"
    r"no (?:text|(?:formal |written |radiology )?report)(?: (?:available|provided|found|given|yet|text))?|"
    r"see (?:the )?(?:separate |attached |formal |final )?report|awaiting (?:the )?report|"
    r"(?:radiology |chest x ray |cxr )?report",
    re.IGNORECASE,
)
"""What stands in place of a report where there is none."""

SYNONYMS = {
    "conclusion": "impression",
    "findings and impression": "impression",
    "findings/impression": "impression",
    "wet read": "wet read",
}
IMAGED = re.compile(r"\bchest\b|\bviews?\b|\bradiographs?\b")
"""Headers such as "chest, two views" name what was imaged, and what was found follows."""
NOT_IMAGED = re.compile(r"examination|exam|indication|comparison|technique|history|clinical|reason|study|procedure")


def split_sections(text: str) -> dict[str, str]:
    """The sections of a report of MIMIC-CXR by their normalised names, its lines unwrapped.

    An empty section is dropped and the last section of a name wins, so an addendum on top does not hide the report; but
    several addenda are joined.
    Where there is neither "findings" nor "impression", the final paragraph is "last_paragraph".
    """
    text = "\n" + plain(text)
    headers = list(HEADER.finditer(text))
    ends = [*(header.start() for header in headers[1:]), len(text)]
    sections: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=False):  # no header, and there is one end too many
        if content := unwrapped(text[header.end() : end]):
            name = section_name(header[1])
            earlier = sections.pop(name, None)
            sections[name] = joined([earlier, content]) if earlier and name == ADDENDUM else content
    if not sections.keys() & {"findings", "impression"}:
        body = text[headers[-1].end() :] if headers else text
        paragraphs = [unwrapped(part) for part in re.split(r"\n\s*\n", body)]
        # A line such as "FINAL REPORT" is no text.
        if last := [paragraph for paragraph in paragraphs if re.search(r"[a-z.]", paragraph)][-1:]:
            sections[LAST_PARAGRAPH] = last[0]
    return sections


def read_report(text: str) -> dict[str, str]:
    """The sections of any report, as `ReportText` takes them; none where the text says that there is no report.

    A report without a heading is one text. What stands above the first heading counts as findings where no section is
    called so; sections of the same name are joined.
    """
    if says_nothing(text):
        return {}
    text = plain(text)
    found = [(section.name, unwrapped(text[section.start : section.end])) for section in sections_of(text)]
    names = {name for name, _ in found}
    if not names - {""}:
        return {WHOLE: joined([content for _, content in found])}
    above = FINDINGS if FINDINGS not in names and names & set(READ) else WHOLE
    if names >= {"", FINDINGS}:
        found = [(name, content) for name, content in found if name]
    parts: dict[str, list[str]] = {}
    for name, content in found:
        parts.setdefault(name or above, []).append(content)
    return {name: joined(contents) for name, contents in parts.items()}


def says_nothing(text: str) -> bool:
    """Whether a text stands in place of a report that there is not: nan, None, "Report to follow", a number."""
    words = " ".join(re.sub(r"[\s_-]+", " ", text).split()).strip(" .:!*()[]<>\"'")
    return not re.search(r"[^\W\d_]{2}", words) or bool(NOTHING.fullmatch(words))


def joined(texts: Sequence[str]) -> str:
    """Texts one after the other; one that does not end its last sentence ends a paragraph."""
    ended = [text if text[-1:] in ".!?" else text + PARAGRAPH for text in texts[:-1]]
    return "".join(text if text.endswith(PARAGRAPH) else f"{text} " for text in ended) + "".join(texts[-1:])


def section_name(header: str) -> str:
    """The name that a header stands for: typing errors mended, what was imaged taken for "findings"."""
    name = " ".join(header.lower().split())
    if name in SYNONYMS:
        return SYNONYMS[name]
    if IMAGED.search(name) and not NOT_IMAGED.search(name):
        return "findings"
    near = difflib.get_close_matches(name, ("impression", "findings"), n=1, cutoff=0.8)
    return near[0] if near else name


@dataclass(frozen=True)
class ReportText:
    """Which text of a report is read.

    Attributes:
        sections: joined in this order, as far as a report has them. A report with none of findings, impression and
            addendum gives its last paragraph instead, and one without any sections its whole text.
        mask_label_words: blank the phrases that the labeller takes for findings, to measure how much of a gain is
            that the report names the labels. What denies or hedges them stays ("no ___"), and
            so does a sentence such as "normal chest": less leaks, not nothing.
    """

    sections: tuple[str, ...] = (FINDINGS, IMPRESSION, ADDENDUM)
    mask_label_words: bool = False

    def __call__(self, reports: Sequence[Mapping[str, str]]) -> list[str | None]:
        """The text of each report; None where there is none.

        Raises:
            UserError: no report has one of the sections, other than findings, impression and addendum.
        """
        found = sorted({name for report in reports for name in report} - {WHOLE, LAST_PARAGRAPH})
        if found and (absent := sorted(set(self.sections) - set(found) - set(READ))):
            near = difflib.get_close_matches(absent[0], found, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"data.selection.report.sections: no report has {absent[0]!r}{hint}; found {', '.join(found)}"
            )
        texts = [self._compose(report) for report in reports]
        if not self.mask_label_words:
            return texts
        masked = iter(Labeller().mask([text for text in texts if text is not None]))
        return [None if text is None else next(masked) for text in texts]

    def _compose(self, report: Mapping[str, str]) -> str | None:
        chosen = [_headed(name, report[name]) for name in self.sections if report.get(name)]
        return joined(chosen) or report.get(LAST_PARAGRAPH) or report.get(WHOLE) or None


def _headed(name: str, text: str) -> str:
    """An addendum is told from what it adds to: it may take something back."""
    return f"ADDENDUM: {text}" if name == ADDENDUM else text
