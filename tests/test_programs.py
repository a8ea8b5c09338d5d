"""Programs of a Pyro user's own under `TraceVKD_ELBO`: what it computes for them, and what it refuses."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from torch import Tensor

from tests.test_elbo import LinearGaussian, make_batch, make_vkd
from tests.test_pyro_moves import Chain
from vkd_pyro.distributions import CategoricalLikelihood
from vkd_pyro.elbo import Site, TraceVKD_ELBO
from vkd_pyro.utils.errors import UserError

SOME = torch.tensor([True, True, False, False, True, False])
P, Q = torch.linspace(-1, 1, 6), torch.linspace(3, 5, 6)  # means of z given the image, and given the report


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def elbo(num_particles: int = 1, samples: str = "posterior", **options) -> TraceVKD_ELBO:
    return TraceVKD_ELBO(num_particles, 1, samples, auxiliary_weight=0.0, **options)


def one_dimension(batch) -> None:
    """z of each study is a number: its event has no dimension."""
    with pyro.plate("studies", len(batch)):
        pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(P, 0.1)), 1.0), obs=torch.zeros(6))


def masked_site(batch) -> None:
    with pyro.plate("studies", len(batch)), poutine.mask(mask=batch.has_report):
        pyro.sample("z", dist.Normal(Q, 0.1))


def masked_distribution(batch) -> None:
    with pyro.plate("studies", len(batch)):
        pyro.sample("z", dist.Normal(Q, 0.1).mask(batch.has_report))


@pytest.mark.parametrize("num_particles", [1, 6, 4000])
@pytest.mark.parametrize("guide", [masked_site, masked_distribution])
def test_a_mask_of_the_guide_holds_whatever_the_dimensions_of_z(guide, num_particles):
    """z is the posterior's where there is a report, else the prior's, and the KL is 0."""
    terms = elbo(num_particles).terms(one_dimension, guide, replace(make_batch(6), has_report=SOME))
    mean = torch.where(SOME, Q, P)
    expected = -0.5 * math.log(2 * math.pi) - 0.5 * (mean**2 + 0.01)
    atol = 5 * (Q.max() * 0.1) / num_particles**0.5
    torch.testing.assert_close(terms.log_likelihood, expected, rtol=0, atol=float(atol))
    torch.testing.assert_close(terms.alignment, torch.where(SOME, (Q - P) ** 2 / 0.02, 0.0))


def test_a_mask_that_is_true_or_false_is_one_of_all_studies():
    def guide(batch):
        with pyro.plate("studies", len(batch)), poutine.mask(mask=False):
            pyro.sample("z", dist.Normal(Q, 0.1))

    assert not elbo().terms(one_dimension, guide, make_batch(6)).alignment.any()


X, Y = torch.randn(100, 2), torch.randn(100, 3)


def some_of_many(observed: bool, size: int = 6):
    def program(batch):
        with pyro.plate("studies", 100, subsample_size=size, dim=-1) as rows:
            z = pyro.sample("z", dist.Normal(X[rows], 0.1).to_event(1))
            if observed:
                pyro.sample("y", dist.Normal(z @ torch.ones(2, 3), 1.0).to_event(1), obs=Y[rows])

    return program


def test_model_and_guide_take_the_same_rows_of_a_plate_that_takes_some():
    """The guide is the prior of each row, so the KL is 0, as it is not of other rows; the plate scales by 100 / 6."""
    terms = elbo(2).terms(some_of_many(True), some_of_many(False), make_batch(6))
    assert not terms.alignment.any()
    assert terms.log_likelihood.mean() < -3 * 0.9 * 100 / 6
    with pytest.raises(UserError, match=r"y: has a log-probability for 3 studies, expected one for each of the 6 of"):
        elbo(2).terms(some_of_many(True, 3), some_of_many(False, 3), make_batch(6))


def test_a_latent_variable_of_no_plate_is_refused():
    def model(batch):
        z = pyro.sample("z", dist.Normal(torch.zeros(6, 2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=torch.zeros(6))

    with pytest.raises(UserError, match=r"z: is drawn in no plate, .* draw it in pyro\.plate\('studies'"):
        TraceVKD_ELBO(4).terms(model, None, make_batch(6))


@pytest.mark.parametrize("samples", ["prior", "posterior"])
def test_what_the_guide_draws_and_the_model_does_not_is_named(samples):
    truth = LinearGaussian(6)
    for model in (
        poutine.condition(truth.model, data={"z": torch.zeros(6, 2)}),
        poutine.block(truth.model, hide=["z"]),
        poutine.replay(truth.model, trace=poutine.trace(truth.model).get_trace(truth.batch)),
    ):
        with pytest.raises(UserError, match=r"z: the guide draws it and the model does not, .* \(condition, replay"):
            TraceVKD_ELBO(likelihood_samples=samples).terms(model, truth.guide, truth.batch)


def test_what_the_model_draws_and_the_guide_does_not_has_no_posterior_samples():
    truth = LinearGaussian(6)
    with pytest.raises(UserError, match=r"the model draws it and the guide does not, .*likelihood_samples to prior"):
        elbo().terms(truth.model, None, truth.batch)
    assert elbo(samples="prior").terms(truth.model, None, truth.batch).loss.isfinite()


def test_a_scale_is_that_of_model_and_guide():
    truth = LinearGaussian(6)
    model, guide = (poutine.scale(part.forward, scale=0.1) for part in (truth.model, truth.guide))
    both = elbo().terms(model, guide, truth.batch)
    torch.testing.assert_close(both.alignment, 0.1 * truth.kl())
    with pytest.raises(UserError, match=r"z: scaled by 1 in the guide and by 0\.1 in the model; scale both alike"):
        elbo().terms(model, truth.guide, truth.batch)


def test_logs_of_means_of_some_sites_alone_would_bound_nothing():
    """z ~ N(0, 1), y and x_T ~ N(z, 1), the guide exact: with both the loss is the evidence at every draw."""
    data = {"y": torch.tensor([1.0]), "report": torch.tensor([1.5])}

    def model(batch):
        with pyro.plate("studies", 1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0))
            for name, value in data.items():
                pyro.sample(name, dist.Normal(z, 1.0), obs=value)

    def guide(batch):
        with pyro.plate("studies", 1):
            pyro.sample("z", dist.Normal(torch.tensor([2.5 / 3]), 3**-0.5))

    joint = dist.MultivariateNormal(torch.zeros(2), torch.ones(2, 2) + torch.eye(2))
    evidence = joint.log_prob(torch.cat(list(data.values())))
    batch, options = make_batch(1), {"log_mean_exp": True}
    torch.testing.assert_close(-elbo(4, **options).terms(model, guide, batch).loss, evidence)
    for sites in ({"report": Site(log_mean_exp=False)}, {"y": Site(log_mean_exp=False)}):
        with pytest.raises(UserError, match=r"sites: report, y take z from the posterior, some with log_mean_exp and"):
            elbo(4, sites=sites, **options).terms(model, guide, batch)
    with pytest.raises(UserError, match=r"sites: report, y take z from the posterior"):
        make_vkd(objective=elbo(4, sites={"report": Site(log_mean_exp=True)}), report_likelihood=words)


def words(latent_dim, features_dim):
    from vkd_pyro.distributions import WordPresence

    return WordPresence(latent_dim, features_dim)


def test_a_guide_whose_variables_are_independent_of_each_other():
    """KL(q || p) of the chain, whose z2 depends on z1 in the model alone, by its two closed forms."""
    chain = Chain()
    loc, scale = torch.zeros_like(chain.a), 0.5

    def guide(batch):
        with pyro.plate("studies", len(batch), dim=-1):
            pyro.sample("z1", dist.Normal(loc, scale).to_event(1))
            pyro.sample("z2", dist.Normal(loc, scale).to_event(1))

    terms = elbo(40_000).terms(chain.model, guide, chain.batch)
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e * scale**2))
    of_prior = -math.log(2 * math.pi) - 0.5 * (scale**2 + chain.a**2) - 0.5 * (2 * scale**2)
    torch.testing.assert_close(terms.alignment, (-entropy - of_prior)[:, 0], rtol=0, atol=0.02)


class OfOneOwn(dist.TorchDistribution):
    """A normal that does not know how to expand itself."""

    has_rsample = True
    arg_constraints: dict = {}
    support = dist.constraints.real_vector

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample(self, sample_shape=()):
        return self.loc + torch.randn(*sample_shape, *self.loc.shape)

    def log_prob(self, value):
        return -0.5 * ((value - self.loc) ** 2 + math.log(2 * math.pi)).sum(-1)


@pytest.mark.parametrize("samples", ["prior", "posterior", "mixture"])
def test_a_distribution_without_an_expand_of_its_own(samples):
    loc = torch.randn(6, 2)

    def model(batch):
        with pyro.plate("studies", len(batch)):
            z = pyro.sample("z", OfOneOwn(torch.zeros(6, 2)))
            pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=torch.zeros(6, 2))

    def guide(batch):
        with pyro.plate("studies", len(batch)):
            pyro.sample("z", OfOneOwn(loc))

    terms = TraceVKD_ELBO(20_000, 20_000, samples).terms(model, guide, make_batch(6))
    torch.testing.assert_close(terms.alignment, 0.5 * loc.square().sum(-1), rtol=0.03, atol=0.03)


def test_labels_that_are_not_observed_are_no_continuous_variable():
    vkd, batch = make_vkd(), make_batch()
    features = vkd.model.encode(batch.images)
    with pytest.raises(ValueError, match="cannot handle discrete sample site 'y'"):
        MCMC(NUTS(vkd.model.program), num_samples=1, warmup_steps=1, disable_progbar=True).run(features)


def test_in_double_precision_the_objective_is_the_same():
    vkd, batch = make_vkd(), make_batch()
    single = TraceVKD_ELBO(likelihood_samples="prior").terms(vkd.model, vkd.guide, batch).alignment
    batch = replace(batch, images=batch.images.double(), labels=batch.labels.double())
    double = TraceVKD_ELBO(likelihood_samples="prior").terms(vkd.double().model, vkd.guide, batch).alignment
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


def test_a_partly_labelled_study_does_not_count_where_it_takes_no_part():
    """Of six studies, one of which lacks a label, five have one finding for the categorical likelihood."""
    known = torch.ones(6, 3, dtype=torch.bool)
    known[0, 0] = False
    batch = replace(make_batch(known=known), labels=torch.eye(3).repeat(2, 1))
    objective = TraceVKD_ELBO(auxiliary_mean="labelled")
    for options, weight in (({}, 1.0), ({"auxiliary": CategoricalLikelihood}, 6 / 5)):
        vkd = make_vkd(**options)
        assert objective.terms(vkd.model, vkd.guide, batch).auxiliary_weight == pytest.approx(weight)
