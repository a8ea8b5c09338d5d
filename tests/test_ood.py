"""Out-of-distribution score: distances against closed forms, p-values against counts, and what is undefined."""

import sys

import numpy as np
import pytest
import safetensors.numpy

from vkd_pyro.posthoc.ood import FLAGGED_SHARE, Gaussian, OODDetector, Signals
from vkd_pyro.utils.errors import UserError

RANDOM = np.random.default_rng(0)
UNIT = Gaussian(np.zeros(4), np.eye(4))


def signals(size: int, shift: float = 0.0, width: int = 8, latent_dim: int = 3) -> Signals:
    """Features and latents around `shift`, an uncertainty in [0, 1]."""
    features = RANDOM.normal(shift, 1, (size, width))
    return Signals(features, RANDOM.normal(shift, 1, (size, latent_dim)), RANDOM.random(size))


def judge(held_out: np.ndarray, values: np.ndarray):
    """Out-of-distribution score by the uncertainty alone: all distances are zero."""
    undefined = np.full(len(held_out), np.nan)
    reference = OODDetector.of_held_out(UNIT, None, np.column_stack([undefined, undefined, held_out]))
    return reference, reference.score(Signals(np.zeros((len(values), 4)), uncertainty=values))


# ---------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("width", [2, 5])
def test_distance_is_mahalanobis_over_the_root_of_the_width(width):
    rows = 3 * np.vstack([np.eye(width), -np.eye(width)]) + 10  # covariance 9 / width, the same in all directions
    point = np.linspace(0, 1, width) + 10
    assert Gaussian.fit(rows).distance(point[None]) == pytest.approx(np.linalg.norm(point - 10) / 3)


def test_distance_knows_the_covariance():
    scale = np.array([[2.0, 0.0], [1.9, 0.3]])
    gaussian = Gaussian.fit(RANDOM.normal(size=(20_000, 2)) @ scale.T)
    along, across = gaussian.distance(np.array([[2.0, 1.9], [0.0, 0.3]]))  # one standard deviation each
    assert [along, across] == pytest.approx([2**-0.5] * 2, rel=0.05)


def test_distance_of_training_rows_is_about_one():
    rows = RANDOM.normal(5, [1, 10, 100], (2000, 3))
    assert np.square(Gaussian.fit(rows).distance(rows)).mean() == pytest.approx(1, rel=0.01)


def test_fewer_images_than_features():
    directions = RANDOM.normal(size=(5, 1024))

    def rows(size: int) -> np.ndarray:
        return RANDOM.normal(size=(size, 5)) @ directions + 0.1 * RANDOM.normal(size=(size, 1024))

    reference = OODDetector.fit(Signals(rows(60)), Signals(rows(99)))
    like, unlike = rows(200), RANDOM.normal(size=(20, 1024))
    assert reference.score(Signals(like)).flagged.mean() < 0.12
    assert reference.score(Signals(unlike)).flagged.all()  # of a usual length, in unusual directions


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_features_that_never_vary_are_no_news(value):
    gaussian = Gaussian.fit(np.full((50, 3), value))
    assert gaussian.distance(np.full((1, 3), value * (1 + 1e-6))) < 0.01


# ---------------------------------------------------------------------------------- p-values and score


def counted(held_out: np.ndarray, values: np.ndarray) -> np.ndarray:
    """p-values by counting each held-out image."""
    return (1 + (held_out >= values[:, None]).sum(axis=1)) / (1 + len(held_out))


@pytest.mark.parametrize(("size", "error"), [(99, 0.075), (299, 0.026), (2000, 0.01)])
@pytest.mark.parametrize("draw", [RANDOM.random, RANDOM.standard_normal, lambda n: np.sqrt(RANDOM.chisquare(20, n))])
def test_p_values_are_those_of_counting_within_the_error_that_is_stated(draw, size, error):
    held_out, values = draw(size), draw(500)
    _, ood = judge(held_out, values)
    assert np.abs(ood.p_values[:, 2] - counted(held_out, values)).max() < error
    assert np.abs(ood.p_values[:, 3] - counted(held_out, values)).max() < error + 0.01  # nothing else varies


def test_beyond_all_held_out_images_the_p_value_is_that_of_counting():
    _, ood = judge(RANDOM.random(99), np.array([-5.0, 5.0, 1e9]))
    assert ood.p_values[:, 2].tolist() == [1.0, 0.01, 0.01]


def test_no_number_of_a_held_out_image_is_kept():
    training, held_out = signals(500), signals(400)
    reference = OODDetector.fit(training, held_out)
    own = OODDetector.fit(training, held_out).score(held_out)
    columns = np.stack([own.feature_distance, own.latent_distance, own.uncertainty, own.score])
    kept = np.concatenate([array.ravel() for array in reference.to_arrays().values()]).astype(np.float32)
    assert not np.isin(columns.astype(np.float32), kept).any()
    assert all(array.size < 400 for name, array in reference.to_arrays().items() if name.startswith("held_out"))


def test_score_is_zero_at_the_median_and_one_at_the_upper_tail():
    held_out = RANDOM.random(1001)
    marks = np.quantile(held_out, [0.5, 1 - FLAGGED_SHARE])
    assert judge(held_out, marks)[1].score == pytest.approx([0, 1], abs=0.03)


def test_flagged_share_holds_for_images_like_those_held_out():
    shares = [judge(RANDOM.random(99), RANDOM.random(500))[1].flagged.mean() for _ in range(200)]
    assert 0.035 < np.mean(shares) < FLAGGED_SHARE + 0.003  # the ends are rounded outward, so rather fewer


@pytest.mark.parametrize("size", [18, 19, 39, 294])
def test_threshold_says_what_is_flagged(size):
    values = np.linspace(0, 2, 401)
    held_out = RANDOM.random(size)
    reference, ood = judge(held_out, values)
    assert np.array_equal(ood.score > reference.threshold, ood.flagged)
    assert np.isinf(reference.threshold) == (size < 19)
    assert (reference.score(Signals(np.zeros((size, 4)), None, held_out)).flagged).mean() <= 0.05 + 5 / size


def test_one_component_is_enough():
    reference = OODDetector.fit(signals(500), signals(200))
    usual = signals(100)
    far = Signals(usual.features + 50, usual.latents, usual.uncertainty)
    other_z = Signals(usual.features, usual.latents + 50, usual.uncertainty)
    uncertain = Signals(usual.features, usual.latents, usual.uncertainty + 50)
    for column, images in enumerate([far, other_z, uncertain]):
        ood = reference.score(images)
        assert ood.flagged.all()
        assert (ood.p_values[:, column] == 1 / 201).all()
        assert (ood.p_values[:, [c for c in range(3) if c != column]].mean(axis=0) > 0.3).all()


def test_an_image_is_judged_for_itself():
    reference, images = OODDetector.fit(signals(50), signals(50)), signals(5)
    one = Signals(images.features[2:3], images.latents[2:3], images.uncertainty[2:3])
    assert reference.score(one).score == pytest.approx(reference.score(images).score[2:3])
    assert reference.score(one).p_values == pytest.approx(reference.score(images).p_values[2:3])


# --------------------------------------------------------------------------------------- what is undefined


@pytest.mark.parametrize("latents", [None, np.full((40, 1), np.nan)])
def test_without_z(latents):
    usual = signals(40)
    images = Signals(usual.features, latents, usual.uncertainty)
    ood = OODDetector.fit(images, images).score(images)
    assert np.isnan(ood.latent_distance).all()
    assert np.isnan(ood.p_values[:, 1]).all()
    assert np.isfinite([ood.feature_distance, ood.uncertainty, ood.score]).all()


def test_z_unknown_for_some_images():
    images = signals(4)
    images.latents[1] = np.nan
    ood = OODDetector.fit(signals(40), signals(40)).score(images)
    assert np.isnan(ood.latent_distance).tolist() == [False, True, False, False]
    assert np.isfinite(ood.score).all()


def test_undefined_throughout():
    ood = OODDetector.fit(Signals(np.ones((9, 2))), Signals(np.ones((30, 2)))).score(Signals(np.ones((2, 2)) * 9))
    assert np.isnan(ood.score).all()  # the held-out images do not vary
    assert not ood.flagged.any()


def test_a_component_that_does_not_vary_is_left_out():
    held_out, images = signals(99), signals(50)
    constant = [Signals(one.features, one.latents, np.full(len(one.features), 0.25)) for one in (held_out, images)]
    reference = OODDetector.fit(signals(99), constant[0])
    shifted = Signals(images.features, images.latents, np.full(50, 0.2500001))
    assert reference.score(shifted).score == pytest.approx(reference.score(constant[1]).score)


# ------------------------------------------------------------------------------------------- stored, refused


@pytest.mark.parametrize("with_z", [True, False])
def test_arrays_give_the_same_answer(with_z, monkeypatch):
    training, held_out, images = (signals(300, width=32) for _ in range(3))
    if not with_z:
        training, held_out, images = (
            Signals(one.features, None, one.uncertainty) for one in (training, held_out, images)
        )
    reference = OODDetector.fit(training, held_out)
    stored = safetensors.numpy.load(safetensors.numpy.save(reference.to_arrays()))
    assert {array.dtype for name, array in stored.items() if "held_out" not in name} == {np.dtype(np.float32)}
    assert ("latent_mean" in stored) == with_z
    monkeypatch.setitem(sys.modules, "sklearn", None)  # only fitting needs it
    again = OODDetector.from_arrays(stored)
    assert again.score(images).score == pytest.approx(reference.score(images).score, rel=1e-4, abs=1e-4)
    assert again.threshold == pytest.approx(reference.threshold, rel=1e-4)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ((np.zeros(3),), r"features has shape \[3\], expected \[3, F\]"),
        ((np.zeros((3, 2)), np.zeros((2, 2))), r"latents has shape \[2, 2\], expected \[3, D\]"),
        ((np.zeros((3, 2)), None, np.zeros((3, 2))), r"uncertainty has shape \[3, 2\], expected \[3\]"),
    ],
)
def test_shapes_are_checked(given, match):
    with pytest.raises(UserError, match=match):
        Signals(*given)


def test_another_model_is_refused():
    reference = OODDetector.fit(signals(20), signals(20))
    with pytest.raises(UserError, match="features have width 9, expected 8"):
        reference.score(signals(2, width=9))
    with pytest.raises(UserError, match="latents have width 4, expected 3"):
        reference.score(signals(2, latent_dim=4))


def test_too_little_to_fit():
    with pytest.raises(UserError, match="found 1 training and 5 held-out images, expected at least 2 and 1"):
        OODDetector.fit(signals(1), signals(5))
    with pytest.raises(UserError, match="found 5 training and 0 held-out images"):
        OODDetector.fit(signals(5), signals(0))
    with pytest.raises(UserError, match="not finite"):
        OODDetector.fit(Signals(np.full((5, 2), np.nan)), signals(5, width=2))


def test_damaged_arrays():
    arrays = OODDetector.fit(signals(20), signals(20)).to_arrays()
    for other in ({"held_out_score": None}, {"latent_mean": None}):
        with pytest.raises(UserError, match=f"missing, or not expected, among its arrays: '{next(iter(other))}'"):
            OODDetector.from_arrays({name: array for name, array in arrays.items() if name not in other})
    with pytest.raises(UserError, match="among its arrays: 'held_out'"):
        OODDetector.from_arrays(arrays | {"held_out": np.zeros((20, 3))})
    with pytest.raises(UserError, match=r"shapes \[2\] and \[3, 3\]"):
        OODDetector.from_arrays(arrays | {"latent_mean": arrays["latent_mean"][:2]})
    with pytest.raises(UserError, match="mean or whitening has values that are not finite"):
        OODDetector.from_arrays(arrays | {"feature_mean": arrays["feature_mean"] * np.nan})


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)),
        np.full((2, 4), np.nan),
        [[0, 1, 2], [5, 9, 0]],
        [[0, 2, 1], [9, 5, 0]],
        [[0, 1], [9, 1]],
        [[0, 1], [9.5, 0]],
    ],
)
def test_what_are_no_quantiles(array):
    arrays = OODDetector.fit(signals(20), signals(20)).to_arrays()
    with pytest.raises(UserError, match="ood: held_out_features"):
        OODDetector.from_arrays(arrays | {"held_out_features": np.asarray(array, float)})
