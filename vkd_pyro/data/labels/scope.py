"""What is said of each name in a sentence: present, absent or uncertain, by the reach of its cues.

A cue before names ("no", "possible") reaches to the right, over a list, until a new clause begins; one after them
("is not seen", "cannot be excluded") to the left. A list goes on over "or" and "nor". After a comma or "and" it goes on
too, unless its next name has something of its own: a side, a size, a change, an article, a verb. So

    No pneumothorax, effusion, or edema.        denies three
    No pneumothorax, small left effusion.       denies one

Two bare names after "no" and a comma are not told apart: the second is uncertain.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from vkd_pyro.data.labels import cues
from vkd_pyro.data.labels.findings import ABSENT, PRESENT, UNCERTAIN
from vkd_pyro.data.labels.names import ARTEFACT, DEVICE, FINDING, JUDGEMENT, ORGAN, Name
from vkd_pyro.data.labels.words import Word

KINDS = {"certain": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN, "present": PRESENT}
OPEN, REMOVED = "open", "removed"
SPOKEN_OF = (FINDING, DEVICE, JUDGEMENT)


@dataclass(frozen=True)
class Cue:
    """A cue in a skeleton: what it says, on which side of it, and its units."""

    says: str
    side: str
    first: int
    last: int


class Sentence:
    """A sentence's skeleton: units, each a word or a name.

    Args:
        words: of the sentence.
        names: those in it.
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
        self.cues = _cues(" ".join(self.units))
        self.stops = {unit for cue in self.cues if cue.says == cues.STOP for unit in range(cue.first, cue.last)}

    def values(self) -> list[float | None]:
        """What is said of each name, in their order; None of one that nothing is said of."""
        before, after = self._before(), self._after()
        values = {
            unit: _combined(before.get(unit), after.get(unit))
            for unit, name in self.names.items()
            if name.kind in SPOKEN_OF
        }
        self._hedge_alternatives(values, before)
        for unit in self._headings(values):
            del values[unit]
        return [values.get(unit) for unit in self.names]

    def _headings(self, values: dict[int, float]) -> list[int]:
        """Names before a colon of which nothing is said: what follows is blank, or speaks of itself.

        "Effusion: small left effusion" is of one, "Pneumonia: left lower lobe consolidation" of both.
        """
        if ":" not in self.units:
            return []
        colon = self.units.index(":")
        headings = [unit for unit in values if unit < colon and self.units[unit] != JUDGEMENT]
        said = [unit for unit in values if unit > colon and self.units[unit] != JUDGEMENT]
        if not headings or any(cue.last <= colon and cue.says != cues.PASS for cue in self.cues):
            return []
        if colon == len(self.units) - 1:
            return headings
        same = {values[unit] for unit in said}
        if not said or ";" in self.units or ":" in self.units[colon + 1 :]:
            return []
        if len(same) == 1 and not {self.units[unit] for unit in said} ^ {self.units[unit] for unit in headings}:
            values.update(dict.fromkeys(headings, same.pop()))
            return []
        return headings

    # ------------------------------------------------------------------------------------ to the right

    def _before(self) -> dict[int, str]:
        """What the cues before each name say of it."""
        said: dict[int, str] = {}
        for kinds, removal in ((FINDING + JUDGEMENT, False), (DEVICE, True)):
            starts = {cue.first: cue for cue in self.cues if self._reaches_right(cue, removal)}
            current, last = "", 0
            for unit in range(len(self.units)):
                if unit in self.stops:
                    current = ""
                elif unit in starts:
                    cue = starts[unit]
                    parted = cues.LISTED & set(self.units[last:unit]) and not self._list_goes_on(cue.last)
                    if not (current == "absent" and cue.says == "uncertain" and not parted):
                        current, last = cue.says, self._reach(cue)
                elif unit in self.names and unit >= last:
                    current = self._still(current, last, unit, removal)
                    if current and self.units[unit] in kinds:
                        said[unit] = current
                        current = "" if current == "doubtful" else current
                    last = unit + 1
        return said

    def _reaches_right(self, cue: Cue, removal: bool) -> bool:
        if cue.says in (cues.STOP, cues.PASS) or cue.side == "after":
            return False
        if cue.says == REMOVED and not removal:
            return False
        if cue.says == "absent" and removal and self.units[cue.first] not in cues.DEVICE_DENIALS:
            return False
        return cue.side in ("before", "around") or self._named_next(cue)

    def _named_next(self, cue: Cue) -> bool:
        """Whether a name follows a cue before its clause ends."""
        for unit in range(self._reach(cue), len(self.units)):
            if unit in self.names:
                return cue.says != REMOVED or self.units[unit] == DEVICE
            if unit in self.stops or self.units[unit] in cues.LISTED | cues.NEITHER | {":", "over", "than"}:
                return False
        return False

    def _reach(self, cue: Cue) -> int:
        """Where what a cue is said of begins: beyond its comma, where it begins the sentence."""
        return cue.last + (cue.first == 0 and self.units[cue.last : cue.last + 1] == [","])

    def _still(self, current: str, last: int, unit: int, removal: bool) -> str:
        """What was said of the name before, if it is said of this one too; "doubtful" where that is not clear."""
        between = self.units[last:unit]
        if removal and self.units[last - 1] == FINDING and not cues.NEITHER & set(between):
            return ""
        if not current or cues.NEITHER & set(between) or not cues.LISTED & set(between):
            return current
        if removal:
            return current if self.units[last - 1] == DEVICE else ""
        kind = self.units[unit]
        if kind in (ORGAN, DEVICE):
            return ""
        own = between[max(i for i, word in enumerate(between) if word in cues.LISTED) + 1 :]
        rest = self._rest(unit)
        if self._list_goes_on(unit + 1) or (last - 1 not in self.names and _before_comma(between) <= cues.DEGREES):
            return current
        if cues.OWN & set(own) or (re.match(cues.PREDICATE, rest) and not self._all_exist(between, rest)):
            return ""
        telegraphic = current == "absent" and self.units[0] == "no"
        listed = (
            not telegraphic
            or "and" in between
            or self.units[unit + 1 : unit + 2] == [","]
            or self._listed_already(last)
        )
        return current if listed else "doubtful"

    def _rest(self, unit: int) -> str:
        """The words after a name, until its list or clause goes on."""
        rest = []
        for place in range(unit + 1, len(self.units)):
            if place in self.stops or self.units[place] in cues.LISTED | cues.NEITHER:
                break
            rest.append(self.units[place])
        return " ".join(rest)

    def _all_exist(self, between: list[str], rest: str) -> bool:
        """ "No effusion and pneumothorax are seen" is of both."""
        return (
            "and" in between
            and "," not in between
            and bool(re.match(rf"(?:are|were) {cues.EXISTS}|{cues.EXISTS}", rest))
        )

    def _list_goes_on(self, start: int) -> bool:
        """Whether "or" comes before the list ends: only then are the names before it told by commas alone."""
        for place in range(start, len(self.units)):
            word = self.units[place]
            if word in ("or", "nor", "/"):
                return True
            if place in self.stops or word in cues.VERBS or word in (":", "and"):
                return False
        return False

    def _listed_already(self, last: int) -> bool:
        """Whether the list before had a comma or "or" of its own."""
        for place in range(last - 2, -1, -1):
            if place in self.stops or any(cue.first <= place < cue.last for cue in self.cues):
                return False
            if self.units[place] in (",", "or"):
                return True
        return False

    # ------------------------------------------------------------------------------------- to the left

    def _after(self) -> dict[int, str]:
        """What the cues after each name say of it."""
        said: dict[int, str] = {}
        for cue in self.cues:
            if self._reaches_left(cue):
                for unit in self._spoken_of(cue):
                    said[unit] = said[unit] if said.get(unit) == OPEN else cue.says
        return said

    def _reaches_left(self, cue: Cue) -> bool:
        if cue.says in (cues.STOP, cues.PASS) or cue.side == "before" and not self._answers(cue):
            return False
        if cue.side != "beside":
            return True
        if self._named_next(cue):
            return False
        following = self.units[cue.last : cue.last + 1]
        vague = cue.says == "uncertain" and following and cue.last not in self.stops
        return not vague or following[0] in (
            *cues.LISTED,
            *cues.NEITHER,
            "in",
            "at",
            "on",
            "given",
            "based",
            "than",
            "?",
            "by",
            "as",
            ":",
            "clinically",
            "bilaterally",
            "here",
            "because",
            "with",
            "again",
            "now",
            "over",
        )

    def _answers(self, cue: Cue) -> bool:
        """ "Effusion: No." """
        alone = cue.last == len(self.units) or self.units[cue.last] in cues.LISTED or cue.last in self.stops
        evidence = self.units[cue.last :] in (["evidence"], ["sign"], ["signs"], ["definite", "evidence"])
        return cue.first > 0 and self.units[cue.first - 1] in (":", "–", "?") and (alone or evidence)

    def _spoken_of(self, cue: Cue) -> list[int]:
        """The names that a cue after them is said of."""
        kinds = self._kinds(cue)
        nearest = self._nearest(cue)
        if nearest is None or self.units[nearest] not in kinds:
            return []
        found, colon = [nearest], ":" in self.units[nearest + 1 : cue.first]
        named = sorted((unit for unit in self.names if unit < nearest), reverse=True)
        listed = colon or self.units[cue.first] in cues.NEITHER
        verb = self.units[cue.first] if cue.first < len(self.units) else ""
        singular = verb in cues.SINGULAR or bool(cues.SINGULAR & set(self.units[nearest + 1 : cue.first]))
        for unit in named:
            between = self.units[unit + 1 : found[-1]]
            if self.stops & set(range(unit + 1, found[-1])) or cues.VERBS & set(between) or ":" in between:
                break
            if cues.NEITHER & set(between):
                listed = True
            elif cues.LISTED & set(between):
                if not listed and ("and" not in between or singular):
                    break
                listed = True
            elif cue.says != "absent" or any(c.first > unit and c.last <= found[-1] for c in self.cues):
                break
            if self.units[unit] in kinds:
                found.append(unit)
            elif self.units[unit] in (ORGAN, DEVICE):
                break
        return found

    def _kinds(self, cue: Cue) -> tuple[str, ...]:
        """Kinds of name that a cue after them may be said of: a tip that is not seen is not absent."""
        if cue.says == REMOVED:
            return (DEVICE,)
        return (FINDING, JUDGEMENT) if cue.says == "absent" and cues.PARTS & set(self.units) else SPOKEN_OF

    def _nearest(self, cue: Cue) -> int | None:
        """The name that a cue after it is said of first: in its clause, or in the one before if this only points there."""
        for unit in range(cue.first - 1, -1, -1):
            if self.units[unit] in SPOKEN_OF:
                between = self.units[unit + 1 : cue.first]
                crossed = [place for place in range(unit + 1, cue.first) if place in self.stops]
                parts = [i for i, word in enumerate(between) if word in cues.LISTED | cues.NEITHER]
                if not crossed and not parts:
                    return unit
                tail = between[(parts[-1] + 1) if parts and not crossed else 0 :]
                if crossed:
                    tail = self.units[crossed[0] : cue.first]
                plural = (
                    not crossed
                    and parts
                    and (
                        between[-1:] in (["are"], ["were"], ["have"])
                        or self.units[cue.first] in ("are", "were", "have")
                    )
                )
                return unit if plural or set(tail) <= cues.POINTING else None
            if self.units[unit] in self.names and self.units[unit] != ARTEFACT:
                return None
        return None

    # -------------------------------------------------------------------------------------- alternatives

    def _hedge_alternatives(self, values: dict[int, float], before: dict[int, str]) -> None:
        """Atelectasis or pneumonia, opacity versus mass: neither is sure, unless both are denied."""
        spoken = sorted(unit for unit, name in self.names.items() if name.kind != ORGAN)
        for first, second in pairwise(spoken):
            between = self.units[first + 1 : second]
            if not {"or", "versus"} & set(between) or len(between) > 4:
                continue
            if "present" in (before.get(first), before.get(second)) or "with" in between:
                continue
            one, other = self.names[first], self.names[second]
            if one.means == other.means and one.kind == other.kind == FINDING:
                continue
            chain = [first, second]
            while "either" not in self.units[: chain[0]] and (earlier := [u for u in spoken if u < chain[0]]):
                gap = self.units[earlier[-1] + 1 : chain[0]]
                if gap[:1] != [","] or len(gap) > 2 or "Lung Opacity" in self.names[earlier[-1]].means:
                    break  # an opacity, atelectasis or pneumonia: the opacity is sure
                chain.insert(0, earlier[-1])
            for unit in chain:
                values.update({unit: UNCERTAIN} if values.get(unit) == PRESENT else {})


def _before_comma(words: list[str]) -> set[str]:
    return set(words[: max(i for i, word in enumerate(words) if word == ",")]) - {","} if "," in words else set(words)


def _combined(before: str | None, after: str | None) -> float:
    """The value of a name from what is said before and after it."""
    if OPEN in (before, after) or before == "doubtful":
        return UNCERTAIN
    if REMOVED in (before, after):
        return ABSENT
    if before == "absent" and after not in ("present", "certain"):
        return ABSENT
    said = after if after in KINDS and not (after == "present" and before in ("uncertain", "absent")) else before
    return KINDS.get(said or "present", PRESENT)


@lru_cache(maxsize=65536)
def _cues(skeleton: str) -> tuple[Cue, ...]:
    """The cues of a skeleton, the earlier and the longer first; none overlap."""
    units = skeleton.split(" ")
    number, place = {}, 0
    for unit, word in enumerate(units):
        number[place] = unit
        place += len(word) + 1
        number[place - 1] = unit + 1
    found = []
    for role, pattern in _patterns():
        group = pattern.groups
        for match in pattern.finditer(skeleton):
            start, end = match.span(group)
            if start in number and end in number and end > start:
                found.append((number[start], -number[end], role))
    cues_found, free = [], 0
    for first, negative_last, role in sorted(found, key=lambda f: (f[0], f[1], PRECEDENCE.index(f[2]))):
        if first >= free:
            says, _, side = role.partition(" ")
            cues_found.append(Cue(says, side, first, -negative_last))
            free = -negative_last
    return tuple(cues_found)


_ORDER = (cues.PASS, OPEN, "certain", "present", "uncertain", "absent", REMOVED, cues.STOP)
PRECEDENCE = sorted(cues.CUES, key=lambda role: _ORDER.index(role.split()[0]))
"""Which role counts where two match the same words."""


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    bounded = [
        (role, rf"(?<![^ ])(?:{pattern})(?![^ ])") for role, patterns in cues.CUES.items() for pattern in patterns
    ]
    patterns = [(role, re.compile(pattern)) for role, pattern in bounded]
    return patterns + [(role, re.compile(pattern)) for role, pattern in cues.IN_CONTEXT]
