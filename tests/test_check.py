"""`vkd check`: every site, part and term is named, and what would not train is told in one line."""

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from tests.conftest import TinyCorpus
from tests.test_cli import CONFIG, refusal, vkd
from tests.test_training import SETTINGS, make_data, make_image_only, make_no_report, make_vkd
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import DiagonalNormal, Distribution
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.schedules import Constant
from vkd_pyro.training.check import Inspection, inspect_training
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError


class Positive(DiagonalNormal):
    """z > 0."""

    def forward(self, features: Tensor) -> Distribution:
        return dist.LogNormal(*self.parameters_of(features)).to_event(1)


class Wide(DiagonalNormal):
    """One dimension too many."""

    def __init__(self, in_features: int, latent_dim: int) -> None:
        super().__init__(in_features, latent_dim + 1)


class Stuck(DiagonalNormal):
    """Its draws have no gradient."""

    def forward(self, features: Tensor) -> Distribution:
        class NoGradient(dist.Normal):
            has_rsample = False

        return NoGradient(*self.parameters_of(features)).to_event(1)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def check(config, *options) -> str:
    code, out, err = vkd("check", "--config", config, *options)
    assert (code, err) == (0, ""), err
    return out


def line_of(out: str, start: str) -> str:
    (line,) = [line for line in out.splitlines() if line.strip().startswith(start)]
    return line


def inspected(method=None, **options) -> Inspection:
    settings = {"beta_schedule": Constant(), "training": SETTINGS} | options
    return inspect_training(method or make_vkd(), make_data(), **settings)


def test_every_site_is_named_with_its_shapes_and_nothing_is_written(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = check(config)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    shapes = "batch [4], event [{}], plate studies"
    model, guide = (part.splitlines()[1:] for part in out.split("\n\n")[2:4])
    assert [line.split()[:2] for line in model] == [["z", "latent"], ["y", "observed"]]
    assert [line.split()[:2] for line in guide] == [["z", "latent"], ["y_given_z", "observed"]]
    for z, y in (model, guide):
        assert "Normal, 4 dimensions" in z
        assert shapes.format(4) in z
        assert "Bernoulli, 3 findings" in y
        assert shapes.format(3) in y


def test_data_objective_and_schedule_are_told(config):
    out = check(config)
    train = [study for study in TinyCorpus().studies() if study.split == "train"]
    assert f"{len(train)} studies, {len(train)} images, {len(train)} with a report" in line_of(out, "train ")
    assert line_of(out, "likelihood    E").endswith("1 draw of z from the prior p(z | x_I)")
    assert line_of(out, "auxiliary     E").endswith("1 draw of z from the posterior q(z | x_T), weight 1")
    assert line_of(out, "divergence ").endswith("KL of z, Normal from Normal: in closed form; weight beta")
    assert line_of(out, "beta").endswith("Cyclical: from 0.00 to 1.00, on average 0.67, times kl_scale 1")
    assert line_of(out, "steps").endswith(f"{len(train) // 4} an epoch (T), at most 2 epochs")
    assert line_of(out, "optimiser").endswith("Adam, learning rate 0.001, constant")


def test_the_numbers_of_parameters_are_those_of_the_network():
    inspection, fresh = inspected(), make_vkd()
    assert sum(part.trainable for part in inspection.parts) == sum(p.numel() for p in fresh.parameters())
    assert [part.name for part in inspection.parts] == [
        "image encoder",
        "prior",
        "likelihood",
        "report encoder",
        "posterior",
        "auxiliary",
    ]
    assert inspection.parts[1].trainable == sum(p.numel() for p in fresh.model.prior.parameters())


def test_the_terms_add_up_to_the_loss():
    terms = inspected(make_vkd(objective=TraceVKD_ELBO(kl_scale=0.5, auxiliary_weight=2.0))).terms
    expected = 0.5 * terms["kl"] - terms["log-likelihood"] - 2 * terms["auxiliary"]
    assert terms["loss"] == pytest.approx(expected, rel=1e-5)


WITHOUT_MI = {"auxiliary": "method.objective.auxiliary_weight is 0"}


@pytest.mark.parametrize(
    ("make", "options", "idle"),
    [
        (make_vkd, ["--method", "VKD"], {}),
        (
            lambda: make_vkd(objective=TraceVKD_ELBO(auxiliary_weight=0.0)),
            ["--method.objective.auxiliary_weight", "0"],
            WITHOUT_MI,
        ),
        (make_no_report, ["--method", "NoReport"], {}),
        (make_image_only, ["--method", "ImageOnly"], {}),
    ],
    ids=["vkd", "vkd without mi", "no_report", "image_only"],
)
def test_each_method_says_what_it_does_not_train_and_why(make, options, idle, config):
    assert {part.name: part.reason for part in inspected(make()).parts if part.untrained} == idle
    out = check(config, *options)
    for part, reason in idle.items():
        assert line_of(out, f"not the {part}").endswith(f": {reason}")
    assert f"every {'other ' if idle else ''}trainable parameter gets a gradient" in out


def test_frozen_parameters_are_counted_apart():
    vkd = make_vkd()
    vkd.model.image_encoder.requires_grad_(False)
    part = inspect_training(vkd, make_data(), beta_schedule=Constant(), training=SETTINGS).parts[0]
    assert (part.trainable, part.untrained) == (0, ())
    assert part.frozen == sum(p.numel() for p in vkd.model.image_encoder.parameters())


def test_a_parameter_that_the_objective_does_not_reach_is_named():
    vkd = make_vkd()
    vkd.model.prior.spare = torch.nn.Linear(2, 2)
    (part,) = (
        p for p in inspect_training(vkd, make_data(), beta_schedule=Constant(), training=SETTINGS).parts if p.untrained
    )
    assert (part.name, part.untrained) == ("prior", ("spare.weight", "spare.bias"))
    assert part.reason == "the objective does not reach it on this batch"


def test_a_baseline_is_told_as_well(config):
    out = check(config, "--method", "LogitDistillation")
    assert "LogitDistillation: teacher report" in line_of(out, "method        ")
    assert "every trainable parameter gets a gradient" in out


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--method.posterior", "NormalMixture"], "mixture of Normals from Normal: by Monte Carlo, 1 draw;"),
        (["--method.objective.divergence", "Renyi"], "Renyi of z, Normal from Normal: in closed form;"),
        (["--method.objective.divergence", "JensenShannon"], "JensenShannon of z, Normal from Normal: by Monte Carlo,"),
        (
            ["--method.objective.divergence", "FreeBits", "--method.objective.divergence.free_bits", "9"],
            "Normal: in closed form;",
        ),
        (["--method.objective.likelihood_samples", "mixture"], "z from both: 0.5 of the posterior, 0.5 of the prior"),
        (["--method.objective.unknown_labels", "from_report"], "those unknown as q(y | x_T) expects them"),
    ],
)
def test_how_the_objective_is_computed_is_told(options, found, config):
    assert found in check(config, *options)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (
            ["--method.posterior", "tests.test_check.Positive"],
            "z: the posterior, LogNormal, lies on positive numbers and the prior, Normal, on all numbers;",
        ),
        (["--method.posterior", "tests.test_check.Stuck"], "z: the posterior, NoGradient, has no reparametrised draws"),
        (
            ["--method.posterior", "tests.test_check.Wide"],
            "the guide cannot be run: z, Normal, has event shape [5], and method.latent_dim is 4",
        ),
        (
            ["--method.prior", "tests.test_check.Wide"],
            "the model cannot be run: z, Normal, has event shape [5], and method.latent_dim is 4",
        ),
        (
            ["--method.objective.divergence", "Wasserstein2", "--method.posterior", "Laplace"],
            "Wasserstein2: known for diagonal normals only, found Laplace",
        ),
        (["--method.objective.divergence", "MMD"], "MMD: needs two draws of z"),
        (["--beta_schedule.init_args.cycles", "100"], "100 cycles in an epoch of 12 steps would keep beta at 0"),
        pytest.param(
            ["--training.accelerator", "mps"],
            "training.accelerator: ",
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device"),
        ),
        (["--data.loading.batch_size", "1000"], "data.loading.batch_size: 1000 is more than the 48 training images"),
        (
            [
                "--data.task.train_policy",
                "vkd_pyro.data.labels.policy.LabelPolicy",
                "--data.task.train_policy.uncertain",
                "keep",
            ],
            "'keep' wants a likelihood with an outcome 'uncertain', found BernoulliLikelihood",
        ),
        (["--data.batchsize", "3"], "did you mean data.loading.batch_size"),
    ],
)
def test_what_would_not_train_is_one_line(options, found, config):
    assert found in refusal("check", "--config", config, *options)


def test_what_training_would_warn_of_is_told(config):
    out = check(config, "--beta_schedule.init_args.cycles", "4")
    assert "a cycle has only 3.0 steps" in out.split("warnings\n")[1]


def test_accumulation_counts_in_the_steps_of_an_epoch(config):
    assert "  steps         6 an epoch" in check(config, "--training.accumulate_batches", "2")


def test_masked_studies_and_labels_are_counted():
    class Gaps(TinyCorpus):
        def _study(self, number):
            study = super()._study(number)
            study.labels[0] = float("nan")
            if number % 2:
                study.report.clear()
            return study

    data = StudyData(Selection(Gaps(), image_size=32), loading=Loading(batch_size=8))
    inspection = inspect_training(make_vkd(), data, beta_schedule=Constant(), training=SETTINGS)
    assert inspection.model[1].masked == "8 of 24 values"
    assert inspection.guide[0].masked.endswith("of 8 studies")
    assert inspection.warnings == ("never known in training, so not learnt: Upper Square",)


def test_reports_are_prepared_for_the_batch_alone():
    prepared = []

    class Counting(WordEncoder):
        def prepare(self, reports):
            prepared.extend(reports)
            return super().prepare(reports)

    vkd = make_vkd()
    vkd.guide.report_encoder = Counting(64, 16)
    inspect_training(vkd, make_data(), beta_schedule=Constant(), training=SETTINGS)
    assert len(prepared) == 8


def test_no_report_and_no_name_of_a_patient_is_printed(config):
    out = check(config)
    for study in TinyCorpus().studies():
        assert study.report["report"] not in out
        assert study.patient_id not in out
        assert study.study_id not in out


def test_an_error_in_a_part_of_the_users_own_is_one_line():
    class Broken(DiagonalNormal):
        def forward(self, features):
            raise KeyError("loc")

    vkd = make_vkd()
    vkd.model.prior = Broken(16, 4)
    with pytest.raises(UserError, match=r"^the model cannot be run: KeyError: 'loc'$"):
        inspect_training(vkd, make_data(), beta_schedule=Constant(), training=Training(accelerator="cpu"))
