"""What is said of each name in a sentence: present, absent or uncertain, by its cues before and after.

A heading of which nothing is said, and alternatives ("atelectasis or pneumonia"), are judged last.
"""

from itertools import pairwise

from vkd_pyro.data.labels import cues, lists
from vkd_pyro.data.labels.findings import ABSENT, PRESENT, UNCERTAIN
from vkd_pyro.data.labels.names import FINDING, JUDGEMENT, ORGAN
from vkd_pyro.data.labels.reach_left import SPOKEN_OF, said_after
from vkd_pyro.data.labels.reach_right import DOUBTFUL, said_before
from vkd_pyro.data.labels.skeleton import OPEN, REMOVED, Skeleton

VALUES = {"certain": PRESENT, "confirmed": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN, "present": PRESENT}
"""What a cue says -> the value of a name."""


def values_of(skeleton: Skeleton) -> list[float | None]:
    """What is said of each name, in their order; None of one that nothing is said of."""
    before, after = said_before(skeleton), said_after(skeleton)
    values = {
        unit: _combined(before.get(unit), after.get(unit))
        for unit, name in skeleton.names.items()
        if name.kind in SPOKEN_OF
    }
    _hedge_alternatives(skeleton, values, before)
    _hedge_versus(skeleton, values)
    for unit in _headings(skeleton, values):
        del values[unit]
    return [values.get(unit) for unit in skeleton.names]


def _combined(before: str | None, after: str | None) -> float:
    """The value of a name from what is said before and after it."""
    if OPEN in (before, after) or before == DOUBTFUL:
        return UNCERTAIN
    if REMOVED in (before, after):
        return ABSENT
    if before == "absent" and after not in ("present", "certain"):
        return ABSENT
    said = after if after in VALUES and not (after == "present" and before in ("uncertain", "absent")) else before
    return VALUES.get(said or "present", PRESENT)


def _headings(skeleton: Skeleton, values: dict[int, float]) -> list[int]:
    """Names before a colon of which nothing is said: what follows is blank, or speaks of itskeleton.

    "Effusion: small left effusion" is of one, "Pneumonia: left lower lobe consolidation" of both.
    """
    if ":" not in skeleton.units:
        return []
    colon = skeleton.units.index(":")
    headings = [unit for unit in values if unit < colon and skeleton.units[unit] != JUDGEMENT]
    said = [unit for unit in values if unit > colon and skeleton.units[unit] != JUDGEMENT]
    if not headings or any(cue.last <= colon and cue.says != cues.PASS for cue in skeleton.cues):
        return []
    if colon == len(skeleton.units) - 1:
        return headings
    same = {values[unit] for unit in said}
    if not said or ";" in skeleton.units or ":" in skeleton.units[colon + 1 :]:
        return []
    if len(same) == 1 and not {skeleton.units[unit] for unit in said} ^ {skeleton.units[unit] for unit in headings}:
        values.update(dict.fromkeys(headings, same.pop()))
        return []
    return headings


def _hedge_versus(skeleton: Skeleton, values: dict[int, float]) -> None:
    """Atelectasis versus contusion, crowding versus edema: what is no name hedges as well."""
    for place in (unit for unit, word in enumerate(skeleton.units) if word == "versus"):
        if set(skeleton.units[place + 1 : place + 3]) & lists.THEN:
            continue
        for side in (range(place - 1, place - 6, -1), range(place + 1, place + 6)):
            for unit in side:
                if not 0 <= unit < len(skeleton.units) or unit in skeleton.stops or skeleton.units[unit] == ",":
                    break
                if unit in values:
                    values.update({unit: UNCERTAIN} if values[unit] == PRESENT else {})
                    break


def _hedge_alternatives(skeleton: Skeleton, values: dict[int, float], before: dict[int, str]) -> None:
    """Atelectasis or pneumonia, opacity versus mass: neither is sure, unless both are denied."""
    spoken = sorted(unit for unit, name in skeleton.names.items() if name.kind != ORGAN)
    for first, second in pairwise(spoken):
        between = skeleton.units[first + 1 : second]
        if not {"or", "versus"} & set(between) or len(between) > 4:
            continue
        if "," in between and not set(between[between.index(",") :]) <= lists.ADJECTIVES | {"versus"}:
            continue  # an opacity, crowding or pneumonia: the opacity is sure
        if "present" in (before.get(first), before.get(second)) or "with" in between:
            continue
        one, other = skeleton.names[first], skeleton.names[second]
        if one.means == other.means and one.kind == other.kind == FINDING:
            continue
        chain = [first, second]
        while "either" not in skeleton.units[: chain[0]] and (earlier := [u for u in spoken if u < chain[0]]):
            gap = skeleton.units[earlier[-1] + 1 : chain[0]]
            if gap[:1] != [","] or len(gap) > 2 or "Lung Opacity" in skeleton.names[earlier[-1]].means:
                break  # an opacity, atelectasis or pneumonia: the opacity is sure
            chain.insert(0, earlier[-1])
        for unit in chain:
            values.update({unit: UNCERTAIN} if values.get(unit) == PRESENT else {})
