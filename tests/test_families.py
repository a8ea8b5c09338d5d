"""Families over z and divergences: one contract, which every prior and posterior passes, alone and in every pair."""

import copy
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro.distributions.util import detach
from torch import Tensor, nn
from torch.autograd.functional import jacobian as jacobian_of

from vkd_pyro.artifacts.bundle import load_bundle, save_bundle
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.distributions import (
    KL,
    MLP,
    MMD,
    BalancedKL,
    BernoulliLikelihood,
    DiagonalNormal,
    Distribution,
    Family,
    Flow,
    FreeBits,
    FullNormal,
    JensenShannon,
    Laplace,
    Likelihood,
    LowRankNormal,
    NetworkFamily,
    NormalMixture,
    Renyi,
    ReverseKL,
    SplineFlow,
    StandardNormal,
    StudentT,
    VampPrior,
    Wasserstein2,
    product,
)
from vkd_pyro.distributions.families.diagonal_normal_mixture import DiagonalNormalMixture
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder, WordEncoder
from vkd_pyro.evaluation.outputs import study_outputs
from vkd_pyro.guide import Guide
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.model import Model
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe

F, B, D, K = 5, 3, 4, 2
SMALL = MLP((8,), dropout=0.0)

POSTERIORS = {
    "DiagonalNormal": lambda f, d: DiagonalNormal(f, d, SMALL),
    "LowRankNormal": lambda f, d: LowRankNormal(f, d, SMALL, rank=2),
    "FullNormal": lambda f, d: FullNormal(f, d, SMALL),
    "Laplace": lambda f, d: Laplace(f, d, SMALL),
    "StudentT": lambda f, d: StudentT(f, d, SMALL),
    "StudentT-fixed": lambda f, d: StudentT(f, d, SMALL, df=5.0),
    "NormalMixture": lambda f, d: NormalMixture(f, d, SMALL, num_components=3),
    "Flow": lambda f, d: Flow(f, d, SMALL, num_couplings=3, coupling_width=6),
    "SplineFlow": lambda f, d: SplineFlow(f, d, SMALL, num_couplings=2, coupling_width=6, num_bins=4),
}
PRIORS = POSTERIORS | {
    "StandardNormal": StandardNormal,
    "VampPrior": lambda f, d: VampPrior(f, d, SMALL, num_components=4),
}
NORMALS = {"DiagonalNormal", "StandardNormal"}

families = pytest.mark.parametrize("name", PRIORS)
learned = pytest.mark.parametrize("name", [name for name in PRIORS if name != "StandardNormal"])
pairs = pytest.mark.parametrize(("prior", "posterior"), list(itertools.product(PRIORS, POSTERIORS)))


def make(name: str, latent_dim: int = D, dtype: torch.dtype = torch.float32, seed: int = 0) -> Family:
    torch.manual_seed(seed)
    return PRIORS[name](F, latent_dim).to(dtype)


def features(dtype: torch.dtype = torch.float32, seed: int = 0, rows: int = B) -> Tensor:
    return torch.randn(rows, F, generator=torch.Generator().manual_seed(seed)).to(dtype)


def stated(name: str, latent_dim: int = D, seed: int = 0, rows: int = B) -> Distribution:
    """A family's distribution for a few rows, in float64, without gradients."""
    with torch.no_grad():
        return make(name, latent_dim, torch.float64, seed)(features(torch.float64, seed, rows))


# ------------------------------------------------------------------------------- contract of a family


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("latent_dim", [1, D])
def test_shapes_and_types(name, dtype, latent_dim):
    z = make(name, latent_dim, dtype)(features(dtype))
    assert (z.batch_shape, z.event_shape) == ((B,), (latent_dim,))
    assert z.has_rsample
    assert z.rsample().shape == (B, latent_dim)
    assert z.sample((1,)).shape == (1, B, latent_dim)
    particles = z.expand((7, B))
    assert (particles.batch_shape, particles.event_shape) == ((7, B), (latent_dim,))
    draws = particles.rsample()
    assert draws.shape == particles.sample().shape == (7, B, latent_dim)
    assert particles.log_prob(draws).shape == z.log_prob(draws).shape == (7, B)
    torch.testing.assert_close(particles.log_prob(draws), z.log_prob(draws))
    assert z.mean.shape == z.variance.shape == (B, latent_dim)
    for tensor in (draws, z.log_prob(draws), z.mean, z.variance):
        assert tensor.dtype == dtype
        assert tensor.isfinite().all()


@learned
def test_samples_carry_gradients_to_every_parameter(name):
    family = make(name)
    z = family(features()).expand((50, B)).rsample()
    (z.square() * torch.arange(1, D + 1)).sin().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in family.parameters())


@families
def test_sampling_without_particles_has_no_gradient_and_is_the_seed_s(name):
    z = make(name)(features())
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(z.expand((5, B)).sample())
    assert not draws[0].requires_grad
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(1)
    mean = z.mean
    assert torch.equal(z.expand((5, B)).sample(), draws[0]), "asking for the mean draws from no generator"
    assert torch.equal(mean, z.mean)


@families
def test_half_precision_stays_out_of_densities(name):
    """Under autocast the network is bfloat16; the distribution it states is the same one, to the last bit, outside."""
    family = make(name)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        z = family(features())
        torch.manual_seed(0)
        inside = z.expand((4, B)).rsample()
        log_prob = z.log_prob(inside)
    torch.manual_seed(0)
    assert inside.dtype == log_prob.dtype == torch.float32
    assert torch.equal(z.expand((4, B)).rsample(), inside)
    assert torch.equal(z.log_prob(inside), log_prob)


@families
def test_rows_do_not_mix(name):
    family, x = make(name, dtype=torch.float64), features(torch.float64)
    z = torch.randn(6, B, D, dtype=torch.float64)
    for row in range(B):
        alone = family(x[row : row + 1]).log_prob(z[:, row : row + 1])
        torch.testing.assert_close(alone, family(x).log_prob(z)[:, row : row + 1])


@families
@torch.no_grad()
def test_a_density_of_one_dimension_integrates_to_one_and_is_that_of_its_samples(name):
    z = stated(name, latent_dim=1, rows=1)
    grid = torch.linspace(-60, 60, 120_001, dtype=torch.float64)
    density = z.log_prob(grid[:, None, None]).squeeze(-1).exp()
    cumulative = torch.cumulative_trapezoid(density, grid)
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)
    torch.manual_seed(0)
    draws = z.sample((20_000,)).flatten().numpy()
    cdf = lambda x: np.interp(x, grid[1:].numpy(), cumulative.numpy())  # noqa: E731  (a line is enough)
    assert scipy.stats.kstest(draws, cdf).pvalue > 1e-3
    assert z.mean.item() == pytest.approx(torch.trapezoid(density * grid, grid).item(), abs=0.05)


def test_densities_are_scipy_s():
    z = torch.randn(6, B, D, dtype=torch.float64)
    normal, laplace, student = (stated(n) for n in ("DiagonalNormal", "Laplace", "StudentT"))
    theirs = {
        "DiagonalNormal": scipy.stats.norm.logpdf(z, normal.base_dist.loc, normal.base_dist.scale).sum(-1),
        "Laplace": scipy.stats.laplace.logpdf(z, laplace.base_dist.loc, laplace.base_dist.scale).sum(-1),
        "StudentT": scipy.stats.t.logpdf(z, student.base_dist.df, student.base_dist.loc, student.base_dist.scale).sum(
            -1
        ),
    }
    for name in ("LowRankNormal", "FullNormal"):
        ours = stated(name)
        rows = zip(ours.loc, ours.covariance_matrix, strict=True)
        theirs[name] = np.stack(
            [scipy.stats.multivariate_normal(*row).logpdf(z[:, i]) for i, row in enumerate(rows)], axis=-1
        )
    mixture = stated("NormalMixture")
    parts = scipy.stats.norm.logpdf(z.unsqueeze(-2), mixture.locs, mixture.scales).sum(-1)
    theirs["NormalMixture"] = scipy.special.logsumexp(parts, axis=-1, b=mixture.logits.softmax(-1))
    for name, expected in theirs.items():
        np.testing.assert_allclose(stated(name).log_prob(z), expected, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", ["Flow", "SplineFlow"])
def test_the_density_of_a_flow_is_that_of_a_change_of_variables(name):
    flow = stated(name, rows=1)
    e = torch.randn(1, D, dtype=torch.float64)
    push = flow.dist.transform.inv
    jacobian = jacobian_of(push, e).reshape(D, D)
    expected = flow.dist.base.log_prob(e) - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow.log_prob(push(e)), expected)
    off_diagonal = jacobian - jacobian.diag().diag()
    assert off_diagonal.abs().max() > 1e-3, "dimensions depend on each other"


@learned
def test_gradients_of_samples_are_those_of_the_integral(name):
    """d/dtheta of E f(z): by reparametrised draws, and by a sum over a grid of f(z) q(z), in two dimensions."""
    family, x = make(name, 2, torch.float64, seed=1), features(torch.float64, rows=1)
    parameters = list(family.parameters())

    def gradient(expectation: Tensor) -> Tensor:
        found = torch.autograd.grad(expectation, parameters, retain_graph=True)
        return torch.cat([g.flatten() for g in found])

    def f(z: Tensor) -> Tensor:
        return torch.sin(1.5 * z[..., 0] + 0.3) + torch.tanh(z[..., 0] * z[..., 1]) + torch.cos(z[..., 1])

    points = 1401 if name == "Laplace" else 351  # its density has a kink
    q, axis = family(x), torch.linspace(-14, 14, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    truth = gradient((f(grid) * q.log_prob(grid.unsqueeze(1)).squeeze(1).exp()).sum() * (axis[1] - axis[0]) ** 2)
    torch.manual_seed(0)
    estimates = torch.stack([gradient(f(q.rsample((2_500,))).mean()) for _ in range(24)])
    standard_error = estimates.std(0) / math.sqrt(len(estimates))
    assert truth.abs().max() > 0.05
    assert standard_error.max() < 0.1
    assert ((estimates.mean(0) - truth).abs() < 6 * standard_error + 1e-5).all()


def test_diagonal_normal_is_as_it_was():
    """Names and values that bundles hold: a change here breaks them."""
    family = make("DiagonalNormal")
    assert list(family.state_dict()) == [
        "network.0.weight",
        "network.0.bias",
        "loc_and_scale.weight",
        "loc_and_scale.bias",
    ]
    loc, raw = family.loc_and_scale(family.network(features())).chunk(2, -1)
    z = family(features())
    assert torch.equal(z.base_dist.loc, loc)
    assert torch.equal(z.base_dist.scale, nn.functional.softplus(raw) + 1e-4)


@pytest.mark.parametrize("distance", [0.0, 1.0, 30.0])
def test_mixtures_of_many_dimensions_have_finite_gradients(distance):
    torch.manual_seed(0)
    locs = (distance * torch.randn(B, 4, 512)).requires_grad_()
    scales, logits = torch.full((B, 4, 512), 0.5).requires_grad_(), torch.zeros(B, 4).requires_grad_()
    mixture = DiagonalNormalMixture(logits, locs, scales)
    mixture.expand((6, B)).rsample().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (locs, scales, logits))


def test_components_of_a_mixture_start_apart_but_within_reach():
    torch.manual_seed(0)
    for latent_dim in (2, 64, 512):
        mixture = NormalMixture(F, latent_dim, num_components=5).eval()(features())
        distances = torch.cdist(mixture.locs, mixture.locs)[..., *torch.triu_indices(5, 5, 1)]
        assert 0.5 < distances.mean() < 8


def test_the_vamp_prior_is_the_same_for_every_image():
    z = make("VampPrior")(features())
    assert torch.equal(z.mean, z.mean[:1].expand(B, D))
    assert z.variance.min() > 0


@pytest.mark.parametrize(
    ("make_family", "message"),
    [
        (lambda: FullNormal(F, 512), r"FullNormal: latent_dim is 512, .* needs 67,502,080 weights; at most 64"),
        (lambda: StudentT(F, D, df=4.0), r"StudentT.df: found 4.0, expected a number above 4"),
        (lambda: LowRankNormal(F, D, rank=0), r"LowRankNormal.rank: found 0, expected a whole number, at least 1"),
        (lambda: NormalMixture(F, D, num_components=0), r"NormalMixture.num_components: found 0"),
        (lambda: VampPrior(F, D, num_components=0), r"VampPrior.num_components: found 0"),
        (lambda: Flow(F, D, num_couplings=0), r"Flow.num_couplings: found 0"),
        (lambda: SplineFlow(F, D, num_bins=1), r"SplineFlow.num_bins: found 1, expected a whole number, at least 2"),
    ],
)
def test_families_that_cannot_be_are_refused(make_family, message):
    with pytest.raises(UserError, match=message) as error:
        make_family()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in PRIORS if name not in NORMALS])
def test_a_prior_without_a_known_product_is_refused(name):
    with pytest.raises(UserError, match="fusion: 'product' is known for"):
        product(make(name)(features()), torch.zeros(B, dtype=torch.long))


# ------------------------------------------------------------------------ every prior, every posterior


def make_batch(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.rand(size, 1, 16, 16, generator=generator),
        report=torch.randint(1, 50, (size, 5), generator=generator),
        report_mask=torch.ones(size, 5, dtype=torch.bool),
        has_report=torch.arange(size) < size - 1,
        labels=torch.randint(0, 2, (size, K), generator=generator).float(),
        known=torch.ones(size, K, dtype=torch.bool),
        study_ids=tuple(map(str, range(size))),
    )


def make_vkd(prior: str, posterior: str) -> VKD:
    torch.manual_seed(0)
    return VKD(
        ("a", "b"),
        ConvEncoder((4, 8)),
        WordEncoder(50, 16, dropout=0.0),
        latent_dim=D,
        prior=PRIORS[prior],
        posterior=POSTERIORS[posterior],
    ).eval()


@pairs
def test_every_pair_trains(prior, posterior):
    vkd, batch = make_vkd(prior, posterior), make_batch()
    before = {name: p.detach().clone() for name, p in vkd.named_parameters()}
    objective = TraceVKD_ELBO(3, 2, "mixture", divergence=BalancedKL())
    terms = objective.terms(vkd.model, vkd.guide, batch, kl_weight=0.5)
    assert terms.alignment.shape == terms.log_likelihood.shape == terms.auxiliary.shape == (len(batch),)
    assert terms.loss.isfinite()
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in vkd.parameters())
    torch.optim.SGD(vkd.parameters(), lr=0.1).step()
    assert {name for name, p in vkd.named_parameters() if torch.equal(p, before[name])} == set()


@pairs
def test_every_pair_is_evaluated(prior, posterior):
    vkd, batch = make_vkd(prior, posterior), make_batch()
    outputs = study_outputs(vkd, batch, num_samples=3, seed=0)
    assert ((outputs.probabilities > 0) & (outputs.probabilities < 1)).all()
    assert outputs.prior_locs.shape == outputs.posterior_locs.shape == (len(batch), D)
    assert np.isfinite(outputs.kl[:-1]).all()
    assert np.isnan(outputs.kl[-1]), "the study without a report"


@pytest.mark.parametrize("prior", PRIORS)
def test_a_bundle_gives_back_every_prior(prior, tmp_path):
    model, images = make_vkd(prior, "DiagonalNormal").model, make_batch().images
    save_bundle(tmp_path / "bundle", model, ("a", "b"), ImageTransform(16), "# A card\n")
    loaded = load_bundle(tmp_path / "bundle").model
    assert type(loaded.prior) is type(model.prior)
    both = [predict(m, images, ("a", "b"), num_samples=4).samples for m in (model, loaded)]
    assert both[0].shape == (1, 4, len(images), K)
    np.testing.assert_array_equal(*both)


@families
def test_a_family_is_built_by_its_public_path_and_by_its_own(name):
    family = make(name)
    description = describe(family)
    own = {**description, "class_path": f"{type(family).__module__}.{type(family).__name__}"}
    assert description["class_path"] == f"vkd_pyro.distributions.{type(family).__name__}"
    built = build(json.loads(json.dumps(description)), Family)
    assert type(built) is type(build(own, Family)) is type(family)
    assert describe(built) == description
    if isinstance(family, NetworkFamily):
        assert built.mlp == family.mlp == SMALL


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": [0]}, r"MLP.hidden: found \[0\], expected widths of layers, such as \[512, 512\], or \[\]"),
        ({"hidden": [8, "8"]}, r"MLP.hidden: found \[8, '8'\]"),
        ({"hidden": [0]}, r"MLP.hidden: found \[0\]"),
        ({"dropout": 1.5}, r"MLP.dropout: found 1.5, expected a probability from 0 to 1"),
        ({"dropout": "0.1"}, r"MLP.dropout: found '0.1'"),
        ({"width": 3}, r"DiagonalNormal.mlp: found width, expected dropout, hidden"),
    ],
)
def test_settings_of_a_network_are_checked_where_a_bundle_is_read(settings, message):
    description = describe(DiagonalNormal(F, D))
    description["init_args"]["mlp"] |= settings
    with pytest.raises(UserError, match=message):
        build(description, Family)


@pairs
def test_analytic_kl_agrees_with_monte_carlo(prior, posterior):
    q, p = stated(posterior, seed=1), stated(prior, seed=2)
    torch.manual_seed(0)
    z = q.sample((5_000,))
    ratios = q.log_prob(z) - p.log_prob(z)
    kl, standard_error = KL()(q, p, z), ratios.std(0) / math.sqrt(len(z))
    assert ((kl - ratios.mean(0)).abs() < 5 * standard_error).all()
    assert (kl > -1e-9).all()
    analytic = torch.equal(kl, KL()(q, p, z[:2]))
    many_modes = {"NormalMixture", "Flow", "SplineFlow"}
    assert analytic == (
        (prior in NORMALS and posterior not in many_modes)
        or (posterior in {"FullNormal", "LowRankNormal"} and prior in {"FullNormal", "LowRankNormal"})
        or (posterior == "DiagonalNormal" and prior == "FullNormal")
        or (posterior in {"DiagonalNormal", "Laplace"} and prior == "Laplace")
    )


@pairs
def test_a_stopped_distribution_has_no_gradient(prior, posterior):
    """Each weight of `BalancedKL` pulls its side alone, with the gradient of the KL; the other's is exactly zero."""
    posterior_family, prior_family = make(posterior, seed=1), make(prior, seed=2)
    q, p = posterior_family(features()), prior_family(features(seed=1))
    torch.manual_seed(0)
    z = q.expand((4, B)).rsample()
    assert not detach(q).log_prob(z.detach()).requires_grad
    torch.testing.assert_close(detach(q).log_prob(z), q.log_prob(z))
    sides = {(0.0, 1.0): (posterior_family, prior_family, z), (1.0, 0.0): (prior_family, posterior_family, z.detach())}
    for weights, (pulled, stopped, draws) in sides.items():
        balanced = BalancedKL(*weights)(q, p, z).sum()
        assert all(gradient.abs().max() == 0 for gradient in gradients(balanced, stopped))
        ours, theirs = (gradients(value, pulled) for value in (balanced, KL()(q, p, draws).sum()))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def gradients(value: Tensor, family: Family) -> list[Tensor]:
    parameters = list(family.parameters())
    return list(torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)) if parameters else []


# --------------------------------------------------------------------------------------- divergences


def normals(requires_grad: bool = False) -> tuple[Distribution, Distribution, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    raw = [torch.randn(B, D, generator=generator, dtype=torch.float64) / 2 for _ in range(4)]
    tensors = [tensor.requires_grad_(requires_grad) for tensor in raw]
    q, p = (dist.Normal(loc, scale.exp()).to_event(1) for loc, scale in (tensors[:2], tensors[2:]))
    return q, p, tensors


DIVERGENCES = {
    "KL": KL(),
    "ReverseKL": ReverseKL(),
    "BalancedKL": BalancedKL(),
    "FreeBits": FreeBits(0.01),
    "FreeBits-total": FreeBits(0.01, per_dimension=False),
    "FreeBits-Renyi": FreeBits(0.01, inner=Renyi(0.3)),
    "JensenShannon": JensenShannon(),
    "Renyi": Renyi(),
    "Wasserstein2": Wasserstein2(),
    "MMD": MMD(),
    "MMD-batch": MMD("batch"),
}
FOR_ANY_FAMILY = ("KL", "ReverseKL", "BalancedKL", "FreeBits-total", "JensenShannon", "Renyi", "MMD", "MMD-batch")
divergences = pytest.mark.parametrize("name", DIVERGENCES)


@divergences
def test_a_divergence_is_a_number_a_study_that_is_not_negative(name):
    q, p, tensors = normals(requires_grad=True)
    torch.manual_seed(0)
    found = DIVERGENCES[name](q, p, q.rsample((300,)))
    assert found.shape == (B,)
    assert (found.sum() if name == "MMD-batch" else found.min()) > 0, "a study's share alone may be below 0"
    found.sum().backward()
    assert all(t.grad.isfinite().all() and t.grad.abs().max() > 0 for t in tensors)


@divergences
def test_a_divergence_of_a_distribution_from_itself_is_zero(name):
    q, _, _ = normals()
    torch.manual_seed(0)
    free = {"FreeBits": 0.01 * D, "FreeBits-total": 0.01, "FreeBits-Renyi": 0.01 * D}.get(name, 0.0)
    found = DIVERGENCES[name](q, q, q.rsample((500,)))
    torch.testing.assert_close(found, torch.full_like(found, free), atol=2e-2 if "MMD" in name else 1e-9, rtol=0)


@pairs
def test_divergences_take_any_families(prior, posterior):
    q_family, p_family = make(posterior, seed=1), make(prior, seed=2)
    q, p = q_family(features()), p_family(features(seed=1))
    z = q.expand((3, B)).rsample()
    for name in FOR_ANY_FAMILY:
        found = DIVERGENCES[name](q, p, z)
        assert found.shape == (B,)
        assert found.isfinite().all()
        pulls = gradients(found.sum(), q_family)
        assert all(gradient.isfinite().all() for gradient in (*pulls, *gradients(found.sum(), p_family)))
        assert max(gradient.abs().max() for gradient in pulls) > 0


def test_reverse_kl_is_kl_the_other_way_round():
    q, p, _ = normals()
    z = q.sample((2,))
    torch.testing.assert_close(ReverseKL()(q, p, z), KL()(p, q, z))
    mixture = stated("NormalMixture")
    torch.manual_seed(0)
    by_draws = ReverseKL()(mixture, p, mixture.sample((50_000,)))
    w = p.sample((50_000,))
    torch.testing.assert_close(by_draws, (p.log_prob(w) - mixture.log_prob(w)).mean(0), rtol=0.03, atol=0.03)


def test_free_bits_are_free_below_and_the_divergence_above():
    q, p, tensors = normals(requires_grad=True)
    z = q.rsample((1,))
    by_dimension = torch.distributions.kl_divergence(q.base_dist, p.base_dist)
    torch.testing.assert_close(FreeBits(0.0)(q, p, z), KL()(q, p, z))
    torch.testing.assert_close(FreeBits(0.5)(q, p, z), by_dimension.clamp(min=0.5).sum(-1))
    gradient = torch.autograd.grad(FreeBits(0.5)(q, p, z).sum(), tensors[0])[0]
    assert (gradient[by_dimension < 0.5] == 0).all()
    assert (gradient[by_dimension > 0.5] != 0).all()
    total = FreeBits(1e3, per_dimension=False)(q, p, z)
    assert (total == 1e3).all()


def test_jensen_shannon_is_the_integral_and_at_most_log_2():
    q, p = dist.Normal(torch.tensor([[0.3]]), 0.7).to_event(1), dist.Normal(torch.tensor([[-0.4]]), 1.2).to_event(1)
    grid = torch.linspace(-12, 12, 20_001)[:, None, None]
    log_q, log_p = q.log_prob(grid).flatten(), p.log_prob(grid).flatten()
    for weight in (0.5, 0.2):
        log_m = torch.logaddexp(log_q + math.log(1 - weight), log_p + math.log(weight))
        integrand = (1 - weight) * log_q.exp() * (log_q - log_m) + weight * log_p.exp() * (log_p - log_m)
        torch.manual_seed(0)
        found = JensenShannon(weight)(q, p, q.sample((200_000,)))
        assert found.item() == pytest.approx(torch.trapezoid(integrand, grid.flatten()).item(), rel=0.03)
    far = dist.Normal(torch.tensor([[50.0]]), 1.0).to_event(1)
    assert JensenShannon()(q, far, q.sample((9,))).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_renyi_in_closed_form_is_the_integral_and_the_limit_of_its_estimate(alpha):
    q, p = dist.Normal(torch.tensor([[0.3]]), 0.7).to_event(1), dist.Normal(torch.tensor([[-0.4]]), 1.2).to_event(1)
    grid = torch.linspace(-12, 12, 20_001)[:, None, None]
    integrand = (alpha * q.log_prob(grid) + (1 - alpha) * p.log_prob(grid)).exp().flatten()
    truth = torch.trapezoid(integrand, grid.flatten()).log().item() / (alpha - 1)
    assert Renyi(alpha)(q, p, q.sample((1,))).item() == pytest.approx(truth, rel=1e-4)
    torch.manual_seed(0)
    full = dist.MultivariateNormal(p.mean, scale_tril=p.variance.sqrt().diag_embed())  # the same p, no closed form
    assert Renyi(alpha)(q, full, q.sample((200_000,))).item() == pytest.approx(truth, rel=0.03)


def test_renyi_goes_to_kl():
    q, p, _ = normals()
    z = q.sample((1,))
    torch.testing.assert_close(Renyi(1 - 1e-6)(q, p, z), KL()(q, p, z), rtol=1e-4, atol=1e-5)


def test_wasserstein_is_the_distance_of_optimally_paired_samples():
    q, p = dist.Normal(torch.tensor([[0.3]]), 0.7).to_event(1), dist.Normal(torch.tensor([[-0.4]]), 1.2).to_event(1)
    levels = (torch.arange(100_000) + 0.5) / 100_000  # in one dimension, quantiles are the optimal pairs
    paired = (q.base_dist.icdf(levels) - p.base_dist.icdf(levels)).square().mean()
    assert Wasserstein2()(q, p, q.sample((1,))).item() == pytest.approx(paired.item(), rel=1e-3)


def test_mmd_is_the_mean_over_all_pairs_of_draws():
    q, p, _ = normals()
    torch.manual_seed(0)
    z = q.sample((5,))
    torch.manual_seed(1)
    found = MMD()(q, p, z)
    torch.manual_seed(1)
    w = p.sample((5,))

    def k(a: Tensor, b: Tensor) -> float:
        return 2 * D / (2 * D + (a - b).square().sum().item())

    for study in range(B):
        x, y = z[:, study], w[:, study]
        pairs_of = list(itertools.permutations(range(5), 2))
        expected = [k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs_of]
        assert found[study].item() == pytest.approx(np.mean(expected))


def test_mmd_of_a_batch_pools_its_studies():
    """Studies that exchange their priors are the same batch: zero for "batch", not for "study"."""
    torch.manual_seed(0)
    loc = torch.randn(400, D)
    q, p = dist.Normal(loc, 0.1).to_event(1), dist.Normal(loc.roll(1, 0), 0.1).to_event(1)
    z = q.sample((2,))
    assert abs(MMD("batch")(q, p, z).mean()) < 0.01
    assert MMD("study")(q, p, z).mean() > 0.5


def test_mmd_of_a_batch_compares_no_study_with_itself():
    """Narrow studies of one population, 8 at a time: draws of one study are alike, and say nothing of the others."""
    torch.manual_seed(0)
    found = []
    for _ in range(300):
        q, p = (dist.Normal(torch.randn(8, D), 0.01).to_event(1) for _ in range(2))
        found.append(MMD("batch")(q, p, q.sample((16,))).mean())
    found = torch.stack(found)
    assert abs(found.mean()) < 3 * found.std() / 300**0.5


def test_mmd_of_a_batch_leaves_out_what_does_not_count():
    q, p, _ = normals()
    torch.manual_seed(0)
    z, counted = q.sample((4,)), torch.arange(B) != 1
    torch.manual_seed(1)
    found = MMD("batch").of_batch(q, p, z, counted)
    torch.manual_seed(1)
    free = FreeBits(0.0, per_dimension=False, inner=MMD("batch")).of_batch(q, p, z, counted)
    assert torch.equal(free, found.clamp(min=0))
    far = z.clone()
    far[:, 1] += 100
    torch.manual_seed(1)
    torch.testing.assert_close(MMD("batch").of_batch(q, p, far, counted), found)
    assert found[1] == 0
    assert MMD("batch").of_batch(q, p, z, torch.arange(B) == 1).tolist() == [0.0] * B, "one report says nothing"


def test_mmd_keeps_its_digits_far_from_zero():
    torch.manual_seed(0)
    z = torch.randn(6, 2, D, dtype=torch.float64)
    q = dist.Normal(torch.zeros(2, D, dtype=torch.float64), 1.0).to_event(1)

    def shifted(by: float, dtype: torch.dtype) -> Tensor:
        torch.manual_seed(1)
        p = dist.Normal(torch.full((2, D), by, dtype=dtype), 1e-3).to_event(1)
        return MMD()(q, p, (z + by).to(dtype)).double()

    torch.testing.assert_close(shifted(1000.0, torch.float32), shifted(0.0, torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda q, p: Wasserstein2()(q, p, q.sample((1,))), "Wasserstein2: known for diagonal normals only, found La"),
        (lambda q, p: FreeBits()(p, stated("Flow"), p.sample((1,))), "FreeBits: CouplingFlow has no divergence a dim"),
        (lambda q, p: FreeBits(inner=MMD())(q, p, q.sample((2,))), "MMD: compares whole vectors z"),
        (lambda q, p: MMD()(q, p, q.sample((1,))), "MMD: needs two draws of z to compare; set objective.num_aux"),
        (lambda q, p: MMD("patient"), "MMD.over: found 'patient', expected 'study' or 'batch'"),
        (lambda q, p: MMD(bandwidth=0), "MMD.bandwidth: found 0"),
        (lambda q, p: Renyi(1.0), "Renyi.alpha: found 1.0, expected between 0 and 1; at 1 it is KL"),
        (lambda q, p: JensenShannon(1.0), "JensenShannon.weight: found 1.0"),
        (lambda q, p: FreeBits(-1), "FreeBits.free_bits: found -1"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(attempt, message):
    with pytest.raises(UserError, match=message) as error:
        attempt(stated("DiagonalNormal"), stated("Laplace"))
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------- what a family is for


class Ones(ImageEncoder):
    """The same for every image."""

    features_dim = 1

    def forward(self, images: Tensor) -> Tensor:
        return images.new_ones(len(images), 1)


class OnesOfReports(ReportEncoder):
    """The same for every report."""

    features_dim = 1

    def prepare(self, reports):
        raise NotImplementedError

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        return torch.ones(len(report), 1)


class SeenThrough(Likelihood):
    """y ~ Normal(f(z), scale), for z of two dimensions."""

    def __init__(self, f: Callable[[Tensor], Tensor], scale: float) -> None:
        super().__init__()
        self.f, self.scale = f, scale

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        return dist.Normal(self.f(z).unsqueeze(-1), self.scale).to_event(1)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        raise NotImplementedError


def log_evidence(likelihood: Likelihood, y: float) -> float:
    """log of the integral over z of Normal(z; 0, 1) p(y | z)."""
    axis = torch.linspace(-7, 7, 701)
    z = torch.cartesian_prod(axis, axis)
    log_joint = dist.Normal(0.0, 1.0).log_prob(z).sum(-1) + likelihood(z).log_prob(torch.tensor([y]))
    return (log_joint.logsumexp(0) + 2 * (axis[1] - axis[0]).log()).item()


def reached_elbo(likelihood: Likelihood, y: float, family: type[Family], steps: int = 500, **options) -> float:
    """The ELBO of a posterior that was trained to explain y, where z ~ Normal(0, 1)."""
    torch.manual_seed(1)
    posterior = family(in_features=1, latent_dim=2, mlp=MLP((16,), dropout=0.0), **options)
    batch = Batch(
        images=torch.zeros(4, 1),
        report=torch.zeros(4, 1, dtype=torch.long),
        report_mask=torch.ones(4, 1, dtype=torch.bool),
        has_report=torch.ones(4, dtype=torch.bool),
        labels=torch.full((4, 1), y),
        known=torch.ones(4, 1, dtype=torch.bool),
        study_ids=tuple("0123"),
    )
    model = Model(Ones(), StandardNormal(1, 2), likelihood)
    guide = Guide(OnesOfReports(), posterior, likelihood)
    optimizer = torch.optim.Adam(posterior.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        TraceVKD_ELBO(16, 16, "posterior", auxiliary_weight=0.0)(model, guide)(batch).backward()
        optimizer.step()
    return -TraceVKD_ELBO(5_000, 5_000, "posterior", auxiliary_weight=0.0).loss(model, guide, batch)


@pytest.mark.slow
def test_a_mixture_finds_both_modes():
    """y tells the size of z_1, not its sign: one mode misses the other, which is log 2."""
    likelihood, y = SeenThrough(lambda z: z[..., 0].square(), 1.0), 4.0
    evidence, one = log_evidence(likelihood, y), reached_elbo(likelihood, y, DiagonalNormal)
    several = reached_elbo(likelihood, y, NormalMixture, num_components=4)
    assert one < evidence - 0.6
    assert one + 0.4 < several < evidence + 0.02


@pytest.mark.slow
def test_flows_bend():
    """y tells z_2 given z_1 only: the posterior lies along a parabola, across which independent dimensions cannot."""
    likelihood, y = SeenThrough(lambda z: z[..., 1] - z[..., 0].square(), 0.3), -1.0
    evidence, straight = log_evidence(likelihood, y), reached_elbo(likelihood, y, DiagonalNormal)
    assert straight < evidence - 0.3
    for family, num_couplings in ((Flow, 4), (SplineFlow, 2)):
        bent = reached_elbo(likelihood, y, family, num_couplings=num_couplings, coupling_width=32)
        assert straight + 0.25 < bent < evidence + 0.02


@pytest.mark.parametrize("posterior", [StandardNormal(4, 2), VampPrior(4, 2)])
def test_what_does_not_depend_on_the_report_is_no_posterior(posterior):
    with pytest.raises(UserError, match="does not depend on the report, so it is a prior only"):
        Guide(WordEncoder(width=4), posterior, BernoulliLikelihood(2, 3))


# ------------------------------------------------------------------------------------ single precision


@pytest.mark.parametrize(("kind", "dim"), [(LowRankNormal, 512), (FullNormal, 64)])
@pytest.mark.parametrize("raw_scale", [-5.0, -9.0, -20.0])
def test_densities_of_small_scales_are_those_of_double_precision(kind, dim, raw_scale):
    torch.manual_seed(0)
    family = kind(8, dim, MLP((16,), 0.0))
    layer = family.loc_scale_and_factor if kind is LowRankNormal else family.loc_and_tril
    with torch.no_grad():
        layer.weight[2 * dim :] /= 4
        if kind is LowRankNormal:
            layer.bias[dim : 2 * dim] = raw_scale
        else:
            rows, columns = torch.tril_indices(dim, dim)
            layer.bias[dim:][rows == columns] = raw_scale
    features = torch.randn(4, 8)
    q = family(features)
    z = q.rsample((6,))
    assert z.dtype == q.mean.dtype == q.variance.dtype == q.log_prob(z).dtype == torch.float32
    exact = copy.deepcopy(family).double()(features.double()).log_prob(z.double())
    torch.testing.assert_close(q.log_prob(z).double(), exact, rtol=0, atol=0.1)
