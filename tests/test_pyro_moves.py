"""What a user of Pyro naturally tries, each move against a known truth; and the manual's page of them, run."""

import math
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Importance, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_

from tests.test_elbo import LinearGaussian, make_batch, make_vkd
from vkd_pyro.distributions import BernoulliLikelihood, Head
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.utils.errors import UserError

PAGE = Path(__file__).parent.parent / "docs" / "pyro.md"


class Programs:
    """Model and guide of z alone, of a linear-Gaussian case whose every term is known."""

    def __init__(self, has_report=None, size=6) -> None:
        self.truth = LinearGaussian(size)
        if has_report is not None:
            self.truth.batch = replace(self.truth.batch, has_report=has_report)
        self.batch = self.truth.batch
        with torch.no_grad():
            self.images = self.truth.model.encode(self.batch.images)
            self.reports = self.truth.guide.encode(self.batch)

    def model(self):
        return self.truth.model.program(self.images, self.batch)

    def guide(self):
        return self.truth.guide.program(self.reports, self.batch.has_report, self.truth.model.latent(self.images))

    @property
    def evidence(self):
        return self.truth.likelihood.evidence(self.batch.labels, self.truth.p_loc, self.truth.p.scale).detach()

    @property
    def elbo(self):
        """Of each study: E_q log p(y | z) - KL(q || p); where there is no report, q is the prior."""
        of_q = self.truth.likelihood.expected(self.batch.labels, self.truth.q_loc, self.truth.q.scale) - self.truth.kl()
        of_p = self.truth.likelihood.expected(self.batch.labels, self.truth.p_loc, self.truth.p.scale)
        return torch.where(self.batch.has_report, of_q, of_p).detach()


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        torch.manual_seed(0)
        yield


SOME = torch.tensor([True, False, True, True, False, True])


@pytest.mark.parametrize("has_report", [torch.ones(6, dtype=torch.bool), SOME], ids=["all", "some"])
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_pyros_elbos_are_the_closed_form(elbo, has_report):
    if elbo is TraceMeanField_ELBO and not has_report.all():
        pytest.skip("MaskedMixture has no closed-form KL; TraceMeanField_ELBO then samples, as Trace_ELBO does")
    programs = Programs(has_report)
    objective = elbo(num_particles=20_000, vectorize_particles=True, max_plate_nesting=1)
    assert -objective.loss(programs.model, programs.guide) == pytest.approx(
        float(programs.elbo.sum().detach()), abs=0.15
    )


def test_the_importance_weighted_bound_of_pyro_is_ours():
    programs = Programs()
    theirs = RenyiELBO(alpha=0, num_particles=2000, vectorize_particles=True, max_plate_nesting=1)
    bound = -theirs.loss(programs.model, programs.guide)
    assert bound < float(programs.evidence.sum()) + 0.1
    assert bound > float(programs.elbo.sum())


def test_importance_sampling_finds_the_evidence():
    programs = Programs(size=2)  # the weights of studies multiply, so of many an estimate is poor
    found = Importance(programs.model, programs.guide, num_samples=3_000).run().get_log_normalizer()
    assert float(found) == pytest.approx(float(programs.evidence.sum()), abs=0.25)


def test_a_study_without_a_report_wants_the_prior():
    programs = Programs(SOME)
    with pytest.raises(UserError, match=r"guide\.program: prior: found None, but a study has no report; give model\."):
        programs.truth.guide.program(programs.reports, SOME)


def test_nuts_on_z_finds_the_posterior_of_a_linear_gaussian():
    programs = Programs()
    kernel = NUTS(programs.model, jit_compile=False)
    chain = MCMC(kernel, num_samples=200, warmup_steps=100, disable_progbar=True)
    chain.run()
    z = chain.get_samples()["z"]
    a, noise, scale = programs.truth.likelihood.weight.detach(), 0.9, programs.truth.p.scale
    precision = torch.eye(2) / scale**2 + a.T @ a / noise**2
    mean = torch.linalg.solve(precision, (programs.truth.p_loc / scale**2 + programs.batch.labels @ a / noise**2).T).T
    torch.testing.assert_close(z.mean(0), mean.detach(), atol=0.25, rtol=0.1)


def test_conditioned_and_replayed_z_is_kept_by_the_objective():
    programs = Programs()
    z = torch.full((6, 2), 0.3)
    objective = TraceVKD_ELBO(likelihood_samples="prior", auxiliary_weight=0.0, kl_scale=0.0)
    fixed = poutine.condition(programs.truth.model, data={"z": z})
    terms = objective.terms(fixed, None, programs.batch)
    expected = programs.truth.likelihood(z, known=programs.batch.known).log_prob(programs.batch.labels)
    torch.testing.assert_close(terms.log_likelihood, expected)
    guide_trace = poutine.trace(programs.guide).get_trace()
    replayed = poutine.trace(poutine.replay(programs.model, trace=guide_trace)).get_trace()
    assert torch.equal(replayed.nodes["z"]["value"], guide_trace.nodes["z"]["value"])


def test_what_if_z_were():
    vkd, batch = make_vkd(), make_batch()
    features = vkd.model.encode(batch.images)
    z = torch.zeros(len(batch), 4)
    known = vkd.model.likelihood.probabilities(z, features)
    done = pyro.do(vkd.model.program, data={"z": z})
    draws = torch.stack([done(features) for _ in range(800)]).mean(0)
    assert (draws - known).abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal])
def test_an_autoguide_learns_the_posterior_of_a_linear_gaussian(auto):
    programs = Programs()
    guide = auto(programs.model)
    svi = SVI(programs.model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(num_particles=8))
    for _ in range(300):
        svi.step()
    bound = -Trace_ELBO(num_particles=2000, vectorize_particles=False).loss(programs.model, guide)
    assert float(programs.evidence.sum()) - 0.8 < bound < float(programs.evidence.sum()) + 0.2


def test_predictive_draws_labels_of_new_images():
    vkd, batch = make_vkd(), make_batch()
    features = vkd.model.encode(batch.images)
    drawn = Predictive(vkd.model.program, num_samples=500, parallel=True)(features)
    assert drawn["y"].shape[0] == 500
    probabilities = vkd.model.posterior_predictive(features, 500).samples.mean(0)
    assert (drawn["y"].reshape(500, len(batch), 3).mean(0) - probabilities).abs().max() < 0.12


def test_a_bayesian_last_layer_is_sampled_with_its_prior():
    likelihood = BernoulliLikelihood(4, 3, head=Head(0, dropout=0.0))
    to_pyro_module_(likelihood)
    layer = next(module for module in likelihood.modules() if isinstance(module, torch.nn.Linear))
    assert isinstance(layer, PyroModule)
    layer.weight = PyroSample(dist.Normal(0.0, 2.0).expand([3, 4]).to_event(2))
    layer.bias = PyroSample(dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    z = torch.ones(1, 4)
    trace = poutine.trace(likelihood).get_trace(z)
    assert sum(node["type"] == "sample" for node in trace.nodes.values()) == 2
    logits = torch.stack([torch.logit(likelihood.probabilities(z)) for _ in range(3000)]).squeeze(1)
    assert logits.std(0).mean() == pytest.approx(math.sqrt(4 * 4 + 1), rel=0.06)


def test_the_page_of_moves_runs():
    """Each block of the manual's page goes on from those before it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 9
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["evidence"] > names["elbo"]
    plt.close("all")


# ------------------------------------------------------------------- other guides under our objective


def test_autonormal_under_our_objective_is_its_closed_form():
    truth = LinearGaussian(6)
    guide = AutoNormal(truth.model, init_scale=0.7)
    guide(truth.batch)
    loc, scale = guide.locs.z.detach(), guide.scales.z.detach()
    elbo = TraceVKD_ELBO(num_particles=4000, likelihood_samples="posterior", auxiliary_weight=0.0)
    terms = elbo.terms(truth.model, guide, truth.batch)
    q = dist.Normal(loc, scale).to_event(1)
    kl = torch.distributions.kl_divergence(q, dist.Normal(truth.p_loc, truth.p.scale).to_event(1))
    torch.testing.assert_close(terms.alignment, kl, rtol=1e-4, atol=1e-4)
    expected = truth.likelihood.expected(truth.batch.labels, loc, 0.7)
    torch.testing.assert_close(terms.log_likelihood, expected, rtol=0.05, atol=0.1)


def test_an_autoguide_of_all_studies_together_is_told():
    truth = LinearGaussian(4)
    guide = AutoMultivariateNormal(truth.model)
    with pytest.raises(UserError, match=r"stands for all studies together, .* use AutoNormal"):
        TraceVKD_ELBO(likelihood_samples="posterior").terms(truth.model, guide, truth.batch)


class Chain:
    """z1 ~ N(a, 1), z2 ~ N(z1, 1), y ~ N(z2, 1), each of one dimension; and its exact posterior as the guide."""

    def __init__(self, size=5):
        self.batch = make_batch(size)
        self.a, self.y = torch.randn(size, 1), torch.randn(size, 1)

    def model(self, batch):
        with pyro.plate("studies", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.a, 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(z1, 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z2, 1.0).to_event(1), obs=self.y)

    def guide(self, batch):
        with pyro.plate("studies", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.a + (self.y - self.a) / 3, (2 / 3) ** 0.5).to_event(1))
            pyro.sample("z2", dist.Normal((z1 + self.y) / 2, 0.5**0.5).to_event(1))

    @property
    def evidence(self):
        return dist.Normal(self.a, 3**0.5).to_event(1).log_prob(self.y)


def test_two_latent_variables_the_second_given_the_first():
    chain = Chain()
    exact = TraceVKD_ELBO(num_particles=3, likelihood_samples="posterior", log_mean_exp=True, auxiliary_weight=0.0)
    terms = exact.terms(chain.model, chain.guide, chain.batch)
    found = terms.log_likelihood + terms.tightening - terms.alignment
    torch.testing.assert_close(found, chain.evidence, rtol=1e-4, atol=1e-4)  # of every draw, since q is the posterior
    elbo = TraceVKD_ELBO(num_particles=20_000, likelihood_samples="posterior", auxiliary_weight=0.0)
    terms = elbo.terms(chain.model, chain.guide, chain.batch)
    torch.testing.assert_close(terms.log_likelihood - terms.alignment, chain.evidence, rtol=0, atol=0.06)


def test_two_latent_variables_under_prior_samples_are_refused():
    chain = Chain()
    with pytest.raises(UserError, match="z2: depends on another latent variable"):
        TraceVKD_ELBO().terms(chain.model, chain.guide, chain.batch)


def test_a_mixture_without_rsample_says_what_to_take():
    def model(batch):
        weights = dist.Categorical(torch.ones(len(batch), 2))
        parts = dist.Normal(torch.zeros(len(batch), 2, 3), 1.0).to_event(1)
        with pyro.plate("studies", len(batch), dim=-1):
            z = pyro.sample("z", dist.MixtureSameFamily(weights, parts))
            pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=batch.labels)

    with pytest.raises(UserError, match=r"MixtureSameFamily: has no rsample, .* take NormalMixture"):
        TraceVKD_ELBO().terms(model, None, make_batch(4))
