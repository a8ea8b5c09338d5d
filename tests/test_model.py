"""Model, guide, and prediction from the image alone."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive

from tests.test_elbo import D, K, make_batch, make_vkd
from vkd_pyro.distributions import MLP, BernoulliLikelihood, DiagonalNormal, seeded
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.evaluation.outputs import StudyOutputs, study_outputs
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.utils.errors import UserError


def test_sites_and_their_shapes():
    vkd, batch = make_vkd(), make_batch()
    model, guide = (poutine.trace(program).get_trace(batch) for program in (vkd.model, vkd.guide))
    assert [(n, guide.nodes[n]["is_observed"]) for n in ("z", "y_given_z")] == [("z", False), ("y_given_z", True)]
    assert model.nodes["z"]["fn"].batch_shape == (6,)
    assert model.nodes["z"]["fn"].event_shape == (D,)
    assert model.nodes["y"]["fn"].event_shape == (K,)
    assert model.nodes["y"]["is_observed"]
    assert {frame.name for frame in model.nodes["y"]["cond_indep_stack"]} == {"studies"}


def test_studies_without_a_report_are_masked_out_of_the_guide():
    has_report = torch.tensor([True, False] * 3)
    vkd, batch = make_vkd(), make_batch(has_report=has_report)
    trace = poutine.trace(vkd.guide).get_trace(batch)
    trace.compute_log_prob()
    for name in ("z", "y_given_z"):
        assert torch.equal(trace.nodes[name]["log_prob"] != 0, has_report)


@pytest.mark.parametrize(("inputs", "width"), [("image+z", 8 + D), ("z", D)])
def test_what_the_likelihood_sees(inputs, width):
    assert make_vkd(likelihood_inputs=inputs).model.likelihood.network[1].in_features == width


def test_likelihood_on_z_alone_does_not_see_the_image():
    likelihood = make_vkd(likelihood_inputs="z").model.likelihood
    z = torch.randn(2, 6, D)
    assert torch.equal(likelihood.logits(z, torch.zeros(6, 8)), likelihood.logits(z, torch.ones(6, 8)))


def test_unknown_likelihood_inputs_are_refused():
    with pytest.raises(UserError, match=r"method\.likelihood_inputs: found 'x', expected 'image\+z' or 'z'"):
        make_vkd(likelihood_inputs="x")


def test_sizes_of_the_paper_are_the_defaults():
    prior = DiagonalNormal(1024, 512)
    assert [m.out_features for m in prior.network if isinstance(m, torch.nn.Linear)] == [512, 512]
    assert prior(torch.zeros(2, 1024)).event_shape == (512,)
    assert [m.p for m in prior.modules() if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]
    likelihood = BernoulliLikelihood(512, 14, 1024)
    assert [m.p for m in likelihood.network if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


def test_scale_is_positive_however_small_the_raw_scale():
    prior = DiagonalNormal(2, 3, MLP((4,)))
    torch.nn.init.constant_(prior.loc_and_scale.bias, -1e4)
    assert (prior(torch.zeros(1, 2)).variance.sqrt() >= 1e-4).all()


def test_predictions_are_those_of_the_program_under_a_plate_of_samples():
    vkd, batch, samples = make_vkd(), make_batch(), 200
    prediction = predict(vkd.model, batch.images, vkd.findings, samples, seed=0)
    for row, image in enumerate(batch.images):  # of each image as if it were alone
        features = vkd.model.image_encoder(image[None]).detach()
        with seeded(0, torch.device("cpu")), pyro.plate("samples", samples, dim=-2):
            trace = poutine.trace(vkd.model.program).get_trace(features)
        expected = trace.nodes["y"]["fn"].mean.detach().mean(0)[0]
        torch.testing.assert_close(torch.from_numpy(prediction.probabilities[row]), expected)


def test_mean_prediction_is_the_frequency_of_drawn_labels():
    vkd, batch, samples = make_vkd(), make_batch(), 20_000
    features = vkd.model.image_encoder(batch.images).detach()
    torch.manual_seed(0)
    drawn = Predictive(vkd.model.program, num_samples=samples, parallel=True)(features)["y"].reshape(samples, 6, K)
    p = torch.from_numpy(predict(vkd.model, batch.images, vkd.findings, 2000).probabilities)
    standard_error = (p * (1 - p) / samples).sqrt() + (p * (1 - p) / 2000).sqrt()
    assert ((drawn.mean(0) - p).abs() < 5 * standard_error).all()


def test_an_image_is_encoded_once_whatever_the_number_of_samples():
    vkd, batch, calls = make_vkd(), make_batch(), []
    vkd.model.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    assert predict(vkd.model, batch.images, vkd.findings, 50).samples.shape == (1, 50, 6, K)
    assert len(calls) == 1


def test_the_same_seed_gives_the_same_prediction_and_leaves_the_generator_alone():
    vkd, batch = make_vkd(), make_batch()
    torch.manual_seed(5)
    expected_next = torch.rand(1)
    torch.manual_seed(5)
    one = predict(vkd.model, batch.images, vkd.findings, 10, seed=3)
    assert torch.rand(1) == expected_next
    two = predict(vkd.model, batch.images, vkd.findings, 10, seed=3)
    other = predict(vkd.model, batch.images, vkd.findings, 10, seed=4)
    assert (one.samples == two.samples).all()
    assert (one.samples != other.samples).any()


def test_image_only_has_no_latent_variable():
    network = ImageOnly(tuple("abc"), ConvEncoder((4, 8))).eval()
    trace = poutine.trace(network.model).get_trace(make_batch())
    assert [n for n in trace.stochastic_nodes if n != "studies"] == []
    outputs = study_outputs(network, make_batch(), 5, 0)
    assert outputs.probabilities.shape == (6, K)
    assert all(value != value for value in outputs.active_units().values())  # NaN: there is no z


def test_outputs_of_studies_with_several_images_are_averaged():
    vkd, batch = make_vkd(), make_batch()
    outputs = study_outputs(vkd, batch, 5, 0)
    doubled = StudyOutputs.concatenate([outputs, study_outputs(vkd, batch, 5, 1)])
    mean = doubled.mean_over_images()
    assert list(mean.study_ids) == list(batch.study_ids)
    assert mean.probabilities == pytest.approx((doubled.probabilities[:6] + doubled.probabilities[6:]) / 2)


def test_report_outputs_are_nan_without_a_report():
    has_report = torch.tensor([True, True, True, False, False, False])
    outputs = study_outputs(make_vkd(), make_batch(has_report=has_report), 5, 0)
    for array in (outputs.report_probabilities[:, 0], outputs.kl, outputs.posterior_locs[:, 0]):
        assert torch.equal(torch.from_numpy(array).isnan(), ~has_report)
    assert outputs.mean_kl() == pytest.approx(outputs.kl[:3].mean())


def test_nothing_is_left_in_pyros_store_by_prediction():
    pyro.clear_param_store()
    vkd = make_vkd()
    predict(vkd.model, make_batch().images, vkd.findings, 2)
    assert len(pyro.get_param_store()) == 0
