"""Joint predictions against sums over all answers; the warm-up of a report branch; which studies a batch has."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TinyCorpus, study_data
from tests.test_elbo import make_batch, make_vkd
from vkd_pyro import Training, evaluate
from vkd_pyro.distributions import CategoricalLikelihood, LowRankProbitLikelihood
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.evaluation.joint import (
    answer_information,
    dependent_at_least_one,
    dependent_log_prob,
    joint_log_prob,
    marginal_log_prob,
)
from vkd_pyro.evaluation.outputs import study_outputs
from vkd_pyro.evaluation.saved import load_evaluation, save_evaluation
from vkd_pyro.methods import VKD, Contrastive, ImageOnly, LogitDistillation
from vkd_pyro.training.warm_up import warm_up
from vkd_pyro.utils.errors import UserError

NAN = math.nan


def samples_of(draws: int = 5, studies: int = 3, findings: int = 4) -> Tensor:
    return torch.rand(draws, studies, findings, generator=torch.Generator().manual_seed(0))


def test_joint_probabilities_of_all_answers_sum_to_one():
    samples = samples_of()
    answers = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    total = sum(joint_log_prob(samples, answer.expand(3, -1)).exp() for answer in answers)
    torch.testing.assert_close(total, torch.ones(3))


def test_a_joint_probability_is_the_mean_over_draws_of_products():
    samples, labels = samples_of(), torch.tensor([[1.0, 0, 1, NAN], [0, 0, 0, 0], [NAN] * 4])
    p = samples[:, 0]
    assert joint_log_prob(samples, labels)[0].exp() == pytest.approx((p[:, 0] * (1 - p[:, 1]) * p[:, 2]).mean().item())
    m = p.mean(0)
    assert marginal_log_prob(samples, labels)[0].exp() == pytest.approx((m[0] * (1 - m[1]) * m[2]).item())
    assert joint_log_prob(samples, labels)[2].isnan()
    assert marginal_log_prob(samples, labels)[2].isnan()


def test_without_z_joint_is_the_product_of_marginals():
    samples, labels = samples_of(1), torch.tensor([[1.0, 0, 1, 0]] * 3)
    torch.testing.assert_close(joint_log_prob(samples, labels), marginal_log_prob(samples, labels))
    assert answer_information(samples, 0).isnan().all()


def test_findings_that_always_go_together_are_known_jointly():
    together = torch.tensor([[[0.999, 0.999]], [[0.001, 0.001]]])
    labels = torch.tensor([[1.0, 1.0]])
    assert joint_log_prob(together, labels).exp() == pytest.approx(0.5, rel=0.01)
    assert marginal_log_prob(together, labels).exp() == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("kind", [LowRankProbitLikelihood, CategoricalLikelihood])
def test_labels_that_depend_on_each_other_given_z_are_judged_by_their_own_density(kind):
    """Over all answers it sums to 1, and what is said of "none of them" is the sum of the answers without them."""
    torch.manual_seed(0)
    likelihood, z, features = kind(2, 3, 4).eval(), torch.randn(5, 2, 2), torch.randn(2, 4)
    if kind is LowRankProbitLikelihood:
        torch.nn.init.constant_(likelihood.loadings, 2.0)
    answers = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3) if kind is LowRankProbitLikelihood else torch.eye(3)
    with torch.no_grad():
        p = torch.stack([dependent_log_prob(likelihood, z, features, a.expand(2, -1)).exp() for a in answers])
        draws = torch.stack([likelihood(one, features).log_prob(answers[1].expand(2, -1)).exp() for one in z])
        some = dependent_at_least_one(likelihood, z, features, [0, 2])
        one_study = dependent_log_prob(likelihood, z, features, answers[1].expand(2, -1), torch.tensor([7, 7]))
    torch.testing.assert_close(p.sum(0).float(), torch.ones(2))
    torch.testing.assert_close(p[1].float(), draws.mean(0))
    torch.testing.assert_close(1 - some, p[(answers[:, 0] == 0) & (answers[:, 2] == 0)].sum(0).float())
    torch.testing.assert_close(one_study.exp().float(), draws.mean().expand(2))


@torch.no_grad()
def test_outputs_know_labels_that_depend_on_each_other():
    batch = make_batch()
    vkd = make_vkd(likelihood=LowRankProbitLikelihood).eval()
    torch.nn.init.constant_(vkd.model.likelihood.loadings, 2.0)
    said, drawn = study_outputs(vkd, batch, 50, 0), vkd.model.posterior_predictive(vkd.model.encode(batch.images), 50)
    densities = [
        vkd.model.likelihood(z, vkd.model.encode(batch.images), batch.known).log_prob(batch.labels) for z in drawn.z
    ]
    expected = torch.stack(densities).exp().mean(0).log()
    np.testing.assert_allclose(said.joint_log_prob, expected.where(batch.known.any(-1), NAN), rtol=1e-4)
    assert np.isnan(said.answer_information).all()
    assert not np.isclose(said.any_joint, said.any_marginal, atol=0.02).any()
    categorical = study_outputs(
        make_vkd(likelihood=CategoricalLikelihood).eval(), replace(batch, labels=torch.eye(3).repeat(2, 1)), 50, 0
    )
    np.testing.assert_allclose(categorical.any_joint, 1, atol=1e-5)  # one of three abnormalities is always there


def test_information_is_that_of_a_coin_that_z_knows():
    """z is one of two with equal chance, and each says the answers surely: ln 2, whatever is asked."""
    samples = torch.tensor([[[0.9999, 0.0001]], [[0.0001, 0.9999]]]).repeat(50, 1, 1)
    assert answer_information(samples, 0)[0] == pytest.approx(math.log(2), abs=0.01)


def test_information_is_at_most_the_truth_and_none_where_z_says_nothing():
    assert answer_information(torch.full((100, 2, 4), 0.3), 1).abs().max() < 1e-6
    torch.manual_seed(0)
    samples = (2 * torch.randn(200, 1, 3)).sigmoid()
    answers = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    log_p = torch.where(answers[:, None] == 1, samples[:, 0].log(), (1 - samples[:, 0]).log()).sum(-1)  # [8, 200]
    truth = (log_p.exp() * (log_p - log_p.exp().mean(1, keepdim=True).log())).sum(0).mean()
    found = torch.stack([answer_information(samples, seed)[0] for seed in range(30)])
    assert found.mean() == pytest.approx(truth.item(), abs=0.03)


def test_many_draws_cost_no_more_than_so_many():
    samples = samples_of(1000)
    torch.testing.assert_close(answer_information(samples, 0), answer_information(samples[:200], 0))


def test_an_evaluation_says_both_and_keeps_them(tmp_path):
    data = study_data(TinyCorpus(), batch_size=8)
    method = VKD(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8), latent_dim=4)
    found = evaluate(method, data, split="test", num_samples=20)
    joint = found.joint()
    assert joint["joint_nll"] == pytest.approx(-found.joint_log_prob.mean())
    assert joint["answer_information"] > 0
    assert f"jointly {joint['joint_nll']:.3f} nats" in str(found)
    save_evaluation(found, tmp_path / "saved")
    assert load_evaluation(tmp_path / "saved").joint() == joint
    without_z = evaluate(ImageOnly(data.findings, ConvEncoder((4, 8))), data, split="test")
    assert math.isnan(without_z.joint()["answer_information"])
    assert without_z.summary()["joint"]["answer_information"] is None


# -------------------------------------------------------------------------------------------- warm-up


def training_set(**options):
    data = study_data(TinyCorpus(), batch_size=8, **options)
    return data, data.train_loader(WordEncoder(64, 8), seed=0).dataset


def report_loss(method, dataset) -> float:
    loader = study_data(TinyCorpus(), batch_size=8).evaluation_loader("train", method.report_encoder)
    with torch.no_grad():
        return float(np.mean([method.guide.report_loss(batch).item() for batch in loader]))


@pytest.mark.parametrize("kind", [VKD, LogitDistillation])
def test_a_warm_up_trains_the_report_branch_alone(kind):
    data, dataset = training_set()
    torch.manual_seed(0)
    method = kind(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8))
    image_side = {name: value.clone() for name, value in method.model.named_parameters()}
    before = report_loss(method.eval(), dataset)
    warm_up(method, dataset, steps=60, seed=0)
    assert report_loss(method.eval(), dataset) < 0.9 * before
    assert all(torch.equal(value, image_side[name]) for name, value in method.model.named_parameters())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_a_warm_up_is_a_function_of_its_seed():
    weights = []
    for seed in (0, 0, 1):
        data, dataset = training_set()
        torch.manual_seed(0)
        method = LogitDistillation(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8))
        torch.manual_seed(seed + len(weights))
        warm_up(method, dataset, steps=5, seed=seed)
        weights.append(method.guide.head[1].weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_tied_head_is_warmed_up_with_its_branch():
    data, dataset = training_set()
    method = VKD(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8), tied=True, likelihood_inputs="z")
    before = method.model.likelihood.network[-1].weight.clone()
    warm_up(method, dataset, steps=2, seed=0)
    assert not torch.equal(method.model.likelihood.network[-1].weight, before)


def test_a_method_without_a_report_classifier_cannot_be_warmed_up():
    data, dataset = training_set()
    method = Contrastive(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8))
    with pytest.raises(UserError, match=r"nothing in Contrastive classifies reports alone; set it to 0"):
        warm_up(method, dataset, steps=2, seed=0)
    warm_up(ImageOnly(data.findings, ConvEncoder((4, 8))), dataset, steps=2, seed=0)  # reads none


def test_a_warm_up_below_zero_is_refused():
    with pytest.raises(UserError, match=r"training.report_warm_up: found -1, expected steps, or 0 for none"):
        Training(report_warm_up=-1)


# ----------------------------------------------------------------------- labels of a share of the patients


def test_the_auxiliary_term_is_a_mean_over_labelled_studies():
    known = torch.zeros(6, 3, dtype=torch.bool)
    known[:2] = True
    batch = replace(make_batch(known=known), has_report=torch.tensor([True, False, True, True, True, True]))
    vkd = make_vkd()
    losses = []
    for mean in ("studies", "labelled"):
        torch.manual_seed(0)
        terms = TraceVKD_ELBO(auxiliary_mean=mean).terms(vkd.model, vkd.guide, batch)
        losses.append(terms.loss)
        auxiliary = terms.auxiliary
    # One of six studies has a report and labels.
    torch.testing.assert_close(losses[0] - losses[1], 5 / 6 * auxiliary.sum())


def test_batches_come_as_they_are_unless_half_is_labelled():
    options = {"label_share": 0.3, "batch_size": 8}
    half = study_data(TinyCorpus(), **options).train_loader(WordEncoder(64, 8), 0)
    plain = study_data(TinyCorpus(), **options, labelled_half=False).train_loader(WordEncoder(64, 8), 0)
    assert all(batch.known.any(1)[:4].all() for batch in half)
    seen = [name for batch in plain for name in batch.study_ids]
    assert len(set(seen)) == len(seen) == len(plain) * 8
    image_only = study_data(TinyCorpus(), **options, labelled_half=False).train_loader(None, 0)
    assert all(batch.known.any(1).all() for batch in image_only)  # where no report is read others teach nothing


def test_another_draw_keeps_the_labels_of_others():
    kept = []
    for draw in (0, 1):
        data = study_data(TinyCorpus(200), label_share=0.3, label_draw=draw)
        kept.append(~np.isnan(data.targets("train")).all(1))
        assert data.task.description().get("label_draw") == (draw or None)
    assert 0.15 < kept[0].mean() < 0.45
    assert 0.15 < kept[1].mean() < 0.45
    assert 0.03 < (kept[0] & kept[1]).mean() < 0.2
