"""Reporting checklists: what of them a page answers, and what its author must write."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from vkd_pyro.reporting.page import SECTIONS

CHECKLISTS = ("claim_2024", "tripod_ai")
"""Files of `reporting/checklists`."""


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    Attributes:
        number: as the checklist numbers it.
        asks: what it asks for, in our own words.
        section: the part of the page that answers it; "" where none does.
        author: what the author writes, beside that or in its place; "" where nothing is left to write.
    """

    number: str
    asks: str
    section: str = ""
    author: str = ""

    @property
    def status(self) -> str:
        """ "filled in", "filled in, to be completed", or "the author writes this"."""
        if not self.section:
            return "the author writes this"
        return "filled in, to be completed" if self.author else "filled in"


@dataclass(frozen=True)
class Checklist:
    """A checklist, as far as a page answers it."""

    name: str
    source: str
    items: Sequence[Item]

    def summary(self) -> dict[str, Any]:
        """For JSON: of each item what is asked, its status, where it is answered, and what the author writes."""
        return {
            "name": self.name,
            "source": self.source,
            "items": [vars(item) | {"status": item.status} for item in self.items],
        }


def checklists(sections: Collection[str]) -> list[Checklist]:
    """All checklists for a page that has these sections: an item whose section is missing is the author's."""
    found = []
    for name in CHECKLISTS:
        content = yaml.safe_load(
            files("vkd_pyro.reporting").joinpath(f"checklists/{name}.yaml").read_text(encoding="utf-8")
        )
        items = [_item(entry, sections) for entry in content["items"]]
        found.append(Checklist(content["name"], content["source"], items))
    return found


def _item(entry: dict[str, str], sections: Collection[str]) -> Item:
    section, author = entry.get("section", ""), entry.get("author", "")
    if section and section not in SECTIONS:
        raise ValueError(f"checklist item {entry['number']}: found section {section!r}, expected one of a page")
    if section and section not in sections:
        author = f"{author} This page has no part '{SECTIONS[section]}'.".strip()
        section = ""
    return Item(entry["number"], entry["asks"], section, author)
