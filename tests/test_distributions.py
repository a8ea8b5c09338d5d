"""Distributions over labels and over z, against closed forms."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from vkd_pyro.distributions import BernoulliLikelihood, Head, SoftBernoulli, product
from vkd_pyro.utils.errors import UserError


def test_a_soft_target_has_the_expected_log_probability_of_a_label():
    logits = torch.tensor([-2.0, 0.3, 4.0], dtype=torch.float64)
    for target in (0.0, 0.1, 0.7, 1.0):
        expected = target * dist.Bernoulli(logits=logits).log_prob(torch.ones(3, dtype=torch.float64)) + (
            1 - target
        ) * dist.Bernoulli(logits=logits).log_prob(torch.zeros(3, dtype=torch.float64))
        found = SoftBernoulli(logits=logits).log_prob(torch.full((3,), target, dtype=torch.float64))
        assert torch.allclose(found, expected, rtol=1e-12)


def test_a_target_outside_0_and_1_is_refused():
    for target in (-1.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="within the support"):
            SoftBernoulli(logits=torch.zeros(1)).log_prob(torch.tensor([target]))


def test_the_likelihood_of_soft_targets_is_largest_at_the_target():
    torch.manual_seed(0)
    likelihood = BernoulliLikelihood(3, 2, head=Head(dropout=0.0)).eval()
    z, target = torch.randn(5, 3), torch.full((5, 2), 0.7)
    logits = likelihood.logits(z).detach().requires_grad_()
    SoftBernoulli(logits=logits).log_prob(target).sum().backward()
    assert torch.allclose(logits.grad, 0.7 - logits.sigmoid(), atol=1e-6)
    expected = -binary_cross_entropy_with_logits(likelihood.logits(z), target, reduction="none").sum(-1)
    assert torch.allclose(likelihood(z).log_prob(target), expected, atol=1e-6)


def normal(loc, scale):
    return dist.Normal(torch.tensor(loc), torch.tensor(scale)).to_event(1)


def test_the_product_of_normals_is_that_of_their_densities():
    """Of two rows in one group: the density of the product is the product of the densities, up to a constant."""
    z = normal([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]], [[1.0, 0.5], [2.0, 1.5], [3.0, 1.0]])
    fused = product(z, torch.tensor([0, 0, 1]))
    points = torch.randn(50, 1, 2)
    one, two = z.log_prob(points)[:, 0], z.log_prob(points)[:, 1]
    constants = one + two - fused.log_prob(points)[:, 0]
    assert constants.std() < 1e-5
    assert torch.allclose(fused.mean[0], fused.mean[1])
    assert torch.allclose(fused.mean[2], z.mean[2])
    assert torch.allclose(fused.base_dist.scale[2], z.base_dist.scale[2])


def test_the_product_with_itself_halves_the_variance():
    z = normal([[0.3, -0.2]] * 2, [[0.4, 2.0]] * 2)
    fused = product(z, torch.tensor([0, 0]))
    assert torch.allclose(fused.mean, z.mean)
    assert torch.allclose(fused.variance, z.variance / 2)
    assert (kl_divergence(fused, z) > 0).all()


def test_a_family_without_a_known_product_is_refused():
    with pytest.raises(UserError, match="fusion: 'product' is known for the prior DiagonalNormal only"):
        product(dist.Laplace(torch.zeros(2, 3), torch.ones(2, 3)).to_event(1), torch.tensor([0, 0]))


def test_arguments_stay_validated():
    """Importing zuko turns that off in the whole process."""
    assert torch.distributions.Distribution._validate_args
