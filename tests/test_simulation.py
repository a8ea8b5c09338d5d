"""Posteriors that are checked by simulation: the exact one passes, wrong ones do not, and bands hold as they say."""

import json
import shlex
from itertools import product

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, refusal, vkd
from tests.test_readme import ROOT, blocks
from vkd_pyro import metrics
from vkd_pyro.distributions import (
    DiagonalNormal,
    Distribution,
    Family,
    ReportLikelihood,
    StandardNormal,
    WordCounts,
    WordPresence,
)
from vkd_pyro.elbo import Site, TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.latent_semantic import LatentSemanticEncoder
from vkd_pyro.encoders.report import ReportEncoder, WordEncoder
from vkd_pyro.evaluation.simulated_guide import caveats_of, check_guide, simulate
from vkd_pyro.evaluation.simulation import COVERAGE, PosteriorCheck, simulation_based_calibration
from vkd_pyro.methods import VKD, ImageOnly
from vkd_pyro.schedules import Constant, Cyclical
from vkd_pyro.training.requirements import observe_training
from vkd_pyro.utils.errors import UserError

# ---------------------------------------------------------------------------------- ranks and bands


def uniform_ranks(size: int, num_draws: int, number: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, num_draws + 1, (number, size))


def test_the_probability_of_a_band_is_that_of_all_outcomes():
    outcomes = [np.array(each) for each in product(range(3), repeat=4)]  # four ranks in 0..2
    p_values = np.array([metrics.uniformity_p_value(each, 2) for each in outcomes])
    for p in np.unique(p_values):
        assert (p_values <= p + 1e-9).mean() == pytest.approx(p)
    band = metrics.ecdf_band(4, 2, 0.8)
    shares = np.array([metrics.ecdf(each, 2)[1] for each in outcomes])
    inside = ((shares >= band.low - 1e-9) & (shares <= band.high + 1e-9)).all(axis=1)
    assert inside.mean() == pytest.approx(1 - p_values[p_values <= 0.2].max())  # the least that is at least 0.8


@pytest.mark.parametrize(("size", "num_draws"), [(500, 99), (100, 19), (300, 999)])
def test_a_band_holds_uniform_ranks_at_all_places_as_often_as_it_says(size, num_draws):
    band = metrics.ecdf_band(size, num_draws, 0.9)
    found = uniform_ranks(size, num_draws, 2000)
    shares = np.array([metrics.ecdf(each, num_draws)[1] for each in found])
    inside = ((shares >= band.low - 1e-9) & (shares <= band.high + 1e-9)).all(axis=1)
    assert 0.9 - 0.02 < inside.mean() < 0.9 + 0.025  # 3 standard errors; a step of counts on one side


def test_p_values_of_uniform_ranks_are_uniform():
    p = np.array([metrics.uniformity_p_value(each, 19) for each in uniform_ranks(100, 19, 300)])
    for share in (0.1, 0.5, 0.9):
        assert (p <= share).mean() == pytest.approx(share, abs=0.09)


def test_a_p_value_is_below_one_twentieth_just_where_the_band_is_left():
    band = metrics.ecdf_band(200, 99, 0.95)
    for found in uniform_ranks(200, 99, 60):
        shares = metrics.ecdf(found, 99)[1]
        inside = ((shares >= band.low - 1e-9) & (shares <= band.high + 1e-9)).all()
        assert inside == (metrics.uniformity_p_value(found, 99) > 0.05 - 1e-9)


def test_ranks_that_are_all_alike_have_a_p_value_of_nearly_0():
    for size in (20, 500, 5000):
        assert 0 <= metrics.uniformity_p_value(np.zeros(size, int), 99) < 1e-9


def test_a_rank_counts_the_draws_below_and_breaks_ties_at_random():
    assert metrics.ranks([0.5, -1.0, 9.0], np.tile([[0.0], [1.0]], 3)).tolist() == [1, 0, 2]
    tied = metrics.ranks(np.zeros(3000), np.zeros((2, 3000)))
    assert np.bincount(tied) == pytest.approx([1000, 1000, 1000], abs=90)


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(UserError, match=r"found shape \[4, 2\], expected \[L, 3\], L >= 1"):
        metrics.ranks(np.zeros(3), np.zeros((4, 2)))
    with pytest.raises(UserError, match="not finite"):
        metrics.ranks(np.zeros(1), np.full((4, 1), np.nan))
    with pytest.raises(UserError, match="level: found 1"):
        metrics.ecdf_band(10, 9, 1)


# ---------------------------------------------------------------------------------- linear-Gaussian truth

WEIGHT = np.array([[1.0, 0.3, 0.0], [0.0, 1.0, -0.5], [0.2, 0.0, 1.0], [0.5, 0.5, 0.5]])
NOISE = 0.7
COVARIANCE = np.linalg.inv(np.eye(3) + WEIGHT.T @ WEIGHT / NOISE**2)


def checked(scale: float = 1.0, bias: float = 0.0, **options) -> PosteriorCheck:
    """z ~ Normal(0, I), x ~ Normal(W z, noise), and a posterior of another scale, or mean."""
    generator = np.random.default_rng(0)
    root = np.linalg.cholesky(COVARIANCE)

    def program(number):
        z = generator.normal(size=(number, 3))
        return z, z @ WEIGHT.T + NOISE * generator.normal(size=(number, 4))

    def posterior(x, number):
        loc = x @ WEIGHT @ COVARIANCE / NOISE**2
        return loc + bias + scale * generator.normal(size=(number, *loc.shape)) @ root.T

    return simulation_based_calibration(program, posterior, num_simulations=400, **options)


def log_likelihood(z, x):
    return -(((x - z @ WEIGHT.T) / NOISE) ** 2).sum(-1) / 2


def test_the_exact_posterior_passes():
    found = checked(quantities={"log p(x | z)": log_likelihood})
    assert found.quantities == ("z[0]", "z[1]", "z[2]", "log p(x | z)")
    assert not found.departs
    assert "Nothing here speaks against" in str(found)
    coverage, band = found.coverage()
    assert ((band.low <= coverage) & (coverage <= band.high)).all()
    assert np.abs(coverage - band.at).max() < 0.07
    differences, around = found.ecdf_differences()
    assert all(((around.low <= each) & (each <= around.high)).all() for each in differences.values())


@pytest.mark.parametrize(("scale", "words"), [(0.6, "too narrow"), (1.7, "too wide")])
def test_a_posterior_of_a_wrong_scale_fails(scale, words):
    found = checked(scale)
    assert set(found.table["draws"]) == {words}
    coverage, band = found.coverage()
    assert ((coverage < band.low) | (coverage > band.high)).any()
    assert f"draws are {words}" in str(found)
    assert "These draws are not of the program's posterior." in str(found)


@pytest.mark.parametrize(("bias", "words"), [(0.4, "too high"), (-0.4, "too low")])
def test_a_biased_posterior_fails(bias, words):
    found = checked(bias=bias)
    assert set(found.table.drop(index=COVERAGE)["draws"]) == {words}
    assert found.departs


def test_regions_of_a_narrow_posterior_hold_less_than_they_say():
    assert checked().coverage_at(0.9) == pytest.approx(0.9, abs=0.05)
    assert checked(0.4).coverage_at(0.9) < 0.83


def test_the_prior_passes_on_z_and_is_told_by_the_likelihood_of_the_data():
    generator = np.random.default_rng(0)

    def program(number):
        z = generator.normal(size=(number, 3))
        return z, z @ WEIGHT.T + NOISE * generator.normal(size=(number, 4))

    def ignores(x, number):
        return generator.normal(size=(number, len(x), 3))

    found = simulation_based_calibration(program, ignores, 300, quantities={"log p(x | z)": log_likelihood})
    outside = found.table["draws"] != ""
    assert found.table.index[outside].tolist() == ["log p(x | z)"]


def test_the_best_posterior_that_does_not_see_the_image_is_too_narrow():
    """m = +-2 by image, z ~ Normal(m, 1), x ~ Normal(z, 1): the ELBO's best q(z | x) has the scale of p(z | m, x)."""
    generator = np.random.default_rng(0)

    def program(number):
        z = generator.choice([-2.0, 2.0], size=(number, 1)) + generator.normal(size=(number, 1))
        return z, z + generator.normal(size=(number, 1))

    def geometric(x, number):
        return (x + 2 * np.tanh(x)) / 2 + generator.normal(size=(number, *x.shape)) * np.sqrt(0.5)

    def exact(x, number):
        plus = generator.random((number, *x.shape)) < 1 / (1 + np.exp(-2 * x))
        return (x + np.where(plus, 2.0, -2.0)) / 2 + generator.normal(size=(number, *x.shape)) * np.sqrt(0.5)

    assert not simulation_based_calibration(program, exact, 2000).departs
    found = simulation_based_calibration(program, geometric, 2000)
    assert found.table.loc["z[0]", "draws"] == "too narrow"


def test_the_summary_is_json():
    content = json.loads(json.dumps(checked(0.6).summary()))
    assert content["departs"] is True
    assert set(content["quantities"]) == {"z[0]", "z[1]", "z[2]", COVERAGE}
    assert 0 < content["coverage"]["0.9"] < 1


def test_draws_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"simulate: found z of shape \[3\], expected \[3, D\]"):
        simulation_based_calibration(lambda number: (np.zeros(number), None), None, 3)
    with pytest.raises(UserError, match="num_simulations: found 1"):
        simulation_based_calibration(None, None, 1)


# ---------------------------------------------------------------------------------- the guide of a method


class LinearReport(ReportLikelihood):
    """x_T ~ Normal(z, 0.5): float [1, D]."""

    def prepare(self, reports):
        raise NotImplementedError

    def observe_reports(self, reports):
        raise NotImplementedError

    def forward(self, z: Tensor, features: Tensor | None = None) -> Distribution:
        return dist.Normal(z.unsqueeze(-2), 0.5).to_event(2)


class ReadsIt(ReportEncoder):
    """x_T itself."""

    features_dim = 2

    def prepare(self, reports):
        raise NotImplementedError

    def check_reads(self, likelihood) -> None:
        assert isinstance(likelihood, LinearReport)

    def read_observed(self, observed: Tensor, likelihood) -> tuple[Tensor, Tensor]:
        return observed, torch.ones(observed.shape[:2], dtype=torch.bool)

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        return report[:, 0]


class Conjugate(Family):
    """p(z | x_T) for z ~ Normal(0, I), times a scale."""

    def __init__(self, in_features: int, latent_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, features: Tensor) -> Distribution:
        return dist.Normal(0.8 * features, self.scale * 0.2**0.5).to_event(1)


PLAIN = {"likelihood_samples": "posterior", "auxiliary_weight": 0.0}
"""What trains q to be a posterior."""


def method(scale: float = 1.0, **objective) -> VKD:
    return VKD(
        ("a", "b"),
        ConvEncoder((4, 8)),
        ReadsIt(),
        latent_dim=2,
        prior=StandardNormal,
        posterior=lambda *sizes: Conjugate(*sizes, scale),
        report_likelihood=LinearReport,
        objective=TraceVKD_ELBO(**objective),
    )


def test_the_exact_guide_of_a_program_passes_and_another_does_not():
    features = torch.randn(5, 8)
    found = check_guide(method(**PLAIN), features, 300)
    assert found.quantities == ("z[0]", "z[1]", "log p(x_T | z)")
    assert not found.departs
    (caveat,) = found.caveats
    assert "sees neither image nor labels" in caveat
    narrow = check_guide(method(0.6, **PLAIN), features, 300)
    assert narrow.table.loc[["z[0]", "z[1]", COVERAGE], "draws"].tolist() == ["too narrow"] * 3
    assert "which need not be a fault:" in str(narrow)


def test_the_same_seed_finds_the_same_and_generators_stay():
    features = torch.randn(5, 8)
    torch.manual_seed(3)
    first = check_guide(method(), features, 20, 9, seed=1)
    after = torch.rand(1)
    torch.manual_seed(3)
    method()
    assert torch.rand(1) == after
    assert (check_guide(method(), features, 20, 9, seed=1).ranks == first.ranks).all()
    assert (check_guide(method(), features, 20, 9, seed=2).ranks != first.ranks).any()


def test_the_program_draws_its_report_from_its_z():
    drawn = simulate(method().model, torch.randn(4000, 8))
    assert (drawn["report"][:, 0] - drawn["z"]).std() == pytest.approx(0.5, abs=0.02)
    assert set(drawn["y"].unique().tolist()) == {0.0, 1.0}


def test_what_keeps_a_guide_from_being_a_posterior_is_said():
    assert len(caveats_of(method(**PLAIN), Constant())) == 1
    said = caveats_of(method(kl_scale=0.1, sites={"report": Site(weight=0.5)}, anchor_weight=0.2), Cyclical())[1]
    for part in (
        "z of y and report from the prior",
        "an auxiliary term of weight 1",
        "a KL of weight 0.1",
        "beta by Cyclical",
        "weight 0.5 of report",
        "an anchor of weight 0.2",
        "not that something is broken",
    ):
        assert part in said
    assert "beta" not in caveats_of(method(auxiliary_weight=0.0), Constant())[1].split("q approximates")[0]


def test_what_cannot_be_simulated_is_refused_in_one_line_with_what_can():
    features = torch.randn(2, 8)
    vkd_method = VKD(("a",), ConvEncoder((4, 8)), WordEncoder(32, 8), latent_dim=2)
    with pytest.raises(UserError, match=r"report_likelihood: found None.*simulation_based_calibration"):
        check_guide(vkd_method, features)
    with pytest.raises(UserError, match=r"ImageOnly has no posterior"):
        check_guide(ImageOnly(("a",), ConvEncoder((4, 8))), features)
    words = VKD(("a",), ConvEncoder((4, 8)), WordEncoder(32, 8), latent_dim=2, report_likelihood=WordPresence)
    with pytest.raises(UserError, match=r"WordEncoder reads more of a report than WordPresence draws.*can read"):
        check_guide(words, features)


# ---------------------------------------------------------------------------------- words

WORDS = {"vocabulary_size": 32, "min_count": 2}


def make_words(likelihood=WordPresence, encoder=None, **options) -> VKD:
    torch.manual_seed(0)
    return VKD(
        TinyCorpus.findings,
        ConvEncoder((4, 8)),
        encoder or LatentSemanticEncoder(width=6, fact_weight=0, dropout=0, **WORDS),
        latent_dim=3,
        posterior=DiagonalNormal,
        report_likelihood=lambda d, f: likelihood(d, f, **({"stop_words": ()} | WORDS | options)),
    ).eval()


@pytest.fixture(scope="module")
def data():
    return study_data(TinyCorpus(), image_size=32, batch_size=8)


@pytest.mark.parametrize("likelihood", [WordPresence, WordCounts])
def test_words_that_are_observed_are_read_as_the_report_they_are_of(likelihood, data):
    vkd_method = make_words(likelihood)
    observe_training(vkd_method, data)
    encoder, observes = vkd_method.report_encoder, vkd_method.report_likelihood
    batch = next(iter(data.evaluation_loader("train", encoder, observation=observes)))
    read = encoder(*encoder.read_observed(batch.observed, observes))
    torch.testing.assert_close(read, encoder(batch.report, batch.report_mask))
    assert check_guide(vkd_method, torch.randn(4, 8), 30, 9).ranks.shape == (30, 4)


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        (None, {"stop_words": ("the",)}),
        (None, {"vocabulary_size": 3}),
        (LatentSemanticEncoder(width=6, **WORDS), {}),
        (WordEncoder(32, 8), {}),
    ],
    ids=["stop words", "fewer words", "facts", "hashed words"],
)
def test_an_encoder_that_reads_more_than_is_drawn_is_refused(encoder, options, data):
    vkd_method = make_words(encoder=encoder, **options)
    observe_training(vkd_method, data)
    with pytest.raises(UserError, match="reads more of a report than WordPresence draws"):
        check_guide(vkd_method, torch.randn(4, 8))


# ---------------------------------------------------------------------------------- the command

SIMULATED = CONFIG.replace(
    "class_path: vkd_pyro.encoders.report.WordEncoder\n"
    "      init_args: {vocabulary_size: 32, width: 8, max_tokens: 16}",
    "class_path: vkd_pyro.encoders.latent_semantic.LatentSemanticEncoder\n"
    "      init_args: {width: 8, vocabulary_size: 32, fact_weight: 0}\n"
    "    report_likelihood:\n"
    "      class_path: vkd_pyro.distributions.WordPresence\n"
    "      init_args: {vocabulary_size: 32, min_count: 2, stop_words: []}",
)
FEW = ("--simulations", 40, "--draws", 9)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("sbc") / "tiny.yaml"
    path.write_text(SIMULATED.replace("max_epochs: 2", "max_epochs: 1"))
    return path


def test_the_command_checks_networks_before_training(config, tmp_path):
    folder = tmp_path / "check"
    code, out, err = vkd("check", "--config", config, "--sbc", *FEW, "--output", folder)
    assert (code, err) == (0, "")
    assert "VKD, before training" in out
    assert "40 simulations, 9 posterior draws each" in out
    assert "beta by Cyclical" in out
    content = json.loads((folder / "sbc.json").read_text())
    assert set(content["quantities"]) == {"z[0]", "z[1]", "z[2]", "z[3]", "log p(x_T | z)", COVERAGE}
    assert {path.name for path in folder.iterdir()} >= {"ranks.png", "ranks.svg", "expected_coverage.svg"}
    assert "exists already" in refusal("check", "--config", config, "--sbc", "--output", folder)


def test_the_command_checks_a_trained_run(config, tmp_path):
    code, _, err = vkd("train", "--config", config, "--run", tmp_path / "run")
    assert code == 0, err
    allowed = ("--allow_module", "tests")
    code, out, err = vkd("check", "--sbc", tmp_path / "run", *FEW, *allowed)
    assert (code, err) == (0, "")
    assert f"VKD, {tmp_path / 'run'}, on" in out
    assert "beta by Cyclical" in out
    again = vkd("check", "--sbc", tmp_path / "run", *FEW, *allowed)[1]
    assert again == out
    assert vkd("check", "--sbc", tmp_path / "run", "--seed", 1, *FEW, *allowed)[1] != out
    assert "tests" in refusal("check", "--sbc", tmp_path / "run", *FEW)


def test_what_the_command_cannot_check_is_one_line(config, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text(CONFIG)
    assert "report_likelihood: found None" in refusal("check", "--config", words, "--sbc")
    assert "--draws: invalid int value" in refusal("check", "--config", config, "--sbc", "--draws", "x")
    assert "--simulations: found 1" in refusal("check", "--config", config, "--sbc", "--simulations", 1)
    assert "not a run" in refusal("check", "--sbc", tmp_path / "nowhere")
    code, out, _ = vkd("check", "--help")
    assert code == 0
    assert "--sbc" in out


def manual(language: str) -> str:
    """The one block of the manual's section on guides and posteriors."""
    (found,) = blocks(language, (ROOT / "docs" / "pyro.md").read_text().partition("## Is the guide")[2])
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("default:never (known|positive|absent) in training")
def test_the_commands_of_the_manual_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simulated.yaml").write_text(manual("yaml"))
    small = ["--data.selection.corpus.init_args.num_studies=150", "--training.max_epochs=1"]
    for line in manual("bash").splitlines():
        command = shlex.split(line, comments=True)[1:]
        code, _, err = vkd(*command, *(small if "--config" in command else []))
        assert code == 0, err
    content = json.loads((tmp_path / "checked" / "sbc.json").read_text())
    assert len(content["quantities"]) == 64 + 1  # log p(x_T | z, x_I) depends on the image, and is left out
