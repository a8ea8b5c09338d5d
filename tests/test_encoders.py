"""Image and report encoders: what they compute, what they load, what they refuse."""

import copy
import gc
import logging
import pickle
import re
import shutil
import subprocess
import sys
import urllib.error

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn
from torchvision.models import get_model

from vkd_pyro.encoders.image import (
    ConvEncoder,
    ImageEncoder,
    SmallResNetEncoder,
    TorchvisionEncoder,
    encode,
)
from vkd_pyro.encoders.report import LanguageModelEncoder, MeanPooling, TransformerBlock, WordEncoder
from vkd_pyro.utils.at_once import images_at_once
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe


def padded(reports):
    """Prepared reports as a batch: (report, mask)."""
    lengths = torch.tensor([len(report) for report in reports])
    report = nn.utils.rnn.pad_sequence(reports, batch_first=True)
    report = report.float() if report.is_floating_point() else report
    return report, torch.arange(report.shape[1]) < lengths[:, None]


# ------------------------------------------------------------------------------- Transformer block


def with_weights_of(block, width, heads, feed_forward):
    """torch's own encoder layer, with the weights of a block."""
    layer = nn.TransformerEncoderLayer(width, heads, feed_forward, activation="gelu", batch_first=True)
    layer.self_attn.load_state_dict(block.attention.state_dict())
    layer.linear1.load_state_dict(block.feed_forward[0].state_dict())
    layer.linear2.load_state_dict(block.feed_forward[3].state_dict())
    layer.norm1.load_state_dict(block.attention_norm.state_dict())
    layer.norm2.load_state_dict(block.output_norm.state_dict())
    return layer.eval()


def test_the_block_is_a_transformer_encoder_layer_read_at_its_first_token():
    torch.manual_seed(0)
    block = TransformerBlock(width=16, heads=4, feed_forward=24, dropout=0.5).eval()
    for parameter in block.parameters():  # also norms and biases, which start at 1 and 0
        nn.init.normal_(parameter, std=0.5)
    layer = with_weights_of(block, 16, 4, 24)
    embeddings = torch.randn(3, 7, 16)
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    expected = layer(embeddings, src_key_padding_mask=~mask)[:, 0]
    features = block(embeddings, mask)
    assert torch.allclose(features, expected, atol=1e-5)
    theirs = torch.autograd.grad(expected.square().sum(), list(layer.self_attn.parameters()))
    ours = torch.autograd.grad(features.square().sum(), list(block.attention.parameters()))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_every_parameter_of_the_block_has_a_gradient():
    block = TransformerBlock(width=8, heads=2, feed_forward=8, dropout=0.0)
    block(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_the_mean_of_tokens_is_that_of_the_report_not_of_its_padding():
    pooling = MeanPooling(width=16, dropout=0.5).eval()
    embeddings, mask = torch.randn(3, 7, 16), torch.arange(7) < torch.tensor([[7], [4], [1]])
    for row, length in enumerate((7, 4, 1)):
        expected = nn.functional.layer_norm(embeddings[row, :length].mean(0), (16,))
        assert torch.allclose(pooling(embeddings, mask)[row], expected, atol=1e-5)


# ------------------------------------------------------------------------------------ word encoder


@pytest.fixture
def words():
    torch.manual_seed(0)
    return WordEncoder(vocabulary_size=50, width=8, max_tokens=5).eval()


def test_padding_does_not_change_the_features_of_words(words):
    short, long = words.prepare(["Clear lungs.", "No acute disease of the chest"])
    alone = words(*padded([short]))
    together = words(*padded([short, long]))
    assert alone.shape == (1, 8)
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_the_same_word_has_the_same_row(words):
    once, twice = words.prepare(["Opacity", "opacity, OPACITY"])
    assert twice.tolist()[:3] == [0, once[1].item(), once[1].item()]


def test_the_row_of_a_word_is_the_same_on_every_machine():
    # sha256("opacity") = ad9a0b2eddd5849d...
    assert WordEncoder(vocabulary_size=50).prepare(["opacity"])[0][1] == 1 + 0xAD9A0B2EDDD5849D % 49


def test_a_blank_report_keeps_one_token(words):
    assert [report.tolist() for report in words.prepare(["", " \n"])] == [[0], [0]]


def test_words_beyond_max_tokens_are_left_out(words):
    long, head = words.prepare(["one two three four five six seven", "one two three four five"])
    assert long.tolist() == head.tolist()
    assert len(long) == 1 + 5 + 4  # the first token, five words, four pairs


def test_no_word_shares_the_row_of_the_first_token():
    reports = WordEncoder(vocabulary_size=4).prepare([" ".join(map(str, range(200)))])
    assert set(reports[0][1:].tolist()) == {1, 2, 3}


def test_the_order_of_words_matters(words):
    one, other = words.prepare(["no effusion but opacity", "no opacity but effusion"])
    assert not torch.allclose(words(*padded([one])), words(*padded([other])))


# ---------------------------------------------------------------------------------- language model

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "no",
    "clear",
    "lungs",
    "heart",
    "large",
    "pneumo",
    "##thorax",
]
REPORTS = ["Clear lungs", "", "No pneumothorax, large heart, clear lungs", "heart"]


def write_bert(folder, seed):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
    )
    transformers.utils.logging.disable_progress_bar()
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=0)


def language_encoder(folder, **arguments):
    torch.manual_seed(1)
    return LanguageModelEncoder(str(folder), **({"max_tokens": 20} | arguments)).eval()


def test_the_encoder_is_as_wide_as_its_language_model(bert):
    encoder = language_encoder(bert)
    assert encoder.features_dim == 16
    assert encoder(*padded(encoder.prepare(REPORTS))).shape == (4, 16)
    assert encoder.block.attention.num_heads == 2
    assert encoder.block.feed_forward[0].out_features == 24


def test_nothing_of_the_language_model_is_a_parameter_or_saved(bert):
    encoder = language_encoder(bert)
    assert all(name.startswith("block.") for name, _ in encoder.named_parameters())
    assert all(name.startswith("block.") for name in encoder.state_dict() if name != "_extra_state")
    assert set(encoder.state_dict()["_extra_state"]) == {"language_model", "fingerprint"}


def test_the_language_model_stays_in_eval_mode(bert):
    encoder = language_encoder(bert).train()
    assert encoder.block.training
    assert not any(module.training for module in encoder._frozen[0].modules())


@pytest.mark.parametrize("cache", [True, False])
def test_the_language_model_gets_no_gradient(cache, bert):
    encoder = language_encoder(bert, cache=cache).train()
    encoder(*padded(encoder.prepare(REPORTS))).square().sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in encoder._frozen[0].parameters())
    assert all(p.grad is not None for p in encoder.block.parameters())


def test_the_language_model_moves_with_the_encoder(bert):
    encoder = nn.Sequential(language_encoder(bert)).double()[0]
    tokens = torch.tensor([[2, 3]])
    assert encoder.embed(tokens, tokens > 0).dtype == torch.float64
    assert {p.device.type for p in encoder.to("meta")._frozen[0].parameters()} == {"meta"}


def test_the_fingerprint_is_that_of_the_weights_not_of_their_type(bert, tmp_path):
    encoder, other = language_encoder(bert), language_encoder(write_bert(tmp_path, seed=1))
    assert language_encoder(bert).double().fingerprint == encoder.fingerprint
    assert other.fingerprint != encoder.fingerprint


def test_the_first_and_last_token_count(bert):
    encoder = language_encoder(bert, max_tokens=5, cache=False)
    whole, blank, cut, one = (report.tolist() for report in encoder.prepare(REPORTS))
    assert whole == [2, 6, 7, 3]
    assert blank == [2, 3]
    assert cut == [2, 5, 10, 11, 3]
    assert one == [2, 8, 3]


def test_cached_embeddings_are_those_of_the_language_model(bert):
    cached, direct = language_encoder(bert), language_encoder(bert, cache=False)
    reports = cached.prepare(REPORTS)
    assert {report.dtype for report in reports} == {torch.float16}
    expected = direct(*padded(direct.prepare(REPORTS)))
    assert torch.allclose(cached(*padded(reports)), expected, atol=2e-3)


def test_reports_embedded_in_many_batches_keep_their_order(bert):
    encoder, reports = language_encoder(bert), ["lungs " * (n % 7) + "no " * (n % 3) for n in range(70)]
    for n, embedded in enumerate(encoder.prepare(reports)):
        assert torch.allclose(embedded, encoder.prepare([reports[n]])[0], atol=2e-3)


@pytest.mark.parametrize("cache", [True, False])
def test_padding_does_not_change_the_features_of_a_report(cache, bert):
    encoder = language_encoder(bert, cache=cache)
    reports = encoder.prepare(REPORTS)
    together = encoder(*padded(reports))
    for row, report in enumerate(reports):
        assert torch.allclose(encoder(*padded([report]))[0], together[row], atol=1e-5)


def test_weights_load_beside_the_same_language_model(bert, tmp_path):
    trained, fresh = language_encoder(bert), language_encoder(shutil.copytree(bert, tmp_path / "moved"))
    nn.init.normal_(trained.block.attention.in_proj_weight)
    torch.save(trained.state_dict(), tmp_path / "weights")
    fresh.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    reports = padded(trained.prepare(REPORTS))
    assert torch.equal(fresh(*reports), trained(*reports))


def test_weights_do_not_load_beside_another_language_model(bert, tmp_path):
    other = language_encoder(write_bert(tmp_path, seed=1))
    with pytest.raises(UserError, match=rf"{tmp_path} has other weights than the {bert} this report encoder was"):
        other.load_state_dict(language_encoder(bert).state_dict())


def without(folder, bert, name):
    shutil.copytree(bert, folder)
    (folder / name).unlink()
    return folder


def with_broken_weights(folder, bert):
    shutil.copytree(bert, folder)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    return folder


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda folder, bert: folder, "is neither a local folder nor in reach"),
        (lambda folder, bert: folder.mkdir() or folder, "is a folder without a whole model"),
        (lambda folder, bert: without(folder, bert, "model.safetensors"), "is a folder without a whole model"),
        (lambda folder, bert: without(folder, bert, "config.json"), "is a folder without a whole model"),
        (lambda folder, bert: without(folder, bert, "vocab.txt"), "is a folder without a whole model"),
        (with_broken_weights, "is a folder without a whole model"),
    ],
    ids=["no folder", "empty folder", "no weights", "no config", "no vocabulary", "broken weights"],
)
def test_a_language_model_that_is_not_there_is_named_with_what_to_fetch(make, found, bert, tmp_path):
    folder = make(tmp_path / "model", bert)
    with pytest.raises(UserError, match=re.escape(f"report_encoder.language_model: {folder} {found}")) as error:
        LanguageModelEncoder(str(folder))
    assert "fetch config.json, the tokenizer's files (vocab.txt or tokenizer.json) and model.safetensors" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_more_tokens_than_the_language_model_has_positions_are_refused(bert):
    with pytest.raises(UserError, match=r"report_encoder.max_tokens: 21 is more than the 20 positions of"):
        LanguageModelEncoder(str(bert), max_tokens=21)


def test_a_failed_download_is_not_told_attempt_by_attempt(bert):
    language_encoder(bert)
    assert not logging.getLogger("huggingface_hub.utils").isEnabledFor(logging.WARNING)


# ---------------------------------------------------------------------------------- image networks


@pytest.mark.parametrize(
    ("name", "features_dim"), [("resnet18", 512), ("densenet121", 1024), ("mobilenet_v3_small", 1024)]
)
def test_a_torchvision_network_gives_its_features(name, features_dim):
    encoder = TorchvisionEncoder(name).eval()
    assert encoder.features_dim == features_dim
    with torch.no_grad():
        features = encoder(torch.rand(2, 1, 64, 64))
    assert (features.shape, features.dtype) == ((2, features_dim), torch.float32)


def test_images_are_repeated_to_three_channels_and_normalised_as_for_imagenet():
    torch.manual_seed(0)
    encoder = TorchvisionEncoder("resnet18").eval()
    images = torch.rand(2, 1, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    channels = (images.repeat(1, 3, 1, 1) - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    assert torch.allclose(encoder(images), encoder.network(channels), atol=1e-5)


def test_the_order_of_channels_in_memory_changes_no_value():
    torch.manual_seed(0)
    last = TorchvisionEncoder("resnet18").eval()
    first = TorchvisionEncoder("resnet18", channels_last=False).eval()
    first.load_state_dict(last.state_dict())
    images, seen = torch.rand(2, 1, 64, 64), []
    for encoder in (first, last):
        encoder.network.conv1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].is_contiguous()))
    torch.testing.assert_close(first(images), last(images), atol=1e-4, rtol=1e-4)
    assert seen == [True, False]


def test_the_options_of_a_network_are_kept_and_have_defaults_in_what_was_written_without_them():
    encoder = TorchvisionEncoder("resnet18", channels_last=False, checkpointing=True)
    again = build(describe(encoder), ImageEncoder)
    assert (again.channels_last, again.checkpointing) == (False, True)
    older = describe(encoder) | {"init_args": {"name": "resnet18", "weights": None}}
    plain = build(older, ImageEncoder)
    assert (plain.channels_last, plain.checkpointing) == (True, False)
    assert list(plain.state_dict()) == list(again.state_dict())


# -------------------------------------------------------------------------- gradient checkpointing


def two(name):
    """The same network in training mode, without checkpointing and with it."""
    torch.manual_seed(0)
    plain = TorchvisionEncoder(name).train()
    forgetful = TorchvisionEncoder(name, checkpointing=True).train()
    forgetful.load_state_dict(plain.state_dict())
    return plain, forgetful


def step(encoder):
    """What a step leaves: features, gradients, buffers, and the next random number."""
    torch.manual_seed(1)
    features = encoder(torch.rand(3, 1, 64, 64))
    features.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    return features, gradients, dict(encoder.named_buffers()), torch.rand(1)


@pytest.mark.parametrize("name", ["densenet121", "resnet18", "efficientnet_b0"])  # the last drops blocks at random
def test_what_is_computed_again_changes_no_gradient_and_no_running_statistic(name):
    plain, forgetful = two(name)
    torch.testing.assert_close(step(forgetful), step(plain), atol=1e-6, rtol=1e-6)
    counted = [buffer for key, buffer in forgetful.named_buffers() if key.endswith("num_batches_tracked")]
    assert counted
    assert all(count == 1 for count in counted)
    assert all(m.momentum > 0 for m in forgetful.modules() if isinstance(m, nn.BatchNorm2d))


FURTHER = [
    "convnext_tiny",
    "efficientnet_v2_s",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet50",
    "shufflenet_v2_x0_5",
    "swin_t",
    "swin_v2_t",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER)
def test_any_network_of_blocks_can_be_checkpointed(name):
    plain, forgetful = two(name)
    torch.testing.assert_close(step(forgetful), step(plain), atol=1e-6, rtol=1e-6)
    assert kept_bytes(forgetful) < 0.6 * kept_bytes(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "resnet18"])
def test_a_compiled_network_can_be_checkpointed(name):
    plain, forgetful = two(name)
    forgetful.compile(backend="aot_eager")  # traced as for any backend, and computed as without one
    torch.testing.assert_close(step(forgetful), step(plain), atol=1e-6, rtol=1e-6)
    assert list(forgetful.state_dict()) == list(plain.state_dict())
    assert torch.equal(
        copy.deepcopy(forgetful).eval()(torch.ones(1, 1, 64, 64)), plain.eval()(torch.ones(1, 1, 64, 64))
    )


def kept_bytes(encoder):
    """Of all distinct memory that a forward pass leaves for the backward pass, in the graph or in Python."""

    def tensors():
        gc.collect()
        return {storage(one) for one in gc.get_objects() if type(one) is torch.Tensor and one.numel()}

    def storage(tensor):
        return tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()

    saved = set()
    weights = {storage(one) for one in (*encoder.parameters(), *encoder.buffers())}
    images = torch.rand(2, 1, 64, 64)
    before = tensors() | weights
    with torch.autograd.graph.saved_tensors_hooks(lambda one: (saved.add(storage(one)), one)[1], lambda one: one):
        features = encoder(images)
    kept = (saved | tensors()) - before
    del features
    return sum(size for _, size in kept)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("densenet121", 0.3), ("resnet18", 0.65), ("resnet50", 0.45)])
def test_checkpointing_keeps_less_for_the_backward_pass(name, share):
    plain, forgetful = two(name)
    assert kept_bytes(forgetful) < share * kept_bytes(plain)


def test_without_gradients_or_out_of_training_nothing_is_computed_again(monkeypatch):
    plain, forgetful = two("resnet18")
    monkeypatch.setattr("vkd_pyro.encoders.image.checkpoint", None)  # fails if it is called
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(forgetful(images), plain(images))
    assert torch.equal(forgetful.eval()(images), plain.eval()(images))


def test_a_checkpointed_network_can_be_copied_and_pickled():
    _, forgetful = two("resnet18")
    for other in (copy.deepcopy(forgetful), pickle.loads(pickle.dumps(forgetful))):
        with torch.no_grad():
            other.network.conv1.weight.zero_()
        features, *_ = step(other)  # of the copy's own weights
        assert features.count_nonzero() == 0
    assert step(forgetful)[0].count_nonzero() > 0


def test_a_network_without_blocks_cannot_be_checkpointed():
    with pytest.raises(UserError, match=r"image_encoder.checkpointing: vgg11 has no blocks to compute again; set it"):
        TorchvisionEncoder("vgg11", checkpointing=True)


# ------------------------------------------------------------------------------------ start-up


ALIGN = """
import sys
from vkd_pyro.encoders.image import TorchvisionEncoder
TorchvisionEncoder("resnet18")
assert "torch._dynamo.utils" not in sys.modules
import torch, torchvision
print(torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[0, 1.0, 1.0, 4.0, 4.0]]), 1).item())
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") in (True, False)
assert "torch._dynamo.utils" in sys.modules
"""


@pytest.mark.slow
def test_networks_do_without_the_compiler_and_detection_still_finds_it():
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALIGN], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("1.0\n", 0), done.stderr


NEWER = """
import sys
from vkd_pyro.encoders import torchvision_models as image
sys.modules[image.COMPILER] = stand_in = image._compiler_when_asked()
from torch._dynamo.utils import counters
assert sys.modules[image.COMPILER] is not stand_in
print(sys.modules[image.COMPILER].counters is counters)
"""


@pytest.mark.slow
def test_another_version_of_torchvision_may_want_more_of_the_compiler():
    done = subprocess.run([sys.executable, "-c", NEWER], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


# ------------------------------------------------------------------------------- networks of our own


def test_a_convolutional_encoder_halves_the_image_at_each_stage():
    encoder = ConvEncoder((4, 6, 10)).eval()
    assert encoder.features_dim == 10
    assert encoder.network[:-2](torch.rand(3, 1, 32, 32)).shape == (3, 10, 4, 4)
    assert encoder(torch.rand(3, 1, 32, 32)).shape == (3, 10)


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match=r"no classification network 'resnet19' in torchvision; expected e.g. densenet"):
        TorchvisionEncoder("resnet19")


@pytest.mark.parametrize("name", ["squeezenet1_0", "googlenet", "inception_v3"])
def test_a_network_without_one_linear_head_is_refused(name):
    with pytest.raises(UserError, match=f"image_encoder.name: {name} .*; expected e.g. densenet121"):
        TorchvisionEncoder(name)


def save(state, path):
    safetensors.torch.save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("file", ["weights.pth", "weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_weights_are_loaded_from_a_file(file, name, tmp_path):
    state = get_model(name, weights=None, num_classes=7).state_dict()
    encoder = TorchvisionEncoder(name, save(state, tmp_path / file))
    loaded = encoder.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert len(loaded) == len(state) - 2


def test_weights_may_lack_the_head(tmp_path):
    state = {key: v for key, v in get_model("resnet18", weights=None).state_dict().items() if not key.startswith("fc.")}
    encoder = TorchvisionEncoder("resnet18", save({"state_dict": state}, tmp_path / "weights.pth"))
    assert torch.equal(encoder.network.conv1.weight, state["conv1.weight"])


def test_densenet_weights_of_the_old_names_are_understood(tmp_path):
    state = get_model("densenet121", weights=None).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    loaded = TorchvisionEncoder("densenet121", save(old, tmp_path / "weights.pth")).network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("other", ["densenet121", "resnet34", "resnet50"])
def test_weights_of_another_network_are_refused_in_one_line(other, tmp_path):
    path = save(get_model(other, weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=rf"{path}: not weights of resnet18: \d+ parameters missing, \d+ unknown") as e:
        TorchvisionEncoder("resnet18", path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("file", ["weights.pth", "weights.safetensors"])
def test_a_file_that_holds_no_weights_is_refused(file, tmp_path):
    (tmp_path / file).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=f"{file}: not a file of tensors that can be read safely"):
        TorchvisionEncoder("resnet18", str(tmp_path / file))


def test_a_pickle_of_anything_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights.pth: not a file of tensors that can be read safely"):
        TorchvisionEncoder("resnet18", str(tmp_path / "weights.pth"))


def test_a_missing_file_of_weights_is_named(tmp_path):
    path = tmp_path / "absent.pth"
    with pytest.raises(UserError, match=rf"image_encoder.weights: no file {path}; put the weights of resnet18 there"):
        TorchvisionEncoder("resnet18", str(path))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's folder, empty, with no network to fill it."""

    def fail(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # it may be asked
    return tmp_path / "checkpoints"


def test_imagenet_weights_out_of_reach_are_named_with_the_place_to_put_them(hub):
    with pytest.raises(UserError, match=r"image_encoder.weights: densenet121-a639ec97\.pth is not at ") as error:
        TorchvisionEncoder("densenet121", "imagenet")
    message = str(error.value)
    assert f"is not at {hub / 'densenet121-a639ec97.pth'} and could not be downloaded" in message
    assert "fetch https://download.pytorch.org/models/densenet121-a639ec97.pth and put it there" in message
    assert "\n" not in message


def test_a_download_that_does_not_match_its_hash_is_a_user_error(hub, monkeypatch):
    def corrupted(*_, **__):
        raise RuntimeError('invalid hash value (expected "a639ec97", got "0")')

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", corrupted)
    with pytest.raises(UserError, match=r"could not be downloaded .invalid hash value"):
        TorchvisionEncoder("densenet121", "imagenet")


def test_imagenet_weights_are_read_where_the_hub_keeps_them(hub):
    hub.mkdir()
    state = get_model("resnet18", weights=None).state_dict()
    torch.save(state, hub / "resnet18-f37072fd.pth")
    encoder = TorchvisionEncoder("resnet18", "imagenet")
    assert torch.equal(encoder.network.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(("channels", "blocks"), [((4, 6, 10), 1), ((4, 4, 8), 2)])
def test_the_small_residual_network_halves_the_picture_in_each_stage_but_the_first(channels, blocks):
    encoder = SmallResNetEncoder(channels, blocks).eval()
    pictures = []
    encoder.network[-2].register_forward_hook(lambda module, inputs, output: pictures.append(inputs[0].shape))
    assert encoder(torch.rand(2, 1, 64, 64)).shape == (2, encoder.features_dim) == (2, channels[-1])
    assert pictures == [(2, channels[-1], 4, 4)]  # 64 by 4 in the stem, by 2 in each of two stages


def test_a_cpu_encodes_images_in_parts_and_as_it_would_together(monkeypatch):
    torch.manual_seed(0)
    encoder, images, seen = SmallResNetEncoder((4, 8)).eval(), torch.rand(11, 1, 448, 224), []
    encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    parts = encode(encoder, images)
    assert seen == [2, 2, 2, 2, 2, 1]
    torch.testing.assert_close(parts, encoder(images))
    encode(encoder.train(), images)  # BatchNorm sees the batch
    assert seen[-1] == 11
    assert (images_at_once(224, 224), images_at_once(32, 32), images_at_once(2000, 2000)) == (4, 196, 1)
