"""What the cues after names say of them: how far "is not seen" and "cannot be excluded" reach back over a list."""

from vkd_pyro.data.labels import lists
from vkd_pyro.data.labels.names import DEVICE, FINDING, JUDGEMENT, ORGAN
from vkd_pyro.data.labels.skeleton import OPEN, REMOVED, Cue, Skeleton

SPOKEN_OF = (FINDING, DEVICE, JUDGEMENT)
"""Kinds of name that something is said of."""


def said_after(skeleton: Skeleton) -> dict[int, str]:
    """What the cues after names say, by the unit of the name."""
    said: dict[int, str] = {}
    for cue in skeleton.cues:
        if _reaches(skeleton, cue):
            for unit in _spoken_of(skeleton, cue):
                said[unit] = said[unit] if said.get(unit) == OPEN else cue.says
    return said


def _reaches(skeleton: Skeleton, cue: Cue) -> bool:
    if not cue.speaks or (cue.side == "before" and not _answers(skeleton, cue)):
        return False
    if cue.side != "beside":
        return True
    if skeleton.stands_before_a_name(cue):
        return False
    following = skeleton.units[cue.last : cue.last + 1]
    return cue.says != "uncertain" or not following or cue.last in skeleton.stops or following[0] in lists.ENDS


def _answers(skeleton: Skeleton, cue: Cue) -> bool:
    """ "Effusion: No." """
    alone = cue.last == len(skeleton.units) or skeleton.units[cue.last] in lists.LISTED or cue.last in skeleton.stops
    evidence = skeleton.units[cue.last :] in (["evidence"], ["sign"], ["signs"], ["definite", "evidence"])
    return cue.first > 0 and skeleton.units[cue.first - 1] in (":", "--", "?") and (alone or evidence)


def _spoken_of(skeleton: Skeleton, cue: Cue) -> list[int]:
    """The names that a cue after them is said of."""
    kinds = _kinds(skeleton, cue)
    nearest = _nearest(skeleton, cue)
    if nearest is None or skeleton.units[nearest] not in kinds:
        return []
    found, colon = [nearest], ":" in skeleton.units[nearest + 1 : cue.first]
    named = sorted((unit for unit in skeleton.names if unit < nearest), reverse=True)
    listed = colon or skeleton.units[cue.first] in lists.NEITHER
    verb = skeleton.units[cue.first] if cue.first < len(skeleton.units) else ""
    singular = verb in lists.SINGULAR or bool(lists.SINGULAR & set(skeleton.units[nearest + 1 : cue.first]))
    for unit in named:
        between = skeleton.units[unit + 1 : found[-1]]
        if skeleton.stops & set(range(unit + 1, found[-1])) or lists.VERBS & set(between) or ":" in between:
            break
        if lists.NEITHER & set(between):
            listed = True
        elif lists.LISTED & set(between):
            if not listed and ("and" not in between or singular):
                break
            listed = True
        elif cue.says != "absent" or any(c.first > unit and c.last <= found[-1] for c in skeleton.cues):
            break
        if skeleton.units[unit] in kinds:
            found.append(unit)
        elif skeleton.units[unit] in (ORGAN, DEVICE):
            break
    return found


def _kinds(skeleton: Skeleton, cue: Cue) -> tuple[str, ...]:
    """Kinds of name that a cue after them may be said of: a tip that is not seen is not absent."""
    if cue.says == REMOVED:
        return (DEVICE,)
    return (
        (FINDING, JUDGEMENT)
        if cue.says in ("absent", "uncertain") and lists.PARTS & set(skeleton.every_word)
        else SPOKEN_OF
    )


def _nearest(skeleton: Skeleton, cue: Cue) -> int | None:
    """The name that a cue after it is said of first; where the cue's clause has none, in the clause before.

    None where what stands between is something else, of which it may be said: "effusion, free air is not seen".
    """
    aside = _asides(skeleton)
    for unit in range(cue.first - 1, -1, -1):
        if unit not in aside and skeleton.units[unit] in SPOKEN_OF:
            places = [place for place in range(unit + 1, cue.first) if place not in aside]
            between = [skeleton.units[place] for place in places]
            parts = [i for i, word in enumerate(between) if word in lists.LISTED | lists.NEITHER]
            crossed = [i for i, place in enumerate(places) if place in skeleton.stops]
            if not crossed and not parts:
                return unit
            plural = bool(lists.PLURAL & {between[-1] if between else "", skeleton.units[cue.first]})
            tail = between[crossed[0] :] if crossed else between[parts[-1] + 1 :]
            return unit if set(tail) <= lists.POINTING or (plural and not crossed) else None
    return None


def _asides(skeleton: Skeleton) -> frozenset[int]:
    """Units in brackets that are closed again."""
    found: set[int] = set()
    opened: int | None = None
    for unit, word in enumerate(skeleton.units):
        if word == "(":
            opened = unit
        elif word == ")" and opened is not None:
            found |= set(range(opened, unit + 1))
            opened = None
    return frozenset(found)
