"""Inference recovers the truth: where the posterior is known, the guide learns it, and its draws are calibrated.

    x ~ Normal(0, 1);   z ~ Normal(W x + b, S);   y ~ Normal(A z + C x, R);   the report says (x, y)

with W, b, S, A, C and R known. Then p(z | x, y) is normal, its mean linear in (x, y) and its covariance the same for
every study, and the ELBO's best q(z | x_T) is it.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import MLP, Distribution, Family, FullNormal, Likelihood
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods.vkd import VKD

X, D, K = 2, 3, 3
_generator = torch.Generator().manual_seed(7)
W, b, A, C = (torch.randn(shape, generator=_generator) for shape in ((D, X), (D,), (K, D), (K, X)))
S, R = torch.tensor([0.6, 1.0, 1.4]), torch.tensor([0.5, 0.8, 1.1])  # standard deviations


class Pixels(ImageEncoder):
    """x_I itself."""

    features_dim = X

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Embedding(ReportEncoder):
    """x_T itself: the one token's embedding, (x, y)."""

    features_dim = X + K

    def prepare(self, reports):
        raise NotImplementedError

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        return report[:, 0]


class Prior(Family):
    """z ~ Normal(W x + b, S)."""

    def forward(self, features: Tensor) -> Distribution:
        return dist.Normal(features @ W.T + b, S).to_event(1)


class LinearLikelihood(Likelihood):
    """y ~ Normal(A z + C x, R), without C x where there are no features."""

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        from_image = 0.0 if features is None else features @ C.T
        return dist.Normal(z @ A.T + from_image, R).to_event(1)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        raise NotImplementedError


def draw_studies(size: int) -> tuple[Batch, Tensor]:
    """Studies, and the z they were made from, float [size, D]."""
    x = torch.randn(size, X)
    z = Prior()(x).sample()
    y = LinearLikelihood()(z, x).sample()
    return Batch(
        images=x[:, None, None],
        report=torch.cat([x, y], dim=-1)[:, None],
        report_mask=torch.ones(size, 1, dtype=torch.bool),
        has_report=torch.ones(size, dtype=torch.bool),
        labels=y,
        known=torch.ones(size, K, dtype=torch.bool),
        study_ids=("",) * size,
    ), z


def exact_posterior(batch: Batch) -> Distribution:
    """p(z | x, y): precisions add, and means weighed by them."""
    x, y = batch.images.flatten(1), batch.labels
    covariance = (torch.diag(S**-2) + A.T @ torch.diag(R**-2) @ A).inverse()
    weighted = (x @ W.T + b) / S**2 + (y - x @ C.T) / R**2 @ A
    return dist.MultivariateNormal(weighted @ covariance, covariance.expand(len(batch), D, D))


def make_vkd() -> VKD:
    torch.manual_seed(1)
    return VKD(
        tuple("abc"),
        Pixels(),
        Embedding(),
        latent_dim=D,
        prior=lambda in_features, latent_dim: Prior(),
        posterior=lambda in_features, latent_dim: FullNormal(in_features, latent_dim, MLP((8,), dropout=0.0)),
        likelihood=lambda latent_dim, num_findings, features_dim: LinearLikelihood(),
        auxiliary=lambda latent_dim, num_findings: LinearLikelihood(),
    )


OBJECTIVE = TraceVKD_ELBO(num_particles=16, likelihood_samples="posterior", auxiliary_weight=0.0)
BATCH, STEPS, LEARNING_RATE = 256, 1500, 0.05


def learn(vkd: VKD, steps: int = STEPS) -> None:
    """Fresh studies at every step, and a learning rate that falls to zero: with it goes the noise of the gradient."""
    loss = OBJECTIVE(vkd.model, vkd.guide)
    optimizer = torch.optim.Adam(vkd.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(draw_studies(BATCH)[0]).backward()
        optimizer.step()
        schedule.step()


def learn_by_svi(vkd: VKD, steps: int = STEPS) -> None:
    """The same with Pyro's own loop."""
    optimizer = pyro.optim.CosineAnnealingLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": LEARNING_RATE}, "T_max": STEPS}
    )
    svi = pyro.infer.SVI(vkd.model, vkd.guide, optimizer, OBJECTIVE)
    with pyro.get_param_store().scope():
        for _ in range(steps):
            svi.step(draw_studies(BATCH)[0])
            optimizer.step()


@pytest.fixture(scope="module")
def learned() -> VKD:
    vkd = make_vkd()
    learn(vkd)
    return vkd


@torch.no_grad()
def learned_posterior(vkd: VKD, batch: Batch) -> Distribution:
    return vkd.guide.posterior(vkd.guide.report_encoder(batch.report, batch.report_mask))


NUM_STUDIES = 500


@pytest.fixture(scope="module")
def fresh() -> tuple[Batch, Tensor]:
    torch.manual_seed(2)
    return draw_studies(NUM_STUDIES)


# -------------------------------------------------------------------------------- the closed form


def test_the_learned_posterior_is_the_exact_one(learned, fresh):
    """Within 2 % on fresh studies.

    loc: the root mean square error over studies, relative to the spread of exact locs, in each dimension.
    scale: the relative error of a standard deviation, in each dimension, for 99 of 100 studies.
    covariance: the relative error by the Frobenius norm, for 99 of 100 studies.
    """
    q, p = learned_posterior(learned, fresh[0]), exact_posterior(fresh[0])
    loc_error = (q.mean - p.mean).square().mean(0).sqrt() / p.mean.std(0)
    scale_error = (q.stddev / p.stddev - 1).abs()
    difference = torch.linalg.matrix_norm(q.covariance_matrix - p.covariance_matrix)
    covariance_error = difference / torch.linalg.matrix_norm(p.covariance_matrix)
    assert loc_error.max() < 0.02
    assert scale_error.quantile(0.99, dim=0).max() < 0.02
    assert covariance_error.quantile(0.99) < 0.02


def test_the_learned_bound_is_the_evidence(learned, fresh):
    """With the exact posterior the ELBO is log p(y | x), and every importance weight is the same."""
    batch, _ = fresh
    objective = TraceVKD_ELBO(16, likelihood_samples="posterior", log_mean_exp=True, auxiliary_weight=0.0)
    torch.manual_seed(3)
    terms = objective.terms(learned.model, learned.guide, batch)
    x = batch.images.flatten(1)
    covariance = A @ torch.diag(S**2) @ A.T + torch.diag(R**2)
    evidence = dist.MultivariateNormal((x @ W.T + b) @ A.T + x @ C.T, covariance).log_prob(batch.labels)
    assert -terms.loss.item() == pytest.approx(evidence.mean().item(), abs=1e-2)
    assert terms.tightening.mean() < 1e-2


def test_svi_takes_the_same_steps():
    """So what the torch optimiser recovers, Pyro's own loop recovers as well."""
    found = []
    for by in (learn, learn_by_svi):
        vkd = make_vkd()
        torch.manual_seed(4)
        by(vkd, steps=50)
        found.append(vkd.state_dict())
    torch.testing.assert_close(*found)


# ------------------------------------------------------------------------------------ calibration

NUM_DRAWS = 99
LEVELS = np.arange(1, NUM_DRAWS + 1) / (NUM_DRAWS + 1)


def ranks_of_truth(q: Distribution, z: Tensor) -> np.ndarray:
    """How many of 99 posterior draws lie below the true z, int [NUM_STUDIES, D] in 0 .. 99.

    Uniform in each dimension where z was drawn from the prior and q is the posterior (Talts et al. 2018, "Validating
    Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788).
    """
    torch.manual_seed(5)
    return (q.sample((NUM_DRAWS,)) < z).sum(0).numpy()


class UniformBand:
    """A simultaneous band for the ECDF of NUM_STUDIES uniform ranks.

    At each level the number of ranks below it is binomial. The band cuts off the same tail everywhere, such that the
    whole ECDF of uniform ranks stays inside with the wanted probability, found by simulation (Säilynoja, Bürkner &
    Vehtari 2022, "Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and
    multiple sample comparison", arXiv 2103.10522).

    Args:
        coverage: the probability for uniform ranks to stay inside.
    """

    def __init__(self, coverage: float) -> None:
        count = np.arange(NUM_STUDIES + 1)[:, None]
        at_most, at_least = binom.cdf(count, NUM_STUDIES, LEVELS), binom.sf(count - 1, NUM_STUDIES, LEVELS)
        self.tails = np.minimum(at_most, at_least)  # of each count at each level
        uniform = np.random.default_rng(6).multinomial(NUM_STUDIES, np.full(NUM_DRAWS + 1, 1 / (NUM_DRAWS + 1)), 50_000)
        self.cut = np.quantile(self._smallest_tail(uniform), 1 - coverage, method="lower")

    def holds(self, ranks: np.ndarray) -> bool:
        """Whether the ECDF of ranks, int [NUM_STUDIES], stays inside."""
        return bool(self._smallest_tail(np.bincount(ranks, minlength=NUM_DRAWS + 1)) >= self.cut)

    def _smallest_tail(self, histogram: np.ndarray) -> np.ndarray:
        """Over levels; int [..., NUM_DRAWS + 1] -> float [...]."""
        below = histogram.cumsum(-1)[..., :-1]
        return self.tails[below, np.arange(NUM_DRAWS)].min(-1)


@pytest.fixture(scope="module")
def band() -> UniformBand:
    """99.9 % for all dimensions together: each has its share of the rest (Bonferroni)."""
    return UniformBand(1 - 0.001 / D)


def inside(band: UniformBand, ranks: np.ndarray) -> list[bool]:
    return [band.holds(dimension) for dimension in ranks.T]


def test_the_learned_posterior_is_calibrated(learned, fresh, band):
    batch, z = fresh
    assert inside(band, ranks_of_truth(exact_posterior(batch), z)) == [True] * D
    assert inside(band, ranks_of_truth(learned_posterior(learned, batch), z)) == [True] * D


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 0.7), (0.0, 1.4), (0.4, 1.0)])
def test_a_posterior_too_sure_too_vague_or_beside_the_truth_is_not(learned, fresh, band, shift, stretch):
    batch, z = fresh
    q = learned_posterior(learned, batch)
    wrong = dist.MultivariateNormal(q.mean + shift * q.stddev, scale_tril=stretch * q.scale_tril.to(q.mean))
    assert inside(band, ranks_of_truth(wrong, z)) == [False] * D


def test_the_band_holds_as_often_as_it_says():
    """For uniform ranks it did not see, within 4 standard errors."""
    band, repeats, coverage = UniformBand(0.95), 4000, 0.95
    ranks = np.random.default_rng(8).integers(0, NUM_DRAWS + 1, (repeats, NUM_STUDIES))
    held = np.mean([band.holds(row) for row in ranks])
    assert abs(held - coverage) < 4 * math.sqrt(coverage * (1 - coverage) / repeats)
