"""Sphinx extension: docstrings are plain text with equations in indented blocks, and are shown so.

An indented block is a literal one; stars and bars in the text around it are themselves.
"""

import re
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Note)[^:]*:")
MARKED = re.compile(r"(`+[^`]*`+)")


def plain(lines: list[str]) -> list[str]:
    """The lines as reStructuredText that says the same."""
    shown: list[str] = []
    opened = ""  # what the indented lines belong to: "section", "literal", "list"
    for number, line in enumerate(lines):
        indented = line.startswith(" ")
        if line and not indented:
            opened = "section" if SECTION.fullmatch(line) else "list" if line.startswith(("* ", "- ", "..")) else ""
        elif indented and not opened and number and not lines[number - 1]:
            shown += ["::", ""]
            opened = "literal"
        shown.append(line if opened == "literal" else escaped(line))
    return shown


def escaped(line: str) -> str:
    """A line of text whose stars and bars mean nothing, outside of `backticks`."""
    bullet, text = (line[:2], line[2:]) if line.startswith("* ") else ("", line)
    parts = MARKED.split(text)
    return bullet + "".join(p if p.startswith("`") else re.sub(r"(?<!\\)([*|])", r"\\\1", p) for p in parts)


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before napoleon reads the sections."""
    lines[:] = plain(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects it."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
