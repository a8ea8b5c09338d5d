"""The objective against closed forms, against the same objective in plain torch, and against itself."""

import itertools
import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import KL, MLP, BalancedKL, DiagonalNormal, Distribution, Divergence, Family, Likelihood
from vkd_pyro.distributions import particles as particles_module
from vkd_pyro.elbo import Terms, TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder, WordEncoder
from vkd_pyro.guide import Guide
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.model import Model
from vkd_pyro.schedules import Constant, Cyclical, Monotonic
from vkd_pyro.utils.errors import UserError

K, D = 3, 4


def make_batch(size: int = 6, has_report: Tensor | None = None, known: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.rand(size, 1, 16, 16, generator=generator),
        report=torch.randint(1, 50, (size, 5), generator=generator),
        report_mask=torch.ones(size, 5, dtype=torch.bool),
        has_report=torch.ones(size, dtype=torch.bool) if has_report is None else has_report,
        labels=torch.randint(0, 2, (size, K), generator=generator).float(),
        known=torch.ones(size, K, dtype=torch.bool) if known is None else known,
        study_ids=tuple(map(str, range(size))),
    )


def make_vkd(dropout: float = 0.0, **options) -> VKD:
    torch.manual_seed(0)
    return VKD(
        tuple("abc"),
        ConvEncoder((4, 8)),
        WordEncoder(50, 16, dropout=dropout),
        latent_dim=D,
        prior=lambda f, d: DiagonalNormal(f, d, MLP((7,), dropout)),
        posterior=lambda f, d: DiagonalNormal(f, d, MLP((7,), dropout)),
        **options,
    ).eval()


@pytest.fixture
def fixed_noise(monkeypatch):
    """In place of random draws, the mean plus 0.3, 0.8, ... standard deviations: the same for a study in any batch."""

    def draw(distribution: Distribution, num_particles: int) -> Tensor:
        return torch.stack([distribution.mean + (0.3 + 0.5 * i) * distribution.stddev for i in range(num_particles)])

    monkeypatch.setattr(particles_module, "draw", draw)


# ------------------------------------------------------------------------ linear-Gaussian closed form


class Pixels(ImageEncoder):
    """x_I itself: the first two pixels."""

    features_dim = 2

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]


class Tokens(ReportEncoder):
    """x_T itself: the first two token numbers, scaled."""

    features_dim = 2

    def prepare(self, reports):
        raise NotImplementedError

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        return report[:, :2].float() / 50


class LinearNormal(Family):
    """z ~ Normal(W features, scale)."""

    def __init__(self, scale: float, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)))
        self.scale = scale

    def forward(self, features: Tensor) -> Distribution:
        return dist.Normal(features @ self.weight.T, self.scale).to_event(1)


class LinearGaussianLikelihood(Likelihood):
    """y ~ Normal(A z, noise)."""

    def __init__(self, noise: float, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(K, 2, generator=torch.Generator().manual_seed(seed)))
        self.noise = noise

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        return dist.Normal(z @ self.weight.T, self.noise).mask(known).to_event(1)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def expected(self, y: Tensor, loc: Tensor, scale: float) -> Tensor:
        """E log Normal(y; A z, noise) for z ~ Normal(loc, scale)."""
        squares = (y - loc @ self.weight.T).square() + scale**2 * self.weight.square().sum(1)
        return (-squares / (2 * self.noise**2) - math.log(self.noise * math.sqrt(2 * math.pi))).sum(1)

    def evidence(self, y: Tensor, loc: Tensor, scale: float) -> Tensor:
        """log p(y) with z integrated out."""
        covariance = scale**2 * self.weight @ self.weight.T + self.noise**2 * torch.eye(K)
        return dist.MultivariateNormal(loc @ self.weight.T, covariance).log_prob(y)


class LinearGaussian:
    """A model and guide whose every term is known in closed form."""

    def __init__(self, size: int = 6) -> None:
        self.p, self.q = LinearNormal(0.8, 1), LinearNormal(0.5, 2)
        self.likelihood, self.auxiliary = LinearGaussianLikelihood(0.9, 3), LinearGaussianLikelihood(1.1, 4)
        self.model = Model(Pixels(), self.p, self.likelihood)
        self.guide = Guide(Tokens(), self.q, self.auxiliary)
        self.batch = make_batch(size)
        self.p_loc = self.p(Pixels()(self.batch.images)).mean
        self.q_loc = self.q(Tokens()(self.batch.report, self.batch.report_mask)).mean

    def kl(self) -> Tensor:
        p, q = self.p.scale, self.q.scale
        squares = (self.q_loc - self.p_loc).square()
        return (math.log(p / q) + (q**2 + squares) / (2 * p**2) - 0.5).sum(1)

    def loss(self, kl_weight: float, source: str) -> Tensor:
        loc, scale = (self.p_loc, self.p.scale) if source == "prior" else (self.q_loc, self.q.scale)
        likelihood = self.likelihood.expected(self.batch.labels, loc, scale)
        auxiliary = self.auxiliary.expected(self.batch.labels, self.q_loc, self.q.scale)
        return (-likelihood - auxiliary + kl_weight * self.kl()).mean()


@pytest.mark.parametrize("kl_weight", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("source", ["prior", "posterior"])
def test_loss_is_the_closed_form_of_a_linear_gaussian_model(kl_weight, source):
    truth, repeats = LinearGaussian(), 50
    objective = TraceVKD_ELBO(num_particles=4000, num_auxiliary_particles=4000, likelihood_samples=source)
    torch.manual_seed(0)
    losses = torch.tensor(
        [objective.loss(truth.model, truth.guide, truth.batch, kl_weight=kl_weight) for _ in range(repeats)]
    )
    standard_error = losses.std() / math.sqrt(repeats)
    assert standard_error < 5e-3
    assert abs(losses.mean() - truth.loss(kl_weight, source)) < 5 * standard_error


def test_kl_term_is_exact():
    truth = LinearGaussian()
    terms = TraceVKD_ELBO().terms(truth.model, truth.guide, truth.batch)
    torch.testing.assert_close(terms.alignment, truth.kl())


@pytest.mark.parametrize("log_mean_exp", [False, True])
@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_without_auxiliary_the_negative_loss_never_exceeds_the_evidence(source, log_mean_exp):
    truth = LinearGaussian()
    objective = TraceVKD_ELBO(4000, likelihood_samples=source, auxiliary_weight=0.0, log_mean_exp=log_mean_exp)
    evidence = truth.likelihood.evidence(truth.batch.labels, truth.p_loc, truth.p.scale).mean()
    torch.manual_seed(0)
    assert -objective.loss(truth.model, truth.guide, truth.batch) < evidence


def test_log_mean_exp_under_the_prior_is_the_evidence():
    truth = LinearGaussian()
    objective = TraceVKD_ELBO(20000, auxiliary_weight=0.0, log_mean_exp=True)
    torch.manual_seed(0)
    terms = objective.terms(truth.model, truth.guide, truth.batch)
    evidence = truth.likelihood.evidence(truth.batch.labels, truth.p_loc, truth.p.scale)
    torch.testing.assert_close(terms.log_likelihood + terms.tightening, evidence, atol=0.1, rtol=0.02)


# ------------------------------------------------------------------------- importance-weighted bound


class ExactPosterior(Family):
    """p(z | x_I, y) of a linear-Gaussian model; the features are [x_I, y]."""

    def __init__(self, prior: LinearNormal, likelihood: LinearGaussianLikelihood) -> None:
        super().__init__()
        self.prior, self.likelihood = prior, likelihood

    def forward(self, features: Tensor) -> Distribution:
        prior_precision, a = self.prior.scale**-2, self.likelihood.weight / self.likelihood.noise
        precision = prior_precision * torch.eye(2) + a.T @ a
        x, y = features.split([2, K], dim=-1)
        weighted = prior_precision * self.prior(x).mean + y / self.likelihood.noise @ a
        covariance = precision.inverse()
        return dist.MultivariateNormal(weighted @ covariance, covariance)


class FirstToken(ReportEncoder):
    """A report of one token, whose embedding is [x_I, y]: it says all there is to know."""

    features_dim = 2 + K

    def prepare(self, reports):
        raise NotImplementedError

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        return report[:, 0]


class OneDrawKL(Divergence):
    """The KL's Monte Carlo estimate, also where there is a closed form."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        return (q.log_prob(z) - p.log_prob(z)).mean(0)


def importance_weighted(num_particles: int, source: str = "posterior", **options) -> TraceVKD_ELBO:
    return TraceVKD_ELBO(num_particles, likelihood_samples=source, log_mean_exp=True, **options)


@torch.no_grad()
def test_the_bound_rises_to_the_evidence_with_the_number_of_draws():
    truth = LinearGaussian(size=2000)
    evidence = truth.likelihood.evidence(truth.batch.labels, truth.p_loc, truth.p.scale)
    torch.manual_seed(0)
    gaps = []
    for num_particles in (1, 4, 16, 64, 2000):
        terms = importance_weighted(num_particles).terms(truth.model, truth.guide, truth.batch)
        gaps.append(evidence - (terms.log_likelihood - terms.alignment + terms.tightening))
    for looser, tighter in itertools.pairwise(gaps):
        gained = looser - tighter
        assert gained.mean() > 5 * gained.std() / math.sqrt(2000)
    error = gaps[-1].std() / math.sqrt(2000)
    assert -3 * error < gaps[-1].mean() < 0.05 < gaps[0].mean() / 30


@pytest.mark.parametrize("num_particles", [1, 5])
def test_under_the_exact_posterior_every_draw_gives_the_evidence(num_particles):
    truth = LinearGaussian()
    guide = Guide(FirstToken(), ExactPosterior(truth.p, truth.likelihood), truth.auxiliary)
    x = Pixels()(truth.batch.images)
    batch = replace(truth.batch, report=torch.cat([x, truth.batch.labels], dim=-1)[:, None])
    terms = importance_weighted(num_particles).terms(truth.model, guide, batch)
    evidence = truth.likelihood.evidence(truth.batch.labels, truth.p_loc, truth.p.scale)
    torch.testing.assert_close(terms.log_likelihood - terms.alignment, evidence, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(terms.tightening, torch.zeros(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "alpha"), [("posterior", 0.5), ("mixture", 0.3)])
def test_with_one_draw_the_bound_is_the_elbo(source, alpha):
    vkd, batch = make_vkd(), make_batch(has_report=torch.tensor([True, True, True, True, False, False]))
    losses = {}
    for objective in (
        importance_weighted(1, source, alpha=alpha),
        TraceVKD_ELBO(1, 1, source, alpha=alpha, divergence=OneDrawKL()),
    ):
        torch.manual_seed(3)
        loss = objective(vkd.model, vkd.guide)(batch, kl_weight=0.4)
        losses[objective.log_mean_exp] = loss, torch.autograd.grad(loss, list(vkd.parameters()))
    torch.testing.assert_close(losses[True], losses[False])


@pytest.mark.parametrize("kl_weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("num_auxiliary", [1, 5])
def test_the_bound_and_its_gradients_equal_plain_torch(kl_weight, num_auxiliary):
    vkd = make_vkd()
    batch = make_batch(
        has_report=torch.tensor([True, True, True, True, False, False]),
        known=torch.rand(6, K, generator=torch.Generator().manual_seed(5)) > 0.3,
    )
    objective = importance_weighted(3, num_auxiliary_particles=num_auxiliary, auxiliary_weight=0.7)
    torch.manual_seed(3)
    ours = objective(vkd.model, vkd.guide)(batch, kl_weight=kl_weight)
    torch.manual_seed(3)
    plain = plain_importance_weighted_loss(vkd, batch, 3, num_auxiliary, kl_weight, 0.7)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    parameters = list(vkd.parameters())
    gradients = (torch.autograd.grad(loss, parameters, materialize_grads=True) for loss in (ours, plain))
    for found, expected in zip(*gradients, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def plain_importance_weighted_loss(vkd: VKD, batch: Batch, m: int, n: int, kl_weight: float, w_mi: float) -> Tensor:
    """The bound written by hand: weights of importance for studies with a report, the prior's draws for the others."""
    model, guide = vkd.model, vkd.guide

    def log_prob(likelihood: Likelihood, z: Tensor, features: Tensor | None = None) -> Tensor:
        logits = likelihood.logits(z, features)
        bce = binary_cross_entropy_with_logits(logits, batch.labels.expand_as(logits), reduction="none")
        return -torch.where(batch.known, bce, 0.0).sum(-1)

    x = model.image_encoder(batch.images)
    p, q = model.prior(x), guide.posterior(guide.report_encoder(batch.report, batch.report_mask))
    z_q = q.mean + q.stddev * torch.randn(max(m, n), *q.mean.shape)
    z_p = p.mean + p.stddev * torch.randn(m, *p.mean.shape)
    ratios = (p.log_prob(z_q[:m]) - q.log_prob(z_q[:m])).exp() ** kl_weight
    with_report = log_prob(model.likelihood, z_q[:m], x).exp() * ratios
    without = log_prob(model.likelihood, z_p, x).exp()
    bound = torch.where(batch.has_report, with_report, without).mean(0).log()
    auxiliary = log_prob(guide.auxiliary, z_q[:n]).mean(0)
    return -(bound + w_mi * batch.has_report.float() * auxiliary).mean()


def test_what_a_log_of_a_mean_adds_is_a_term_of_its_own():
    vkd, batch = make_vkd(), make_batch()
    for source in ("prior", "posterior", "mixture"):
        terms = importance_weighted(4, source, auxiliary_weight=0.0).terms(vkd.model, vkd.guide, batch, kl_weight=0.5)
        assert terms.tightening.min() > 0
        torch.testing.assert_close(terms.loss, (0.5 * terms.alignment - terms.log_likelihood - terms.tightening).mean())
    assert TraceVKD_ELBO(4).terms(vkd.model, vkd.guide, batch).tightening == 0


# ------------------------------------------------------------------------- the same in plain torch


def plain_torch_loss(vkd: VKD, batch: Batch, m: int, n: int, alpha: float, kl_weight: float, w_mi: float) -> Tensor:
    """The objective written by hand, without Pyro: draws its noise in the order of TraceVKD_ELBO."""
    model, guide = vkd.model, vkd.guide

    def normal(family: DiagonalNormal, features: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = family.loc_and_scale(family.network(features)).chunk(2, -1)
        return loc, softplus(raw) + 1e-4

    def log_prob(logits: Tensor) -> Tensor:
        labels = batch.labels.expand_as(logits)
        bce = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return -torch.where(batch.known, bce, 0.0).sum(-1)

    x = model.image_encoder(batch.images)
    q_loc, q_scale = normal(guide.posterior, guide.report_encoder(batch.report, batch.report_mask))
    p_loc, p_scale = normal(model.prior, x)
    draws = max(m, n) if alpha > 0 else n
    z_q = q_loc + q_scale * torch.randn(draws, *q_loc.shape)
    z_p = p_loc + p_scale * torch.randn(m, *p_loc.shape) if alpha < 1 else None
    likelihood = torch.zeros(len(batch))
    if z_p is not None:
        logits = model.likelihood.network(torch.cat([x.expand(m, -1, -1), z_p], -1))
        likelihood = likelihood + (1 - alpha) * log_prob(logits).mean(0)
    if alpha > 0:
        logits = model.likelihood.network(torch.cat([x.expand(m, -1, -1), z_q[:m]], -1))
        likelihood = likelihood + alpha * log_prob(logits).mean(0)
    auxiliary = log_prob(guide.auxiliary.network(z_q[:n])).mean(0)
    kl = (p_scale / q_scale).log() + (q_scale**2 + (q_loc - p_loc) ** 2) / (2 * p_scale**2) - 0.5
    report = batch.has_report.float()
    return (-likelihood - w_mi * report * auxiliary + kl_weight * report * kl.sum(-1)).mean()


@pytest.mark.parametrize(("m", "n", "alpha"), [(1, 1, 0.0), (3, 2, 0.0), (2, 3, 1.0), (2, 1, 0.3)])
def test_loss_and_gradients_equal_plain_torch(m, n, alpha):
    vkd = make_vkd()
    batch = make_batch(known=torch.rand(6, K, generator=torch.Generator().manual_seed(5)) > 0.3)
    source = {0.0: "prior", 1.0: "posterior"}.get(alpha, "mixture")
    objective = TraceVKD_ELBO(m, n, source, alpha=alpha, auxiliary_weight=0.7)
    parameters = list(vkd.parameters())

    torch.manual_seed(3)
    loss = objective(vkd.model, vkd.guide)(batch, kl_weight=0.4)
    gradients = torch.autograd.grad(loss, parameters)
    torch.manual_seed(3)
    plain = plain_torch_loss(vkd, batch, m, n, alpha, 0.4, 0.7)
    plain_gradients = torch.autograd.grad(plain, parameters)

    torch.testing.assert_close(loss, plain, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# --------------------------------------------------------------------------------- what must train


def test_every_trainable_parameter_moves_under_svi():
    pyro.clear_param_store()
    vkd = make_vkd()
    before = {name: p.detach().clone() for name, p in vkd.named_parameters()}
    svi = pyro.infer.SVI(vkd.model, vkd.guide, pyro.optim.SGD({"lr": 1.0}), TraceVKD_ELBO())
    svi.step(make_batch(), kl_weight=0.5)
    assert_all_moved(vkd, before)
    pyro.clear_param_store()


def test_every_trainable_parameter_moves_under_a_torch_optimiser():
    vkd = make_vkd()
    before = {name: p.detach().clone() for name, p in vkd.named_parameters()}
    loss = TraceVKD_ELBO()(vkd.model, vkd.guide)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    loss(make_batch(), kl_weight=0.5).backward()
    optimizer.step()
    assert_all_moved(vkd, before)


def assert_all_moved(vkd: VKD, before: dict[str, Tensor]) -> None:
    assert len(before) > 20
    assert {name for name, p in vkd.named_parameters() if torch.equal(p, before[name])} == set()


def test_model_and_guide_share_no_parameter_name():
    pyro.clear_param_store()
    vkd = make_vkd()
    TraceVKD_ELBO().loss(vkd.model, vkd.guide, make_batch())
    assert len(pyro.get_param_store()) == len(list(vkd.parameters()))
    pyro.clear_param_store()


def test_a_step_on_the_auxiliary_term_raises_log_q_y_given_z(fixed_noise):
    vkd, batch, objective = make_vkd(), make_batch(), TraceVKD_ELBO()
    before = objective.terms(vkd.model, vkd.guide, batch).auxiliary.mean()
    (-before).backward()
    with torch.no_grad():
        for p in vkd.guide.parameters():
            p -= 0.01 * p.grad
    assert objective.terms(vkd.model, vkd.guide, batch).auxiliary.mean() > before


def test_svi_step_returns_the_loss_it_steps_on(fixed_noise):
    pyro.clear_param_store()
    vkd, batch = make_vkd(), make_batch()
    svi = pyro.infer.SVI(vkd.model, vkd.guide, pyro.optim.SGD({"lr": 0.01}), TraceVKD_ELBO())
    expected = svi.evaluate_loss(batch, kl_weight=0.2)
    assert svi.step(batch, kl_weight=0.2) == pytest.approx(expected)
    assert svi.evaluate_loss(batch, kl_weight=0.2) < expected
    pyro.clear_param_store()


# --------------------------------------------------------------------------------------------- masks


def test_unknown_labels_have_exactly_zero_gradient():
    known = torch.ones(6, K, dtype=torch.bool)
    known[:, 1] = False
    vkd, batch = make_vkd(), make_batch(known=known)
    terms = TraceVKD_ELBO().terms(vkd.model, vkd.guide, batch)
    (terms.log_likelihood.sum() + terms.auxiliary.sum()).backward()
    for head in (vkd.model.likelihood, vkd.guide.auxiliary):
        gradient = head.network[-1].weight.grad
        assert gradient[1].abs().max() == 0
        assert gradient[[0, 2]].abs().max(dim=1).values.min() > 0


def test_the_value_stored_for_an_unknown_label_is_never_read(fixed_noise):
    known = torch.zeros(6, K, dtype=torch.bool)
    vkd, batch = make_vkd(), make_batch(known=known)
    terms = TraceVKD_ELBO().terms(vkd.model, vkd.guide, batch)
    assert terms.log_likelihood.abs().max() == 0
    assert terms.auxiliary.abs().max() == 0
    assert terms.alignment.min() > 0  # an unlabelled study with a report still teaches through the KL


@pytest.mark.parametrize("log_mean_exp", [False, True])
@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_a_mixed_batch_is_the_sum_of_its_parts(fixed_noise, source, log_mean_exp):
    has_report = torch.tensor([True, True, True, True, False, False])
    vkd, batch = make_vkd(), make_batch(has_report=has_report)
    objective = TraceVKD_ELBO(2, 2, source, log_mean_exp=log_mean_exp)

    def loss(part: Batch) -> Tensor:
        return len(part) * objective(vkd.model, vkd.guide)(part, kl_weight=0.6)

    torch.testing.assert_close(loss(batch), loss(batch[:4]) + loss(batch[4:]))


@pytest.mark.parametrize("log_mean_exp", [False, True])
@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_without_reports_only_the_likelihood_under_the_prior_is_left(fixed_noise, source, log_mean_exp):
    vkd, batch = make_vkd(), make_batch().without_reports()
    terms = TraceVKD_ELBO(3, 1, source, log_mean_exp=log_mean_exp).terms(vkd.model, vkd.guide, batch)
    under_prior = TraceVKD_ELBO(3, log_mean_exp=log_mean_exp).terms(vkd.model, vkd.guide, batch)
    assert terms.alignment.abs().max() == 0
    assert terms.auxiliary.abs().max() == 0
    torch.testing.assert_close(terms.loss, -(under_prior.log_likelihood + under_prior.tightening).mean())
    terms.loss.backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in vkd.guide.parameters())


# ------------------------------------------------------------------------------------------- options


class Counting(ConvEncoder):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images)


@pytest.mark.parametrize("log_mean_exp", [False, True])
@pytest.mark.parametrize("source", ["prior", "posterior", "mixture"])
def test_encoders_run_once_whatever_the_number_of_particles(source, log_mean_exp):
    vkd = make_vkd()
    counting = Counting((4, 8))
    vkd.model.image_encoder = counting
    seen = []
    vkd.guide.report_encoder.register_forward_hook(lambda *_: seen.append(1))
    TraceVKD_ELBO(5, 3, source, log_mean_exp=log_mean_exp).loss(vkd.model, vkd.guide, make_batch())
    assert (counting.calls, len(seen)) == (1, 1)


def test_a_mixture_is_linear_in_alpha(fixed_noise):
    vkd, batch = make_vkd(), make_batch()
    mixtures = {alpha: TraceVKD_ELBO(likelihood_samples="mixture", alpha=alpha) for alpha in (0, 0.25, 1)}
    value = {alpha: mixture.loss(vkd.model, vkd.guide, batch) for alpha, mixture in mixtures.items()}
    assert value[0.25] == pytest.approx(0.75 * value[0] + 0.25 * value[1], abs=1e-5)
    assert value[0] == pytest.approx(TraceVKD_ELBO().loss(vkd.model, vkd.guide, batch))


def test_kl_scale_multiplies_kl_weight(fixed_noise):
    vkd, batch = make_vkd(), make_batch()
    scaled = TraceVKD_ELBO(kl_scale=0.1).loss(vkd.model, vkd.guide, batch, kl_weight=0.5)
    assert scaled == pytest.approx(TraceVKD_ELBO().loss(vkd.model, vkd.guide, batch, kl_weight=0.05))


def test_the_loss_is_the_weighted_sum_of_the_named_terms(fixed_noise):
    vkd, batch = make_vkd(), make_batch()
    terms = TraceVKD_ELBO(auxiliary_weight=0.3, kl_scale=2.0).terms(vkd.model, vkd.guide, batch, kl_weight=0.25)
    expected = (-terms.log_likelihood - 0.3 * terms.auxiliary + 0.5 * terms.alignment).mean()
    torch.testing.assert_close(terms.loss, expected)


def test_image_only_is_binary_cross_entropy():
    torch.manual_seed(0)
    network, batch = ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval(), make_batch()
    loss = network.terms(batch).loss
    logits = network.model.head(network.model.image_encoder(batch.images))
    expected = binary_cross_entropy_with_logits(logits, batch.labels, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "objective.num_particles: found 0, expected a whole number, at least 1"),
        ({"likelihood_samples": "both"}, "expected prior, posterior or mixture"),
        ({"alpha": 1.5}, "objective.alpha: found 1.5, expected a probability from 0 to 1"),
        (
            {"likelihood_samples": "posterior", "log_mean_exp": True, "divergence": BalancedKL()},
            "found BalancedKL, but with log_mean_exp under posterior samples each draw is weighed by p / q",
        ),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TraceVKD_ELBO(**options)


# --------------------------------------------------------------------------------------- divergences


def normals(requires_grad: bool = False) -> tuple[Distribution, Distribution, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(5, D, generator=generator, dtype=torch.float64).requires_grad_(requires_grad) for _ in "lslq"
    ]
    q, p = (dist.Normal(loc, scale.exp()).to_event(1) for loc, scale in (tensors[:2], tensors[2:]))
    return q, p, tensors


def test_analytic_kl_agrees_with_monte_carlo():
    q, p, _ = normals()
    torch.manual_seed(0)
    z = q.sample((100_000,))
    ratios = q.log_prob(z) - p.log_prob(z)
    standard_error = ratios.std(0) / math.sqrt(len(z))
    assert ((KL()(q, p, z) - ratios.mean(0)).abs() < 5 * standard_error).all()


def test_kl_without_a_formula_is_the_mean_log_ratio_at_the_samples():
    q, _, _ = normals()
    p = dist.Cauchy(torch.zeros(5, D, dtype=torch.float64), 1.0).to_event(1)
    z = q.sample((7,))
    torch.testing.assert_close(KL()(q, p, z), (q.log_prob(z) - p.log_prob(z)).mean(0))


def test_balanced_kl_splits_the_gradient_and_keeps_the_value():
    q, p, tensors = normals(requires_grad=True)
    z = q.rsample((1,))
    whole = torch.autograd.grad(KL()(q, p, z).sum(), tensors, retain_graph=True)
    balanced = BalancedKL(prior_weight=0.3, posterior_weight=0.006)(q, p, z)
    parts = torch.autograd.grad(balanced.sum(), tensors)
    torch.testing.assert_close(balanced, 0.306 * KL()(q, p, z))
    for i, weight in enumerate((0.006, 0.006, 0.3, 0.3)):
        torch.testing.assert_close(parts[i], weight * whole[i])


# ----------------------------------------------------------------------------------------- schedules


def test_cyclical_gold_values_of_equation_9():
    schedule = Cyclical(cycles=4, rising=0.5, ramp="linear")
    assert [schedule(t, 10) for t in range(1, 9)] == pytest.approx([0, 0.8, 1, 0, 0.8, 1, 0, 0.8])


@pytest.mark.parametrize(("ramp", "quarter"), [("linear", 0.25), ("cosine", (1 - math.cos(math.pi / 4)) / 2)])
def test_ramps_between_0_and_1(ramp, quarter):
    schedule = Monotonic(epochs=1, ramp=ramp)
    assert [schedule(t, 100) for t in (1, 26, 101, 500)] == pytest.approx([0, quarter, 1, 1])


def test_sigmoid_ramp_hits_its_ends_and_is_odd_about_its_middle():
    schedule = Monotonic(ramp="sigmoid")
    assert [schedule(t, 100) for t in (1, 51, 101)] == pytest.approx([0, 0.5, 1])
    assert schedule(31, 100) + schedule(71, 100) == pytest.approx(1)
    # A logistic function of 12 (u - 1/2), rescaled.
    logistic = [1 / (1 + math.exp(-12 * (u - 0.5))) for u in (0, 0.3, 1)]
    assert schedule(31, 100) == pytest.approx((logistic[1] - logistic[0]) / (logistic[2] - logistic[0]))


def test_schedules_do_not_reset_and_are_pure():
    assert Cyclical()(1_000_003, 16) == Cyclical()(1_000_003 % 4 or 4, 16)
    assert Constant(0.2)(7, 3) == 0.2


def test_cycles_that_would_keep_beta_at_zero_are_refused():
    with pytest.raises(UserError, match="4 cycles in an epoch of 4 steps would keep beta at 0"):
        Cyclical(cycles=4).validate(4)
    with pytest.warns(UserWarning, match=r"a cycle has only 2\.5 steps"):
        Cyclical(cycles=4).validate(10)


@pytest.mark.parametrize(
    "make",
    [lambda: Cyclical(cycles=0), lambda: Cyclical(rising=0.0), lambda: Cyclical(rising=1.5), lambda: Monotonic(0)],
)
def test_schedules_that_cannot_be_are_refused(make):
    with pytest.raises(UserError, match="beta_schedule"):
        make()


# ---------------------------------------------------------------------------------- unknown labels


def test_unknown_labels_are_what_the_report_makes_of_them(fixed_noise):
    """The likelihood of a study without labels is the expectation over q(y | x_T); known labels stay as they are."""
    vkd, known = make_vkd(), torch.ones(6, K, dtype=torch.bool)
    known[1:4] = False
    has_report = torch.tensor([True, True, True, False, True, True])
    batch = make_batch(has_report=has_report, known=known)
    objective = TraceVKD_ELBO(2, 3, unknown_labels="from_report")
    terms = objective.terms(vkd.model, vkd.guide, batch)
    ignored = TraceVKD_ELBO(2, 3).terms(vkd.model, vkd.guide, batch)

    posterior = vkd.guide.posterior(vkd.guide.report_encoder(batch.report, batch.report_mask))
    expected = vkd.guide.auxiliary.probabilities(particles_module.draw(posterior, 3)).mean(0)
    features = vkd.model.image_encoder(batch.images)
    logits = vkd.model.likelihood.logits(particles_module.draw(vkd.model.prior(features), 2), features)
    bce = binary_cross_entropy_with_logits(logits, expected.expand_as(logits), reduction="none").sum(-1).mean(0)
    torch.testing.assert_close(terms.log_likelihood[1:3], -bce[1:3])
    assert terms.log_likelihood[3] == ignored.log_likelihood[3] == 0  # no label, no report
    torch.testing.assert_close(terms.log_likelihood[[0, 4, 5]], ignored.log_likelihood[[0, 4, 5]])
    torch.testing.assert_close((terms.auxiliary, terms.alignment), (ignored.auxiliary, ignored.alignment))


def test_the_report_is_not_taught_by_the_labels_it_fills_in(fixed_noise):
    vkd = make_vkd()
    batch = make_batch(known=torch.zeros(6, K, dtype=torch.bool))
    terms = TraceVKD_ELBO(unknown_labels="from_report").terms(vkd.model, vkd.guide, batch)
    gradients = torch.autograd.grad(terms.log_likelihood.sum(), list(vkd.guide.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)
    with pytest.raises(UserError, match="unknown_labels: found 'guess', expected ignored or from_report"):
        TraceVKD_ELBO(unknown_labels="guess")
    with pytest.raises(UserError, match="wants an auxiliary classifier that learns"):
        TraceVKD_ELBO(unknown_labels="from_report", auxiliary_weight=0.0)


@pytest.mark.parametrize("options", [{}, {"likelihood_samples": "posterior", "log_mean_exp": True}])
def test_a_scale_reaches_every_term(options):
    """`poutine.scale`, and a plate that subsamples, weigh the divergence as they weigh what is observed."""
    vkd, batch = make_vkd(), make_batch()
    objective = TraceVKD_ELBO(**options)

    def terms(scale: float) -> Terms:
        torch.manual_seed(0)
        model, guide = (pyro.poutine.scale(part.forward, scale) for part in (vkd.model, vkd.guide))
        return objective.terms(model, guide, batch)

    plain, scaled = terms(1.0), terms(5.0)
    for part in ("log_likelihood", "auxiliary", "alignment"):
        torch.testing.assert_close(getattr(scaled, part), 5 * getattr(plain, part))


def test_an_anchor_adds_its_kl_to_a_standard_normal_whatever_beta_is():
    batch = make_batch(has_report=torch.tensor([True, True, False, True, True, True]))
    vkd = make_vkd()
    with torch.no_grad():
        q = vkd.guide.posterior(vkd.guide.encode(batch)).base_dist
        kl = (q.loc.square() + q.scale.square() - 1 - 2 * q.scale.log()).sum(-1) / 2 * batch.has_report
    for beta in (0.0, 1.0):
        torch.manual_seed(1)
        without = TraceVKD_ELBO().terms(vkd.model, vkd.guide, batch, beta)
        torch.manual_seed(1)
        found = TraceVKD_ELBO(anchor_weight=0.3).terms(vkd.model, vkd.guide, batch, beta)
        torch.testing.assert_close(found.others["anchor"], -kl)
        torch.testing.assert_close(found.loss, without.loss + 0.3 * kl.mean())
        assert "anchor" not in without.others


@pytest.mark.slow
def test_an_anchor_keeps_the_scale_of_the_posterior_where_beta_is_zero():
    batch, scales = make_batch(), {}
    for weight in (0.0, 0.05):
        vkd = make_vkd(objective=TraceVKD_ELBO(anchor_weight=weight))
        optimizer = torch.optim.Adam(vkd.parameters(), lr=0.02)
        torch.manual_seed(1)
        for _ in range(300):
            optimizer.zero_grad()
            vkd.terms(batch, beta=0.0).loss.backward()
            optimizer.step()
        scales[weight] = vkd.guide.posterior(vkd.guide.encode(batch)).stddev.median().item()
    assert 3 * scales[0.0] < scales[0.05]
