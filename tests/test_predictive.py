"""Posterior predictive sampling: what is drawn for an image, sources of uncertainty, and their split."""

import math

import numpy as np
import pytest
import torch
from pyro.infer import Predictive

from tests.test_elbo import make_batch, make_vkd
from vkd_pyro.distributions import (
    DiagonalNormal,
    Flow,
    FullNormal,
    Laplace,
    LowRankNormal,
    NormalMixture,
    StandardNormal,
    StudentT,
    VampPrior,
    common_draws,
    seeded,
)
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.evaluation.outputs import study_outputs
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.metrics import latent_uncertainty
from vkd_pyro.model import Model
from vkd_pyro.prediction.prediction import Prediction, Summary
from vkd_pyro.prediction.predictive import dropout_mask, predict
from vkd_pyro.utils.errors import UserError

CPU = torch.device("cpu")
FAMILIES = (
    DiagonalNormal,
    LowRankNormal,
    FullNormal,
    Laplace,
    StudentT,
    NormalMixture,
    Flow,
    StandardNormal,
    VampPrior,
)


def model_with(family, seed: int = 0) -> Model:
    """A model with this prior, in eval mode."""
    vkd = make_vkd()
    torch.manual_seed(seed)
    return Model(vkd.model.image_encoder, family(8, 4), vkd.model.likelihood).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_read_alike_in_any_company(family):
    model, images = model_with(family), make_batch().images
    together = predict(model, images, tuple("abc"), 20, seed=3).samples
    order = torch.tensor([4, 2, 0])
    for rows in (order, order[:1], torch.tensor([5])):
        apart = predict(model, images[rows], tuple("abc"), 20, seed=3).samples
        np.testing.assert_allclose(apart, together[:, :, rows.tolist()], atol=1e-5)


def test_chunks_of_draws_change_nothing(monkeypatch):
    model, images = model_with(DiagonalNormal), make_batch().images
    whole = predict(model, images, tuple("abc"), 20).samples
    monkeypatch.setattr("vkd_pyro.sampling.DRAWS_AT_ONCE", 45)
    np.testing.assert_allclose(predict(model, images, tuple("abc"), 20).samples, whole, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_common_draws_are_those_of_each_row_alone(family):
    prior, features = family(8, 4).eval(), torch.randn(3, 8)
    with torch.no_grad():
        z = common_draws(prior(features), lambda rows: prior(features[rows]), 7, 1, CPU)
        for row in range(3):
            with seeded(1, CPU):
                alone = prior(features[row : row + 1]).expand((7, 1)).sample()
            torch.testing.assert_close(z[:, row], alone[:, 0])


def test_pyros_predictive_says_the_same():
    model, images = model_with(DiagonalNormal), make_batch().images
    features = model.image_encoder(images).detach()
    z = model.posterior_predictive(features, 30, seed=5).z.detach()
    predictive = Predictive(model.program, posterior_samples={"z": z}, parallel=True)
    theirs = predictive.get_vectorized_trace(features).nodes["y"]["fn"].mean.detach()
    ours = predict(model, images, tuple("abc"), 30, seed=5)
    np.testing.assert_allclose(ours.samples[0], theirs, atol=1e-6)


def test_a_prediction_keeps_the_draws_of_z_it_was_made_of():
    model, images = model_with(DiagonalNormal), make_batch().images
    said = predict(model, images, tuple("abc"), 6, seed=5)
    expected = model.posterior_predictive(model.encode(images), 6, seed=5).z.detach()
    np.testing.assert_allclose(said.z, expected[None], atol=1e-6)
    stored = said.to_inference_data().posterior
    np.testing.assert_array_equal(stored["z"], said.z)
    together = predict([model, model_with(DiagonalNormal, 1)], images, tuple("abc"), 6)
    assert together.z.shape == (2, *said.z.shape[1:])
    assert said.mean_over(np.arange(len(images)) // 2).z is None
    plain = ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval().model
    assert predict(plain, images, tuple("abc"), 6).z is None
    assert predict([model, plain], images, tuple("abc"), 6).z is None


def test_draws_are_distributed_as_those_of_pyros_predictive():
    model, images = model_with(DiagonalNormal), make_batch().images
    features, number = model.image_encoder(images).detach(), 4000
    torch.manual_seed(0)
    theirs = Predictive(model.program, num_samples=number, parallel=True, return_sites=["z"])(features)["z"]
    theirs, ours = (
        theirs.reshape(number, *theirs.shape[-2:]),
        model.posterior_predictive(features, number, seed=5).z.detach(),
    )
    scale = model.prior(features).stddev
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * scale * (2 / number) ** 0.5).all()
    assert ((ours.std(0) - theirs.std(0)).abs() < 5 * scale / number**0.5).all()


def test_studies_are_evaluated_alike_whatever_the_batch():
    vkd, batch = make_vkd(), make_batch()
    whole = study_outputs(vkd, batch, 10, 0)
    for row in range(len(batch)):
        alone = study_outputs(vkd, batch[row : row + 1], 10, 0)
        for name in ("probabilities", "low", "high", "latent_uncertainty", "report_probabilities", "kl", "features"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(whole, name)[row], atol=1e-5, err_msg=name)


def test_several_images_of_a_study_are_averaged_draw_by_draw():
    vkd, batch = make_vkd(), make_batch()
    twice = type(batch)(**{**vars(batch), "study_ids": ("one", "one", "two", "three", "three", "three")})
    apart = predict(vkd.model, batch.images, vkd.findings, 10).samples[0]
    fused = study_outputs(vkd, twice, 10, 0)
    for rows in ([0, 1], [2], [3, 4, 5]):
        of_study = apart[:, rows].mean(axis=1)
        (carried,) = latent_uncertainty(of_study[None, :, None])
        for row in rows:
            np.testing.assert_allclose(fused.probabilities[row], of_study.mean(axis=0), atol=1e-5)
            np.testing.assert_allclose(fused.latent_uncertainty[row], carried, atol=1e-5)
            np.testing.assert_allclose(fused.low[row], np.quantile(of_study, 0.025, axis=0), atol=1e-5)
    kept = study_outputs(vkd, twice, 10, 0, fusion="none")
    np.testing.assert_allclose(kept.probabilities, apart.mean(axis=0), atol=1e-5)


# ------------------------------------------------------------------------------------- sources of uncertainty


def test_uncertainty_is_the_sum_of_its_parts():
    samples = np.random.default_rng(0).random((3, 20, 5, 4), np.float32)
    uncertainty = Prediction(samples, tuple("abcd"), ("z", "ensemble")).uncertainty()
    np.testing.assert_allclose(
        uncertainty["total"], uncertainty["aleatoric"] + uncertainty["latent"] + uncertainty["epistemic"], atol=1e-6
    )
    assert all((part >= -0.03).all() and (part <= math.log(2) + 0.03).all() for part in uncertainty.values())


def test_uncertainty_has_gold_values():
    certain_draws = np.tile([0.0, 1.0], 500).reshape(1, 1000, 1, 1).astype(np.float32)
    of_z = Prediction(certain_draws, ("a",)).uncertainty()
    assert of_z["latent"] == pytest.approx(math.log(2), abs=1e-3)
    assert of_z["aleatoric"] == pytest.approx(0)
    of_networks = Prediction(certain_draws[:, :2].reshape(2, 1, 1, 1), ("a",), ("ensemble",)).uncertainty()
    assert of_networks["epistemic"] == pytest.approx(math.log(2))
    assert "z" not in of_networks
    agreed = Prediction(np.full((1, 5, 1, 1), 0.5, np.float32), ("a",)).uncertainty()
    assert agreed["latent"] == pytest.approx(0, abs=1e-7)
    assert agreed["total"] == pytest.approx(math.log(2))


def test_interval_is_of_the_samples():
    samples = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 101, 1, 1)
    low, high = Prediction(samples, ("a",)).interval(0.9)
    assert (low.item(), high.item()) == pytest.approx((0.05, 0.95))
    with pytest.raises(UserError, match=r"level: found 95, expected between 0 and 1"):
        Prediction(samples, ("a",)).interval(95)


def test_without_z_nothing_is_said_of_it():
    network = ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval()
    prediction = predict(network.model, make_batch().images, tuple("abc"), 10)
    assert prediction.sources == ()
    summary = prediction.summary()
    assert all(np.isnan(getattr(summary, name)).all() for name in ("low", "high", "latent", "epistemic"))
    np.testing.assert_allclose(summary.total, summary.aleatoric, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members():
    models, images = [model_with(DiagonalNormal, seed) for seed in range(3)], make_batch().images
    together = predict(models, images, tuple("abc"), 10, seed=1)
    apart = [predict(model, images, tuple("abc"), 10, seed=1).probabilities for model in models]
    np.testing.assert_allclose(together.probabilities, np.mean(apart, axis=0), atol=1e-6)
    assert together.sources == ("z", "ensemble")
    assert (together.uncertainty()["epistemic"] > 0).all()
    of_one = predict([models[0], models[0]], images, tuple("abc"), 10).uncertainty()["epistemic"]
    np.testing.assert_allclose(of_one, 0, atol=1e-6)


def test_a_mask_of_dropout_is_one_network_for_all_images():
    model, images = model_with(DiagonalNormal), make_batch().images
    masked = predict(model, images, tuple("abc"), 10, num_masks=4)
    assert masked.samples.shape[0] == 4
    assert masked.sources == ("z", "dropout")
    assert np.abs(masked.samples[0] - masked.samples[1]).max() > 1e-3
    alone = predict(model, images[2:3], tuple("abc"), 10, num_masks=4)
    np.testing.assert_allclose(alone.samples[:, :, 0], masked.samples[:, :, 2], atol=1e-5)
    again = predict(model, images, tuple("abc"), 10)
    np.testing.assert_array_equal(again.samples, predict(model, images, tuple("abc"), 10).samples)  # hooks are gone


def test_masks_drop_as_dropout_does_on_average():
    layer = torch.nn.Sequential(torch.nn.Dropout(0.3)).eval()
    kept = []
    for seed in range(400):
        with dropout_mask(layer, seed):
            kept.append(layer(torch.ones(2, 50)))
    stacked = torch.stack(kept)
    assert stacked.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(stacked[:, 0], stacked[:, 1])
    assert stacked.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_masks_want_dropout():
    network = ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval()
    with pytest.raises(UserError, match="num_masks: the model has no dropout"):
        predict(network.model, make_batch().images, tuple("abc"), 10, num_masks=2)


def test_augmented_pictures_are_a_source_of_uncertainty_of_their_own():
    model, images = model_with(DiagonalNormal), make_batch().images
    prediction = predict(model, images, tuple("abc"), 5, num_augmentations=3)
    assert prediction.samples.shape[0] == 3
    assert prediction.sources == ("z", "augmentation")
    alone = predict(model, images[1:2], tuple("abc"), 5, num_augmentations=3)
    np.testing.assert_allclose(alone.samples[:, :, 0], prediction.samples[:, :, 1], atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("num_samples", 0), ("num_masks", -1), ("num_augmentations", -2)])
def test_numbers_that_make_no_sense_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name}: found {value}, expected a whole number, from"):
        predict(model_with(DiagonalNormal), make_batch().images, tuple("abc"), **{name: value})


def test_summaries_are_put_together():
    model, images = model_with(DiagonalNormal), make_batch().images
    whole = predict(model, images, tuple("abc"), 10).summary()
    parts = [predict(model, rows, tuple("abc"), 10).summary() for rows in images.split(4)]
    joined = Summary.concatenate(parts)
    for name in ("probabilities", "low", "high", "total", "latent"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), atol=1e-5)


def test_a_network_that_is_being_trained_is_asked_in_eval_mode():
    vkd, images = make_vkd(dropout=0.5), make_batch().images
    expected = predict(vkd.model, images, vkd.findings, num_samples=5)
    vkd.train()
    vkd.model.image_encoder.eval()
    before = {name: value.clone() for name, value in vkd.state_dict().items()}
    said = predict(vkd.model, images, vkd.findings, num_samples=5)
    np.testing.assert_array_equal(said.samples, expected.samples)
    assert (vkd.model.prior.training, vkd.model.image_encoder.training) == (True, False)
    assert all(torch.equal(value, before[name]) for name, value in vkd.state_dict().items())  # statistics of batches


IMAGES = torch.zeros(2, 1, 16, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.byte(), r"images: found uint8 \[2, 1, 16, 16\], expected a float tensor"),
        (IMAGES + 128, "images: found values from 128 to 128, expected 0 to 1; divide pixels of 8 bit by 255"),
        (IMAGES * math.nan, "images: found values from nan to nan, expected 0 to 1"),
        (
            IMAGES.expand(-1, 3, -1, -1),
            r"images: found float32 \[2, 3, 16, 16\], expected a float tensor \[N, 1, height",
        ),
        (IMAGES.numpy(), r"images: found ndarray \[2, 1, 16, 16\], expected a float tensor"),
    ],
)
def test_what_are_no_x_rays_is_refused(images, message):
    vkd = make_vkd()
    with pytest.raises(UserError, match=message):
        predict(vkd.model, images, vkd.findings)


def test_what_is_no_model_or_has_other_findings_is_refused():
    vkd = make_vkd()
    with pytest.raises(UserError, match=r"model: found VKD, expected an ImageModel, e\.g\. its \.model"):
        predict(vkd, IMAGES, vkd.findings)
    with pytest.raises(UserError, match="findings: found 2 names, and the model says 3"):
        predict(vkd.model, IMAGES, vkd.findings[:2])


@pytest.mark.parametrize("study", [[-1, 0, 0], [0, 2, 2], [0, 1], [0.5, 0, 1], []])
def test_images_without_a_study_or_a_study_without_images_are_refused(study):
    with pytest.raises(UserError, match=r"study: found .* expected one for each of 3 images: 0, 1, 2 ... of studies"):
        Prediction(np.full((1, 2, 3, 1), 0.5), ("a",)).mean_over(study)


def test_images_of_any_precision_are_predicted_and_none_is_refused():
    vkd = make_vkd()
    images = torch.rand(2, 1, 16, 16)
    single, double = (predict(vkd.model, one, vkd.findings, 4).samples for one in (images, images.double()))
    np.testing.assert_array_equal(single, double)
    with pytest.raises(UserError, match=r"images: found none, \[0, 1, 16, 16\]; expected at least one"):
        predict(vkd.model, images[:0], vkd.findings)
    with pytest.raises(UserError, match=r"model: found ImageOnly, expected an ImageModel, e.g. its .model"):
        predict(ImageOnly(vkd.findings, ConvEncoder((4, 8))), images, vkd.findings)
