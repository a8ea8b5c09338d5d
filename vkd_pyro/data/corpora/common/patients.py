"""A patient's sex and age, as tables write them."""

import re
from math import isnan, nan

from vkd_pyro.data.ids import NONE
from vkd_pyro.data.study import Sex

SEXES: dict[str, Sex] = {"f": "female", "female": "female", "m": "male", "male": "male"}
BLANK = NONE | {"#n/a", "u"}
"""Cells that say that something is not known."""
OTHER_SEX = {
    *("o", "x", "d", "n", "i", "other", "indeterminate", "undetermined", "undifferentiated", "ambiguous", "intersex"),
    *("diverse", "divers", "nonbinary", "non-binary", "mixed"),
}
"""Cells that say a sex which is neither, DICOM's O among them: the subgroups of an evaluation have it as unknown."""

AGE = re.compile(
    r"([0-9]+(?:[.,][0-9]+)?) ?"
    r"(Y|YRS?|YEARS?|Y/?O|YEARS? OLD|A|M|MOS?|MTHS?|MONTHS?|MONTHS? OLD|W|WKS?|WEEKS?|WEEKS? OLD|D|DAYS?|DAYS? OLD|)\.?"
)
PER_YEAR = {"": 1.0, "Y": 1.0, "A": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""The units of an age in DICOM, as in 058Y, by the first letter of their words; without one it is in years."""
OLDER = re.compile(
    r"(?:(>|OVER |ABOVE )|(>=|≥)|) ?([0-9]+) ?(Y|YRS?|YEARS?|) ?(\+|(?:AND|OR|&) (?:OVER|OLDER|ABOVE|MORE)|)"
)
"""An age of which only the least is told, as where the oldest may not be told apart: 90+, >89, 90 and over."""

OLDEST = 120.0
"""The oldest age that is believed, in years; ChestX-ray14 has ages of 155 and 411."""


def sex_of(cell: str) -> Sex:
    """ "F" or "female" is female, "M" or "male" male, in any case; anything else is unknown."""
    return SEXES.get(cell.strip().lower(), "unknown")


def says_sex(cell: str) -> bool:
    """Whether a cell was understood: it says a sex, another than these two, or that it is not known."""
    cell = cell.strip().lower()
    return cell in SEXES or cell in BLANK or cell in OTHER_SEX


def age_of(cell: str) -> float:
    """An age in years: "58", "058Y", "58 years" and "696M" are 58, and "90+" and ">89", which tell the least alone, 90.

    NaN where it is no age, or one that nobody reaches.
    """
    cell = " ".join(cell.upper().split())
    if match := AGE.fullmatch(cell):
        return known_age(float(match[1].replace(",", ".")) / PER_YEAR[match[2][:1]])
    if match := OLDER.fullmatch(cell):
        return known_age(float(match[3]) + (1 if match[1] else 0))
    return nan


def says_age(cell: str) -> bool:
    """Whether a cell was understood: it says an age that is believed, or that it is not known."""
    return cell.strip().lower() in BLANK or not isnan(age_of(cell))


def known_age(years: float) -> float:
    """The age, or NaN where it is below 0 or above `OLDEST`."""
    return years if 0 <= years <= OLDEST else nan
