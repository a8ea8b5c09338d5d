"""Bundles: what is written comes back, in any process, or not at all."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from vkd_pyro.artifacts.bundle import Bundle, load_bundle, save_bundle
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.distributions import MLP, BernoulliLikelihood, DiagonalNormal, Head
from vkd_pyro.encoders.image import ConvEncoder, TorchvisionEncoder
from vkd_pyro.model import ImageClassifier, Model
from vkd_pyro.prediction import predict_files
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import hash_of
from vkd_pyro.utils.serialization import describe

FINDINGS = ("Edema", "Fracture", "Pneumonia")
TRANSFORM = ImageTransform(16, scaled_jpeg=True)


def make_model():
    torch.manual_seed(0)
    encoder = ConvEncoder((8, 16))
    prior = DiagonalNormal(16, 4, MLP((8,), dropout=0.1))
    return Model(encoder, prior, BernoulliLikelihood(4, 3, features_dim=16, head=Head(8))).eval()


def make_classifier():
    torch.manual_seed(0)
    return ImageClassifier(ConvEncoder((8, 16)), 3).eval()


def probabilities(bundle, images):
    return np.stack(
        [said.probabilities for said in predict_files(bundle, images, UncertaintySources(num_samples=7, seed=3))]
    )


models = pytest.mark.parametrize("make", [make_model, make_classifier])


@pytest.fixture
def folder(tmp_path):
    """A bundle of a small model."""
    save_bundle(tmp_path / "bundle", make_model(), FINDINGS, TRANSFORM, "# A card\n")
    return tmp_path / "bundle"


@pytest.fixture
def images(tmp_path):
    """Two image files of other sizes than the bundle's."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (20, 24), dtype=np.uint8)).save(path)
    return paths


def edit(folder, **changes):
    """Changes fields of a bundle's config, and its hash with them: a bundle that was written like that."""
    config = json.loads((folder / "config.json").read_text()) | changes
    config["config_sha256"] = hash_of(config)
    (folder / "config.json").write_text(json.dumps(config))


# ------------------------------------------------------------------------------------- there and back


@models
def test_a_bundle_gives_back_what_was_saved(make, tmp_path):
    model = make()
    save_bundle(tmp_path / "bundle", model, FINDINGS, TRANSFORM, "# A card\n")
    bundle = load_bundle(tmp_path / "bundle")
    assert type(bundle.model) is type(model)
    assert not bundle.model.training
    assert (bundle.findings, bundle.transform) == (FINDINGS, TRANSFORM)
    assert bundle.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in bundle.model.state_dict().items())


@models
def test_a_loaded_model_predicts_what_the_saved_one_did(make, tmp_path, images):
    model = make()
    save_bundle(tmp_path / "bundle", model, FINDINGS, TRANSFORM, "")
    bundle = load_bundle(tmp_path / "bundle")
    expected = probabilities(Bundle(model, FINDINGS, TRANSFORM, ""), images)
    assert expected.shape == (2, 3)
    assert np.array_equal(probabilities(bundle, images), expected)


def test_parts_are_rebuilt_with_their_arguments(folder):
    model = load_bundle(folder).model
    assert (model.image_encoder.channels, model.prior.mlp) == ((8, 16), MLP((8,), 0.1))
    assert (model.likelihood.features_dim, model.likelihood.head) == (16, Head(8))


def test_a_bundle_needs_no_file_of_pretrained_weights(tmp_path):
    state = TorchvisionEncoder("mobilenet_v3_small").network.state_dict()
    safetensors.torch.save_file(state, tmp_path / "pretrained.safetensors")
    encoder = TorchvisionEncoder("mobilenet_v3_small", str(tmp_path / "pretrained.safetensors"))
    save_bundle(tmp_path / "bundle", ImageClassifier(encoder, 3), FINDINGS, TRANSFORM, "")
    (tmp_path / "pretrained.safetensors").unlink()
    loaded = load_bundle(tmp_path / "bundle").model.image_encoder
    assert all(torch.equal(value, state[key]) for key, value in loaded.network.state_dict().items())


def test_a_part_describes_itself_by_class_and_arguments():
    assert describe(ConvEncoder((8, 16))) == {
        "class_path": "vkd_pyro.encoders.image.ConvEncoder",
        "init_args": {"channels": (8, 16)},
    }


def test_the_card_stands_in_the_bundle(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    assert (folder / "README.md").read_text() == "# A card\n"


FRESH = """
import json, sys
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.prediction import predict_files
from vkd_pyro.prediction.prediction import UncertaintySources
predicted = predict_files(load_bundle(sys.argv[1]), sys.argv[2:], UncertaintySources(num_samples=7, seed=3))
bits = "".join(each.probabilities.tobytes().hex() for each in predicted)
imported = [name for name in ("transformers", "tokenizers", "lightning", "jsonargparse") if name in sys.modules]
print(json.dumps({"bits": bits, "imported": imported}))
"""


def test_a_fresh_process_predicts_the_same_bits_without_the_tools_of_training(folder, images):
    command = [sys.executable, "-W", "error", "-c", FRESH, str(folder), *map(str, images)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = probabilities(load_bundle(folder), images)
    finally:
        torch.set_num_threads(threads)
    assert answer == {"bits": here.tobytes().hex(), "imported": []}


# ------------------------------------------------------------------------------------------- refused


def test_a_bundle_is_never_overwritten(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="exists already, and a bundle never changes; choose another folder"):
        save_bundle(folder, make_classifier(), FINDINGS, TRANSFORM, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_empty_folder_is_not_written_into(tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UserError, match="exists already"):
        save_bundle(tmp_path / "bundle", make_classifier(), FINDINGS, TRANSFORM, "")
    assert list((tmp_path / "bundle").iterdir()) == []


@pytest.mark.parametrize("target", ["safetensors.torch.save_file", "pathlib.Path.write_text", "json.dumps"])
def test_nothing_stands_at_the_name_of_a_bundle_that_could_not_be_written(target, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(target, fail)
        with pytest.raises(OSError, match="no space left on device"):
            save_bundle(tmp_path / "bundle", make_classifier(), FINDINGS, TRANSFORM, "")
    assert not (tmp_path / "bundle").exists()
    save_bundle(
        tmp_path / "bundle", make_classifier(), FINDINGS, TRANSFORM, ""
    )  # what is left does not stand in the way
    assert load_bundle(tmp_path / "bundle").findings == FINDINGS
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_bundle_without_one_of_its_files_is_refused(name, folder):
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"not a bundle; expected a folder with config.json and weights.safetensors"):
        load_bundle(folder)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path):
    with pytest.raises(UserError, match="nowhere: not a bundle"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("place", [9, 2000, -1])
def test_changed_weights_are_refused(place, folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[place] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors: not the weights this bundle was written with"):
        load_bundle(folder)


def test_findings_that_were_reordered_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"findings": config["findings"][::-1]}))
    with pytest.raises(UserError, match=r"config\.json: changed since it was written"):
        load_bundle(folder)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 6, None])
def test_a_bundle_of_another_version_is_refused(version, folder):
    edit(folder, format_version=version)
    with pytest.raises(UserError, match=f"format_version is {version}, this version of vkd_pyro reads 5; use the"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800"])
def test_a_config_that_is_none_is_refused(text, folder):
    (folder / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"config.json: (not readable as JSON|format_version is None)") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "class_path",
    ["vkd_pyro.encoders.image.Tensor", "vkd_pyro.encoders.image.nn", "vkd_pyro.distributions.DiagonalNormal"],
)
def test_a_part_that_is_no_image_encoder_is_refused(class_path, folder):
    model = json.loads((folder / "config.json").read_text())["model"]
    model["init_args"]["image_encoder"] = {"class_path": class_path, "init_args": {}}
    edit(folder, model=model)
    with pytest.raises(UserError, match=f"{class_path}: found .*, expected a subclass of ImageEncoder"):
        load_bundle(folder)


@pytest.mark.parametrize("class_path", ["vkd_pyro.encoders.nowhere.Encoder", "vkd_pyro.encoders.image.NoSuchEncoder"])
def test_a_part_that_is_not_installed_is_named(class_path, folder):
    model = json.loads((folder / "config.json").read_text())["model"]
    model["init_args"]["image_encoder"] = {"class_path": class_path, "init_args": {}}
    edit(folder, model=model)
    with pytest.raises(UserError, match=f"{class_path}: not found; install the package the model was made with"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {}},
        {"model": None},
        {"model": {"class_path": "vkd_pyro.model.Model", "init_args": {"image_encoder": {}}}},
        {"findings": None},
        {"image_transform": {"sides": 3}},
        {"image_transform": None},
        {"weights_sha256": None},
    ],
)
def test_a_config_that_does_not_describe_the_model_is_refused_in_one_line(changes, folder):
    edit(folder, **changes)
    with pytest.raises(UserError, match=r"copy the bundle again") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)


def test_other_sizes_than_those_of_the_weights_are_refused_in_one_line(folder):
    model = json.loads((folder / "config.json").read_text())["model"]
    model["init_args"]["prior"]["init_args"]["latent_dim"] = 5
    edit(folder, model=model)
    with pytest.raises(UserError, match=r"config.json: does not describe this model") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)
