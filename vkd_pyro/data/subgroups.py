"""Subgroups of studies: by the patient's sex, the patient's age, and the view."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.corpora.common.patients import known_age
from vkd_pyro.data.study import Study
from vkd_pyro.utils.errors import UserError

UNKNOWN = "unknown"
AGE_BANDS = (0, 40, 60, 80)


def subgroups(studies: Sequence[Study], age_bands: Sequence[int] = AGE_BANDS) -> dict[str, NDArray[np.str_]]:
    """The subgroup that each study is in, for each kind of subgroup.

    * "sex": "female", "male", "unknown";
    * "age": the band that the age in completed years is in, such as "40 to 59"; "unknown" where the age is NaN, below 0
      or above 120;
    * "view": "frontal" or "lateral" where all images of the study are, however many; "several" where it has both,
      which are then predicted together; else "unknown", so also where a frontal image lies beside one of unknown view.

    All three kinds are always there, even where every study is in the same subgroup or in "unknown": whether that is
    worth a table is for the caller to say, who may have more studies. `subgroup_names` has the order for a table.

    Args:
        studies: N studies, with the images that are used.
        age_bands: the first year of each band, rising from 0.

    Returns: kind -> N names.

    Raises:
        UserError: the bands do not rise from 0.
    """
    bands = _band_names(age_bands)
    of_each = {
        "sex": [study.sex for study in studies],
        "age": [_band(study.age, age_bands, bands) for study in studies],
        "view": [_view(study) for study in studies],
    }
    return {kind: np.array(names, dtype=np.str_) for kind, names in of_each.items()}


def subgroup_names(age_bands: Sequence[int] = AGE_BANDS) -> dict[str, tuple[str, ...]]:
    """Kind -> all its subgroups in the order in which a table has them, "unknown" last."""
    return {
        "sex": ("female", "male", UNKNOWN),
        "age": (*_band_names(age_bands), UNKNOWN),
        "view": ("frontal", "lateral", "several", UNKNOWN),
    }


def _band_names(age_bands: Sequence[int]) -> list[str]:
    if not age_bands or age_bands[0] != 0 or any(low >= high for low, high in pairwise(age_bands)):
        raise UserError(f"age_bands: found {list(age_bands)}, expected whole years that rise from 0, as 0, 40, 60, 80")
    between = [f"{low} to {high - 1}" if low else f"under {high}" for low, high in pairwise(age_bands)]
    return [*between, f"{age_bands[-1]} and over"]


def _band(age: float, age_bands: Sequence[int], names: Sequence[str]) -> str:
    if np.isnan(known_age(age)):
        return UNKNOWN
    return names[int(np.digitize(age, age_bands)) - 1]


def _view(study: Study) -> str:
    views = set(study.views)
    if {"frontal", "lateral"} <= views:
        return "several"
    return views.pop() if len(views) == 1 else UNKNOWN
