"""A sentence as its skeleton: words, names in capital letters, and the cues that are found in it."""

import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from vkd_pyro.data.labels import cues, lists
from vkd_pyro.data.labels.names import DEVICE, FINDING, Name
from vkd_pyro.data.labels.words import Word

OPEN, REMOVED = "open", "removed"


@dataclass(frozen=True)
class Cue:
    """A cue in a skeleton: what it says, on which side of it, and its units."""

    says: str
    side: str
    first: int
    last: int

    @property
    def speaks(self) -> bool:
        """Whether it says anything of a name."""
        return self.says not in (cues.STOP, cues.PASS)


class Skeleton:
    """A sentence's units, each a word or a name.

    Args:
        words: of the sentence.
        names: those in it.

    Attributes:
        units: words, and in place of each name the letter of its kind.
        names: the names by their units.
        cues: in their order; none overlap.
        every_word: those of names too.
    """

    def __init__(self, words: list[Word], names: list[Name]) -> None:
        self.units: list[str] = []
        self.names: dict[int, Name] = {}
        place = 0
        for name in [*names, None]:
            until = name.first if name else len(words)
            self.units += [word.text for word in words[place:until]]
            if name:
                self.names[len(self.units)] = name
                self.units.append(name.kind)
                place = name.last
        if self.units[:1] == ["no"]:
            for unit in range(1, len(self.units) - 1):
                if self.units[unit - 1 : unit + 2] == [FINDING, "of", FINDING]:
                    self.units[unit] = "or"  # a slip: no effusion of pneumothorax
        self.cues = _cues(" ".join(self.units))
        self.every_word = frozenset(word.text for word in words)

    @cached_property
    def stops(self) -> frozenset[int]:
        """Units that begin a new clause."""
        return frozenset(unit for cue in self.cues if cue.says == cues.STOP for unit in range(cue.first, cue.last))

    def stands_before_a_name(self, cue: Cue) -> bool:
        """Whether a name follows a cue before its clause ends."""
        start = self.reach(cue)
        for unit in range(start, len(self.units)):
            if unit in self.names:
                return cue.says != REMOVED or self.units[unit] == DEVICE
            if unit in self.stops or self.units[unit] in {":", "over", "than"}:
                return False
            if self.units[unit] in lists.LISTED | lists.NEITHER and not self.joins_adjectives(start, unit):
                return False
        return False

    def joins_adjectives(self, start: int, unit: int) -> bool:
        """Whether what is listed are adjectives of one name: right middle and lower lobe pneumonia."""
        following = next((place for place in self.names if place > unit), unit)
        before, after = self.units[start:unit], self.units[unit + 1 : following]
        known = lists.OWN - lists.PLACES if self.units[unit] == "," else lists.ADJECTIVES
        return bool(before and after) and set(before) <= known and set(after) <= lists.ADJECTIVES

    def reach(self, cue: Cue) -> int:
        """Where what a cue is said of begins: beyond its comma, where it begins the sentence or stands between two."""
        alone = cue.first == 0 or self.units[cue.first - 1] == ","
        return cue.last + (alone and self.units[cue.last : cue.last + 1] == [","])


@lru_cache(maxsize=65536)
def _cues(skeleton: str) -> tuple[Cue, ...]:
    """The cues of a skeleton, the earlier and the longer first."""
    begins, ends, place = {}, {}, 0
    for unit, word in enumerate(skeleton.split(" ")):
        begins[place], ends[place + len(word)] = unit, unit + 1
        place += len(word) + 1
    found = []
    for role, pattern in _patterns():
        for match in pattern.finditer(skeleton):
            start, end = match.span(pattern.groups)  # the whole, or what stands in brackets
            if start in begins and end in ends and end > start:
                says, _, side = role.partition(" ")
                found.append(Cue(says, side, begins[start], ends[end]))
    chosen: list[Cue] = []
    for cue in sorted(found, key=lambda cue: (cue.first, -cue.last, PRECEDENCE.index(cue.says), cue.side == "after")):
        if not chosen or cue.first >= chosen[-1].last:
            chosen.append(cue)
    return tuple(chosen)


PRECEDENCE = (cues.PASS, OPEN, "certain", "confirmed", "present", "uncertain", "absent", REMOVED, cues.STOP)
"""What counts where two cues are the same words."""


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    bounded = [(role, rf"(?<![^ ])(?:{each})(?![^ ])") for role, patterns in cues.CUES.items() for each in patterns]
    return [(role, re.compile(pattern)) for role, pattern in (*bounded, *cues.IN_CONTEXT)]
