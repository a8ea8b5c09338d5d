"""Subgroups of studies: by sex, age and view."""

import math

import numpy as np
import pytest

from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study import Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.subgroups import subgroup_names, subgroups
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.utils.errors import UserError


def study(sex="unknown", age=math.nan, views=("frontal",)):
    pixels = (np.zeros((4, 4), np.uint8),) * len(views)
    return Study("s", "p", pixels, tuple(views), {}, np.zeros(1, np.float32), "test", sex, age)


def of(kind, *studies, **options):
    """The subgroup of each study, as a list."""
    return subgroups(studies, **options)[kind].tolist()


def test_sex_is_that_of_the_study():
    sexes = ["male", "unknown", "female"]
    assert of("sex", *(study(sex) for sex in sexes)) == sexes


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *((0, "under 40"), (0.5, "under 40"), (39, "under 40"), (39.99, "under 40")),
        *((40, "40 to 59"), (59.9, "40 to 59"), (60, "60 to 79"), (79.5, "60 to 79")),
        *((80, "80 and over"), (91, "80 and over"), (120, "80 and over")),
        *((math.nan, "unknown"), (-1, "unknown"), (999, "unknown"), (math.inf, "unknown")),
    ],
)
def test_an_age_is_in_the_band_of_its_completed_years(age, band):
    assert of("age", study(age=age)) == [band]


@pytest.mark.parametrize(
    ("bands", "names"),
    [
        ((0,), ["0 and over"] * 4),
        ((0, 18), ["under 18", "18 and over", "18 and over", "18 and over"]),
        ((0, 18, 65), ["under 18", "18 to 64", "18 to 64", "65 and over"]),
    ],
)
def test_bands_of_ones_own(bands, names):
    assert of("age", *(study(age=age) for age in (17.9, 18, 64.9, 65)), age_bands=bands) == names


@pytest.mark.parametrize("bands", [(), (40, 60), (0, 60, 40), (0, 40, 40), (-5, 40)])
def test_bands_that_do_not_rise_from_0_are_refused(bands):
    with pytest.raises(UserError, match=r"age_bands: found \[.*\], expected whole years that rise from 0"):
        subgroups([study(age=50)], bands)


@pytest.mark.parametrize(
    ("views", "name"),
    [
        (["frontal"], "frontal"),
        (["frontal", "frontal"], "frontal"),
        (["lateral"], "lateral"),
        (["lateral", "lateral"], "lateral"),
        (["frontal", "lateral"], "several"),
        (["lateral", "unknown", "frontal"], "several"),
        (["unknown"], "unknown"),
        (["unknown", "unknown"], "unknown"),
        (["frontal", "unknown"], "unknown"),
        (["unknown", "lateral"], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_view_of_a_study_is_that_of_all_its_images(views, name):
    assert of("view", study(views=views)) == [name]


def test_every_kind_is_there_whatever_is_known():
    for studies in ([], [study()], [study("male", 50.0), study()]):
        found = subgroups(studies)
        assert list(found) == ["sex", "age", "view"]
        assert all(names.shape == (len(studies),) and names.dtype.kind == "U" for names in found.values())


def test_names_are_in_the_order_of_a_table_and_hold_every_subgroup():
    names = subgroup_names()
    assert names["age"] == ("under 40", "40 to 59", "60 to 79", "80 and over", "unknown")
    assert subgroup_names((0, 65))["age"] == ("under 65", "65 and over", "unknown")
    views = [("frontal",), ("lateral",), ("frontal", "lateral"), ("unknown",)]
    studies = [study("female", age) for age in (1.0, 41.0, 61.0, 81.0, math.nan)]
    studies += [study(sex, 50.0, view) for sex in ("male", "unknown") for view in views]
    assert {kind: set(found) for kind, found in subgroups(studies).items()} == {
        kind: set(all_names) for kind, all_names in names.items()
    }


def test_the_synthetic_corpus_has_subgroups_of_both_sexes_and_all_ages():
    found = subgroups(StudyData(Selection(SyntheticCorpus(200, 16), image_size=16)).studies("train"))
    assert set(found["sex"]) == {"female", "male"}
    assert set(found["age"]) == set(subgroup_names()["age"]) - {"unknown"}
    assert set(found["view"]) == {"frontal"}
