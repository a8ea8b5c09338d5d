"""A patient's sex and age, as tables write them."""

import re
from math import nan

from vkd_pyro.data.study import Sex

SEXES: dict[str, Sex] = {"f": "female", "female": "female", "m": "male", "male": "male"}

AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([YMWD]?)")
PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""The units of an age in DICOM, as in 058Y; without one it is in years."""

OLDEST = 120.0
"""The oldest age that is believed, in years; ChestX-ray14 has ages of 155 and 411."""


def sex_of(cell: str) -> Sex:
    """ "F" or "female" is female, "M" or "male" male, in any case; anything else is unknown."""
    return SEXES.get(cell.strip().lower(), "unknown")


def age_of(cell: str) -> float:
    """An age in years: "58", "058Y" and "696M" are 58; NaN where it is no age, or one that nobody reaches."""
    match = AGE.fullmatch(cell.strip().upper())
    return known_age(float(match[1]) / PER_YEAR[match[2]]) if match else nan


def known_age(years: float) -> float:
    """The age, or NaN where it is below 0 or above `OLDEST`."""
    return years if 0 <= years <= OLDEST else nan
