"""What the cues before names say of them: how far "no" and "possible" reach over a list.

A list goes on over "or" and "nor". After a comma or "and" it goes on too, unless its next name has something of its
own: a side, a size, a change, an article, a verb. So

    No pneumothorax, effusion, or edema.        denies three
    No pneumothorax, small left effusion.       denies one

Two bare names after a "No" and a comma are not told apart: the second is `DOUBTFUL`.
"""

import re

from vkd_pyro.data.labels import lists
from vkd_pyro.data.labels.names import DEVICE, FINDING, JUDGEMENT, ORGAN
from vkd_pyro.data.labels.skeleton import REMOVED, Cue, Skeleton

DOUBTFUL = "doubtful"


def said_before(skeleton: Skeleton) -> dict[int, str]:
    """What the cues before names say, by the unit of the name."""
    said: dict[int, str] = {}
    for kinds, removal in ((FINDING + JUDGEMENT, False), (DEVICE, True)):
        starts = {cue.first: cue for cue in skeleton.cues if _reaches(skeleton, cue, removal)}
        current, last = "", 0
        for unit in range(len(skeleton.units)):
            if unit in skeleton.stops:
                current = ""
            elif unit in starts:
                cue = starts[unit]
                parted = lists.LISTED & set(skeleton.units[last:unit]) and not _list_goes_on(skeleton, cue.last)
                if not (current == "absent" and cue.says == "uncertain" and not parted):
                    current, last = cue.says, skeleton.reach(cue)
            elif unit in skeleton.names and unit >= last:
                current = _still(skeleton, current, last, unit, removal)
                if current and skeleton.units[unit] in kinds:
                    said[unit] = current
                    current = "" if current == DOUBTFUL else current
                last = unit + 1
    return said


def _reaches(skeleton: Skeleton, cue: Cue, removal: bool) -> bool:
    if not cue.speaks or cue.side == "after":
        return False
    if cue.says == REMOVED and not removal:
        return False
    if cue.says == "absent" and removal and skeleton.units[cue.first] not in lists.DEVICE_DENIALS:
        return False
    return cue.side in ("before", "around") or skeleton.stands_before_a_name(cue)


def _still(skeleton: Skeleton, current: str, last: int, unit: int, removal: bool) -> str:
    """What was said of the name before, if it is said of this one too; DOUBTFUL where that is not clear."""
    between = skeleton.units[last:unit]
    if removal and skeleton.units[last - 1] == FINDING and not lists.NEITHER & set(between):
        return ""
    if not current or lists.NEITHER & set(between) or not lists.LISTED & set(between):
        return current
    if removal:
        return current if skeleton.units[last - 1] == DEVICE else ""
    joint = last + next(i for i, word in enumerate(between) if word in lists.LISTED)
    if last - 1 not in skeleton.names and skeleton.joins_adjectives(last, joint):
        return current
    kind = skeleton.units[unit]
    if kind in (ORGAN, DEVICE):
        return ""
    own = between[max(i for i, word in enumerate(between) if word in lists.LISTED) + 1 :]
    rest = _rest(skeleton, unit)
    if _list_goes_on(skeleton, unit + 1) or (
        last - 1 not in skeleton.names and _before_comma(between) <= lists.DEGREES
    ):
        return current
    ended = "," in between and (lists.SEEN & set(between[: between.index(",")]) or _had_or(skeleton, last))
    if ended or lists.OWN & set(own) or (re.match(lists.PREDICATE, rest) and not _all_exist(between, rest)):
        return ""
    telegraphic = current == "absent" and skeleton.units[0] == "no"
    listed = (
        not telegraphic
        or "and" in between
        or skeleton.units[unit + 1 : unit + 2] == [","]
        or _listed_already(skeleton, last)
    )
    return current if listed else DOUBTFUL


def _had_or(skeleton: Skeleton, last: int) -> bool:
    """Whether the list before had an "or": its last name has been."""
    for place in range(last - 2, -1, -1):
        if place in skeleton.stops or any(cue.first <= place < cue.last for cue in skeleton.cues):
            return False
        if skeleton.units[place] in lists.NEITHER:
            return True
    return False


def _rest(skeleton: Skeleton, unit: int) -> str:
    """The words after a name, until its list or clause goes on."""
    rest = []
    for place in range(unit + 1, len(skeleton.units)):
        if place in skeleton.stops or skeleton.units[place] in lists.LISTED | lists.NEITHER:
            break
        rest.append(skeleton.units[place])
    return " ".join(rest)


def _all_exist(between: list[str], rest: str) -> bool:
    """ "No effusion and pneumothorax are seen" is of both."""
    return (
        "and" in between and "," not in between and bool(re.match(rf"(?:are|were) {lists.EXISTS}|{lists.EXISTS}", rest))
    )


def _list_goes_on(skeleton: Skeleton, start: int) -> bool:
    """Whether "or" comes before the list ends: only then are the names before it told by commas alone."""
    for place in range(start, len(skeleton.units)):
        word = skeleton.units[place]
        if word in ("or", "nor", "/"):
            return True
        if place in skeleton.stops or word in lists.VERBS or word in (":", "and"):
            return False
    return False


def _listed_already(skeleton: Skeleton, last: int) -> bool:
    """Whether the list before had a comma or "or" of its own."""
    for place in range(last - 2, -1, -1):
        if place in skeleton.stops or any(cue.first <= place < cue.last for cue in skeleton.cues):
            return False
        if skeleton.units[place] in (",", "or"):
            return True
    return False


def _before_comma(words: list[str]) -> set[str]:
    commas = [place for place, word in enumerate(words) if word == ","]
    return set(words[: commas[-1]] if commas else words) - {","}
