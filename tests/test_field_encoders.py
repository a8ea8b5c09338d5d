"""Networks of timm and of transformers as image encoders: what they compute, what a bundle keeps, what is refused."""

import json
import pickle
import sys

import pytest
import safetensors.torch
import timm
import torch
import transformers

from vkd_pyro import load_bundle
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.encoders.timm_models import TimmEncoder
from vkd_pyro.encoders.transformers_models import TransformersEncoder
from vkd_pyro.explanations.images import last_convolution
from vkd_pyro.model import ImageClassifier
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe

FINDINGS = ("a", "b", "c")
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
SWIN = {"embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 2, "image_size": 28, "patch_size": 7}


def write_network(folder, kind="dinov2", seed=0, **config):
    """A small random network of transformers, as the hub has them."""
    torch.manual_seed(seed)
    transformers.utils.logging.disable_progress_bar()
    size = SWIN if kind.startswith("swin") else SMALL
    network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **(size | config)))
    network.save_pretrained(folder)
    write_preprocessor(folder, image_mean=MEAN, image_std=STD)
    return network.eval()


def write_preprocessor(folder, **settings):
    size = {"do_center_crop": True, "crop_size": {"height": 42, "width": 42}, "size": {"shortest_edge": 50}}
    settings = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True} | size | settings
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "rad-dino"
    write_network(folder)
    return folder


def normalised(images, mean=MEAN, std=STD):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def through_a_bundle(encoder, folder, size):
    """The encoder of a bundle of it; and its description there."""
    save_bundle(folder, ImageClassifier(encoder, 3).eval(), FINDINGS, ImageTransform(size), "")
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]["init_args"]["image_encoder"]
    return load_bundle(folder).model.image_encoder, described


# ------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {"img_size": 32}),
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("test_convnext", {}),
        ("mobilenetv3_small_050", {}),  # as wide as its head, not as what is pooled
    ],
)
def test_features_of_timm_are_those_of_timm_on_normalised_images(name, options, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5, **options).eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    encoder = TimmEncoder(name, str(tmp_path / "weights.safetensors"), options.get("img_size")).eval()
    images = torch.rand(2, 1, 32, 32)
    theirs.reset_classifier(0)
    expected = theirs(normalised(images, theirs.pretrained_cfg["mean"], theirs.pretrained_cfg["std"]))
    found = encoder(images)
    assert found.shape == (2, encoder.features_dim)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert "state_dict" not in encoder.network.pretrained_cfg


def test_one_channel_is_the_sum_of_three(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")  # mean and std are 0.5, thrice
    one, three = (TimmEncoder("test_resnet", str(tmp_path / "weights.pth"), channels=n).eval() for n in (1, 3))
    assert one.mean.shape == (1, 1, 1)
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(one(images), three(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_resnet", None)])
def test_a_bundle_of_timm_stands_alone(name, size, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model(name, **({} if size is None else {"img_size": size})).state_dict(), file)
    encoder, images = TimmEncoder(name, str(file), size).eval(), torch.rand(2, 1, 32, 32)
    encoder.mean += 0.125  # another version of timm may say another one: the bundle's counts
    file.unlink()
    loaded, described = through_a_bundle(encoder, tmp_path / "bundle", 32)
    assert torch.equal(loaded(images), encoder(images))
    assert described["init_args"] == {"name": name, "weights": "weights.pth", "image_size": size, "channels": 3}


def test_timm_asks_nobody_for_weights(monkeypatch, tmp_path):
    import huggingface_hub

    def asked(*_, **__):
        raise AssertionError("asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for word in ("pretrained", "imagenet"):
        where = "https://huggingface.co/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
        with pytest.raises(UserError, match=f"test_vit are not on this machine; fetch {where} .* HF_HUB_OFFLINE=0"):
            TimmEncoder("test_vit", word)


@pytest.mark.parametrize("name", ["no_such_network", "hf-hub:timm/test_vit.r160_in1k", "local-dir:/tmp", ""])
def test_a_name_that_timm_does_not_have_is_refused(name):
    with pytest.raises(UserError, match=r"image_encoder.name: timm has no network .* expected e.g. resnet50"):
        TimmEncoder(name)


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    state = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(state, file)
    with pytest.raises(UserError, match=r"weights.safetensors holds no weights of test_vit .*Missing key.*of timm's"):
        TimmEncoder("test_vit", str(file))
    safetensors.torch.save_file({k: v for k, v in state.items() if "layer3.0.bn1" not in k}, file)
    with pytest.raises(UserError, match=r"holds no weights of test_resnet .*Missing key.*layer3.0.bn1") as error:
        TimmEncoder("test_resnet", str(file))
    assert "\n" not in str(error.value)
    safetensors.torch.save_file({"fc.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(UserError, match="holds no tensor; expected a state dict of timm's test_resnet"):
        TimmEncoder("test_resnet", str(file))
    with pytest.raises(UserError, match=r"no file .*absent.pth; give --method.image_encoder.weights FILE"):
        TimmEncoder("test_resnet", str(tmp_path / "absent.pth"))
    with (tmp_path / "code.pth").open("wb") as opened:
        pickle.dump(Exploit(), opened)
    with pytest.raises(UserError, match=r"code.pth: not a file of tensors that can be read safely"):
        TimmEncoder("test_resnet", str(tmp_path / "code.pth"))


class Exploit:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_a_size_that_a_network_does_not_read_is_refused():
    wrong = "data.selection.image_size: found images of 32 x 32, and test_vit reads 160 x 160 alone; set it to 160"
    with pytest.raises(UserError, match=wrong):
        TimmEncoder("test_vit")(torch.rand(1, 1, 32, 32))
    with pytest.raises(UserError, match="image_size: found 32, but test_resnet reads any"):
        TimmEncoder("test_resnet", image_size=32)
    with pytest.raises(UserError, match="image_size: found 28, and test_vit reads patches of 16 x 16; set it, and"):
        TimmEncoder("test_vit", image_size=28)
    with pytest.raises(UserError, match="image_size: found 4096, expected a whole number, from 1 to 2048"):
        TimmEncoder("test_vit", image_size=4096)
    with pytest.raises(UserError, match="channels: found 2, expected 1 or 3"):
        TimmEncoder("test_resnet", channels=2)


def test_position_embeddings_are_interpolated_to_another_size(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    encoder = TimmEncoder("test_vit", str(tmp_path / "weights.pth"), image_size=48)
    assert encoder(torch.rand(1, 1, 48, 48)).shape == (1, 64)
    assert encoder.network.pos_embed.shape == (1, 1 + 3 * 3, 64)


def test_a_vision_transformer_has_no_map():
    with pytest.raises(UserError, match="test_vit has no convolutional layer"):
        last_convolution(TimmEncoder("test_vit", image_size=32).eval(), torch.rand(1, 1, 32, 32))
    encoder = TimmEncoder("test_resnet").eval()
    assert last_convolution(encoder, torch.rand(1, 1, 64, 64)) is encoder.network.layer4


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"TimmEncoder needs timm; pip install 'vkd-pyro\[encoders\]'"):
        TimmEncoder("test_resnet")


# ----------------------------------------------------------------------------------- transformers

KINDS = {"vit": 1, "deit": 2, "dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 1, "beit": 1, "swin": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_transformers_are_those_of_transformers(kind, tmp_path):
    theirs = write_network(tmp_path / "model", kind)
    images = torch.rand(2, 1, 28, 28)
    tokens = theirs(normalised(images)).last_hidden_state
    assert tokens.shape[1] == 4 + KINDS[kind]
    encoder = TransformersEncoder(str(tmp_path / "model"), "mean").eval()
    mean = tokens[:, KINDS[kind] :].mean(1)
    expected = theirs.pooler.layernorm(mean) if kind == "beit" else mean
    torch.testing.assert_close(encoder(images), expected)
    if KINDS[kind]:
        encoder = TransformersEncoder(str(tmp_path / "model")).eval()
        torch.testing.assert_close(encoder(images), tokens[:, 0])
    assert encoder(torch.rand(1, 1, 56, 56)).shape == (1, encoder.features_dim)


def test_images_are_scaled_as_the_preprocessor_says(dinov2, tmp_path):
    theirs = write_network(tmp_path / "model")
    images = torch.rand(2, 1, 28, 28)
    for settings, pixels in (
        ({"image_mean": [0.5], "image_std": [0.5], "rescale_factor": 1 / 127.5}, (2 * images - 0.5) / 0.5),
        ({"do_rescale": False, "image_mean": MEAN, "image_std": STD}, normalised(255 * images)),
        ({"do_normalize": False}, images),
    ):
        write_preprocessor(tmp_path / "model", **settings)
        expected = theirs(pixels.expand(-1, 3, -1, -1)).last_hidden_state[:, 0]
        found = TransformersEncoder(str(tmp_path / "model")).eval()(images)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "pooling"), [("dinov2", "cls"), ("beit", "mean"), ("swin", "mean")])
def test_a_bundle_of_transformers_stands_alone(kind, pooling, tmp_path):
    write_network(tmp_path / "model", kind)
    encoder, images = TransformersEncoder(str(tmp_path / "model"), pooling).eval(), torch.rand(2, 1, 28, 28)
    (tmp_path / "model").rename(tmp_path / "away")
    loaded, described = through_a_bundle(encoder, tmp_path / "bundle", 28)
    assert torch.equal(loaded(images), encoder(images))
    assert described["init_args"]["weights"] == "model"
    assert described["init_args"]["architecture"]["model_type"] == kind


def test_a_network_is_described_by_numbers_alone(dinov2):
    architecture = TransformersEncoder(str(dinov2)).architecture
    names = {"auto_map": {"AutoModel": "evil.Model"}, "_attn_implementation": "owner/kernel", "quantization_config": {}}
    names |= {"_name_or_path": "owner/name", "architectures": ["Evil"]}
    assert TransformersEncoder(architecture=architecture | names).architecture == architecture
    for name, value in (("hidden_size", 2**40), ("hidden_act", {"class_path": "evil"}), ("patch_size", [[14]])):
        with pytest.raises(UserError, match=f"image_encoder.architecture: {name} is .* expected a number of at most"):
            TransformersEncoder(architecture=architecture | {name: value})
    with pytest.raises(UserError, match="found model_type 'llama', expected beit, deit, dinov2"):
        TransformersEncoder(architecture={"model_type": "llama"})
    with pytest.raises(UserError, match=r"image_encoder.architecture: not to be built"):
        TransformersEncoder(architecture=architecture | {"hidden_act": "evil"})


def test_folders_that_are_no_whole_network_are_refused(dinov2, tmp_path):
    with pytest.raises(UserError, match=r"weights: found none, expected a folder with config.json"):
        TransformersEncoder()
    with pytest.raises(UserError, match=r"weights: no config.json in .*absent; expected a folder"):
        TransformersEncoder(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"pooling: swin has no .CLS. token; set it to mean"):
        TransformersEncoder(architecture={"model_type": "swin", **SWIN})
    folder = tmp_path / "model"
    write_network(folder)
    write_preprocessor(folder, image_mean=MEAN, image_std=[0.5, 0.0, 0.5])
    with pytest.raises(UserError, match=r"preprocessor_config.json: image_std is .* expected 3 numbers above 0"):
        TransformersEncoder(str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config.json in .*model; expected a folder"):
        TransformersEncoder(str(folder))
    write_network(folder)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if "layer.1." not in key}
    safetensors.torch.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"image_encoder.weights: the weights of .* are not those of its config.json"):
        TransformersEncoder(str(folder))


def test_pickled_weights_are_read_as_tensors_or_not_at_all(tmp_path):
    theirs = write_network(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    images = torch.rand(1, 1, 28, 28)
    expected = theirs(normalised(images)).last_hidden_state[:, 0]
    torch.testing.assert_close(TransformersEncoder(str(tmp_path)).eval()(images), expected)
    torch.save({"cls_token": Exploit()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no weights that can be read safely .* expected model.safetensors there"):
        TransformersEncoder(str(tmp_path))


def test_an_image_of_parts_of_patches_is_refused(dinov2):
    wrong = r"image_size: found images of 32 x 32, and rad-dino reads patches of 14 x 14; set it .* e.g. 42, which"
    with pytest.raises(UserError, match=wrong):
        TransformersEncoder(str(dinov2))(torch.rand(1, 1, 32, 32))


def test_what_is_described_is_built_again(dinov2):
    encoder = TransformersEncoder(str(dinov2), "mean").eval()
    again = build(json.loads(json.dumps(describe(encoder))), TransformersEncoder, weights=None).eval()
    again.load_state_dict(encoder.state_dict())
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(again(images), encoder(images))
