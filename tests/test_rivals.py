"""Rivals: each objective against its formula in plain torch, who gets a gradient, and a run of each end to end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from tests.test_elbo import make_batch, make_vkd
from tests.test_training import SETTINGS, make_data, train
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.evaluation.evaluation import evaluate
from vkd_pyro.methods import Contrastive, FeatureRegression, LogitDistillation
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.schedules import Constant, Switch
from vkd_pyro.utils.errors import UserError

HAS_REPORT = torch.tensor([True, True, False, True, True, False])

RIVALS = {
    "from the report": LogitDistillation(),
    "from both": LogitDistillation("image+report", share=0.9, temperature=2.0),
    "regression": FeatureRegression(0.5),
    "contrastive": Contrastive(),
    "contrastive first": Contrastive(pretraining=True),
}


def network_of(rival: Rival) -> ImageOnly:
    return rival.network(make_vkd()).eval()


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)


@pytest.mark.parametrize("name", RIVALS)
def test_mixed_precision_changes_little(name):
    batch, rival = make_batch(has_report=HAS_REPORT), RIVALS[name]
    network = network_of(rival)
    exact = rival.terms(network.model, network.guide, batch, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rival.terms(network.model, network.guide, batch, 0.5)
    for part in ("loss", "log_likelihood", "kl"):
        assert getattr(mixed, part).dtype == torch.float32
        torch.testing.assert_close(getattr(mixed, part), getattr(exact, part), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("teacher", ["report", "image+report"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_its_formula_up_to_the_teachers_entropy(teacher, temperature):
    batch, beta = make_batch(has_report=HAS_REPORT), 0.5
    rival = LogitDistillation(teacher, share=0.8, temperature=temperature)
    network = network_of(rival)
    features = network.model.image_encoder(batch.images)
    reports = network.guide.report_encoder(batch.report, batch.report_mask)
    student = network.model.head(features)
    seen = reports if teacher == "report" else torch.cat([reports, features.detach()], -1)
    target = network.guide.head(seen)
    soft = (target / temperature).sigmoid()
    distilled = temperature**2 * (bce(student / temperature, soft) - bce(target / temperature, soft))
    with_report = 0.6 * bce(student, batch.labels) + 0.4 * distilled + bce(target, batch.labels)
    expected = torch.where(HAS_REPORT, with_report, bce(student, batch.labels)).mean()
    torch.testing.assert_close(rival.terms(network.model, network.guide, batch, beta).loss, expected)


def test_regression_is_its_formula():
    batch = make_batch(has_report=HAS_REPORT)
    rival = FeatureRegression(weight=2.0)
    network = network_of(rival)
    features = network.model.image_encoder(batch.images)
    reports = network.guide.report_encoder(batch.report, batch.report_mask)
    standard = (reports - reports.mean(-1, keepdim=True)) / (
        reports.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    error = (network.guide.projection(features) - standard).square().mean(-1)
    extra = torch.where(HAS_REPORT, 2.0 * error + bce(network.guide.head(reports), batch.labels), 0.0)
    expected = (bce(network.model.head(features), batch.labels) + extra).mean()
    torch.testing.assert_close(rival.terms(network.model, network.guide, batch).loss, expected)


def test_contrast_is_its_formula_among_studies_with_a_report():
    batch = make_batch(has_report=HAS_REPORT)
    rival = Contrastive(weight=1.5, temperature=0.2, image_share=0.6)
    network = network_of(rival)
    features = network.model.image_encoder(batch.images)
    reports = network.guide.report_encoder(batch.report, batch.report_mask)
    images = normalize(network.guide.of_images(features), dim=-1)[HAS_REPORT]
    words = normalize(network.guide.of_reports(reports), dim=-1)[HAS_REPORT]
    similarity, own = images @ words.T / 0.2, torch.arange(4)
    alignment = 0.6 * cross_entropy(similarity, own) + 0.4 * cross_entropy(similarity.T, own)
    expected = bce(network.model.head(features), batch.labels).mean() + 1.5 * alignment * 4 / 6
    torch.testing.assert_close(rival.terms(network.model, network.guide, batch).loss, expected)


def test_images_of_one_study_do_not_contrast():
    batch = replace(make_batch(size=2), study_ids=("one", "one"))
    network = network_of(RIVALS["contrastive"])
    assert RIVALS["contrastive"].terms(network.model, network.guide, batch).kl.abs().max() == 0


def test_pretraining_sees_no_label_and_then_nothing_else():
    batch, rival = make_batch(), RIVALS["contrastive first"]
    network = network_of(rival)
    first, then = (rival.terms(network.model, network.guide, batch, beta) for beta in (1.0, 0.0))
    torch.testing.assert_close(first.loss, first.kl.mean())
    torch.testing.assert_close(
        then.loss, bce(network.model.head(network.model.image_encoder(batch.images)), batch.labels).mean()
    )
    schedule = Switch(epochs=2, before=1.0, after=0.0)
    assert [schedule(step, 10) for step in (1, 20, 21)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["from the report", "from both", "regression"])
def test_the_teacher_learns_from_labels_alone(name):
    """What the image's side costs moves neither the report's encoder nor the teacher's head."""
    batch, rival = make_batch(), RIVALS[name]
    network = network_of(rival)
    terms = rival.terms(network.model, network.guide, batch)
    teacher = [*network.guide.report_encoder.parameters(), *network.guide.head.parameters()]
    of_student = torch.autograd.grad(
        terms.kl.sum() + terms.log_likelihood.sum(), teacher, allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in of_student)
    of_images = torch.autograd.grad(terms.auxiliary.sum(), list(network.model.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in of_images)


@pytest.mark.parametrize("name", RIVALS)
def test_unlabelled_studies_teach_through_their_reports_alone(name):
    rival = RIVALS[name]
    network = network_of(rival)
    unknown = torch.zeros(6, 3, dtype=torch.bool)
    terms = rival.terms(network.model, network.guide, make_batch(known=unknown))
    assert terms.log_likelihood.abs().max() == 0
    assert terms.auxiliary.abs().max() == 0
    assert terms.kl.min() > 0
    without = rival.terms(network.model, network.guide, make_batch().without_reports())
    assert without.kl.abs().max() == 0


@pytest.mark.parametrize("name", RIVALS)
def test_every_parameter_gets_a_gradient(name):
    network = network_of(RIVALS[name])
    RIVALS[name].terms(network.model, network.guide, make_batch(), kl_weight=0.5).loss.backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", RIVALS)
def test_a_run_of_a_rival_leaves_an_image_only_bundle(tmp_path, name):
    schedule = Switch(1, before=1.0, after=0.0) if "first" in name else Constant(0.5)
    network = train(tmp_path / "run", "rival", objective=None, beta_schedule=schedule, rival=RIVALS[name])
    assert isinstance(network, ImageOnly)
    averages = evaluate(network, make_data(), num_samples=1).averages()
    assert not math.isnan(averages["image"]["macro"])
    assert math.isnan(averages["report"]["macro"]) == ("contrastive" in name)  # which has no classifier of reports
    bundle = load_bundle(tmp_path / "run" / "bundle").model.state_dict()
    assert set(bundle) == set(network.model.state_dict())
    assert all(torch.equal(value, bundle[key]) for key, value in network.model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitDistillation("labels"), "rival.teacher: found 'labels', expected"),
        (lambda: LogitDistillation(share=2.0), "found share 2.0"),
        (lambda: LogitDistillation(temperature=0.0), "temperature above 0"),
        (lambda: FeatureRegression(-1.0), "rival.weight: found -1.0"),
        (lambda: Contrastive(temperature=0.0), "found weight 1.0, temperature 0.0"),
        (lambda: Switch(0), "beta_schedule.epochs: found 0"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(("arm", "rival"), [("rival", None), ("vkd", FeatureRegression())])
def test_a_rival_is_trained_by_its_own_arm(tmp_path, arm, rival):
    with pytest.raises(UserError, match="is trained by the arm 'rival', and by no other"):
        train(tmp_path / "run", arm, training=SETTINGS, rival=rival)
