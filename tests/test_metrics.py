"""Ranking, calibration and the latents: against scikit-learn, hand-computed values, and what is undefined."""

import math

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import auc, average_precision_score, brier_score_loss, log_loss, roc_auc_score

from vkd_pyro.metrics import (
    active_units,
    adaptive_calibration_error,
    auroc,
    auroc_per_finding,
    average_precision,
    brier,
    calibration_slope,
    expected_calibration_error,
    macro_auroc,
    micro_auroc,
    negative_log_likelihood,
    precision_recall_curve,
    reliability,
    resampled_auroc,
    resampled_average_precision,
    roc_curve,
    undefined_reason,
    weighted_auroc,
)
from vkd_pyro.metrics.pairs import average_ranks

NAN = float("nan")


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 4)) < [0.5, 0.3, 0.1, 0.2]).astype(float)
    return generator.random((200, 4)) * 0.5 + labels * 0.3, labels


def test_auroc_counts_ordered_pairs():
    # Pairs (positive, negative): 0.8 > 0.3, 0.8 > 0.5, 0.4 > 0.3, 0.4 < 0.5
    assert auroc([0.8, 0.3, 0.4, 0.5], [1, 0, 1, 0]) == pytest.approx(3 / 4)
    assert auroc([0.5, 0.5], [1, 0]) == pytest.approx(0.5)


def test_averages_are_scikit_learns(predictions):
    p, y = predictions
    assert auroc_per_finding(p, y) == pytest.approx([roc_auc_score(y[:, k], p[:, k]) for k in range(4)])
    assert macro_auroc(p, y) == pytest.approx(roc_auc_score(y, p, average="macro"))
    assert micro_auroc(p, y) == pytest.approx(roc_auc_score(y, p, average="micro"))
    assert weighted_auroc(p, y) == pytest.approx(roc_auc_score(y, p, average="weighted"))


def test_unknown_labels_and_missing_predictions_take_no_part(predictions):
    p, y = predictions
    y[:50, 0], p[50:60, 0] = NAN, NAN
    assert auroc(p[:, 0], y[:, 0]) == pytest.approx(roc_auc_score(y[60:, 0], p[60:, 0]))


def test_one_class_is_undefined_and_left_out_of_the_averages(predictions):
    p, y = predictions
    y[:, 3] = 0
    assert np.isnan(auroc_per_finding(p, y)).tolist() == [False, False, False, True]
    assert macro_auroc(p, y) == pytest.approx(roc_auc_score(y[:, :3], p[:, :3], average="macro"))
    assert weighted_auroc(p, y) == pytest.approx(roc_auc_score(y[:, :3], p[:, :3], average="weighted"))


def test_nothing_defined_is_nan_and_not_a_half():
    p, y = np.full((3, 2), 0.5), np.zeros((3, 2))
    for metric in (macro_auroc, micro_auroc, weighted_auroc):
        assert math.isnan(metric(p, y))
    assert math.isnan(negative_log_likelihood(p, np.full((3, 2), NAN)))


def test_macro_of_findings_with_enough_positives(predictions):
    p, y = predictions
    positives = y.sum(0)
    chosen = positives >= 30
    assert 0 < chosen.sum() < 4
    assert macro_auroc(p, y, min_positives=30) == pytest.approx(auroc_per_finding(p, y)[chosen].mean())


def test_negative_log_likelihood_by_hand():
    value = negative_log_likelihood([[0.8, 0.1], [0.5, 0.9]], [[1, 0], [NAN, 0]])
    assert value == pytest.approx(-(math.log(0.8) + math.log(0.9) + math.log(0.1)) / 3)


def test_active_units_are_dimensions_whose_mean_varies():
    generator = np.random.default_rng(0)
    locs = generator.normal(size=(1000, 3)) * [1.0, 0.05, 0.2]  # variances 1, 0.0025, 0.04
    assert active_units(locs) == 2


def test_resampled_auroc_is_that_of_the_rows_drawn():
    generator = np.random.default_rng(0)
    probabilities = generator.integers(0, 12, 80) / 12  # with ties
    labels = np.where(generator.random(80) < 0.2, np.nan, generator.integers(0, 2, 80))
    counts = generator.multinomial(80, np.full(80, 1 / 80), size=20)
    expected = [auroc(probabilities.repeat(c), labels.repeat(c)) for c in counts]
    np.testing.assert_allclose(resampled_auroc(probabilities, labels, counts), expected, rtol=1e-12)
    only = (labels == 1).astype(int)
    assert np.isnan(resampled_auroc(probabilities, labels, [only])).all()
    assert np.isnan(resampled_auroc(probabilities, np.full(80, np.nan), counts)).all()


def test_only_pairs_of_the_same_model_count():
    generator = np.random.default_rng(0)
    probabilities, labels, models = generator.random(90), generator.integers(0, 2, 90), np.repeat([4, 7, 9], 30)
    right = pairs = 0.0
    for model in (4, 7, 9):
        p, y = probabilities[models == model], labels[models == model]
        number = y.sum() * (1 - y).sum()
        right, pairs = right + roc_auc_score(y, p) * number, pairs + number
    assert auroc(probabilities, labels, models) == pytest.approx(right / pairs)
    assert auroc(probabilities + models, labels, models) == pytest.approx(
        right / pairs
    )  # an offset of one is no matter
    assert auroc(probabilities, labels) == pytest.approx(roc_auc_score(labels, probabilities))
    two = np.stack([probabilities, 1 - probabilities], 1), np.stack([labels, labels], 1)
    expected = auroc(two[0].ravel(), two[1].ravel(), models.repeat(2))
    assert micro_auroc(*two, models=models) == pytest.approx(expected)


# ------------------------------------------------------------------------------ average precision


def test_average_precision_is_scikit_learns(predictions):
    p, y = np.round(predictions[0], 1), predictions[1]  # with ties
    expected = [average_precision_score(y[:, k], p[:, k]) for k in range(4)]
    assert [average_precision(p[:, k], y[:, k]) for k in range(4)] == pytest.approx(expected)
    assert 0.1 < min(expected) < max(expected) < 0.95
    y[:50, 0], p[50:60, 0] = NAN, NAN
    assert average_precision(p[:, 0], y[:, 0]) == pytest.approx(average_precision_score(y[60:, 0], p[60:, 0]))


def test_average_precision_of_resamples_is_that_of_the_rows_drawn():
    generator = np.random.default_rng(0)
    p, models = generator.integers(0, 12, 80) / 12, generator.integers(0, 2, 80)
    y = np.where(generator.random(80) < 0.2, np.nan, generator.integers(0, 2, 80))
    counts = generator.multinomial(80, np.full(80, 1 / 80), size=20)
    expected = [average_precision(p.repeat(c), y.repeat(c), models.repeat(c)) for c in counts]
    np.testing.assert_allclose(resampled_average_precision(p, y, counts, models), expected, rtol=1e-12)
    assert np.isnan(resampled_average_precision(p, y, [(y == 1).astype(int), np.zeros(80)])).all()


def test_average_precision_of_models_is_weighted_by_their_positives():
    generator = np.random.default_rng(0)
    p, y, models = generator.random(90), generator.integers(0, 2, 90), np.repeat([4, 7, 9], 30)
    y[models == 9] = 1  # nothing to rank
    each = [average_precision_score(y[models == m], p[models == m]) for m in (4, 7)]
    positives = [y[models == m].sum() for m in (4, 7)]
    assert average_precision(p, y, models) == pytest.approx(np.average(each, weights=positives))
    assert average_precision(p + models, y, models) == pytest.approx(average_precision(p, y, models))


# ------------------------------------------------------------------------------ undefined


@pytest.mark.parametrize(
    ("p", "y", "reason"),
    [
        ([0.1, 0.2], [NAN, NAN], "no label is known"),
        ([0.1, 0.2], [0, NAN], "no study is positive"),
        ([0.1, 0.2], [NAN, 1], "no study is negative"),
        ([NAN, NAN], [1, 0], "no prediction"),
        ([NAN, 0.2], [1, 0], "no study is positive"),
        ([], [], "no label is known"),
        ([0.1, 0.2], [1, 0], None),
    ],
)
def test_what_is_undefined_is_nan_with_its_reason(p, y, reason):
    assert undefined_reason(p, y) == reason
    for metric in (auroc, average_precision):
        assert math.isnan(metric(p, y)) == (reason is not None)
    assert (roc_curve(p, y).sensitivity.size == 0) == (reason is not None)
    assert (precision_recall_curve(p, y).recall.size == 0) == (reason is not None)


def test_models_that_each_saw_one_class_leave_nothing_to_compare():
    assert undefined_reason([0.1, 0.2], [1, 0], [0, 1]) == "no model has both classes"
    assert undefined_reason([0.1, 0.2, 0.3], [1, 0, 1], [0, 1, 1]) is None


# ------------------------------------------------------------------------------ curves


@pytest.mark.parametrize("every_threshold", [False, True])
def test_curves_hold_the_areas(predictions, every_threshold):
    p, y = (array[:, 1].copy() for array in predictions)
    y[:20], p[20:30] = NAN, NAN
    roc = roc_curve(p, y, every_threshold)
    assert auc(roc.false_positive_rate, roc.sensitivity) == pytest.approx(auroc(p, y))
    curve = precision_recall_curve(p, y, every_threshold)
    assert len(curve.recall) == len(curve.precision) == len(curve.thresholds)
    assert len(roc.thresholds) == 171 if every_threshold else len(roc.thresholds) < 100
    chosen = p[~np.isnan(y)] >= curve.thresholds[3]
    assert curve.precision[3] == pytest.approx(y[~np.isnan(y)][chosen].mean())


def test_average_precision_is_the_area_of_steps_under_its_curve(predictions):
    p, y = (array[:, 1] for array in predictions)
    curve = precision_recall_curve(p, y, every_threshold=True)
    assert -(np.diff(curve.recall) * curve.precision[:-1]).sum() == pytest.approx(average_precision(p, y))


def test_points_on_a_straight_line_count_as_thresholds():
    p, y = np.repeat([0.1, 0.3, 0.5, 0.9], 2), [0, 1] * 4  # the curve is the diagonal
    assert 0.5 not in roc_curve(p, y).sensitivity
    assert 0.5 in roc_curve(p, y, every_threshold=True).sensitivity


# ------------------------------------------------------------------------------ calibration


@pytest.fixture(scope="module")
def calibrated():
    generator = np.random.default_rng(0)
    p = generator.beta(0.5, 2, 100_000)
    return p, (generator.random(100_000) < p).astype(float)


def test_scores_are_scikit_learns_over_known_pairs_pooled(predictions):
    p, y = predictions
    y[:50, 0], y[100:110] = NAN, NAN
    known = ~np.isnan(y)
    assert brier(p, y) == pytest.approx(brier_score_loss(y[known], p[known]))
    assert negative_log_likelihood(p, y) == pytest.approx(log_loss(y[known], p[known]))


def test_a_missing_prediction_is_left_out_but_never_from_the_log_likelihood(predictions):
    p, y = predictions
    p[0, 1] = NAN
    known = ~np.isnan(p)
    assert brier(p, y) == pytest.approx(brier_score_loss(y[known], p[known]))
    assert expected_calibration_error(p, y) == pytest.approx(expected_calibration_error(p[known], y[known]))
    assert calibration_slope(p, y) == calibration_slope(p[known], y[known])
    assert math.isnan(negative_log_likelihood(p, y))
    y[0, 1] = NAN
    assert negative_log_likelihood(p, y) == pytest.approx(log_loss(y[known], p[known]))


def test_a_calibrated_generator_is_found_calibrated(calibrated):
    assert expected_calibration_error(*calibrated) < 0.01
    assert adaptive_calibration_error(*calibrated) < 0.01
    line = calibration_slope(*calibrated)
    assert (line.slope, line.intercept) == (pytest.approx(1, abs=0.02), pytest.approx(0, abs=0.03))


def test_an_overconfident_generator_is_found_so(calibrated):
    p, y = calibrated
    logits = np.log(p / (1 - p))
    line = calibration_slope(1 / (1 + np.exp(-(2 * logits + 0.5))), y)  # logits of p are half of these, less 1/4
    assert (line.slope, line.intercept) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.25, abs=0.1))
    assert expected_calibration_error(1 / (1 + np.exp(-2 * logits)), y) > 0.03


def test_the_calibration_line_through_two_probabilities_is_their_frequencies():
    p, y = np.repeat([0.2, 0.6], 10), np.r_[np.ones(3), np.zeros(7), np.ones(5), np.zeros(5)]
    line = calibration_slope(p, y)
    logits, seen = np.log([0.2 / 0.8, 0.6 / 0.4]), np.log([0.3 / 0.7, 1])
    slope = (seen[1] - seen[0]) / (logits[1] - logits[0])
    assert line.slope == pytest.approx(slope, rel=1e-6)
    assert line.intercept == pytest.approx(seen[0] - slope * logits[0], rel=1e-6)


@pytest.mark.parametrize(
    ("p", "y"),
    [
        ([0.1, 0.2], [1, 1]),
        ([0.3, 0.3], [1, 0]),
        ([0.1, 0.2, 0.8], [0, 0, 1]),
        ([0.1, 0.2, 0.8], [1, 1, 0]),
        ([0.1, NAN], [1, 0]),
        ([], []),
    ],
)
def test_without_a_finite_line_it_is_undefined(p, y):
    line = calibration_slope(p, y)
    assert math.isnan(line.slope)
    assert math.isnan(line.intercept)


def test_reliability_by_hand():
    p, y = [[0.1, 0.15], [0.6, 1.0], [0.55, NAN]], [[0, 1], [1, 1], [0, 1]]
    found = reliability(p, y, bins=4)
    assert found.count.tolist() == [2, 0, 2, 1]
    assert found.predicted == pytest.approx([0.125, NAN, 0.575, 1.0], nan_ok=True)
    assert found.observed == pytest.approx([0.5, NAN, 0.5, 1.0], nan_ok=True)
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((2 * 0.375 + 2 * 0.075) / 5)


def test_adaptive_bins_have_equal_counts_and_keep_ties_together():
    generator = np.random.default_rng(0)
    p, y = generator.random(1000) ** 4, generator.integers(0, 2, 1000)
    assert reliability(p, y, bins=8, adaptive=True).count.tolist() == [125] * 8
    tied = reliability([0.2] * 5 + [0.7], [0, 1, 0, 0, 0, 1], bins=3, adaptive=True)
    assert sorted(tied.count) == [0, 1, 5]
    order, coarse = generator.permutation(1000), np.round(p, 1)
    assert adaptive_calibration_error(coarse, y) == pytest.approx(adaptive_calibration_error(coarse[order], y[order]))


def test_calibration_of_nothing_is_undefined():
    for metric in (brier, expected_calibration_error, adaptive_calibration_error):
        assert math.isnan(metric([0.5, NAN], [NAN, 1]))
    assert reliability([NAN], [1], bins=3).count.tolist() == [0, 0, 0]


def test_ranks_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 20, 100).astype(float)
    np.testing.assert_array_equal(average_ranks(values), rankdata(values))
    assert average_ranks(np.array([])).tolist() == []
