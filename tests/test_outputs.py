"""What model and guide say of studies: against the draws themselves, and with several images of a study."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.test_elbo import D, make_batch, make_vkd
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.evaluation.outputs import StudyOutputs, study_outputs
from vkd_pyro.methods.base import Method
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.metrics import latent_uncertainty
from vkd_pyro.utils.errors import UserError

FINDINGS = tuple("abc")
OF_THE_IMAGE = ("probabilities", "low", "high", "latent_uncertainty", "prior_locs", "features")
OF_THE_REPORT = ("report_probabilities", "report_log_probs", "kl", "kl_per_dimension", "posterior_locs")


def several_images():
    """Six images of three studies: two, one and three."""
    return replace(make_batch(), study_ids=("one", "one", "two", "three", "three", "three"))


def image_only() -> ImageOnly:
    torch.manual_seed(0)
    return ImageOnly(FINDINGS, ConvEncoder((4, 8))).eval()


# -------------------------------------------------------------------------------- one image a study


def test_probability_interval_and_what_z_carries_are_those_of_the_draws():
    vkd, batch = make_vkd(), make_batch()
    features = vkd.model.image_encoder(batch.images)
    samples = vkd.model.posterior_predictive(features, 50, 3).samples.detach().double().numpy()
    outputs = study_outputs(vkd, batch, 50, seed=3)
    np.testing.assert_allclose(outputs.probabilities, samples.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(outputs.low, np.quantile(samples, 0.025, axis=0), atol=1e-6)
    np.testing.assert_allclose(outputs.high, np.quantile(samples, 0.975, axis=0), atol=1e-6)
    np.testing.assert_allclose(outputs.latent_uncertainty, latent_uncertainty(samples[None]), atol=1e-6)
    np.testing.assert_allclose(outputs.prior_locs, vkd.model.prior(features).mean.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs.features, features.detach(), atol=1e-6)


def test_the_same_seed_says_the_same_and_another_does_not():
    vkd, batch = make_vkd(), make_batch()
    first, again, other = (study_outputs(vkd, batch, 5, seed) for seed in (0, 0, 1))
    for name in (f.name for f in fields(StudyOutputs)):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name), err_msg=name)
    assert (first.probabilities != other.probabilities).all()


def test_a_single_draw_has_no_interval():
    outputs = study_outputs(make_vkd(), make_batch(), 1, 0)
    assert np.isnan(outputs.low).all()
    assert np.isnan(outputs.high).all()
    assert np.isnan(outputs.latent_uncertainty).all()


def test_unknown_labels_and_absent_reports_are_undefined():
    known, has_report = torch.ones(6, 3, dtype=torch.bool), torch.ones(6, dtype=torch.bool)
    known[2, 1] = has_report[4] = False
    outputs = study_outputs(make_vkd(), make_batch(has_report=has_report, known=known), 5, 0)
    assert np.argwhere(np.isnan(outputs.labels)).tolist() == [[2, 1]]
    np.testing.assert_array_equal(outputs.labels[known.numpy()], make_batch().labels[known].numpy())
    for name in OF_THE_REPORT:
        missing = np.isnan(getattr(outputs, name)).reshape(6, -1).all(axis=1)
        assert missing.tolist() == [False, False, False, False, True, False], name
    assert np.isnan(outputs.report_log_probs[2, 1])
    assert not np.isnan(outputs.probabilities).any()


def test_what_is_said_of_the_image_does_not_read_the_report():
    vkd, batch = make_vkd(), make_batch()
    with_reports, without = study_outputs(vkd, batch, 5, 0), study_outputs(vkd, batch.without_reports(), 5, 0)
    branch = study_outputs(Method(vkd.findings, vkd.model).eval(), batch, 5, 0)
    for name in OF_THE_IMAGE:
        np.testing.assert_array_equal(getattr(with_reports, name), getattr(without, name), err_msg=name)
        np.testing.assert_array_equal(getattr(with_reports, name), getattr(branch, name), err_msg=name)
    for name in OF_THE_REPORT:
        assert np.isnan(getattr(without, name)).all(), name
        assert np.isnan(getattr(branch, name)).all(), name


def test_without_z_there_is_a_probability_and_nothing_that_z_would_say():
    network, batch = image_only(), make_batch()
    outputs = study_outputs(network, batch, 50, 0)
    logits = network.model.head(network.model.image_encoder(batch.images))
    np.testing.assert_allclose(outputs.probabilities, logits.sigmoid().detach(), atol=1e-6)
    for name in ("low", "high", "latent_uncertainty", "prior_locs", "z_variance", "z_change", *OF_THE_REPORT):
        assert np.isnan(getattr(outputs, name)).all(), name
    assert all(np.isnan(units) for units in outputs.active_units().values())


# ----------------------------------------------------------------------------- several images a study


@pytest.mark.parametrize("fusion", ["mean", "product"])
def test_fused_images_of_a_study_say_the_same(fusion):
    outputs = study_outputs(make_vkd(), several_images(), 20, 0, fusion)
    for name in ("probabilities", "low", "high", "latent_uncertainty"):
        values = getattr(outputs, name)
        np.testing.assert_allclose(values[0], values[1], atol=1e-6)
        np.testing.assert_allclose(values[3:], np.broadcast_to(values[3], (3, 3)), atol=1e-6)
    studies = outputs.mean_over_images()
    assert studies.study_ids.tolist() == ["one", "two", "three"]
    np.testing.assert_allclose(studies.probabilities, outputs.probabilities[[0, 2, 3]], atol=1e-6)
    assert (studies.low <= studies.probabilities).all()
    assert (studies.probabilities <= studies.high).all()


def test_the_mean_of_images_apart_is_the_mean_fusion_and_the_product_is_another():
    vkd, batch = make_vkd(), several_images()
    apart, mean, product = (study_outputs(vkd, batch, 20, 0, fusion) for fusion in ("none", "mean", "product"))
    expected = apart.mean_over_images().probabilities
    np.testing.assert_allclose(mean.mean_over_images().probabilities, expected, atol=1e-6)
    changed = np.abs(product.mean_over_images().probabilities - expected).max(axis=1)
    assert (changed > 1e-6).tolist() == [True, False, True]  # the second study has one image


def test_images_apart_are_as_if_of_different_studies():
    vkd = make_vkd()
    apart, alone = study_outputs(vkd, several_images(), 20, 0, "none"), study_outputs(vkd, make_batch(), 20, 0)
    for name in ("probabilities", "low", "high", "latent_uncertainty", "kl"):
        np.testing.assert_allclose(getattr(apart, name), getattr(alone, name), atol=1e-6, err_msg=name)


def test_the_product_wants_z():
    with pytest.raises(UserError, match="'product' is of the priors of z, and this model has none; use mean"):
        study_outputs(image_only(), several_images(), 5, 0, "product")


class Certain(nn.Module):
    """A head that is sure of everything."""

    def forward(self, features):
        return torch.full((len(features), 3), 100.0)


def test_the_mean_of_many_ones_is_no_more_than_one():
    network, batch = image_only(), make_batch(18)  # 18 times 1/18 is more than 1 in 32 bits
    network.model.head = Certain()
    outputs = study_outputs(network, replace(batch, study_ids=("one",) * 18), 1, 0)
    assert (outputs.probabilities <= 1).all()
    np.testing.assert_allclose(outputs.probabilities, 1)


def test_means_over_images_ignore_what_is_undefined_and_keep_the_order():
    outputs = study_outputs(make_vkd(), several_images(), 5, 0, "none")
    outputs.kl[:] = [1, 3, 5, 7, np.nan, 9]
    outputs.labels[3:, 0] = np.nan
    studies = outputs.mean_over_images()
    assert studies.kl.tolist() == [2, 5, 8]
    assert np.isnan(studies.labels[:, 0]).tolist() == [False, False, True]
    assert studies.mean_kl() == 5
    assert studies.features.shape == (3, outputs.features.shape[1])
    assert studies.prior_locs.shape == (3, D)


def test_parts_are_put_together_in_their_order():
    vkd, batch = make_vkd(), make_batch()
    parts = [study_outputs(vkd, batch[rows], 5, 0) for rows in (slice(0, 2), slice(2, 6))]
    whole = StudyOutputs.concatenate(parts)
    assert whole.study_ids.tolist() == list(batch.study_ids)
    np.testing.assert_allclose(whole.probabilities, study_outputs(vkd, batch, 5, 0).probabilities, atol=1e-6)
