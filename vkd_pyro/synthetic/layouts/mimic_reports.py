"""Reports in the shape of MIMIC-CXR's text files: one space before each line, at most 79 characters, blank lines a
single space, sections under their headers in capitals, and ___ for what was removed."""

import re
import textwrap
from collections.abc import Iterable, Mapping

WIDTH = 79
HEADER = " " * 33 + "FINAL REPORT"
RULE = "_" * (WIDTH - 1)

PLAIN = ("FINDINGS:  {findings}", "IMPRESSION:  {impression}")

BODIES: dict[str, tuple[str, ...]] = {
    "plain reports": PLAIN,
    "reports with findings below their header": ("FINDINGS:", "{findings}", "IMPRESSION:", "{impression}"),
    "reports with an addendum": PLAIN,
    "reports with a wet read": PLAIN,
    "reports with a misspelt header": ("FINDINGS:  {findings}", "IMPRESSON:  {impression}"),
    "reports with a conclusion": ("FINDINGS:  {findings}", "CONCLUSION:  {impression}"),
    "reports with findings and impression in one": ("FINDINGS AND IMPRESSION:  {findings} {impression}",),
    "reports with findings under the views": ("CHEST, TWO VIEWS:  {findings}", "IMPRESSION:  {impression}"),
    "reports with an empty findings section": ("FINDINGS:", "IMPRESSION:  {impression}"),
    "reports with findings alone": ("FINDINGS:  {findings}",),
    "reports with impression alone": ("IMPRESSION:  {impression}",),
    "reports with neither findings nor impression": ("{findings} {impression}",),
    "reports without any header": ("{findings} {impression}",),
    "reports that refer to another": ("Please refer to the report of the CT of the same day for details.",),
    "reports of a header line only": (),
    "empty report files": (),
}
"""Kind of report -> the paragraphs that follow indication and comparison."""

TOPS: dict[str, tuple[str, ...]] = {
    "reports with an addendum": (
        "ADDENDUM:  Discussed with Dr. ___ by telephone at ___ on ___.",
        "FINDINGS:  The second film of the series was not archived.",
        RULE,
    ),
    "reports with a wet read": ("WET READ: ___ ___ 8:35 PM", "Lines and tubes as before. Final read to follow.", RULE),
}
"""Kind of report -> the paragraphs above the report proper."""

SILENT = ("empty report files", "reports of a header line only")
"""The kinds that say nothing."""

ROUND: tuple[str, ...] = tuple(kind for odd in list(BODIES)[1:] for kind in ("plain reports", odd, "plain reports"))
"""The kinds of report in the order in which studies take them, over and over: two of three are plain."""

REMOVED = re.compile(r"\b\d+(?=-year-old)|two days earlier|last year")


def mimic_report(kind: str, sections: Mapping[str, str]) -> str:
    """The text file of one study.

    Args:
        kind: one of `BODIES`.
        sections: header -> text, with FINDINGS and IMPRESSION unless the kind is one of `SILENT`.
    """
    if kind == "empty report files":
        return ""
    fields = {"findings": sections.get("FINDINGS", ""), "impression": sections.get("IMPRESSION", "")}
    body = [paragraph.format(**fields).strip() for paragraph in BODIES[kind]]
    lines = [*_lines(TOPS.get(kind, ())), HEADER, *_lines([*_opening(kind, sections), *body])]
    return "\n".join(lines) + "\n"


def _opening(kind: str, sections: Mapping[str, str]) -> list[str]:
    """What stands above the findings."""
    if kind in SILENT:
        return []
    if kind == "reports without any header":
        return [sections["INDICATION"]]
    return [f"{name}:  {sections[name]}" for name in ("EXAMINATION", "INDICATION", "COMPARISON") if name in sections]


def _lines(paragraphs: Iterable[str]) -> list[str]:
    """Paragraphs as lines, a blank one (a single space) between two of them."""
    lines: list[str] = []
    for paragraph in paragraphs:
        wrapped = textwrap.wrap(REMOVED.sub("___", paragraph), WIDTH - 1, break_on_hyphens=False)
        # A header without text keeps the space that would stand before it.
        lines += [" "] * bool(lines) + [f" {line} " if line.endswith(":") else f" {line}" for line in wrapped]
    return lines
