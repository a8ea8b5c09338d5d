"""Thresholds reach what they promise; conformal sets cover what they state."""

import json

import numpy as np
import pytest
from scipy.stats import beta

from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.recalibration import Platt
from vkd_pyro.posthoc.thresholds import ByCost, BySensitivity, BySpecificity, OperatingPoint, OperatingPoints, Rule
from vkd_pyro.utils.errors import UserError

NAN = float("nan")
ABC = ("a", "b", "c")


@pytest.fixture
def validation():
    """300 studies of 3 findings with ties in p; the third finding is rare, a tenth of the labels is unknown."""
    generator = np.random.default_rng(0)
    y = (generator.random((300, 3)) < [0.5, 0.3, 0.05]).astype(float)
    p = np.round(generator.beta(1 + 2 * y, 3 - y), 2)
    y[generator.random(y.shape) < 0.1] = NAN
    return p, y


def column(*values):
    return np.array(values, float)[:, None]


def sensitivity(p, y, threshold):
    return (p[y == 1] >= threshold).mean()


def specificity(p, y, threshold):
    return (p[y == 0] < threshold).mean()


# ------------------------------------------------------------------------------------------ thresholds


@pytest.mark.parametrize("share", [0.07, 0.5, 0.8, 0.9, 0.95, 0.999])
def test_by_sensitivity_is_the_highest_threshold_that_reaches_it(validation, share):
    p, y = validation
    points = OperatingPoints.fit(p, y, ABC, BySensitivity(share))
    for k, threshold in enumerate(points.thresholds):
        assert points.sensitivity[k] == sensitivity(p[:, k], y[:, k], threshold) >= share
        assert points.specificity[k] == specificity(p[:, k], y[:, k], threshold)
        assert sensitivity(p[:, k], y[:, k], np.nextafter(threshold, 2)) < share


@pytest.mark.parametrize("share", [0.07, 0.5, 0.8, 0.9, 0.95, 0.999])
def test_by_specificity_is_the_lowest_threshold_that_reaches_it(validation, share):
    p, y = validation
    points = OperatingPoints.fit(p, y, ABC, BySpecificity(share))
    for k, threshold in enumerate(points.thresholds):
        assert points.specificity[k] == specificity(p[:, k], y[:, k], threshold) >= share
        assert points.sensitivity[k] == sensitivity(p[:, k], y[:, k], threshold)
        assert specificity(p[:, k], y[:, k], np.nextafter(threshold, 0)) < share


def test_ties_and_extremes_by_hand():
    p, y = column(0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1), column(0, 0, 0, 0, 1, 0, 1, 1, 1, 1)
    (point,) = OperatingPoints.fit(p, y, ["a"], BySensitivity(0.6)).points
    assert point == OperatingPoint("a", 1.0, 5, 5, true_positives=3, true_negatives=5)
    (point,) = OperatingPoints.fit(p, y, ["a"], BySensitivity(0.61)).points  # the fourth brings its tie along
    assert point == OperatingPoint("a", 0.5, 5, 5, true_positives=5, true_negatives=3)
    (point,) = OperatingPoints.fit(p, y, ["a"], BySpecificity(0.6)).points
    assert point == OperatingPoint("a", np.nextafter(0, 1), 5, 5, true_positives=5, true_negatives=3)
    (point,) = OperatingPoints.fit(p, 1 - y, ["a"], BySpecificity(0.9)).points  # a negative with p = 1
    assert point.threshold is not None
    assert point.threshold > 1
    assert (point.sensitivity, point.specificity) == (0, 1)


@pytest.mark.parametrize("share", [k / 100 for k in range(1, 100)])
def test_a_share_is_the_decimal_that_was_written(share):
    """0.29 of 100 is 29, though 0.29 * 100 is less, and 0.07 of 100 is 7, though 0.07 * 100 is more."""
    p = np.linspace(0.001, 0.999, 100)[:, None]
    (point,) = OperatingPoints.fit(p, np.ones_like(p), ["a"], BySensitivity(share)).points
    assert point.true_positives == round(100 * share)
    (point,) = OperatingPoints.fit(p, np.zeros_like(p), ["a"], BySpecificity(share)).points
    assert point.true_negatives == round(100 * share)


def test_by_cost_is_the_closed_form_and_costs_least_where_p_is_calibrated():
    rule = ByCost(false_negative=4)
    generator = np.random.default_rng(0)
    p = generator.random((200_000, 1))
    y = (generator.random(p.shape) < p).astype(float)
    points = OperatingPoints.fit(p, y, ["a"], rule)
    assert points.thresholds.tolist() == [1 / 5]

    def cost(threshold):
        return 4 * ((p < threshold) & (y == 1)).sum() + ((p >= threshold) & (y == 0)).sum()

    grid = np.linspace(0.05, 0.95, 91)
    assert grid[np.argmin([cost(t) for t in grid])] == pytest.approx(0.2, abs=0.03)
    assert OperatingPoints.fit(p, y, ["a"], ByCost(2, 6)).thresholds.tolist() == [0.75]


def test_unknown_labels_and_missing_predictions_do_not_count(validation):
    p, y = validation
    known = OperatingPoints.fit(p, y, ABC, BySensitivity(0.8))
    more = np.concatenate([p, np.full((50, 3), 0.4), np.full((50, 3), NAN)])
    labels = np.concatenate([y, np.full((50, 3), NAN), np.ones((50, 3))])
    assert OperatingPoints.fit(more, labels, ABC, BySensitivity(0.8)) == known
    assert [p.positives for p in known.points] == np.nansum(y, axis=0).tolist()


def test_where_there_is_no_threshold_it_says_why(validation):
    p, y = validation
    y[:, 0], y[:, 1] = NAN, 0
    y[:4, 1] = 1
    points = OperatingPoints.fit(p, y, ABC, BySensitivity(0.9))
    assert np.isnan(points.thresholds).tolist() == [True, True, False]
    assert points.undefined == {
        "a": "positives known: 0; at least 5 are needed",
        "b": "positives known: 4; at least 5 are needed",
    }
    assert np.isnan(points.sensitivity).tolist() == [True, True, False]
    assert points.answers(p)[:, :2].tolist() == [["unknown"] * 2] * 300
    by_cost = OperatingPoints.fit(p, y, ABC, ByCost())
    assert by_cost.undefined == {}
    assert np.isnan(by_cost.sensitivity).tolist() == [True, False, False]


def test_answers_are_referred_where_draws_disagree():
    points = OperatingPoints.from_json(
        {
            "rule": {"class_path": "vkd_pyro.posthoc.thresholds.ByCost", "init_args": {}},
            "points": [
                {"finding": name, "threshold": threshold, "positives": 0, "negatives": 0}
                | {"true_positives": 0, "true_negatives": 0}
                for name, threshold in [("a", 0.5), ("b", 0.1), ("c", None)]
            ],
        }
    )
    p = [[0.5, 0.0999, 0.9], [0.6, 0.2, 0.9], [0.2, 0.05, NAN], [NAN, 0.3, 0.1]]
    assert points.answers(p).tolist() == [
        ["yes", "no", "unknown"],
        ["yes", "yes", "unknown"],
        ["no", "no", "unknown"],
        ["unknown", "yes", "unknown"],
    ]
    share = [[0.7, 0.4, 0.8], [0.6, 1.0, 0.8], [0.3, 0.0, NAN], [NAN, NAN, 0.1]]
    assert points.answers(p, yes_share=share).tolist() == [
        ["yes", "refer", "unknown"],
        ["refer", "yes", "unknown"],
        ["no", "no", "unknown"],
        ["unknown", "unknown", "unknown"],
    ]
    one = points.answers([0.6, 0.05, NAN], yes_share=[0.1, 0.9, 0.8])  # most draws say the contrary of their mean
    assert one.tolist() == ["refer", "refer", "unknown"]
    assert points.answers([NAN] * 3, yes_share=[0.6] * 3).tolist() == ["unknown"] * 3
    thirds = [[0.6, 0.6, 0.6], [0.6, 0.0, 0.6], [0.0, 0.0, NAN]]  # three draws: of a two say yes, of b one
    assert points.yes_share(thirds)[:2].tolist() == [2 / 3, 1 / 3]
    assert np.isnan(points.yes_share(thirds)[2])
    assert points.answers([0.5, 0.05, 0.5], yes_share=points.yes_share(thirds)).tolist() == ["yes", "no", "unknown"]


def test_draws_that_disagree_refer_all_and_none_refers_nothing(validation):
    p, y = validation
    points = OperatingPoints.fit(p, y, ABC, BySensitivity(0.8))
    assert (points.answers(p, yes_share=np.full_like(p, 0.5)) == "refer").all()
    alike = points.answers(p, yes_share=points.yes_share(np.stack([p, p, p])))
    np.testing.assert_array_equal(alike, np.where(p >= points.thresholds, "yes", "no"))


@pytest.mark.parametrize("rule", [BySensitivity(0.9), BySpecificity(0.95), ByCost(5)])
def test_operating_points_survive_json(validation, rule):
    p, y = validation
    y[:, 1] = NAN
    points = OperatingPoints.fit(p, y, ABC, rule)
    again = OperatingPoints.from_json(json.loads(json.dumps(points.to_json(), allow_nan=False)))
    assert again == points
    np.testing.assert_array_equal(again.answers(p), points.answers(p))


def test_another_rule_is_another_class(validation):
    class Always(Rule):
        def undefined(self, probabilities, labels):
            return None

        def threshold(self, probabilities, labels):
            return 0.0

    assert (OperatingPoints.fit(*validation, ABC, Always()).answers(validation[0]) == "yes").all()


def test_mistakes_are_said_in_one_line(validation):
    for share in (0, 1, -0.1, 1.5, NAN):
        with pytest.raises(UserError, match=r"BySensitivity.at_least: found .*, expected a number above 0 and below 1"):
            BySensitivity(share)
        with pytest.raises(UserError, match=r"BySpecificity.at_least: found .*, expected a number above 0 and below 1"):
            BySpecificity(share)
        with pytest.raises(UserError, match=r"alpha: found .*, expected a number above 0 and below 1"):
            Conformal.fit(*validation, ABC, share)
    with pytest.raises(UserError, match=r"ByCost.false_negative: found 0, expected a number above 0"):
        ByCost(false_negative=0)
    with pytest.raises(UserError, match=r"ByCost.false_positive: found inf, expected a number above 0"):
        ByCost(false_positive=float("inf"))
    for wrong in ("youden", BySensitivity):
        with pytest.raises(UserError, match=r"rule: found .*, expected a Rule such as BySensitivity\(0.9\)"):
            OperatingPoints.fit(*validation, ABC, wrong)
    with pytest.raises(UserError, match=r"vkd_pyro.posthoc.thresholds.Youden: not found"):
        OperatingPoints.from_json(
            {"rule": {"class_path": "vkd_pyro.posthoc.thresholds.Youden", "init_args": {}}, "points": []}
        )
    with pytest.raises(UserError, match=r"probabilities: found 1.5, expected numbers in \[0, 1\]"):
        OperatingPoints.fit(*validation, ABC, ByCost()).answers([[1.5, 0, 0]])


# ------------------------------------------------------------------------------------ conformal sets


def drawn(generator, positives, negatives, columns):
    """Labels, and p ~ Beta(3, 2) of a positive, Beta(2, 4) of a negative: each column is a split of its own."""
    y = np.repeat([1.0, 0.0], [positives, negatives])[:, None] * np.ones(columns)
    return np.where(y == 1, generator.beta(3, 2, y.shape), generator.beta(2, 4, y.shape)), y


@pytest.mark.parametrize(("alpha", "positives"), [(0.1, 12), (0.1, 37), (0.05, 37), (0.3, 37)])
def test_both_classes_are_covered_as_stated_over_many_splits(alpha, positives):
    """Over splits, coverage is Beta(k, n + 1 - k): its mean k / (n + 1) is in [1 - alpha, 1 - alpha + 1 / (n + 1)]."""
    splits, negatives = 4000, 80
    names = [str(k) for k in range(splits)]
    fitted = Conformal.fit(*drawn(np.random.default_rng(0), positives, negatives, splits), names, alpha)
    present = beta.sf([each.bound for each in fitted.present], 3, 2)
    absent = beta.cdf([each.bound for each in fitted.absent], 2, 4)
    for covered, n in ((present, positives), (absent, negatives)):
        k = np.ceil(round((1 - alpha) * (n + 1), 9))
        exact = beta(k, n + 1 - k)
        assert covered.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(splits))
        assert covered.std() == pytest.approx(exact.std(), rel=0.1)
        assert 1 - alpha <= exact.mean() <= 1 - alpha + 1 / (n + 1)


def test_new_studies_are_covered_as_stated():
    generator, splits, alpha, n = np.random.default_rng(1), 1000, 0.1, 49
    names = [str(k) for k in range(splits)]
    fitted = Conformal.fit(*drawn(generator, n, n, splits), names, alpha)
    measured = fitted.coverage(*drawn(generator, 100, 300, splits))
    for covered in (measured.present, measured.absent):
        assert 0.895 < covered.mean() < 0.9 + 1 / (n + 1) + 0.005


def test_bounds_by_hand():
    """9 of a class is enough for alpha 0.1: rank 9 of 9."""
    p, y = column(*np.arange(1, 19) / 20), column(*[0] * 9, *[1] * 9)
    fitted = Conformal.fit(p, y, ["a"], alpha=0.1)
    assert (fitted.absent[0].bound, fitted.present[0].bound) == (0.45, 0.5)
    assert fitted.sets(column(0.2, 0.45, 0.47, 0.5, 0.9)).tolist() == [
        [[True, False]],
        [[True, False]],
        [[False, False]],
        [[False, True]],
        [[False, True]],
    ]
    assert fitted.answers(column(0.2, 0.47, 0.9)).ravel().tolist() == ["no", "neither", "yes"]
    overlapping = Conformal.fit(p, column(*[0, 1] * 9), ["a"], alpha=0.1)
    assert (overlapping.absent[0].bound, overlapping.present[0].bound) == (0.85, 0.1)
    assert overlapping.answers(column(0.05, 0.1, 0.85, 0.9)).ravel().tolist() == ["no", "refer", "refer", "yes"]


def test_a_class_of_too_few_labels_is_never_ruled_out_and_that_is_said():
    """(8 + 1) 0.1 < 1 <= (9 + 1) 0.1: with 8 positives there is no bound, and no answer by that of the negatives."""
    p, y = column(*np.arange(1, 18) / 20), column(*[0] * 9, *[1] * 8)
    fitted = Conformal.fit(p, y, ["a"], alpha=0.1)
    assert fitted.undefined == {"a": "positive labels known: 8; alpha 0.1 needs at least 9"}
    assert fitted.present[0].bound is None
    assert fitted.answers(column(0, 0.2, 0.9, 1)).ravel().tolist() == ["unknown"] * 4
    assert fitted.sets(column(0, 0.2, 0.9, 1)).all()
    ninth = Conformal.fit(np.vstack([p, [[0.9]]]), np.vstack([y, [[1]]]), ["a"], alpha=0.1)
    assert (ninth.undefined, ninth.present[0].bound) == ({}, 0.5)
    assert ninth.answers(column(0, 0.47, 1)).ravel().tolist() == ["no", "neither", "yes"]
    assert Conformal.fit(p, y, ["a"], alpha=0.12).undefined == {}
    nothing = Conformal.fit(p, np.full_like(y, NAN), ["a"])
    assert nothing.undefined["a"] == (
        "negative labels known: 0; alpha 0.1 needs at least 9; positive labels known: 0; alpha 0.1 needs at least 9"
    )
    assert nothing.sets(p).all()


def test_without_a_positive_in_validation_a_low_probability_is_no_yes():
    """The bound of 100 negatives is 0.015, and there is none of the positives: 0.016 lies above it."""
    p = np.linspace(0.0001, 0.0165, 100)[:, None]
    fitted = Conformal.fit(p, np.zeros_like(p), ["Pneumothorax"], alpha=0.1)
    assert fitted.absent[0].bound < 0.016
    assert fitted.answers([[0.016]]).tolist() == [["unknown"]]
    assert fitted.undefined == {"Pneumothorax": "positive labels known: 0; alpha 0.1 needs at least 9"}
    flipped = Conformal.fit(1 - p, np.ones_like(p), ["a"], alpha=0.1)
    assert flipped.answers([[0.984]]).tolist() == [["unknown"]]
    assert flipped.undefined == {"a": "negative labels known: 0; alpha 0.1 needs at least 9"}


@pytest.mark.parametrize("alpha", [0.01, 0.07, 0.1, 0.29, 0.3, 0.5, 0.9])
def test_the_least_number_of_labels_is_exact(alpha):
    needed = next(n for n in range(200) if n >= round(1 / alpha - 1, 9))
    p = np.linspace(0.01, 0.99, needed)[:, None]
    assert Conformal.fit(p, np.ones_like(p), ["a"], alpha).present[0].always is None
    assert Conformal.fit(p[1:], np.ones_like(p[1:]), ["a"], alpha).present[0].always is not None


def test_set_sizes_at_the_extremes():
    y = np.repeat([[0.0], [1.0]], 50, axis=0)
    perfect, useless = y.copy(), np.full_like(y, 0.5)
    measured = Conformal.fit(perfect, y, ["a"]).coverage(perfect, y)
    assert (measured.size, measured.single) == (1, 1)
    measured = Conformal.fit(useless, y, ["a"]).coverage(useless, y)
    assert (measured.size, measured.single) == (2, 0)


def test_sets_grow_as_alpha_falls(validation):
    p, y = validation
    small, large = (Conformal.fit(p, y, ABC, alpha).sets(p) for alpha in (0.2, 0.05))
    assert (large >= small).all()
    assert large.sum() > small.sum()


def test_without_a_probability_nothing_is_excluded(validation):
    fitted = Conformal.fit(*validation, ABC)
    assert fitted.sets([[NAN] * 3]).all()
    assert (fitted.answers([[NAN] * 3]) == "refer").all()


def test_unknown_labels_are_ignored_and_coverage_without_labels_is_undefined(validation):
    p, y = validation
    fitted = Conformal.fit(p, y, ABC)
    assert Conformal.fit(np.tile(p, (2, 1)), np.concatenate([y, np.full_like(y, NAN)]), ABC) == fitted
    y[:, 1] = np.where(y[:, 1] == 1, NAN, y[:, 1])
    measured = fitted.coverage(p, y)
    assert np.isnan(measured.present).tolist() == [False, True, False]
    y[:, 1] = NAN
    assert np.isnan([getattr(fitted.coverage(p, y), name)[1] for name in vars(measured)]).all()


def test_a_strictly_monotone_recalibration_changes_no_set_and_no_answer(validation):
    p, y = validation
    recalibrated = Platt.fit(p, y, ABC)(p)
    np.testing.assert_array_equal(
        Conformal.fit(p, y, ABC).sets(p), Conformal.fit(recalibrated, y, ABC).sets(recalibrated)
    )
    for rule in (BySensitivity(0.8), BySpecificity(0.8)):
        raw, new = (OperatingPoints.fit(each, y, ABC, rule).answers(each) for each in (p, recalibrated))
        np.testing.assert_array_equal(raw, new)


def test_conformal_survives_json(validation):
    p, y = validation
    y[:, 1] = NAN
    fitted = Conformal.fit(p, y, ABC, 0.2)
    again = Conformal.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert again == fitted
    np.testing.assert_array_equal(again.sets(p), fitted.sets(p))


def test_the_same_probability_for_all_gives_no_threshold():
    labels = np.repeat([1.0, 0.0], 10)[:, None]
    for rule in (BySensitivity(0.9), BySpecificity(0.9)):
        points = OperatingPoints.fit(np.full((20, 1), 0.2), labels, ["a"], rule)
        assert points.undefined == {"a": "all studies have the same probability"}
        assert points.answers([[0.2]]).tolist() == [["unknown"]]
    assert OperatingPoints.fit(np.full((20, 1), 0.2), labels, ["a"], ByCost()).thresholds.tolist() == [0.5]
