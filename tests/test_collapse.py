"""The gauge of posterior collapse, against closed forms, and what it warns of."""

import json
import math

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from tests.test_cli import CONFIG, vkd
from tests.test_elbo import Pixels, Tokens, make_batch
from tests.test_training import make_data, make_no_report, make_vkd, train
from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import MLP, BalancedKL, Distribution, Family, Likelihood, LowRankNormal
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.evaluation.advice import cures
from vkd_pyro.evaluation.collapse import LatentUse, at_least, beta_so_far, warn_if_ignored, warning_of
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.evaluation.outputs import StudyOutputs, study_outputs
from vkd_pyro.evaluation.saved import load_evaluation, save_evaluation
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.metrics import mutual_information_bound
from vkd_pyro.schedules import Constant, Cyclical

NAN = float("nan")


class Signal(Family):
    """z ~ Normal(weight * (2 features - 1), scale): with features 0 or 1, a location of -weight or weight."""

    def __init__(self, weight: float, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.tensor(weight)), scale

    def forward(self, features: Tensor) -> Distribution:
        return dist.Normal(self.weight * (2 * features - 1), self.scale).to_event(1)


class Linear(Likelihood):
    """p(y_k = 1 | z) = 1/2 + slope z_1, of every finding."""

    def __init__(self, slope: float, num_findings: int = 3) -> None:
        super().__init__()
        self.slope, self.num_findings = slope, num_findings

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        raise NotImplementedError

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        return 0.5 + self.slope * z[..., :1].expand(*z.shape[:-1], self.num_findings)


class Sign(Linear):
    """p(y_k = 1 | z) = 1 where z_1 > 0, else 0."""

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        return (z[..., :1] > 0).float().expand(*z.shape[:-1], self.num_findings)


def network(prior: Family, posterior: Family, likelihood: Likelihood, auxiliary: Likelihood) -> VKD:
    parts = (lambda *_: prior, lambda *_: posterior, lambda *_: likelihood, lambda *_: auxiliary)
    return VKD(tuple("abc"), Pixels(), Tokens(), 2, *parts).eval()


def bits(size: int = 400) -> Batch:
    """Studies whose label, first pixels and first words are all the same bit: 0 in the first half, 1 in the second."""
    bit = torch.arange(size) * 2 // size
    batch = make_batch(size)
    return Batch(
        images=bit.float().view(-1, 1, 1, 1).expand(-1, 1, 16, 16),
        report=50 * bit.view(-1, 1).expand(-1, 5),
        report_mask=batch.report_mask,
        has_report=batch.has_report,
        labels=bit.float().view(-1, 1).expand(-1, 3),
        known=batch.known,
        study_ids=batch.study_ids,
    )


def use(prior: Family, posterior: Family, likelihood: Likelihood, auxiliary: Likelihood | None = None) -> LatentUse:
    outputs = study_outputs(network(prior, posterior, likelihood, auxiliary or Sign(0)), bits(), 5000, seed=0)
    return LatentUse.of(outputs)


# -------------------------------------------------------------------------------------- the numbers


def test_kl_of_each_dimension_is_its_closed_form():
    found = use(Signal(0.5, 2.0), Signal(1.5, 1.0), Linear(0.1))
    expected = math.log(2) + (1 + 1) / (2 * 4) - 0.5  # locations differ by 1 in every study
    assert found.kl_per_dimension == pytest.approx([expected] * 2, rel=1e-5)
    assert found.kl == pytest.approx(2 * expected, rel=1e-5)
    assert found.kl_units == 2
    assert found.active_units == {"prior": 2, "posterior": 2}


def test_dimensions_by_monte_carlo_are_unbiased():
    class Student(Signal):
        def forward(self, features: Tensor) -> Distribution:
            return dist.StudentT(1e6, self.weight * (2 * features - 1), self.scale).to_event(1)

    found = use(Student(0.0), Student(0.3), Linear(0.1))
    assert found.kl_per_dimension == pytest.approx([0.045] * 2, abs=0.02)
    assert found.kl == pytest.approx(found.kl_per_dimension.sum())


def test_dimensions_that_depend_on_each_other_have_a_sum_alone():
    torch.manual_seed(0)
    found = use(Signal(0.0), LowRankNormal(2, 2, MLP((4,))).eval(), Linear(0.1))
    assert found.kl > 0
    assert np.isnan(found.kl_per_dimension).all()
    assert math.isnan(found.kl_units)
    assert found.undefined == {"kl_per_dimension": "the dimensions of z depend on each other"}


def test_information_of_a_sign_bit_is_log_2_a_finding():
    found = use(Signal(0.0), Signal(1.0, 1e-3), Linear(0.1), Sign(0))
    assert found.mutual_information == pytest.approx(3 * math.log(2), abs=1e-4)


def test_information_is_none_where_labels_are_independent_of_z():
    found = use(Signal(0.0), Signal(1.0), Linear(0.1), Linear(0.0))
    assert found.mutual_information == pytest.approx(0, abs=1e-6)


def test_the_bound_counts_known_labels_alone_and_is_below_0_where_q_is_wrong():
    labels = np.array([[1, 1], [0, NAN], [1, NAN], [0, NAN]])
    assert mutual_information_bound(np.log(np.full((4, 2), 0.5)), labels) == pytest.approx(math.log(0.5))
    assert mutual_information_bound(np.where(labels == 1, -3.0, -3.0), labels) < 0
    constant = np.where(labels == 1, np.log(0.3), np.log(0.7))[:, :1]  # does not look at z, nor know the frequency
    assert mutual_information_bound(constant, labels[:, :1]) < 0
    assert math.isnan(mutual_information_bound(np.full((4, 2), NAN), labels))


def test_spread_and_change_are_those_of_a_linear_likelihood():
    found = use(Signal(1.0, 0.5), Signal(1.0), Linear(0.1))
    assert found.z_spread == pytest.approx(0.1 * 0.5, rel=0.02)
    assert found.z_change == pytest.approx(0.1 * 2, rel=0.02)


def test_noise_in_z_is_not_taken_for_a_change_between_studies():
    found = use(Signal(0.0, 1.0), Signal(1.0), Linear(0.1))
    assert found.z_spread == pytest.approx(0.1, rel=0.02)
    assert found.z_change < 0.005


def test_images_of_one_study_are_not_each_others_other():
    vkd, batch = network(Signal(1.0), Signal(1.0), Linear(0.1), Sign(0)), bits(4)
    same = Batch(**(vars(batch) | {"study_ids": ("a",) * 4}))
    assert np.isnan(study_outputs(vkd, same, 5, 0).z_change).all()
    assert np.isnan(study_outputs(vkd, batch[:1], 5, 0).z_change).all()
    assert np.isnan(study_outputs(vkd, batch, 1, 0).z_variance).all()


def test_methods_have_what_is_defined_and_no_more():
    vkd, batch = network(Signal(1.0), Signal(1.0), Linear(0.1), Sign(0)), bits()
    without_reports = LatentUse.of(study_outputs(vkd, batch.without_reports(), 5, 0))
    assert set(without_reports.undefined) == {"kl", "kl_per_dimension", "mutual_information"}
    assert set(without_reports.undefined.values()) == {"no report was read"}
    image_only = LatentUse.of(study_outputs(ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval(), make_batch(), 5, 0))
    assert all(np.isnan(value) for value in image_only.columns().values())
    assert set(image_only.undefined.values()) == {"there is no z"}
    assert str(image_only) == ""


def test_beta_so_far_is_that_of_the_steps_done():
    assert beta_so_far(Cyclical(4), 4, 10) == pytest.approx({"largest_beta": 1, "mean_beta": 0.45})  # 0, .8, 1, 0
    assert all(math.isnan(value) for value in beta_so_far(Cyclical(4), 0, 10).values())


# ------------------------------------------------------------------------------------- the warnings


def test_a_collapsed_network_is_told_of_and_a_healthy_one_is_not():
    assert use(Signal(1.0), Signal(1.5), Linear(0.1)).warning is None
    both = use(Signal(0.0), Signal(0.0), Linear(0.0)).warning
    assert both.startswith("z is ignored: another study's z moves a probability by 0.0000, less than 0.01; KL(")
    assert "KL(q(z | report) || p(z | image)) is 0.0000 nats, less than 0.1" in both
    assert both.endswith(
        "So answers come from the image alone, and the part of the uncertainty that z carries says nothing"
    )


def test_which_of_the_two_is_ignored_is_said():
    reports = warning_of({"kl": 0.0, "z_change": 0.2, "mutual_information": -0.1})
    assert reports.startswith("reports are ignored: KL")
    assert reports.endswith("So z teaches the image nothing of what they say")
    assert warning_of({"kl": 0.0, "z_change": 0.2, "mutual_information": 1.5}) is None  # the prior follows the report
    z = use(Signal(1.0), Signal(1.5), Linear(0.0)).warning
    assert z.startswith("z is ignored: another")
    noise = use(Signal(0.0), Signal(1.5), Linear(0.1)).warning
    assert "though its draws move it by 0.1" in noise


def test_nothing_is_said_of_what_is_not_known_or_where_no_report_was_read():
    assert warning_of({}) is None
    assert warning_of({"z_change": 0.0}) is None
    assert "beta so far at most 0.50, on average 0.20" in warning_of({"kl": 0.0, "largest_beta": 0.5, "mean_beta": 0.2})


def test_the_best_epoch_of_a_run_is_the_one_that_is_judged(tmp_path):
    path = tmp_path / "metrics.csv"
    table = pd.DataFrame({"val/nll": [0.5, 0.3, 0.4], "val/kl": [0.0, 0.01, 5.0], "val/z_change": 0.2})
    table.to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"reports are ignored: .* is 0\.0100 nats"):
        warn_if_ignored(path)
    table.assign(**{"val/nll": [0.5, 0.3, 0.2]}).to_csv(path, index=False)
    warn_if_ignored(path)
    table[["val/nll"]].to_csv(path, index=False)  # of an earlier version
    warn_if_ignored(path)


def test_what_is_advised_is_not_there_yet(tmp_path):
    plain = make_vkd()
    assert cures(plain)[:2] == ["method.report_likelihood WordPresence", "method.tied true"]
    assert any("likelihood_inputs z" in cure for cure in cures(plain))
    assert any("BalancedKL" in cure for cure in cures(plain))
    objective = TraceVKD_ELBO(num_particles=4, log_mean_exp=True, divergence=BalancedKL(0.3, 0.03))
    assert not [c for c in cures(make_vkd(objective=objective)) if "log_mean_exp" in c or "BalancedKL" in c]
    assert cures(make_no_report()) == cures(None) == []
    path = tmp_path / "metrics.csv"
    table = pd.DataFrame({"val/nll": [0.5, 0.4, 0.3], "val/kl": 0.0, "val/z_change": 0.2})
    table.to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"reports are ignored.*\. Try method\.report_likelihood WordPresence, or "):
        warn_if_ignored(path, plain)
    table[:1].to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"what they say\. After 1 epochs that says little yet$"):
        warn_if_ignored(path, plain)


@pytest.mark.filterwarnings("default:(z is|reports are) ignored")
def test_training_that_ignores_the_report_says_so_at_its_end(tmp_path):
    with pytest.warns(UserWarning, match="less than 0.1: z knows of the report no more than the image told it"):
        train(tmp_path / "run", objective=TraceVKD_ELBO(kl_scale=1e3), beta_schedule=Constant(0.5))
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (table[["val/largest_beta", "val/mean_beta"]] == 0.5).all(axis=None)
    names = ("kl_units", "largest_unit_kl", "mutual_information", "z_spread", "z_change")
    assert table[[f"val/{name}" for name in names]].notna().all(axis=None)


@pytest.mark.filterwarnings("error:(z is|reports are) ignored")
def test_training_without_reports_has_no_beta_and_is_warned_of_nothing(tmp_path):
    train(tmp_path / "run", make_no_report())
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    undefined = ("largest_beta", "mean_beta", "kl", "kl_units", "largest_unit_kl", "mutual_information")
    assert table[[f"val/{name}" for name in undefined]].isna().all(axis=None)
    assert table[["val/z_spread", "val/z_change"]].notna().all(axis=None)


# ---------------------------------------------------------------------------------- the evaluation


def test_an_evaluation_keeps_the_gauge(tmp_path):
    evaluation = evaluate(train(tmp_path / "run"), make_data(), "validation", num_samples=5)
    save_evaluation(evaluation, tmp_path / "e")
    loaded = load_evaluation(tmp_path / "e").latent_use
    assert loaded.columns() == pytest.approx(evaluation.latent_use.columns())
    assert loaded.kl_per_dimension == pytest.approx(evaluation.latent_use.kl_per_dimension)
    summary = json.loads((tmp_path / "e" / "evaluation.json").read_text())["latent_use"]
    assert summary["undefined"] == {}
    assert len(summary["kl_per_dimension"]) == 4
    assert "I(z; y_k), z of the report, summed over findings: at least" in str(evaluation)
    assert "z moves a probability by" in str(evaluation)


def test_a_bound_below_zero_is_not_printed_as_what_information_is_at_least():
    assert at_least(0.318) == "at least 0.32 nats"
    assert at_least(-0.001) == at_least(0.0) == "at least 0 nats"
    assert at_least(-1.25) == "at least 0 nats (the bound, -1.25, says no more)"


def test_null_has_its_reason(tmp_path):
    network = train(tmp_path / "run", make_no_report())
    save_evaluation(evaluate(network, make_data(), "validation", 5), tmp_path / "e")
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())["latent_use"]
    assert found["mutual_information"] is None
    assert found["undefined"]["mutual_information"] == "no report was read"
    assert found["z_change"] is not None


@pytest.mark.slow
def test_the_command_line_tells_of_a_collapse(tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    options = ("--method.objective.kl_scale", "1000", "--training.max_epochs", "1", "--beta_schedule", "Constant")
    code, _, err = vkd("train", "--config", tmp_path / "tiny.yaml", "--run", tmp_path / "run", *options)
    assert code == 0, err
    code, out, err = vkd("evaluate", tmp_path / "run", "--split", "train")
    assert (code, err) == (0, "")
    assert "nats, less than 0.1: z knows of the report no more" in out


def test_rows_of_several_images_are_averaged():
    outputs = study_outputs(network(Signal(1.0), Signal(1.5), Linear(0.1), Sign(0)), bits(8), 20, 0)
    mean = StudyOutputs.concatenate([outputs, outputs]).mean_over_images()
    assert mean.kl_per_dimension == pytest.approx(outputs.kl_per_dimension)
    assert mean.z_change == pytest.approx(outputs.z_change)
