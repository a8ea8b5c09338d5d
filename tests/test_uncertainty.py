"""The parts of a prediction's uncertainty: gold values, bounds, and their sum."""

import math

import numpy as np
import pytest

from vkd_pyro.metrics import entropy, epistemic_uncertainty, expected_entropy, latent_uncertainty, total_uncertainty
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
        ([[0, 1], [0, 1]], 0, math.log(2), 0),  # z says it all
        ([[0, 0], [1, 1]], 0, 0, math.log(2)),  # the networks differ
        ([[0.5, 0.5], [0.5, 0.5]], math.log(2), 0, 0),  # a coin
        ([[0, 1]], 0, math.log(2), 0),  # one network has no uncertainty between networks
    ],
)
def test_gold_values(rows, within, latent, network):
    found = [part(samples(rows)).item() for part in PARTS]
    assert found == pytest.approx([within, latent, network], abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_total_is_the_sum_of_its_parts_each_in_bounds(dtype):
    p = np.random.default_rng(0).beta(0.3, 0.6, (4, 7, 50, 3)).astype(dtype)
    parts = [part(p) for part in PARTS]
    np.testing.assert_allclose(sum(parts), total_uncertainty(p), rtol=0, atol=1e-14)
    for part in (*parts, total_uncertainty(p)):
        assert part.shape == (50, 3)
        assert part.dtype == np.float64
        assert ((part >= 0) & (part <= math.log(2))).all()


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
