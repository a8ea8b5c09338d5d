"""Baselines: each objective against its formula in plain torch, who gets a gradient, and a run of each end to end."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, softplus

from tests.conftest import TinyCorpus
from tests.test_elbo import make_batch
from tests.test_training import make_data, train
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.methods import Contrastive, FeatureRegression, GaussianEmbeddings, LogitDistillation, UnitVectors
from vkd_pyro.model import ImageClassifier
from vkd_pyro.schedules import Constant, Switch
from vkd_pyro.utils.errors import UserError

HAS_REPORT = torch.tensor([True, True, False, True, True, False])


def parts() -> tuple[ConvEncoder, WordEncoder]:
    torch.manual_seed(0)
    return ConvEncoder((4, 8)), WordEncoder(50, 6)


BASELINES = {
    "from the report": LogitDistillation,
    "from both": partial(LogitDistillation, teacher="image+report", share=0.9, temperature=2.0),
    "regression": partial(FeatureRegression, weight=0.5),
    "contrastive": Contrastive,
    "contrastive of Gaussians": partial(Contrastive, embeddings=GaussianEmbeddings),
    "contrastive first": partial(Contrastive, pretraining=True),
}


def made(kind, findings=tuple("abc"), **options):
    """A method in eval mode, with fresh weights."""
    return kind(findings, *parts(), **options).eval()


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)


@pytest.mark.parametrize("name", BASELINES)
def test_mixed_precision_changes_little(name):
    batch, method = make_batch(has_report=HAS_REPORT), made(BASELINES[name])
    exact = method.terms(batch, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method.terms(batch, 0.5)
    for part in ("loss", "log_likelihood", "alignment"):
        assert getattr(mixed, part).dtype == torch.float32
        torch.testing.assert_close(getattr(mixed, part), getattr(exact, part), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("teacher", ["report", "image+report"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_its_formula_up_to_the_teachers_entropy(teacher, temperature):
    batch, beta = make_batch(has_report=HAS_REPORT), 0.5
    method = made(LogitDistillation, teacher=teacher, share=0.8, temperature=temperature)
    features = method.model.image_encoder(batch.images)
    reports = method.guide.report_encoder(batch.report, batch.report_mask)
    student = method.model.head(features)
    seen = reports if teacher == "report" else torch.cat([reports, features.detach()], -1)
    target = method.guide.head(seen)
    soft = (target / temperature).sigmoid()
    distilled = temperature**2 * (bce(student / temperature, soft) - bce(target / temperature, soft))
    with_report = 0.6 * bce(student, batch.labels) + 0.4 * distilled + bce(target, batch.labels)
    expected = torch.where(HAS_REPORT, with_report, bce(student, batch.labels)).mean()
    torch.testing.assert_close(method.terms(batch, beta).loss, expected)


def test_regression_is_its_formula():
    batch = make_batch(has_report=HAS_REPORT)
    method = made(FeatureRegression, weight=2.0)
    features = method.model.image_encoder(batch.images)
    reports = method.guide.report_encoder(batch.report, batch.report_mask)
    standard = (reports - reports.mean(-1, keepdim=True)) / (
        reports.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    error = (method.guide.projection(features) - standard).square().mean(-1)
    extra = torch.where(HAS_REPORT, 2.0 * error + bce(method.guide.head(reports), batch.labels), 0.0)
    expected = (bce(method.model.head(features), batch.labels) + extra).mean()
    torch.testing.assert_close(method.terms(batch).loss, expected)


def test_contrast_is_its_formula_among_studies_with_a_report():
    batch = make_batch(has_report=HAS_REPORT)
    method = made(Contrastive, weight=1.5, embeddings=partial(UnitVectors, temperature=0.2, image_share=0.6))
    features = method.model.image_encoder(batch.images)
    reports = method.guide.report_encoder(batch.report, batch.report_mask)
    images = normalize(method.guide.of_images(features), dim=-1)[HAS_REPORT]
    words = normalize(method.guide.of_reports(reports), dim=-1)[HAS_REPORT]
    similarity, own = images @ words.T / 0.2, torch.arange(4)
    alignment = 0.6 * cross_entropy(similarity, own) + 0.4 * cross_entropy(similarity.T, own)
    expected = bce(method.model.head(features), batch.labels).mean() + 1.5 * alignment * 4 / 6
    torch.testing.assert_close(method.terms(batch).loss, expected)


def test_contrast_of_gaussians_is_its_formula():
    """The expected squared distance by sampling, the KL by torch, the cross-entropy pair by pair."""
    batch = make_batch(has_report=HAS_REPORT)
    method = made(Contrastive, embeddings=partial(GaussianEmbeddings, width=3, bottleneck_weight=0.3))
    guide = method.guide
    features = method.model.image_encoder(batch.images)[HAS_REPORT]
    reports = guide.report_encoder(batch.report, batch.report_mask)[HAS_REPORT]
    images = Normal(normalize(guide.of_images(features), dim=-1), softplus(guide.scale_of_images(features)) + 1e-4)
    words = Normal(normalize(guide.of_reports(reports), dim=-1), softplus(guide.scale_of_reports(reports)) + 1e-4)
    draws, others = images.sample((20_000,)), words.sample((20_000,))
    distance = (draws[:, :, None] - others[:, None]).square().sum(-1).mean(0)
    match = (5.0 - 5.0 * distance).sigmoid()
    expected = torch.zeros(6)
    standard = Normal(torch.zeros(3), torch.ones(3))
    kl = sum(kl_divergence(d, standard).sum(-1) for d in (images, words))
    for i, row in enumerate(HAS_REPORT.nonzero()[:, 0]):
        wrong = [-((1 - match[i, j]).log() + (1 - match[j, i]).log()) / 2 for j in range(4) if j != i]
        expected[row] = -match[i, i].log() + torch.stack(wrong).mean() + 0.3 * kl[i]
    torch.testing.assert_close(method.terms(batch).alignment, expected, rtol=0.01, atol=0.01)


def test_images_of_one_study_do_not_contrast():
    batch = replace(make_batch(size=2), study_ids=("one", "one"))
    assert made(Contrastive).terms(batch).alignment.abs().max() == 0


def test_pretraining_sees_no_label_and_then_nothing_else():
    batch, method = make_batch(), made(BASELINES["contrastive first"])
    first, then = (method.terms(batch, beta) for beta in (1.0, 0.0))
    torch.testing.assert_close(first.loss, first.alignment.mean())
    torch.testing.assert_close(
        then.loss, bce(method.model.head(method.model.image_encoder(batch.images)), batch.labels).mean()
    )
    schedule = Switch(epochs=2, before=1.0, after=0.0)
    assert [schedule(step, 10) for step in (1, 20, 21)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["from the report", "from both", "regression"])
def test_the_teacher_learns_from_labels_alone(name):
    """What the image's side costs moves neither the report's encoder nor the teacher's head."""
    batch, method = make_batch(), made(BASELINES[name])
    terms = method.terms(batch)
    teacher = [*method.guide.report_encoder.parameters(), *method.guide.head.parameters()]
    of_student = torch.autograd.grad(
        terms.alignment.sum() + terms.log_likelihood.sum(), teacher, allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in of_student)
    of_images = torch.autograd.grad(terms.auxiliary.sum(), list(method.model.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in of_images)


@pytest.mark.parametrize("name", BASELINES)
def test_unlabelled_studies_teach_through_their_reports_alone(name):
    method = made(BASELINES[name])
    unknown = torch.zeros(6, 3, dtype=torch.bool)
    terms = method.terms(make_batch(known=unknown))
    assert terms.log_likelihood.abs().max() == 0
    assert terms.auxiliary.abs().max() == 0
    assert terms.alignment.min() > 0
    without = method.terms(make_batch().without_reports())
    assert without.alignment.abs().max() == 0


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_gets_a_gradient(name):
    method = made(BASELINES[name])
    method.terms(make_batch(), 0.5).loss.backward()
    assert [key for key, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_of_a_baseline_leaves_an_image_only_bundle(tmp_path, name):
    schedule = Switch(1, before=1.0, after=0.0) if "first" in name else Constant(0.5)
    method = made(BASELINES[name], TinyCorpus.findings)
    train(tmp_path / "run", method, beta_schedule=schedule)
    averages = evaluate(method, make_data(), num_samples=1).averages()
    assert not math.isnan(averages["image"]["macro"])
    assert math.isnan(averages["report"]["macro"]) == ("contrastive" in name)  # which has no classifier of reports
    bundle = load_bundle(tmp_path / "run" / "bundle").model
    assert isinstance(bundle, ImageClassifier)
    assert set(bundle.state_dict()) == set(method.model.state_dict())
    assert all(torch.equal(value, bundle.state_dict()[key]) for key, value in method.model.state_dict().items())


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_but_a_kl_is_logged_as_one(name):
    assert made(BASELINES[name]).terms(make_batch()).means().keys() == {
        "loss",
        "log_likelihood",
        "auxiliary",
        "alignment",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made(LogitDistillation, teacher="labels"), "method.teacher: found 'labels', expected"),
        (lambda: made(LogitDistillation, share=2.0), "method.share: found 2.0, expected a probability"),
        (lambda: made(LogitDistillation, temperature=0.0), "method.temperature: found 0.0, expected a number above 0"),
        (lambda: made(FeatureRegression, weight=-1.0), "method.weight: found -1.0"),
        (lambda: made(Contrastive, weight=-1.0), "method.weight: found -1.0"),
        (
            lambda: made(Contrastive, embeddings=partial(UnitVectors, temperature=0.0)),
            "method.embeddings.temperature: found 0.0",
        ),
        (
            lambda: made(Contrastive, embeddings=partial(GaussianEmbeddings, bottleneck_weight=-1.0)),
            "method.embeddings.bottleneck_weight: found -1.0",
        ),
        (lambda: Switch(0), "beta_schedule.epochs: found 0"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(UserError, match=message):
        make()
