"""Likelihoods: one contract, which each of them passes, and what each is for, against closed forms."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.conftest import TinyCorpus
from tests.test_cli import vkd as command
from vkd_pyro.artifacts.bundle import load_bundle, save_bundle
from vkd_pyro.cli.train import build as build_settings
from vkd_pyro.cli.train import train_parser
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.task import Task
from vkd_pyro.distributions import (
    MLP,
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiagonalNormal,
    FocalBernoulliLikelihood,
    Head,
    Likelihood,
    LowRankProbit,
    LowRankProbitLikelihood,
    NetworkLikelihood,
    ThreeOutcomeLikelihood,
    WeightedBernoulliLikelihood,
)
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.methods import VKD, ImageOnly, NoReport
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.schedules import Constant
from vkd_pyro.training.fitting import fit
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe

B, D, F, K, M = 3, 4, 5, 3, 2
FINDINGS = ("a", "b", "c")

SMALL, LINEAR = Head(8, dropout=0.0), Head(0, dropout=0.0)
LIKELIHOODS: dict[str, tuple[type[NetworkLikelihood], dict]] = {
    "Bernoulli": (BernoulliLikelihood, {"head": SMALL}),
    "Bernoulli-linear": (BernoulliLikelihood, {"head": LINEAR}),
    "Weighted-number": (WeightedBernoulliLikelihood, {"head": SMALL, "positive_weight": 3}),
    "Weighted-findings": (
        WeightedBernoulliLikelihood,
        {"head": SMALL, "positive_weight": [0.5, 2.0, 9.0]},
    ),
    "Weighted-balanced": (WeightedBernoulliLikelihood, {"head": SMALL}),
    "Focal": (FocalBernoulliLikelihood, {"head": SMALL}),
    "Probit-1": (LowRankProbitLikelihood, {"head": SMALL}),
    "Probit-2": (LowRankProbitLikelihood, {"head": LINEAR, "rank": 2, "num_nodes": 12}),
    "ThreeOutcome": (ThreeOutcomeLikelihood, {"head": SMALL}),
    "Categorical": (CategoricalLikelihood, {"head": SMALL}),
}
DENSITIES = [name for name in LIKELIHOODS if name.split("-")[0] not in ("Weighted", "Focal")]

likelihoods = pytest.mark.parametrize("name", LIKELIHOODS)


def maker(name: str) -> Callable[..., NetworkLikelihood]:
    kind, options = LIKELIHOODS[name]
    return lambda *sizes: kind(*sizes, **options)


def make(name: str, features_dim: int = 0, dtype: torch.dtype = torch.float32) -> NetworkLikelihood:
    torch.manual_seed(0)
    likelihood = maker(name)(D, K, features_dim)
    likelihood.observe_labels(torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, math.nan]]))
    return likelihood.to(dtype)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outcomes(name: str) -> Tensor:
    """All label vectors that there are, float [number, K]."""
    if name == "Categorical":
        return torch.eye(K)
    values = (-1.0, 0.0, 1.0) if name == "ThreeOutcome" else (0.0, 1.0)
    return torch.tensor(list(itertools.product(values, repeat=K)))


# ------------------------------------------------------------------------------------------- contract


@likelihoods
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("particles", [(), (M,)])
@pytest.mark.parametrize("features_dim", [0, F])
def test_shapes_and_types(name, dtype, particles, features_dim):
    likelihood, z = make(name, features_dim, dtype), draw(*particles, B, D, dtype=dtype)
    features = draw(B, F, dtype=dtype) if features_dim else None
    known = torch.arange(B * K).view(B, K) != 1
    labels = outcomes(name)[1].to(dtype).expand(B, K)
    for y in (likelihood(z, features), likelihood(z, features, known)):
        assert (y.batch_shape, y.event_shape) == ((*particles, B), (K,))
        assert y.log_prob(labels).shape == (*particles, B)
        assert y.sample().shape == (*particles, B, K)
        assert y.sample((7,)).shape == (7, *particles, B, K)
        wider = y.expand((6, *particles, B))
        torch.testing.assert_close(wider.log_prob(labels), y.log_prob(labels).expand(6, *particles, B))
        assert wider.sample().shape == (6, *particles, B, K)
        assert y.log_prob(labels).dtype == y.sample().dtype == dtype
        assert y.log_prob(labels).isfinite().all()
    probabilities = likelihood.probabilities(z, features)
    assert (probabilities.shape, probabilities.dtype) == ((*particles, B, K), dtype)


@likelihoods
def test_features_are_seen(name):
    likelihood, z = make(name, F), draw(M, B, D)
    one, other = (likelihood.probabilities(z, draw(B, F, seed=seed)) for seed in (1, 2))
    assert (one != other).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_the_probabilities_of_all_outcomes_sum_to_1(name):
    y = make(name, dtype=torch.float64)(draw(M, B, D, dtype=torch.float64))
    total = y.log_prob(outcomes(name).double()[:, None, None]).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-12, rtol=0)


@likelihoods
def test_unknown_labels_take_no_part(name):
    """Their values change nothing, and what the network says of them gets no gradient."""
    likelihood, z = make(name), draw(M, B, D)
    outputs = likelihood.outputs(z).detach().requires_grad_()
    likelihood.outputs = lambda z, features=None: outputs
    known = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    labels = outcomes(name)[[1, 2, 0]]
    log_prob = likelihood(z, known=known).log_prob(labels)
    log_prob.sum().backward()
    counted = known & known.all(-1, keepdim=True) if name == "Categorical" else known
    gradient = outputs.grad.view(M, B, K, -1).abs().amax((0, 3))
    assert torch.equal(gradient > 0, counted)
    others = torch.where(known, labels, 0.0 if name == "Categorical" else 1.0)
    assert torch.equal(likelihood(z, known=known).log_prob(others), log_prob)
    assert (log_prob[:, 2].abs() < 1e-6).all(), "nothing known says nothing"
    everything = torch.ones_like(known)
    torch.testing.assert_close(likelihood(z, known=everything).log_prob(labels), likelihood(z).log_prob(labels))


@likelihoods
def test_samples_are_outcomes_and_their_mean_is_the_probability(name):
    likelihood, z, draws = make(name), draw(M, B, D), 20_000
    torch.manual_seed(0)
    y = likelihood(z)
    samples = y.sample((draws,))
    assert not samples.requires_grad
    assert y.support.check(samples).all()
    assert {tuple(row) for row in samples.reshape(-1, K).unique(dim=0).tolist()} <= set(
        map(tuple, outcomes(name).tolist())
    )
    probabilities, certain = likelihood.probabilities(z), samples >= 0
    frequency = (samples * certain).sum(0) / certain.sum(0)
    standard_error = (probabilities * (1 - probabilities) / certain.sum(0)).sqrt()
    assert ((frequency - probabilities).abs() < 5 * standard_error).all()


@likelihoods
def test_extremes_stay_numbers(name):
    likelihood, z = make(name), (1e4 * draw(M, B, D)).requires_grad_()
    probabilities = likelihood.probabilities(z)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    log_prob = likelihood(z).log_prob(outcomes(name)[:, None, None])
    (log_prob.sum() + probabilities.sum()).backward()
    assert log_prob.isfinite().all()
    assert z.grad.isfinite().all()


@likelihoods
def test_half_precision_stays_out_of_densities(name):
    likelihood, z, labels = make(name), draw(M, B, D), outcomes(name)[1]
    with torch.autocast("cpu", torch.bfloat16):
        log_prob, probabilities = likelihood(z).log_prob(labels), likelihood.probabilities(z)
    assert log_prob.dtype == probabilities.dtype == torch.float32
    torch.testing.assert_close(log_prob, likelihood(z).log_prob(labels), atol=0.05, rtol=0.05)


@likelihoods
def test_parameters_that_are_no_numbers_are_refused(name):
    with pytest.raises(ValueError, match="invalid values"):
        make(name)(torch.full((B, D), math.nan))


@likelihoods
def test_values_that_are_no_outcomes_are_refused(name):
    y = make(name)(draw(B, D))
    for value in (-2.0, 2.0, math.nan):
        with pytest.raises(ValueError, match=r"within the support|labels: \d+ of"):
            y.log_prob(torch.full((B, K), value))


@likelihoods
def test_policies_that_it_takes_are_those_it_has_outcomes_for(name):
    kind, y = LIKELIHOODS[name][0], make(name)(draw(B, D))
    for value, takes in ((-1.0, kind.takes_uncertain), (0.7, kind.takes_soft)):
        if takes:
            assert y.log_prob(torch.full((B, K), value)).isfinite().all()
        else:
            with pytest.raises(ValueError, match=r"within the support|labels: \d+ of"):
                y.log_prob(torch.full((B, K), value))


def make_vkd(name: str, findings: tuple[str, ...] = FINDINGS) -> VKD:
    torch.manual_seed(0)

    def family(features: int, latent: int) -> DiagonalNormal:
        return DiagonalNormal(features, latent, MLP((8,), 0.0))

    encoders = ConvEncoder((4, 8)), WordEncoder(50, 16, dropout=0.0)
    return VKD(findings, *encoders, D, family, family, maker(name), maker(name))


def make_batch(name: str, size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(len(outcomes(name)), (size,), generator=generator)
    return Batch(
        images=torch.rand(size, 1, 16, 16, generator=generator),
        report=torch.randint(1, 50, (size, 5), generator=generator),
        report_mask=torch.ones(size, 5, dtype=torch.bool),
        has_report=torch.arange(size) < size - 1,
        labels=outcomes(name)[rows],
        known=torch.arange(size * K).view(size, K) > 1,
        study_ids=tuple(map(str, range(size))),
    )


@likelihoods
def test_as_likelihood_and_as_auxiliary_one_step_moves_every_parameter(name):
    vkd, batch = make_vkd(name), make_batch(name)
    before = {key: p.detach().clone() for key, p in vkd.named_parameters()}
    terms = TraceVKD_ELBO(3, 2, "mixture").terms(vkd.model, vkd.guide, batch)
    assert terms.log_likelihood.shape == terms.auxiliary.shape == (len(batch),)
    assert terms.auxiliary[-1] == 0, "a study without a report"
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in vkd.parameters())
    torch.optim.SGD(vkd.parameters(), lr=0.1).step()
    assert {key for key, p in vkd.named_parameters() if torch.equal(p, before[key])} == set()


@likelihoods
def test_the_program_draws_labels(name):
    vkd = make_vkd(name)
    with torch.no_grad(), pyro.plate("samples", 50, dim=-2):
        labels = vkd.model.program(draw(B, vkd.model.image_encoder.features_dim))
    assert {tuple(row) for row in labels.reshape(-1, K).tolist()} <= set(map(tuple, outcomes(name).tolist()))


@likelihoods
def test_a_bundle_gives_it_back(name, tmp_path):
    vkd, images = make_vkd(name), make_batch(name).images
    vkd.model.likelihood.observe_labels(torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, math.nan]]))
    save_bundle(tmp_path / "bundle", vkd.model.eval(), FINDINGS, ImageTransform(16), "# A card\n")
    loaded = load_bundle(tmp_path / "bundle").model
    assert type(loaded.likelihood) is LIKELIHOODS[name][0]
    both = [predict(model, images, FINDINGS, num_samples=4).samples for model in (vkd.model, loaded)]
    np.testing.assert_array_equal(*both)


@likelihoods
def test_it_is_built_by_its_public_path_and_from_a_config(name, tmp_path):
    kind, options = LIKELIHOODS[name]
    path = f"vkd_pyro.distributions.{kind.__name__}"
    likelihood = make(name)
    public = json.loads(json.dumps(describe(likelihood)))
    assert public["class_path"] == path
    assert type(build(public, Likelihood)) is kind
    part = {"class_path": path, "init_args": {key: public["init_args"][key] for key in options}}
    image_encoder = {"class_path": "vkd_pyro.encoders.image.ConvEncoder", "init_args": {"channels": [4, 8]}}
    report_encoder = {"class_path": "vkd_pyro.encoders.report.WordEncoder"}
    model = {"likelihood": part, "auxiliary": part, "image_encoder": image_encoder, "report_encoder": report_encoder}
    corpus = {"class_path": "vkd_pyro.synthetic.corpus.SyntheticCorpus", "init_args": {"num_studies": 20}}
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "method": {"class_path": "vkd_pyro.methods.VKD", "init_args": model | {"latent_dim": D}},
                "data": {"selection": {"corpus": corpus}, "task": {"findings": ["Edema", "Fracture", "Pneumonia"]}},
            }
        )
    )
    vkd = build_settings(train_parser().parse_args(["--config", str(config), "--run", str(tmp_path / "run")])).method
    for made in (vkd.model.likelihood, vkd.guide.auxiliary):
        assert type(made) is kind
        assert {key: getattr(made, key) for key in options} == options


def test_without_a_hidden_layer_it_is_linear():
    likelihood = make("Bernoulli-linear", F).eval()
    assert [type(layer).__name__ for layer in likelihood.network] == ["Dropout", "Linear"]
    z, features = draw(M, B, D), draw(B, F)
    middle = likelihood.logits(z.mean(0, keepdim=True), features)
    torch.testing.assert_close(middle, likelihood.logits(z, features).mean(0, keepdim=True))


# ------------------------------------------------------------------------------- weights and focus

PROBABILITIES = torch.tensor([0.001, 0.03, 0.2, 0.5, 0.77, 0.999], dtype=torch.float64)


def probabilities_of_the_optimum(likelihood: NetworkLikelihood) -> Tensor:
    """What it says after its expected score was made as large as can be, for labels of `PROBABILITIES`."""
    a = torch.zeros(1, len(PROBABILITIES), dtype=torch.float64, requires_grad=True)
    likelihood.outputs = lambda z, features=None: a
    optimizer = torch.optim.LBFGS(
        [a], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def expected_loss() -> Tensor:
        optimizer.zero_grad()
        loss = -likelihood(a).log_prob(PROBABILITIES[None]).sum()  # scores are linear in soft targets
        loss.backward()
        return loss

    optimizer.step(expected_loss)
    return likelihood.probabilities(a)[0].detach()


@pytest.mark.parametrize("weight", [0.1, 1.0, 30.0, [1.0, 2.0, 3.0, 4.0, 0.5, 0.25]])
def test_probabilities_of_a_weighted_likelihood_are_those_of_the_labels_not_of_the_weights(weight):
    likelihood = WeightedBernoulliLikelihood(D, len(PROBABILITIES), positive_weight=weight).double()
    torch.testing.assert_close(probabilities_of_the_optimum(likelihood), PROBABILITIES, rtol=1e-4, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_probabilities_of_a_focal_likelihood_are_those_of_the_labels(gamma):
    likelihood = FocalBernoulliLikelihood(D, len(PROBABILITIES), gamma=gamma).double()
    torch.testing.assert_close(probabilities_of_the_optimum(likelihood), PROBABILITIES, rtol=1e-3, atol=0)


def test_weights_are_those_of_binary_cross_entropy():
    likelihood, z, labels = make("Weighted-findings"), draw(B, D), torch.tensor([0.0, 1.0, 0.3]).expand(B, K)
    weights = torch.tensor([0.5, 2.0, 9.0])
    expected = binary_cross_entropy_with_logits(likelihood.outputs(z), labels, reduction="none", pos_weight=weights)
    torch.testing.assert_close(likelihood(z).log_prob(labels), -expected.sum(-1))


def test_balanced_weights_are_negatives_by_positives_of_known_labels():
    likelihood = WeightedBernoulliLikelihood(D, 5)
    assert torch.equal(likelihood.weights, torch.ones(5))
    nan = math.nan
    labels = torch.tensor([[1, 0, 1, 0.25, nan], [0, 0, 1, nan, nan], [0, 0, 1, 0.25, nan], [0, nan, 1, 1, nan]])
    likelihood.observe_labels(labels)
    assert likelihood.weights.tolist() == [3, 1, 1, 1, 1]
    fixed = WeightedBernoulliLikelihood(D, 5, positive_weight=7)
    fixed.observe_labels(labels)
    assert fixed.weights.tolist() == [7] * 5


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_focal_score_and_its_map_are_as_printed(gamma):
    likelihood = FocalBernoulliLikelihood(D, 41, gamma=gamma).double()
    a = torch.linspace(-6, 6, 41, dtype=torch.float64)[None]
    likelihood.outputs = lambda z, features=None: a
    s = a.sigmoid()
    y = likelihood(a).base_dist
    torch.testing.assert_close(y.log_prob(torch.ones_like(a)), (1 - s) ** gamma * s.log())
    torch.testing.assert_close(y.log_prob(torch.zeros_like(a)), s**gamma * (1 - s).log())

    def h(s: Tensor) -> Tensor:
        return s / ((1 - s) ** gamma - gamma * (1 - s) ** (gamma - 1) * s * s.log())

    p = likelihood.probabilities(a)
    torch.testing.assert_close(p, h(s) / (h(s) + h(1 - s)))
    assert (p.diff() > 0).all(), "the order is kept"
    assert ((p - 0.5).abs() >= (s - 0.5).abs() - 1e-12).all(), "s is nearer to 1/2"


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: WeightedBernoulliLikelihood(D, K, positive_weight=0), "positive_weight: found 0, expected numbers ab"),
        (
            lambda: WeightedBernoulliLikelihood(D, K, positive_weight=[1, 2]),
            "positive_weight: found 2 weights, expecte",
        ),
        (lambda: WeightedBernoulliLikelihood(D, K, positive_weight="even"), "positive_weight: found 'even'"),
        (lambda: FocalBernoulliLikelihood(D, K, gamma=-1), "gamma: found -1"),
        (lambda: LowRankProbitLikelihood(D, K, rank=3), "rank: found 3, expected a whole number, from 1 to 2"),
        (lambda: LowRankProbitLikelihood(D, K, num_nodes=1), "num_nodes: found 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(attempt, message):
    with pytest.raises(UserError, match=message) as error:
        attempt()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------ correlated labels

LOC = torch.tensor([0.4, -0.8, 0.1, 1.2], dtype=torch.float64)
LOADINGS = {
    1: torch.tensor([[1.0], [-0.7], [0.3], [1.4]], dtype=torch.float64),
    2: torch.tensor([[1.0, 0.2], [-0.7, 0.6], [0.3, -1.1], [0.9, 0.8]], dtype=torch.float64),
}
VECTORS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)

ranks = pytest.mark.parametrize("rank", [1, 2])


@ranks
def test_a_probit_is_the_frequency_of_thresholded_normals(rank):
    torch.manual_seed(0)
    u, e = torch.randn(400_000, rank, dtype=torch.float64), torch.randn(400_000, 4, dtype=torch.float64)
    y = (u @ LOADINGS[rank].T + LOC + e > 0).double()
    p = LowRankProbit(LOC, LOADINGS[rank]).log_prob(VECTORS).exp()
    index = (y @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    frequency = torch.bincount(index, minlength=16) / len(y)
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / len(y)).sqrt()).all()


@ranks
def test_marginals_of_one_and_of_two_labels_are_those_of_the_normal(rank):
    loadings = LOADINGS[rank]
    probit = LowRankProbit(LOC, loadings)
    p = probit.log_prob(VECTORS).exp()
    covariance = (loadings @ loadings.T + torch.eye(4, dtype=torch.float64)).numpy()
    expected = norm.cdf(LOC.numpy() / np.sqrt(covariance.diagonal()))
    np.testing.assert_allclose(p @ VECTORS, expected, atol=1e-6)
    np.testing.assert_allclose(probit.mean, expected, atol=1e-12)
    torch.testing.assert_close(probit.variance, probit.mean * (1 - probit.mean))
    for i, j in itertools.combinations(range(4), 2):
        both = multivariate_normal(cov=covariance[np.ix_([i, j], [i, j])]).cdf(LOC[[i, j]].numpy())
        assert (p @ (VECTORS[:, i] * VECTORS[:, j])).item() == pytest.approx(both, abs=1e-6)


@ranks
def test_an_unknown_label_is_integrated_out(rank):
    known = torch.tensor([True, False, True, False])
    p = LowRankProbit(LOC, LOADINGS[rank]).log_prob(VECTORS).exp()
    for y in VECTORS:
        same = (VECTORS[:, known] == y[known]).all(-1)
        found = LowRankProbit(LOC, LOADINGS[rank], known).log_prob(y)
        assert found.exp().item() == pytest.approx(p[same].sum().item(), rel=1e-12)


@ranks
def test_samples_go_together_as_their_causes_do(rank):
    torch.manual_seed(0)
    probit, n = LowRankProbit(LOC, LOADINGS[rank]), 200_000
    y, p = probit.sample((n,)), probit.log_prob(VECTORS).exp()
    pairs = VECTORS.T @ (p[:, None] * VECTORS)
    covariance = pairs - torch.outer(probit.mean, probit.mean)
    standard_error = (pairs * (1 - pairs) / n).sqrt()
    assert ((y.T.cov() - covariance).abs() < 5 * standard_error).all()
    assert covariance[0, 1] < -0.03
    assert covariance[0, 3] > 0.03


@ranks
def test_gradients_of_a_probit(rank):
    loc, loadings = LOC.expand(2, 4).clone().requires_grad_(), LOADINGS[rank].clone().requires_grad_()
    known = torch.tensor([[True, True, False, True], [True] * 4])

    def log_prob(loc: Tensor, loadings: Tensor) -> Tensor:
        return LowRankProbit(loc, loadings, known).log_prob(VECTORS[5])

    assert gradcheck(log_prob, (loc, loadings))


def test_without_loadings_labels_are_independent():
    p = torch.special.ndtr(LOC)
    expected = (VECTORS * p.log() + (1 - VECTORS) * (1 - p).log()).sum(-1)
    torch.testing.assert_close(LowRankProbit(LOC, torch.zeros(4, 1).double()).log_prob(VECTORS), expected)


def test_a_correlation_is_learnt():
    """Two labels that are always the same: independent labels pay log 2 for the second, dependent ones do not."""
    torch.manual_seed(0)
    labels = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    z, nats = torch.zeros(2, 1), []
    for kind in (BernoulliLikelihood, LowRankProbitLikelihood):
        likelihood = kind(1, 2, head=Head(0, dropout=0.0))
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            (-likelihood(z).log_prob(labels).mean()).backward()
            optimizer.step()
        nats.append(-likelihood(z).log_prob(labels).mean().item())
    assert nats[0] == pytest.approx(2 * math.log(2), abs=0.01)
    assert nats[1] < math.log(2) + 0.15


# -------------------------------------------------------------------------------------- other outcomes


def test_the_probability_of_three_outcomes_is_that_of_present_where_certain():
    likelihood, z = make("ThreeOutcome"), draw(B, D)
    log_p = [likelihood(z).base_dist.log_prob(torch.full((B, K), value)).exp() for value in (-1.0, 0.0, 1.0)]
    torch.testing.assert_close(sum(log_p), torch.ones(B, K))
    torch.testing.assert_close(likelihood.probabilities(z), log_p[2] / (log_p[1] + log_p[2]))


def test_a_row_that_is_not_one_hot_is_named():
    likelihood = make("Categorical")
    labels = torch.tensor([[0.0, 1, 0], [1, 1, 0], [0, 0, 0]])
    known = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    with pytest.raises(UserError, match=r"labels: 1 of .* expects exactly one"):
        likelihood(draw(B, D), known=known).log_prob(labels)
    likelihood(draw(B, D), known=known & known.all(-1, keepdim=True) & (labels.sum(-1) == 1)[:, None]).log_prob(labels)
    with pytest.raises(UserError, match="labels: 1 of "):
        likelihood.check_labels(torch.where(labels == 1, labels, 0)[:2])
    likelihood.check_labels(torch.tensor([[0.0, 1, 0], [1, 1, math.nan]]))


# -------------------------------------------------------------------------------------------- training

SETTINGS = Training(2, lambda p: torch.optim.Adam(p, lr=1e-2), accelerator="cpu", num_samples=3)


class Hedged(TinyCorpus):
    """Every third study is uncertain of the first finding."""

    def _study(self, number):
        study = super()._study(number)
        study.labels[0] = -1.0 if number % 3 == 0 else study.labels[0]
        return study


class OneEach(TinyCorpus):
    """Exactly one finding a study; but study 7 has two where `spoilt`."""

    spoilt = False

    def _study(self, number):
        study = super()._study(number)
        study.labels[:] = np.eye(3)[number % 3]
        study.labels[:2] = 1 if self.spoilt and number == 7 else study.labels[:2]
        return study


def train(name, run, corpus, policy="ignore", vkd=None, **options):
    data = StudyData(
        Selection(corpus, image_size=32), task=Task(train_policy=LabelPolicy(policy)), loading=Loading(batch_size=8)
    )
    vkd = vkd or make_vkd(name, corpus.findings)
    settings = {"training": SETTINGS, "beta_schedule": Constant(0.1), "progress": False}
    return fit(vkd, data, run, **(settings | options)), data


def test_labels_that_stay_uncertain_are_learnt(tmp_path):
    settings = Training(8, SETTINGS.optimizer, accelerator="cpu", num_samples=3, patience=None)
    network, data = train("ThreeOutcome", tmp_path / "run", Hedged(), "keep", training=settings)
    assert (data.targets("train") == -1).any()
    batch = next(iter(data.train_loader(network.guide.report_encoder, 0)))
    assert (batch.labels == -1).any()
    features = network.model.image_encoder(batch.images)
    z = network.model.prior(features).mean
    uncertain = network.model.likelihood.logits(z, features).softmax(-1)[..., 0].mean(0)
    assert uncertain[0] > 0.15 + uncertain[1:].max(), "a third of the first finding, none of the others"
    assert 0 <= evaluate(network, data, "test").averages()["image"]["micro"] <= 1
    assert load_bundle(tmp_path / "run" / "bundle").findings == data.findings


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:never (known|positive|absent) in training")  # so small a corpus lacks some finding
def test_a_corpus_of_uncertain_labels_is_learnt_from_the_command_line(tmp_path):
    likelihood = {
        "class_path": "vkd_pyro.distributions.ThreeOutcomeLikelihood",
        "init_args": {"head": {"hidden_dim": 8}},
    }
    part = {"likelihood": likelihood, "auxiliary": likelihood, "latent_dim": 4}
    image_encoder = {"class_path": "vkd_pyro.encoders.image.ConvEncoder", "init_args": {"channels": [8, 16]}}
    report_encoder = {"class_path": "vkd_pyro.encoders.report.WordEncoder", "init_args": {"width": 8}}
    corpus = {"class_path": "vkd_pyro.data.corpora.mimic_cxr.MimicCXR", "init_args": {"root": str(tmp_path / "mimic")}}
    policy = {"class_path": "vkd_pyro.data.labels.policy.LabelPolicy", "init_args": {"uncertain": "keep"}}
    config = {
        "data": {
            "selection": {"corpus": corpus, "image_size": 32},
            "task": {"train_policy": policy},
            "loading": {"batch_size": 8},
        },
        "method": {
            "class_path": "vkd_pyro.methods.VKD",
            "init_args": part | {"image_encoder": image_encoder, "report_encoder": report_encoder},
        },
        "beta_schedule": {"class_path": "vkd_pyro.schedules.Constant"},
        "training": {"max_epochs": 1, "accelerator": "cpu", "num_samples": 3},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    sizes = ("--num_studies", "80", "--image_size", "32")
    for line in (
        ("synthesize", "--layout", "mimic-cxr", "--output", tmp_path / "mimic", *sizes),
        ("train", "--config", tmp_path / "config.yaml", "--run", tmp_path / "run"),
        ("evaluate", tmp_path / "run"),
    ):
        code, _, error = command(*line)
        assert code == 0, error
    assert type(load_bundle(tmp_path / "run" / "bundle").model.likelihood) is ThreeOutcomeLikelihood


def image_only(_):
    return ImageOnly(Hedged.findings, ConvEncoder((8, 16)))


def without_reports(name):
    vkd = make_vkd(name, Hedged.findings)
    method = NoReport(Hedged.findings, vkd.model.image_encoder, 4)
    method.model.likelihood = vkd.model.likelihood
    return method


@pytest.mark.parametrize(
    ("name", "policy", "make", "message"),
    [
        (
            "Bernoulli",
            "keep",
            None,
            "'keep' wants a likelihood with an outcome 'uncertain', found BernoulliLikelihood",
        ),
        ("ThreeOutcome", "keep", image_only, "'keep' wants .*, found ImageClassifier"),
        ("ThreeOutcome", "soft", None, "'soft' wants a likelihood of labels between 0 and 1, found ThreeOutcomeLikel"),
        ("Probit-1", "soft", without_reports, "'soft' wants .*, found LowRankProbitLikelihood"),
    ],
)
def test_a_policy_that_a_likelihood_has_no_outcome_for_is_refused(tmp_path, name, policy, make, message):
    method = None if make is None else make(name)
    with pytest.raises(UserError, match=rf"data\.task\.train_policy(\.uncertain)?: {message}"):
        train(name, tmp_path / "run", Hedged(), policy, method)


@likelihoods
def test_values_are_checked_inside_a_plate_too(name):
    """A plate expands what it holds; a label of 2 is none there either."""
    likelihood = maker(name)(D, K)

    def model(labels: Tensor) -> None:
        with pyro.plate("particles", 2, dim=-2), pyro.plate("studies", B, dim=-1):
            pyro.sample("y", likelihood(torch.randn(B, D)), obs=labels)

    log_prob = pyro.poutine.trace(model).get_trace(torch.eye(K)).log_prob_sum()
    assert log_prob.isfinite()
    wrong = pyro.poutine.trace(model).get_trace(2 * torch.eye(K))
    with pytest.raises((ValueError, UserError), match=r"within the support|other than one finding"):
        wrong.compute_log_prob()


@pytest.mark.parametrize(
    ("loading", "nodes", "stated"), [(1.0, 64, 6e-5), (1.5, 64, 0.016), (1.0, 24, 0.04), (1.5, 24, 0.4)]
)
def test_the_quadrature_of_a_probit_is_as_exact_as_stated_for_loadings_of_either_sign(loading, nodes, stated):
    """Against the trapezoidal rule, which converges fast for smooth integrands that vanish at both ends."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (2000, 14), generator=generator).double()
    sides = torch.tensor([[0.0, 1.0] * 7, [1.0, 0.0] * 7, [0.0] * 14, [1.0] * 14], dtype=torch.float64)
    labels = torch.cat([labels, sides])
    u = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    largest = 0.0
    for signs in (torch.ones(14), torch.tensor([1.0, -1.0] * 7)):
        loadings = (loading * signs.double())[:, None]
        loc = torch.full((14,), -1.0, dtype=torch.float64)
        log_ndtr, score = torch.special.log_ndtr, loc + u[:, None] * loadings.T  # [nodes, K]
        given_u = labels @ log_ndtr(score).T + (1 - labels) @ log_ndtr(-score).T
        exact = (given_u + torch.distributions.Normal(0.0, 1.0).log_prob(u)).logsumexp(-1) + math.log(u[1] - u[0])
        found = LowRankProbit(loc.expand(len(labels), 14), loadings, None, nodes).log_prob(labels)
        largest = max(largest, (found - exact).abs().max().item())
    assert stated / 4 < largest < stated


@pytest.mark.parametrize("likelihood", [LowRankProbitLikelihood, CategoricalLikelihood])
def test_a_likelihood_without_soft_targets_cannot_learn_from_the_report(likelihood):
    objective = TraceVKD_ELBO(unknown_labels="from_report")
    parts = ConvEncoder((4, 8)), WordEncoder(50, 16)
    with pytest.raises(UserError, match=f"'from_report' wants likelihoods of labels .*, found {likelihood.__name__}"):
        VKD(FINDINGS, *parts, D, likelihood=likelihood, auxiliary=likelihood, objective=objective)
    vkd = VKD(FINDINGS, *parts, D, likelihood=likelihood, auxiliary=likelihood)
    batch = make_batch("Probit-1" if likelihood is LowRankProbitLikelihood else "Categorical")
    batch = replace(batch, known=torch.zeros_like(batch.known))
    with pytest.raises(ValueError, match=r"within the support|expects exactly one"):
        objective.terms(vkd.model, vkd.guide, batch)
