"""Risk and coverage, referral: by hand, against the oracle, and whatever the order of the rows."""

import math
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vkd_pyro.metrics import (
    accuracy,
    area_under_risk_coverage,
    auroc,
    excess_area,
    macro_auroc,
    referral_curve,
    risk_coverage,
)
from vkd_pyro.utils.errors import UserError

NAN = float("nan")


def test_accuracy_at_thresholds():
    p, y = [[0.5, 0.3], [0.4, 0.2], [NAN, 0.9]], [[1, 1], [1, 0], [1, NAN]]
    assert accuracy(p, y) == pytest.approx(2 / 4)
    assert accuracy(p, y, [0.4, 0.25]) == pytest.approx(1)
    assert math.isnan(accuracy([NAN], [1]))


def test_risk_by_hand():
    curve = risk_coverage([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.3])
    assert curve.coverages == pytest.approx([0.25, 0.5, 0.75, 1])
    assert curve.risks == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area_under_risk_coverage([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.3]) == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_equal_uncertainties_are_the_mean_over_their_orders():
    generator = np.random.default_rng(0)
    errors, uncertainties = generator.random(60), generator.integers(0, 4, 60)
    broken = [risk_coverage(errors, uncertainties + 0.5 * generator.random(60)).risks for _ in range(4000)]
    np.testing.assert_allclose(risk_coverage(errors, uncertainties).risks, np.mean(broken, axis=0), atol=0.02)
    order = generator.permutation(60)
    np.testing.assert_allclose(
        risk_coverage(errors, uncertainties).risks, risk_coverage(errors[order], uncertainties[order]).risks
    )


def test_pairs_of_many_findings_are_pooled_and_the_unknown_left_out():
    errors, uncertainties = np.array([[1, 0], [NAN, 0], [0, 1]]), np.array([[0.9, 0.1], [0.2, NAN], [0.3, 0.8]])
    assert risk_coverage(errors, uncertainties).risks == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert risk_coverage([NAN], [1]).coverages.size == 0
    assert math.isnan(area_under_risk_coverage([NAN], [1]))


def test_the_oracle_has_no_excess_and_no_order_no_gain():
    errors = np.array([0, 0, 1, 0, 1, 0.5])
    best, useless, worst = (excess_area(errors, uncertainties) for uncertainties in (errors, np.zeros(6), -errors))
    assert (best.excess, best.gain) == (pytest.approx(0), pytest.approx(1))
    assert (useless.area, useless.random, useless.gain) == (pytest.approx(2.5 / 6), pytest.approx(2.5 / 6), 0)
    assert worst.gain < 0 < worst.excess
    assert math.isnan(excess_area([1, 1], [0.1, 0.2]).gain)
    with_unknown = excess_area([*errors, NAN, 1], [*-errors, 3, NAN])
    assert [with_unknown.area, with_unknown.oracle] == pytest.approx([worst.area, worst.oracle])
    assert with_unknown.random == pytest.approx(worst.random)


def test_referral_of_the_uncertain_leaves_the_metric_of_the_rest():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 100)
    p, uncertainties = generator.random(100) * 0.6 + 0.3 * y, generator.random(100)
    curve = referral_curve(
        probabilities=p, labels=y, uncertainties=uncertainties, shares=[0, 0.29, 0.5, 1], metric=auroc
    )
    assert curve.shares == pytest.approx([0, 0.29, 0.5, 1])
    for value, number in zip(curve.values[:3], [100, 71, 50], strict=True):
        kept = np.argsort(uncertainties)[:number]
        assert value == pytest.approx(roc_auc_score(y[kept], p[kept]))
    assert math.isnan(curve.values[3])


def test_equal_uncertainties_are_referred_together_or_not_at_all():
    y, p = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    curve = referral_curve(
        probabilities=p, labels=y, uncertainties=[0.1, 0.5, 0.5, 0.2], shares=[0.25, 0.5, 0.75], metric=accuracy
    )
    assert curve.shares == pytest.approx([0, 0.5, 0.75])
    assert curve.values == pytest.approx([0.75, 1, 1])


def test_shares_are_of_what_has_a_label_a_prediction_and_a_uncertainty():
    y, p = [1, 0, NAN, 1, 0, 1], [0.9, 0.8, 0.7, NAN, 0.1, 0.2]
    curve = referral_curve(
        probabilities=p, labels=y, uncertainties=[0.1, 0.9, 1, 1, 0.2, NAN], shares=[0, 0.34], metric=accuracy
    )
    assert curve.shares == pytest.approx([0, 1 / 3])
    assert curve.values == pytest.approx([2 / 3, 1])


def test_uncertainties_of_studies_and_of_pairs():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (80, 3)).astype(float)
    p = generator.random((80, 3)) + 0.5 * y
    of_studies, of_pairs = generator.random(80), generator.random((80, 3))
    curve = partial(referral_curve, probabilities=p, labels=y, shares=[0.25], metric=macro_auroc)
    rows = np.argsort(of_studies)[:60]
    assert curve(uncertainties=of_studies).values == pytest.approx([macro_auroc(p[rows], y[rows])])
    kept = np.where(of_pairs <= np.sort(of_pairs.ravel())[179], y, NAN)
    assert curve(uncertainties=of_pairs).values == pytest.approx([macro_auroc(p, kept)])


def test_rows_stay_so_a_metric_may_know_their_models():
    generator = np.random.default_rng(0)
    y, models, uncertainties = generator.integers(0, 2, 60), np.repeat([0, 1], 30), generator.random(60)
    p = generator.random(60) + models
    curve = referral_curve(
        probabilities=p, labels=y, uncertainties=uncertainties, shares=[0.5], metric=partial(auroc, models=models)
    )
    kept = np.argsort(uncertainties)[:30]
    assert curve.values == pytest.approx([auroc(p[kept], y[kept], models[kept])])


def test_what_cannot_be_referred_is_refused():
    with pytest.raises(UserError, match=r"uncertainties: found shape \[3\], expected \[2, 1\] or \[2\]"):
        referral_curve(
            probabilities=[[0.1], [0.2]], labels=[[0], [1]], uncertainties=[1, 2, 3], shares=[0], metric=auroc
        )
    with pytest.raises(UserError, match=r"shares: found one outside \[0, 1\]"):
        referral_curve(probabilities=[0.1, 0.2], labels=[0, 1], uncertainties=[1, 2], shares=[20], metric=auroc)
