"""The parts of a prediction's uncertainty: gold values, bounds, and their sum."""

import math

import numpy as np
import pytest

from vkd_pyro.metrics import (
    entropy,
    entropy_of_mean,
    epistemic_uncertainty,
    expected_entropy,
    latent_uncertainty,
    total_uncertainty,
)
from vkd_pyro.utils.errors import UserError

PARTS = (expected_entropy, latent_uncertainty, epistemic_uncertainty)


def samples(rows: list[list[float]]) -> np.ndarray:
    """Of one study and one finding, from S draws of each of V networks."""
    return np.array(rows, float)[:, :, None, None]


def test_entropy_is_the_binary_one_in_nats():
    assert entropy([0, 0.5, 1]) == pytest.approx([0, math.log(2), 0])
    assert entropy(0.2) == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))
    assert math.isnan(entropy(np.nan))


@pytest.mark.parametrize(
    ("rows", "within", "latent", "network"),
    [
        ([[0.3, 0.3], [0.3, 0.3]], float(entropy(0.3)), 0, 0),  # all agree
        ([[0, 0], [1, 1]], 0, 0, math.log(2)),  # the networks differ
        ([[0.5, 0.5], [0.5, 0.5]], math.log(2), 0, 0),  # a coin
        ([[0, 1]], 0, 2 * math.log(2), 0),  # of two draws: twice what the entropy of their mean says
        ([[0, 1] * 500] * 2, 0, math.log(2), 0),  # z says it all
        ([[0.2]], float(entropy(0.2)), 0, 0),  # one draw of one network
    ],
)
def test_gold_values(rows, within, latent, network):
    found = [part(samples(rows)).item() for part in PARTS]
    assert found == pytest.approx([within, latent, network], abs=1e-12 if len(rows[0]) < 3 else 1e-3)


def expected_estimate(estimate, size: int, probability: float = 0.5) -> float:
    """The mean over all samples of so many draws of p, 0.2 or 0.7, of an estimate from them."""
    found = 0.0
    for high in range(size + 1):
        draws = np.r_[np.full(high, 0.7), np.full(size - high, 0.2)]
        found += math.comb(size, high) * probability**high * (1 - probability) ** (size - high) * estimate(draws)
    return found


@pytest.mark.parametrize("size", [5, 10, 20, 50])
def test_what_z_carries_is_estimated_without_the_bias_of_so_many_draws(size):
    truth = float(entropy(0.45) - (entropy(0.2) + entropy(0.7)) / 2)
    plain = expected_estimate(lambda p: float(entropy(p.mean()) - entropy(p).mean()), size)
    found = expected_estimate(lambda p: latent_uncertainty(samples([p])).item(), size)
    assert plain - truth == pytest.approx(-(0.25**2) / (2 * size * 0.45 * 0.55), rel=0.1)  # as the formula says
    assert (plain - truth) / truth == pytest.approx(-1 / size, rel=0.15)
    assert abs(found - truth) < 0.2 * abs(plain - truth) / size**0.5


def test_the_entropy_of_a_mean_is_the_jackknifes():
    p = np.random.default_rng(0).random((6, 4))
    without = np.array([entropy(np.delete(p, s, axis=0).mean(axis=0)) for s in range(6)])
    expected = 6 * entropy(p.mean(axis=0)) - 5 * without.mean(axis=0)
    np.testing.assert_allclose(entropy_of_mean(p), expected)
    np.testing.assert_allclose(entropy_of_mean(p[:1]), entropy(p[0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_total_is_the_sum_of_its_parts_each_in_bounds(dtype):
    generator = np.random.default_rng(0)
    p = generator.beta(3, 5, (4, 1, 50, 3)) + 0.1 * generator.random((4, 30, 50, 3)) - 0.05
    p = np.clip(p, 0, 1).astype(dtype)
    parts = [part(p) for part in PARTS]
    np.testing.assert_allclose(sum(parts), total_uncertainty(p), rtol=0, atol=1e-12)
    for part in (*parts, total_uncertainty(p)):
        assert part.shape == (50, 3)
        assert part.dtype == np.float64
        assert ((part >= -1e-4) & (part <= math.log(2) + 1e-3)).all()


def test_no_uncertainty_is_not_below_0_by_rounding():
    p = np.broadcast_to(np.random.default_rng(0).random((1, 1, 1000, 1)), (3, 7, 1000, 1)).astype(np.float32)
    for part in (latent_uncertainty, epistemic_uncertainty):
        assert (part(p) >= 0).all()
        assert part(p).max() < 1e-12


def test_unknown_stays_unknown():
    p = np.full((2, 3, 2, 1), 0.3)
    p[1, 2, 0] = np.nan
    for part in (*PARTS, total_uncertainty):
        assert np.isnan(part(p)).ravel().tolist() == [True, False]


def test_samples_of_one_network_need_their_axis():
    for part in (*PARTS, total_uncertainty):
        with pytest.raises(UserError, match=r"found shape \[7, 5, 2\], expected \[V, S, N, K\]; .* samples\[None\]"):
            part(np.zeros((7, 5, 2)))
        with pytest.raises(UserError, match=r"found shape \[1, 0, 5, 2\]"):
            part(np.zeros((1, 0, 5, 2)))
