"""Recalibration, against what made the labels, against scikit-learn, and what stays as it is."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from vkd_pyro.posthoc.known import MIN_PER_CLASS, rounded
from vkd_pyro.posthoc.recalibration import Identity, Isotonic, Platt, Recalibration, Temperature
from vkd_pyro.utils.errors import UserError

NAN = float("nan")
ALL: list[type[Recalibration]] = [Identity, Temperature, Platt, Isotonic]
ABC = ("a", "b", "c")


def simulated(size, slopes, intercepts, seed=0):
    """p = sigmoid(x), y ~ Bernoulli(sigmoid(slope x + intercept)), a column for each finding."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, len(slopes))) * 2
    truth = expit(np.array(slopes) * x + np.array(intercepts))
    return expit(x), (generator.random(x.shape) < truth).astype(float), truth


@pytest.fixture
def small():
    """400 studies of 3 findings, over-confident, the third one rare; a tenth of the labels is unknown."""
    p, y, _ = simulated(400, (0.5, 0.4, 0.6), (0.0, -1.0, -3.0))
    y[np.random.default_rng(1).random(y.shape) < 0.1] = NAN
    return p, y


def known_log_loss(p, y):
    known = ~np.isnan(y)
    return log_loss(y[known], p[known])


def test_a_known_temperature_is_found():
    p, y, truth = simulated(100_000, (0.4, 0.4), (0, 0))
    fitted = Temperature.fit(p, y, ABC[:2])
    assert fitted.temperature == pytest.approx(1 / 0.4, rel=0.01)
    np.testing.assert_allclose(fitted(p), truth, atol=0.005)


def test_temperature_is_where_the_log_loss_is_least(small):
    p, y = small
    best = Temperature.fit(p, y, ABC).temperature
    loss = {t: known_log_loss(expit(logit(p) / t), y) for t in (best, 0.99 * best, 1.01 * best, 1.0)}
    assert min(loss, key=loss.__getitem__) == best


@pytest.mark.parametrize(("labels", "expected"), [([0, 1], 0.05), ([1, 0], 20.0)])
def test_temperature_of_the_separable_and_of_the_inverted_is_at_its_bounds(labels, expected):
    p = np.tile([[0.2], [0.8]], (10, 1))
    assert Temperature.fit(p, np.tile(np.array(labels)[:, None], (10, 1)), ["a"]).temperature == expected


def test_one_temperature_serves_findings_without_labels_too(small):
    p, y = small
    y[:, 2] = NAN
    fitted = Temperature.fit(p, y, ABC)
    assert fitted.not_fitted == {}
    np.testing.assert_allclose(fitted(p)[:, 2], expit(logit(p[:, 2]) / fitted.temperature))


def test_known_slopes_and_intercepts_are_found():
    slopes, intercepts = (0.5, 1.0, 2.0), (-1.0, 0.0, 0.5)
    p, y, truth = simulated(100_000, slopes, intercepts)
    fitted = Platt.fit(p, y, ABC)
    np.testing.assert_allclose(fitted.slopes, slopes, rtol=0.03)
    np.testing.assert_allclose(fitted.intercepts, intercepts, atol=0.03)
    np.testing.assert_allclose(fitted(p), truth, atol=0.01)


def test_platt_is_logistic_regression_on_smoothed_targets(small):
    """A target t is t of a positive and 1 - t of a negative."""
    p, y = small
    fitted = Platt.fit(p, y, ABC)
    for k in range(3):
        known = ~np.isnan(y[:, k])
        x, label = logit(p[known, k, None]), y[known, k]
        positives, negatives = label.sum(), (1 - label).sum()
        target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        model = LogisticRegression(C=np.inf, tol=1e-10)
        model.fit(np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target]))
        assert fitted.slopes[k] == pytest.approx(model.coef_.item(), rel=1e-4)
        assert fitted.intercepts[k] == pytest.approx(model.intercept_.item(), rel=1e-4)


def test_platt_stays_finite_where_classes_are_apart():
    p = np.repeat([[0.01], [0.9]], [100, 5], axis=0)
    fitted = Platt.fit(p, p > 0.5, ["a"])
    assert 0 < fitted.slopes[0] < 3
    np.testing.assert_allclose(fitted([[0.01], [0.9]]), [[1 / 102], [6 / 7]], rtol=1e-4)  # Platt's targets


def test_platt_never_turns_the_order_round():
    p, y, _ = simulated(2000, (-1.0,), (-1.0,))
    fitted = Platt.fit(p, y, ["a"])
    assert fitted.slopes == [0.0]
    np.testing.assert_allclose(fitted(p), y.mean(), atol=1e-3)  # the base rate


def test_isotonic_is_that_of_scikit_learn(small):
    p, y = small
    fitted = Isotonic.fit(p, y, ABC)
    grid = np.linspace(0, 1, 999)
    for k in range(3):
        known = ~np.isnan(y[:, k])
        positives, negatives = np.nansum(y[:, k]), np.nansum(1 - y[:, k])
        low, high = 1 / (negatives + 2), (positives + 1) / (positives + 2)
        theirs = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(
            [rounded(each, "nearest") for each in p[known, k]], y[known, k]
        )
        np.testing.assert_array_equal(fitted.inputs[k], theirs.X_thresholds_)
        np.testing.assert_array_equal(fitted.outputs[k], theirs.y_thresholds_)
        ours = fitted(np.tile(grid[:, None], 3))[:, k]
        np.testing.assert_allclose(ours, theirs.predict(grid), rtol=1e-12)
        assert low == ours.min() < ours.max() <= high


def test_isotonic_finds_any_monotone_map():
    generator = np.random.default_rng(0)
    p = generator.random((100_000, 1))
    y = generator.random(p.shape) < p**3
    assert np.abs(Isotonic.fit(p, y, ["a"])(p) - p**3).mean() < 0.01


@pytest.mark.parametrize("cls", ALL)
def test_the_log_loss_is_not_worse_where_it_was_fitted(cls, small):
    p, y = small
    slack = {Platt: 1e-3}.get(cls, 1e-12)  # its targets are smoothed
    assert known_log_loss(cls.fit(p, y, ABC)(p), y) <= known_log_loss(p, y) + slack


@pytest.mark.parametrize("cls", ALL)
def test_each_is_monotone_and_in_the_unit_interval(cls, small):
    fitted = cls.fit(*small, ABC)
    grid = np.concatenate([[0, 1e-300, 1e-9], np.linspace(0.001, 0.999, 500), [1 - 1e-9, 1]])
    out = fitted(np.tile(grid[:, None], 3))
    assert (np.diff(out, axis=0) >= 0).all()
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("cls", [Identity, Temperature, Platt])
def test_the_order_is_kept(cls, small):
    p, y = small
    out = cls.fit(p, y, ABC)(p)
    for k in range(3):
        known = ~np.isnan(y[:, k])
        assert roc_auc_score(y[known, k], out[known, k]) == roc_auc_score(y[known, k], p[known, k])


def test_every_float32_below_one_is_told_from_one():
    top = np.nextafter(np.float32(1), np.float32(0))
    fitted = Temperature(["a"], {}, 1.0)
    assert fitted([[top]]) < fitted([[1.0]])


@pytest.mark.parametrize("cls", ALL)
def test_json_and_back_is_the_same(cls, small):
    p, y = small
    y[:, 1] = 0
    fitted = cls.fit(p, y, ABC)
    again = Recalibration.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert again == fitted
    assert type(again) is cls
    np.testing.assert_array_equal(again(p), fitted(p))


@pytest.mark.parametrize("cls", ALL)
def test_unknown_labels_and_missing_predictions_are_no_matter(cls, small):
    p, y = small
    p[:5], y[5:10] = NAN, NAN
    expected = cls.fit(p[10:], y[10:], ABC)
    p[5:10] = 0.99
    assert cls.fit(p, y, ABC) == expected
    assert np.isnan(expected(p)[:5]).all()
    assert not np.isnan(expected(p)[5:]).any()


@pytest.mark.parametrize("cls", [Platt, Isotonic])
def test_a_finding_that_cannot_be_fitted_stays_raw_and_says_why(cls, small):
    p, y = small
    y[:, 0], y[:, 1] = NAN, 0
    y[: MIN_PER_CLASS - 1, 1] = 1
    fitted = cls.fit(p, y, ABC)
    assert fitted.not_fitted == {
        "a": "no label is known",
        "b": "positives known: 4, negatives: 396; at least 5 of each are needed",
    }
    p[0, :2] = 0, 1
    np.testing.assert_array_equal(fitted(p)[:, :2], p[:, :2])
    assert np.abs(fitted(p)[:, 2] - p[:, 2]).max() > 0.01
    y[MIN_PER_CLASS - 1, 1] = 1
    assert set(cls.fit(p, y, ABC).not_fitted) == {"a"}


def test_temperature_without_both_classes_stays_raw():
    p = np.full((9, 3), 0.3)
    fitted = Temperature.fit(p, np.zeros((9, 3)), ABC)
    assert set(fitted.not_fitted) == set(ABC)
    np.testing.assert_array_equal(fitted(p), p)


@pytest.mark.parametrize("cls", ALL)
def test_any_axes_before_the_findings(cls, small):
    p, y = small
    fitted = cls.fit(p, y, ABC)
    draws = np.stack([p, p[::-1], p**2])
    np.testing.assert_array_equal(fitted(draws), np.stack([fitted(each) for each in draws]))
    np.testing.assert_array_equal(fitted(p[7]), fitted(p)[7])


def test_applying_needs_no_scikit_learn(small):
    described = [cls.fit(*small, ABC).to_json() for cls in ALL]
    code = (
        "import json, sys; from vkd_pyro.posthoc.recalibration import Recalibration\n"
        "import vkd_pyro.posthoc.thresholds\n"
        "for each in json.load(sys.stdin): Recalibration.from_json(each)([[0.1, 0.2, 0.3]])\n"
        "assert 'vkd_pyro.posthoc.recalibration' in sys.modules; print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(described), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_mistakes_are_said_in_one_line(small):
    p, y = small
    for wrong, message in [
        ((p * 3, y, ABC), r"probabilities: found .*, expected numbers in \[0, 1\]; of logits, give the sigmoid"),
        ((p, y, ABC[:2]), r"probabilities: found shape \[400, 3\], expected a last axis of 2 findings"),
        ((p, y[:-1], ABC), r"labels: found shape \[399, 3\] for probabilities \[400, 3\], expected \[N, K\] of both"),
        ((p, np.full_like(y, 0.7), ABC), "labels: found 0.7, expected 1, 0, or NaN where unknown"),
    ]:
        with pytest.raises(UserError, match=message):
            Platt.fit(*wrong)
    with pytest.raises(UserError, match=r"found shape \[400, 2\], expected a last axis of 3 findings"):
        Platt.fit(p, y, ABC)(p[:, :2])
    with pytest.raises(UserError, match=r"expected a subclass of Recalibration"):
        Recalibration.from_json({"class_path": "vkd_pyro.posthoc.Conformal", "init_args": {}})
    with pytest.raises(UserError, match=r"collections.OrderedDict: not imported, since that runs code"):
        Recalibration.from_json({"class_path": "collections.OrderedDict", "init_args": {}})
