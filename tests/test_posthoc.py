"""What is fitted once a model is trained: equal to what the functions give, and the same when it is read back."""

import numpy as np
import pytest
import torch

from tests.conftest import TinyCorpus
from tests.test_training import make_no_report, train
from vkd_pyro.artifacts.bundle import load_bundle, save_bundle
from vkd_pyro.artifacts.folders import OOD
from vkd_pyro.artifacts.run import load_checkpoint
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.evaluation.outputs import outputs_of_images
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.metrics import entropy
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.ood import OODDetector, study_p_values
from vkd_pyro.posthoc.recalibration import Isotonic, Recalibration
from vkd_pyro.posthoc.thresholds import BySensitivity, BySpecificity, OperatingPoints
from vkd_pyro.training.posthoc import Posthoc, calibrate, signals
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

FINDINGS = TinyCorpus.findings


class Pairs(TinyCorpus):
    """Every third study has a second image, that of its neighbour."""

    def _study(self, number):
        study = super()._study(number)
        more = (super()._study(number + 1).images[0],) if number % 3 == 0 else ()
        object.__setattr__(study, "images", study.images + more)
        object.__setattr__(study, "views", ("frontal",) * len(study.images))
        return study


@pytest.fixture(scope="module")
def data():
    return StudyData(Selection(Pairs(250), image_size=32), loading=Loading(batch_size=16))


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A run of an epoch or two: its probabilities tell something of every finding."""
    folder = tmp_path_factory.mktemp("after") / "run"
    train(folder, make_no_report(), Training(max_epochs=3, optimizer=adam, accelerator="cpu", num_samples=5), data)
    return folder


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


@pytest.fixture(scope="module")
def network(run):
    network = make_no_report()
    load_checkpoint(network, run)
    return network.eval()


@pytest.fixture(scope="module")
def calibration(network, data):
    return calibrate(network, data)


def equal(ours: OODDetector, theirs: OODDetector, **tolerance) -> bool:
    """Whether two references hold the same numbers."""
    ours, theirs = ours.to_arrays(), theirs.to_arrays()
    return ours.keys() == theirs.keys() and all(
        np.allclose(ours[name], theirs[name], equal_nan=True, **tolerance) for name in ours
    )


# ------------------------------------------------------------------------------------------ fitted


def test_a_calibration_is_what_the_functions_give_for_the_studies_of_validation(network, data, calibration):
    studies = outputs_of_images(network, data, "validation", 100).mean_over_images()
    assert len(studies.study_ids) == len(data.studies("validation")) > 15
    expected = Posthoc().recalibration.fit(studies.probabilities, studies.labels, FINDINGS)
    honest = expected(studies.probabilities)
    assert expected.not_fitted == {}
    assert calibration.study.recalibration == expected
    assert calibration.study.operating_points == OperatingPoints.fit(
        honest, studies.labels, FINDINGS, BySensitivity(0.9)
    )
    assert calibration.study.conformal == Conformal.fit(honest, studies.labels, FINDINGS, 0.1)


def of_images(generator, studies: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities and labels of images, which share half their spread within a study, and the studies' means."""
    labels = (generator.random(studies) < 0.3).astype(float)
    shared, own = generator.normal(size=(studies, 1)), generator.normal(size=(studies, images))
    p = 1 / (1 + np.exp(1 - 1.5 * labels[:, None] - shared - own))
    return p, labels, p.mean(1)


def test_sets_hold_as_promised_for_the_unit_that_they_were_fitted_to():
    generator = np.random.default_rng(0)
    images, labels, studies = of_images(generator, 20_000, 3)
    by_study = Conformal.fit(studies[:, None], labels[:, None], ["f"])
    by_image = Conformal.fit(images.reshape(-1, 1), labels.repeat(3)[:, None], ["f"])
    images, labels, studies = of_images(generator, 20_000, 3)

    def held(fitted: Conformal, p: np.ndarray, y: np.ndarray) -> float:
        found = fitted.coverage(p.reshape(-1, 1), y[:, None])
        return float(np.mean([found.absent[0], found.present[0]]))

    assert held(by_study, studies, labels) == pytest.approx(0.9, abs=0.01)
    assert held(by_image, images, labels.repeat(3)) == pytest.approx(0.9, abs=0.01)
    assert held(by_study, images, labels.repeat(3)) < 0.86


def test_images_have_a_fit_of_their_own(network, data, calibration):
    images = outputs_of_images(network, data, "validation", 100)
    expected = Posthoc().recalibration.fit(images.probabilities, images.labels, FINDINGS)
    honest = expected(images.probabilities)
    assert calibration.image.recalibration == expected
    assert calibration.image.conformal == Conformal.fit(honest, images.labels, FINDINGS, 0.1)
    found = evaluate(network, data, "test", 20, level="image", calibration=calibration)
    np.testing.assert_allclose(found.calibrated, expected(found.probabilities))
    expected = {"unit": "image", "fitted_on": "the validation split"} | calibration.image.to_json()
    assert found.how["calibration"] == {name: part for name, part in expected.items() if name != "usual"}
    assert evaluate(network, data, "test", 20, calibration=calibration).how["calibration"]["unit"] == "study"


def test_it_is_fitted_to_what_an_evaluation_of_validation_says(network, data, calibration):
    found = evaluate(network, data, "validation", num_samples=100, calibration=calibration)
    again = Posthoc().recalibration.fit(found.probabilities, found.labels, FINDINGS)
    np.testing.assert_allclose(again(found.probabilities), found.calibrated, atol=1e-4)
    np.testing.assert_allclose(found.calibrated, calibration.study.recalibration(found.probabilities))
    reached = [np.mean(found.answers[found.labels[:, k] == 1, k] != "no") for k in range(3)]
    assert min(reached) >= 0.9
    assert {"yes", "no"} <= set(np.unique(found.answers)) <= {"yes", "no", "refer"}
    assert set(np.unique(found.conformal)) <= {"yes", "no", "refer", "neither", "unknown"}


def test_a_run_has_its_calibration_in_its_bundle(run, calibration):
    loaded = load_bundle(run / "bundle").calibration
    assert loaded.to_json() == calibration.to_json()
    assert equal(loaded.reference, calibration.reference, rtol=1e-4, atol=1e-4)


def test_ood_is_of_images_of_training_beside_those_of_validation(network, data, calibration):
    training, validation = (outputs_of_images(network, data, split, 100) for split in ("train", "validation"))
    assert equal(calibration.reference, OODDetector.fit(signals(training), signals(validation)), atol=1e-5)
    images = sum(len(study.images) for study in data.studies("validation"))
    assert [each.size for each in calibration.reference.held_out] == [images] * 3
    p_values = calibration.reference.score(signals(validation)).p_values
    assert not np.isnan(p_values).any()


def test_signals_are_features_z_and_the_uncertainty_of_all_findings_together(network, data):
    outputs = outputs_of_images(network, data, "validation", 10)
    found = signals(outputs)
    np.testing.assert_array_equal(found.features, outputs.features)
    np.testing.assert_array_equal(found.latents, outputs.prior_locs)
    np.testing.assert_allclose(found.uncertainty, entropy(outputs.probabilities).sum(axis=1))


def test_settings_are_kept(network, data):
    settings = Posthoc(Isotonic, BySpecificity(0.8), alpha=0.3, num_samples=5)
    found = calibrate(network, data, settings)
    studies = outputs_of_images(network, data, "validation", 5).mean_over_images()
    assert found.study.recalibration == Isotonic.fit(studies.probabilities, studies.labels, FINDINGS)
    assert found.study.operating_points.rule == BySpecificity(0.8)
    assert found.study.conformal.alpha == 0.3


def test_it_is_the_same_again_and_of_a_network_that_was_training(network, data, calibration):
    network.train()
    again = calibrate(network, data)
    assert not network.training
    assert again.to_json() == calibration.to_json()
    assert equal(again.reference, calibration.reference, atol=0, rtol=0)


def test_without_z_there_is_no_reference_of_it(data):
    torch.manual_seed(0)
    found = calibrate(ImageOnly(FINDINGS, ConvEncoder((4, 8))).eval(), data, Posthoc(num_samples=2))
    assert found.reference.latents is None
    assert [each.size > 0 for each in found.reference.held_out] == [True, False, True]


def test_what_cannot_be_fitted_says_why_and_stays_as_it_is(network):
    few = StudyData(Selection(TinyCorpus(60), image_size=32), loading=Loading(batch_size=8))
    assert len(few.studies("validation")) < 5
    found = calibrate(network, few, Posthoc(num_samples=5))
    assert found.study.recalibration.not_fitted.keys() == set(FINDINGS)
    assert found.study.operating_points.undefined.keys() == set(FINDINGS)
    evaluation = evaluate(network, few, "test", 5, calibration=found)
    np.testing.assert_array_equal(evaluation.calibrated, evaluation.probabilities)
    assert set(evaluation.answers.ravel()) == {"unknown"}
    assert set(evaluation.conformal.ravel()) == {"unknown"}  # too few labels exclude nothing


@pytest.mark.parametrize("most", [16, 40, 10_000])
def test_reference_images_are_about_as_many_as_asked_for_and_spread_over_the_corpus(network, data, most):
    all_names = [study.study_id for study in data.studies("train")]
    outputs = outputs_of_images(network, data, "train", 1, max_images=most)
    chosen = [all_names.index(name) for name in outputs.study_ids]
    assert chosen == sorted(chosen)
    if most > 1000:
        assert len(outputs.study_ids) == sum(len(study.images) for study in data.studies("train"))
    else:
        assert most / 3 < len(outputs.study_ids) <= most + data.loading.batch_size  # whole batches are left out
        assert most == 16 or max(chosen) > len(all_names) / 2


def test_fewer_reference_images_make_another_reference(network, data, calibration):
    few = calibrate(network, data, Posthoc(max_reference_images=32))
    assert few.study.recalibration == calibration.study.recalibration
    assert not equal(few.reference, calibration.reference)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0}, r"posthoc\.alpha: found 0, expected a number above 0 and below 1"),
        ({"alpha": 1.5}, r"posthoc\.alpha: found 1\.5"),
        ({"num_samples": 0}, r"posthoc\.num_samples: found 0, expected at least 1"),
        ({"max_reference_images": 1}, r"posthoc\.max_reference_images: found 1, expected at least 2"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_training(arguments, message):
    with pytest.raises(UserError, match=message):
        Posthoc(**arguments)


# --------------------------------------------------------------------------------------- in a bundle


@pytest.fixture
def bundle(network, data, calibration, tmp_path):
    save_bundle(tmp_path / "bundle", network.model, FINDINGS, data.transform, "", None, calibration)
    return tmp_path / "bundle"


def test_a_bundle_gives_the_calibration_back(bundle, calibration, network, data):
    loaded = load_bundle(bundle).calibration
    assert loaded.study.recalibration == calibration.study.recalibration
    assert loaded.study.operating_points == calibration.study.operating_points
    assert loaded.study.conformal == calibration.study.conformal
    assert equal(loaded.reference, calibration.reference, atol=0, rtol=0)
    images = signals(outputs_of_images(network, data, "test", 10))
    ours, theirs = (each.reference.score(images) for each in (calibration, loaded))
    np.testing.assert_allclose(theirs.score, ours.score, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", Recalibration.__subclasses__())
def test_any_recalibration_comes_back(kind, network, data, tmp_path):
    fitted = calibrate(network, data, Posthoc(kind, num_samples=2, max_reference_images=32))
    save_bundle(tmp_path / "bundle", network.model, FINDINGS, data.transform, "", None, fitted)
    assert load_bundle(tmp_path / "bundle").calibration.study.recalibration == fitted.study.recalibration


def test_a_flipped_bit_of_the_ood_file_is_refused(bundle):
    content = bytearray((bundle / OOD).read_bytes())
    content[-5] ^= 1
    (bundle / OOD).write_bytes(content)
    with pytest.raises(UserError, match=r"ood\.safetensors: not the file this bundle was written with; copy"):
        load_bundle(bundle)


def test_an_absent_ood_file_is_refused(bundle):
    (bundle / OOD).unlink()
    with pytest.raises(UserError, match=r"ood\.safetensors: not the file this bundle was written with"):
        load_bundle(bundle)


def test_the_hash_of_a_bundle_covers_its_calibration_and_its_card(bundle, network, data, tmp_path):
    first = load_bundle(bundle)
    assert len(first.bundle_hash) == 64
    other = calibrate(network, data, Posthoc(num_samples=100, max_reference_images=32))  # another reference
    save_bundle(tmp_path / "other", network.model, FINDINGS, data.transform, "", None, other)
    second = load_bundle(tmp_path / "other")
    assert second.weights_hash == first.weights_hash
    assert second.bundle_hash != first.bundle_hash
    save_bundle(tmp_path / "card", network.model, FINDINGS, data.transform, "# Another card", None, first.calibration)
    assert load_bundle(tmp_path / "card").bundle_hash != first.bundle_hash
    (bundle / "README.md").write_text("# Another card\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"README\.md: not the card this bundle was written with"):
        load_bundle(bundle)


def test_a_bundle_without_a_calibration_has_none(network, data, tmp_path):
    save_bundle(tmp_path / "bundle", network.model, FINDINGS, data.transform, "")
    assert load_bundle(tmp_path / "bundle").calibration is None
    assert not (tmp_path / "bundle" / OOD).exists()


def test_the_p_value_of_a_study_is_its_smallest_times_its_images():
    p, study = np.array([0.01, np.nan, 0.3, 0.9, 0.8, np.nan]), np.array([1, 1, 0, 2, 2, 3])
    np.testing.assert_array_equal(study_p_values(p, study), [0.3, 0.01, 1.0, np.nan])
