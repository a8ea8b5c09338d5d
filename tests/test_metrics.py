"""Metrics against scikit-learn, hand-computed values, and what is undefined."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vkd_pyro.metrics import (
    active_units,
    auroc,
    auroc_per_finding,
    macro_auroc,
    micro_auroc,
    negative_log_likelihood,
    resampled_auroc,
    weighted_auroc,
)

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
