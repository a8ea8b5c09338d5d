"""Intervals: DeLong's published example, coverage by simulation, patients drawn whole."""

import math
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import stdtrit

from vkd_pyro.metrics import (
    Interval,
    auroc,
    auroc_interval,
    average_precision,
    average_precision_interval,
    bootstrap_interval,
    brier,
    clustered_area,
    delong,
    delong_difference,
    micro_auroc,
    rare_strata,
    resample_counts,
    resampled_auroc,
)
from vkd_pyro.metrics.clustered import MODEL_FREEDOM, hanley_mcneil_variance
from vkd_pyro.utils.errors import UserError

NAN = float("nan")


def binormal(generator: np.random.Generator, positives: int, negatives: int, shift: float = 1.0) -> tuple:
    """Scores and labels of independent studies; the true AUC is Phi(shift / sqrt 2)."""
    labels = np.repeat([1, 0], [positives, negatives])
    return generator.normal(size=labels.size) + shift * labels, labels


# ------------------------------------------------------------------------------ text


def test_an_interval_as_text():
    interval = Interval(0.0031, -0.01, 0.02)
    assert str(interval) == f"{interval}" == "+0.003 [-0.010, +0.020]"
    assert f"{Interval(0.731, 0.63, 0.8326):.2f}" == "0.73 [0.63, 0.83]"
    assert str(Interval(NAN, NAN, NAN)) == f"{Interval(NAN, NAN, NAN):.3f}" == "undefined"
    assert f"{Interval(1.0, NAN, NAN):.3f}" == "1.000 [undefined]"


# ------------------------------------------------------------------------------ resamples


def test_patients_are_drawn_whole():
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    blocks = list(resample_counts(patients, 250, seed=3))
    assert [block.shape for block in blocks] == [(100, 6), (100, 6), (50, 6)]
    counts = np.concatenate(blocks)
    for patient in "abc":
        rows = counts[:, patients == patient]
        assert (rows == rows[:, :1]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert counts[:, 3].mean() == pytest.approx(1, abs=0.15)
    np.testing.assert_array_equal(counts, np.concatenate(list(resample_counts(patients, 250, seed=3))))
    assert (counts != np.concatenate(list(resample_counts(patients, 250, seed=4)))).any()


def test_a_patients_name_is_no_matter():
    first = next(resample_counts(["b", "a", "b", "c"], 20))
    np.testing.assert_array_equal(first, next(resample_counts([1, 7, 1, 0], 20)))


def test_strata_keep_how_many_patients_have_the_finding():
    patients = np.arange(60) // 2
    labels = np.zeros(60)
    labels[[3, 10, 11]] = 1  # patients 1 and 5
    counts = np.concatenate(list(resample_counts(patients, 300, strata=labels == 1)))
    has = counts[:, ::2][:, [1, 5]]
    assert (has.sum(axis=1) == 2).all()
    assert set(has[:, 0]) == {0, 1, 2}
    assert (counts[:, ::2].sum(axis=1) == 30).all()
    with pytest.raises(UserError, match="strata: found NaN"):
        next(resample_counts([0, 1], 10, strata=[0, NAN]))


def test_strata_of_a_rare_finding_alone():
    p, y = np.full(100, 0.5), np.repeat([1.0, 0.0], 50)
    assert rare_strata(p, y) is None
    y[:21] = NAN
    assert rare_strata(p, y).tolist() == [0] * 21 + [2] * 29 + [1] * 50
    y[:21], p[:21] = 1, NAN
    assert rare_strata(p, y).tolist() == [0] * 21 + [2] * 29 + [1] * 50


# ------------------------------------------------------------------------------ bootstrap


def mean_of(values: np.ndarray):
    return lambda counts: counts @ values / counts.sum(axis=1)


def test_bootstrap_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    error = values.std() / 20
    found = bootstrap_interval(mean_of(values), np.arange(400), num_resamples=4000, level=0.9)
    assert found.estimate == pytest.approx(values.mean())
    z = NormalDist().inv_cdf(0.95)
    assert [found.low, found.high] == pytest.approx(values.mean() + error * np.array([-z, z]), abs=0.1 * error)


def test_resamples_without_the_statistic_are_left_out():
    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.where(counts[:, 0] > 0, mean_of(np.arange(20.0))(counts), np.nan)

    found = bootstrap_interval(statistic, np.arange(20), num_resamples=200)
    assert found.low < found.estimate == 9.5 < found.high
    undefined = bootstrap_interval(lambda counts: np.full(len(counts), np.nan), np.arange(20), 100)
    assert np.isnan([undefined.estimate, undefined.low, undefined.high]).all()
    only_whole = bootstrap_interval(lambda c: np.where((c == 1).all(axis=1), 1.0, np.nan), np.arange(20), 100)
    assert only_whole.estimate == 1
    assert np.isnan([only_whole.low, only_whole.high]).all()


def test_what_cannot_be_asked_for_is_refused():
    with pytest.raises(UserError, match="num_resamples: found 0, expected at least 1"):
        bootstrap_interval(mean_of(np.ones(2)), [0, 1], num_resamples=0)
    with pytest.raises(UserError, match="level: found 95, expected a number between 0 and 1"):
        bootstrap_interval(mean_of(np.ones(2)), [0, 1], level=95)
    with pytest.raises(UserError, match="level: found 95"):
        delong([0.1, 0.2], [0, 1], [0, 1], level=95)


def metric_interval(metric, p, y, patients, num_resamples, seed=0, strata=None) -> Interval:
    """Any metric, asked of one resample at a time."""

    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.array([metric(p.repeat(c, axis=0), y.repeat(c, axis=0)) for c in counts])

    return bootstrap_interval(statistic, patients, num_resamples, seed, strata=strata)


def test_intervals_of_average_precision_are_those_of_any_metric():
    generator = np.random.default_rng(0)
    p, y = binormal(generator, 40, 60)
    p, y = p.copy(), y.astype(float)
    p[::17], y[5::13] = NAN, NAN
    patients, models = np.arange(100) // 2, np.arange(100) % 2
    ask = {"patients": patients, "num_resamples": 150, "seed": 2}
    found = average_precision_interval(p, y, **ask)
    expected = metric_interval(average_precision, p, y, **ask, strata=rare_strata(p, y))
    assert found.estimate == average_precision(p, y)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    assert found.low < found.estimate < found.high
    assert average_precision_interval(p, y, **ask, models=models).estimate == average_precision(p, y, models)


def test_metrics_of_many_findings_have_intervals_too():
    generator = np.random.default_rng(0)
    y = (generator.random((50, 3)) < 0.5).astype(float)
    p = 0.4 * y + 0.6 * generator.random((50, 3))
    for metric in (micro_auroc, brier):
        found = metric_interval(metric, p, y, np.arange(50) // 2, num_resamples=100)
        assert found.low < found.estimate == metric(p, y) < found.high


def test_every_resample_of_a_rare_finding_has_it():
    generator = np.random.default_rng(0)
    p, y = generator.random(500), np.zeros(500)
    y[7] = 1
    counts = np.concatenate(list(resample_counts(np.arange(500), 200, strata=rare_strata(p, y))))
    assert not np.isnan(resampled_auroc(p, y, counts)).any()
    plain = np.concatenate(list(resample_counts(np.arange(500), 200)))
    assert np.isnan(resampled_auroc(p, y, plain)).mean() > 0.2
    undefined = average_precision_interval(p, np.zeros(500), np.arange(500), num_resamples=10)
    assert f"{undefined:.3f}" == "undefined"


def test_clustered_intervals_cover_the_mean_as_often_as_they_say():
    # 100 patients of 3 studies that share half their variance: taken as independent, intervals are too short by 1.4.
    generator = np.random.default_rng(0)
    patients, covered = np.arange(300) // 3, {"patients": 0, "rows": 0}
    for trial in range(1000):
        values = generator.normal(size=100)[patients] + generator.normal(size=300)
        for name, units in (("patients", patients), ("rows", np.arange(300))):
            if name == "rows" and trial >= 200:
                continue
            found = bootstrap_interval(mean_of(values), units, num_resamples=200, seed=trial)
            covered[name] += found.low <= 0 <= found.high
    assert 0.92 <= covered["patients"] / 1000 <= 0.98
    assert covered["rows"] / 200 < 0.88


# ------------------------------------------------------------------------------ areas, patients with several rows


def share_held(positives: int, images: int, area: float = 0.75, data_sets: int = 1000) -> float:
    """How often `auroc_interval` holds the truth: patients of so many images, which share half their variance."""
    generator = np.random.default_rng([positives, images])
    patients = np.repeat(np.arange(positives + 300 // images), images)
    labels = (patients < positives).astype(float)
    shift, held = NormalDist().inv_cdf(area) * math.sqrt(2), 0
    for _ in range(data_sets):
        noise = (generator.normal(size=patients[-1] + 1)[patients] + generator.normal(size=len(patients))) / math.sqrt(
            2
        )
        found = auroc_interval(noise + shift * labels, labels, patients)
        held += found.low <= area <= found.high
    return held / data_sets


@pytest.mark.parametrize(("positives", "images"), [(10, 1), (10, 3)])
def test_an_area_lies_in_its_interval_as_often_as_it_says(positives, images):
    assert 0.93 <= share_held(positives, images) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("area", [0.65, 0.85, 0.95])
@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("positives", [10, 20, 30, 100])
def test_areas_lie_in_their_intervals_as_often_as_they_say(positives, images, area):
    assert 0.93 <= share_held(positives, images, area) <= 0.97


def by_pairs(p, y, patients) -> tuple[float, float]:
    """An area and its variance by Obuchowski's (1997) formulas as they are written, with loops."""
    positives, negatives = p[y == 1], p[y == 0]
    kernel = [[(x > w) + (x == w) / 2 for w in negatives] for x in positives]
    area = np.mean(kernel)
    v10, v01 = np.mean(kernel, axis=1), np.mean(kernel, axis=0)
    everybody = sorted(set(patients))
    sums = {}
    for i in everybody:
        mine, others = patients[y == 1] == i, patients[y == 0] == i
        sums[i] = (v10[mine].sum() - mine.sum() * area, v01[others].sum() - others.sum() * area)
    m, n, number = len(positives), len(negatives), len(everybody)
    with_positives, with_negatives = (len(set(patients[y == c])) for c in (1, 0))
    s10 = with_positives / ((with_positives - 1) * m) * sum(a * a for a, _ in sums.values())
    s01 = with_negatives / ((with_negatives - 1) * n) * sum(b * b for _, b in sums.values())
    s11 = number / (number - 1) * sum(a * b for a, b in sums.values())
    return area, s10 / m + s01 / n + 2 * s11 / (m * n)


def test_the_clustered_variance_is_obuchowskis():
    generator = np.random.default_rng(3)
    patients = generator.integers(0, 25, 80)
    y = generator.integers(0, 2, 80).astype(float)
    p = np.round(generator.normal(size=25)[patients] + generator.normal(size=80) + y, 1)  # with ties
    found = clustered_area(p, y, patients)
    assert (found.area, found.variance) == pytest.approx(by_pairs(p, y, patients))
    assert found.design_effect > 1
    y[::7] = NAN
    known = ~np.isnan(y)
    again = clustered_area(p, y, patients)
    assert (again.area, again.variance) == pytest.approx(by_pairs(p[known], y[known], patients[known]))


def test_of_independent_patients_the_clustered_variance_is_delongs():
    found, theirs = clustered_area(ALBUMIN, OUTCOME, np.arange(43)), delong(ALBUMIN, OUTCOME, np.arange(43))
    error = (theirs.high - theirs.low) / (2 * NormalDist().inv_cdf(0.975))
    assert (found.area, found.variance) == pytest.approx((theirs.estimate, error**2))
    assert found.design_effect == pytest.approx(1)
    assert 11 < found.freedom < 42  # of 12 patients without the outcome and 31 with it


def test_every_image_of_a_patient_twice_says_no_more():
    p, y = binormal(np.random.default_rng(0), 40, 60)
    once, twice = clustered_area(p, y, np.arange(100)), clustered_area(*np.repeat([p, y, np.arange(100)], 2, axis=1))
    assert twice.variance == pytest.approx(once.variance)
    assert twice.freedom == pytest.approx(once.freedom)
    assert twice.design_effect == pytest.approx(2, rel=0.05)


def test_with_many_patients_the_interval_is_obuchowskis():
    p, y = binormal(np.random.default_rng(0), 4000, 4000)
    found, theirs = auroc_interval(p, y, np.arange(8000)), delong(p, y, np.arange(8000))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=2e-4)
    narrower = auroc_interval(p, y, np.arange(8000), level=0.5)
    assert (narrower.high - narrower.low) / (found.high - found.low) == pytest.approx(0.6745 / 1.96, abs=0.005)


def test_the_bounds_are_where_the_distance_is_so_many_errors():
    p, y = binormal(np.random.default_rng(1), 12, 40)
    found, of = auroc_interval(p, y, np.arange(52)), clustered_area(p, y, np.arange(52))
    here = hanley_mcneil_variance(of.area, 12, 40)
    scale = (MODEL_FREEDOM + of.freedom * of.variance / here) / (MODEL_FREEDOM + of.freedom)  # no design effect
    for bound in (found.low, found.high):
        errors = abs(bound - of.area) / math.sqrt(scale * hanley_mcneil_variance(bound, 12, 40))
        assert errors == pytest.approx(float(stdtrit(MODEL_FREEDOM + of.freedom, 0.975)))


def test_an_area_of_one_is_not_sure():
    p = np.r_[np.arange(50.0), 100 + np.arange(10)]
    found = auroc_interval(p, p >= 100, np.arange(60))
    assert (found.estimate, found.high) == (1, 1)
    assert 0.8 < found.low < 0.95
    below = auroc_interval(-p, p >= 100, np.arange(60))
    assert (below.estimate, below.low, below.high) == pytest.approx((0, 0, 1 - found.low))


def test_the_variance_of_hanley_and_mcneil():
    # Of an area of 1/2, without ties, (m + n + 1) / (12 m n) is exact.
    assert hanley_mcneil_variance(0.5, 7, 9) == pytest.approx(17 / (12 * 63))
    assert hanley_mcneil_variance(1.0, 7, 9) == hanley_mcneil_variance(0.0, 7, 9) == 0


def test_few_patients_with_a_finding_have_no_interval_or_a_note():
    p, y = binormal(np.random.default_rng(0), 60, 60)
    y = y.astype(float)
    four, five = np.r_[np.arange(60) % 4, np.arange(4, 64)], np.r_[np.arange(60) % 5, np.arange(5, 65)]
    for interval in (auroc_interval, average_precision_interval):
        found = interval(p, y, four)
        assert found.note == "4 patients with the finding, fewer than 5: no interval"
        assert found.estimate > 0.5
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        found = interval(p, y, five)
        assert found.note == "fewer than 30 patients with the finding"
        assert found.low < found.estimate < found.high
        assert interval(p, y, np.arange(120)).note == ""
    assert auroc_interval(p, 1 - y, four).note == "4 patients without the finding, fewer than 5: no interval"
    assert str(auroc_interval(p, np.zeros(120), four)) == "undefined"


def test_of_several_models_only_pairs_of_the_same_one_count_and_none_is_sure_of_itself():
    generator = np.random.default_rng(0)
    p, y = binormal(generator, 40, 60)
    models, patients = np.arange(100) % 4, np.arange(100)
    found = clustered_area(p + 10 * models, y, patients, models)
    assert found.area == pytest.approx(auroc(p + 10 * models, y, models))
    pooled = clustered_area(p, y, patients)
    assert found.variance == pytest.approx(pooled.variance, rel=0.3)
    interval = auroc_interval(p + 10 * models, y, patients, models)
    assert interval.low < interval.estimate == found.area < interval.high
    one_each = np.arange(10) // 2  # five models, a positive and a negative each: nothing tells how an area varies
    found = auroc_interval(np.arange(10.0), np.arange(10) % 2, np.arange(10), one_each)
    assert math.isnan(found.low)
    assert found.note == "too few patients a model: no interval"


# ------------------------------------------------------------------------------ DeLong


TABLE = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7  5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4  6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6  6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1  5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7  6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
"""Albumin, total protein, K-G score and outcome of 43 patients: the example of DeLong, DeLong & Clarke-Pearson (1988),
as the SAS/STAT User's Guide prints it (LOGISTIC, "Comparing Receiver Operating Characteristic Curves")."""

OVARIAN = np.array(TABLE.split(), float).reshape(43, 4)
ALBUMIN, PROTEIN, KG, OUTCOME = (*OVARIAN[:, :2].T, 10 - OVARIAN[:, 2], OVARIAN[:, 3])


@pytest.mark.parametrize(
    ("score", "printed"),
    [(ALBUMIN, (0.7366, 0.5549, 0.9182)), (KG, (0.7258, 0.5243, 0.9273)), (PROTEIN, (0.6478, 0.4518, 0.8439))],
)
def test_delong_is_that_of_the_published_example(score, printed):
    found = delong(score, OUTCOME, np.arange(43))
    assert (found.estimate, found.low, found.high) == pytest.approx(printed, abs=6e-5)


def test_delong_of_a_difference_is_that_of_the_published_example():
    found = delong_difference(ALBUMIN, KG, OUTCOME, np.arange(43))
    printed = (0.0108, -0.1761, 0.1976)
    assert (found.difference.estimate, found.difference.low, found.difference.high) == pytest.approx(printed, abs=6e-5)
    assert found.p_value == pytest.approx(0.9102, abs=6e-5)
    found = delong_difference(PROTEIN, KG, OUTCOME, np.arange(43))
    printed = (-0.0780, -0.2830, 0.1271)
    assert (found.difference.estimate, found.difference.low, found.difference.high) == pytest.approx(printed, abs=6e-5)


def brute_force(scores: list[np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance by every pair of a positive and a negative: DeLong's formula as it is written."""
    x = np.array(scores)
    above = x[:, labels == 1][:, :, None] - x[:, labels == 0][:, None, :]
    right = (np.sign(above) + 1) / 2
    components = right.mean(axis=2), right.mean(axis=1)
    return right.mean(axis=(1, 2)), sum(np.cov(c) / c.shape[1] for c in components)


def test_delong_by_midranks_is_delong_by_pairs():
    generator = np.random.default_rng(0)
    y = np.where(generator.random(300) < 0.1, NAN, generator.integers(0, 2, 300))
    a, b = (np.round(generator.normal(size=300) + shift * np.nan_to_num(y), 1) for shift in (0.5, 1.0))  # with ties
    a[:10], b[20:30] = NAN, NAN
    known = ~np.isnan(a + b + y)
    areas, covariance = brute_force([a[known], b[known]], y[known])
    z = NormalDist().inv_cdf(0.9)
    one = delong(np.where(known, a, NAN), y, np.arange(300), level=0.8)
    assert one.estimate == pytest.approx(areas[0])
    assert (one.high - one.low) / (2 * z) == pytest.approx(math.sqrt(covariance[0, 0]))
    found = delong_difference(a, b, y, np.arange(300), level=0.8)
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.difference.estimate == pytest.approx(areas[0] - areas[1])
    assert (found.difference.high - found.difference.low) / (2 * z) == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * NormalDist().cdf(-abs(areas[0] - areas[1]) / error))


def test_delong_agrees_with_10_000_bootstraps():
    p, y = binormal(np.random.default_rng(0), 500, 500)
    patients = np.arange(1000)
    found = delong(p, y, patients)
    error = (found.high - found.low) / (2 * NormalDist().inv_cdf(0.975))
    areas = np.concatenate([resampled_auroc(p, y, counts) for counts in resample_counts(patients, 10_000)])
    assert areas.std() == pytest.approx(error, rel=0.02)


def test_delong_wants_independent_patients():
    p, y, patients = [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], [7, 8, 9, 7]
    for ask in (delong, partial(delong_difference, p)):
        with pytest.raises(UserError, match=r"found 1 more rows than patients; DeLong wants .* use the bootstrap"):
            ask(p, y, patients)
    assert not math.isnan(delong(p, [NAN, 1, 0, 1], patients).estimate)  # the other row of the patient takes no part


def test_delong_where_there_is_no_variance():
    assert str(delong([0.1, 0.2], [0, 0], [0, 1])) == "undefined"
    for p, y in (([0.1, 0.2, 0.3], [0, 0, 1]), ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])):  # one positive; an AUC of 1
        assert f"{delong(p, y, range(len(p))):.3f}" == "1.000 [undefined]"
    same = delong_difference([0.1, 0.3, 0.2, 0.4], [1, 3, 2, 4], [0, 0, 1, 1], range(4))
    assert (str(same.difference), same.p_value) == ("+0.000 [+0.000, +0.000]", 1)
    other = delong_difference([1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 1, 1], range(4))
    assert (str(other.difference), math.isnan(other.p_value)) == ("+1.000 [undefined]", True)
    missing = delong_difference([0.1, 0.2], [0.1, 0.2], [0, NAN], [0, 1])
    assert (str(missing.difference), math.isnan(missing.p_value)) == ("undefined", True)


def test_an_interval_of_an_area_stays_an_area():
    p, y = np.r_[np.arange(20), 19.5], np.r_[np.zeros(19), 1, 1]
    p[18] = 19.7
    found = delong(p, y, np.arange(21))
    assert found.estimate < found.high == 1
