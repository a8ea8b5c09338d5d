"""Image encoders: gray X-rays to feature vectors."""

import abc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vkd_pyro.utils.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TWO_HEADED = ("googlenet", "inception_v3")
"""Networks of torchvision that return two outputs while training."""

BLOCKS = (
    "_DenseLayer",
    "_InvertedResidual",
    "BasicBlock",
    "Bottleneck",
    "CNBlock",
    "EncoderBlock",
    "FusedMBConv",
    "InvertedResidual",
    "MBConv",
    "PartitionAttentionLayer",
    "ResBottleneckBlock",
    "SwinTransformerBlock",
    "SwinTransformerBlockV2",
)
"""Classes of torchvision that its networks repeat, and that gradient checkpointing computes again."""


class ImageEncoder(nn.Module, abc.ABC):
    """Images to features. A subclass sets `features_dim` and keeps its constructor's arguments as attributes."""

    features_dim: int

    @abc.abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim]."""


PIXELS_AT_ONCE = 4 * 224**2
"""Bytes of the images that a CPU encodes at a time, so that its caches hold them. DenseNet-121 takes half
the time that it takes for 32 images at once."""


def images_at_once(height: int, width: int) -> int:
    """How many images of this size a CPU encodes at a time."""
    return max(1, PIXELS_AT_ONCE // (height * width))


def encode(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """Features of images, by an encoder in eval mode, which has them in parts where a CPU is faster so.

    Args: float [B, 1, height, width] in [0, 1]; what else the encoder takes. Returns: float [B, features_dim].
    """
    if encoder.training or images.device.type != "cpu" or images.dim() < 4:
        return encoder(images)
    return torch.cat([encoder(part) for part in images.split(images_at_once(*images.shape[2:]))])


class TorchvisionEncoder(ImageEncoder):
    """A classification network of torchvision, its head removed.

    The gray channel is repeated to the three that the network was made for, and normalised as for ImageNet.

    Args:
        name: of the network in torchvision, e.g. "densenet121" or "resnet18".
        weights: the values to start from: None (random), "imagenet" (torchvision's own), or a file of them.
        channels_last: hand images on in the order in memory that convolutions are fastest in; no value changes.
        checkpointing: in training, keep of each block its input only, and compute the rest again in the backward pass:
            larger images or batches in the same memory, for about a third more time. The gradients are the same.
    """

    def __init__(
        self,
        name: str = "densenet121",
        weights: str | None = None,
        channels_last: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        models = _torchvision_models()
        self.name, self.weights = name, weights
        self.channels_last, self.checkpointing = channels_last, checkpointing
        if name not in models.list_models(models):
            raise UserError(
                f"image_encoder.name: no classification network {name!r} in torchvision; "
                "expected e.g. densenet121, resnet18, resnet50, efficientnet_b0, convnext_tiny, vit_b_16"
            )
        if name in TWO_HEADED:
            raise UserError(f"image_encoder.name: {name} has two heads; expected e.g. densenet121")
        self.network = models.get_model(name, weights=None)
        head, layer = _head(self.network, name)
        if weights is not None:
            load_image_weights(self.network, name, weights, head)
        self.features_dim = layer.in_features
        self.network.set_submodule(head, nn.Identity())
        if checkpointing:
            checkpoint_blocks(self.network, name)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim]."""
        normalised = (images - self.mean) / self.std
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return self.network(normalised.contiguous(memory_format=layout)).float()


# ------------------------------------------------------------------------------- gradient checkpointing


def checkpoint_blocks(network: nn.Module, name: str) -> None:
    """Makes each block of a torchvision network forget what it computed on the way to its output, in training only.

    Its parameters and buffers keep their names, and it can be copied and pickled as before.

    Raises:
        UserError: it has no blocks.
    """
    blocks = [module for module in network.modules() if type(module).__name__ in BLOCKS]
    if not blocks:
        raise UserError(
            f"image_encoder.checkpointing: {name} has no blocks to compute again; set it to false, "
            "or take e.g. densenet121, resnet50, efficientnet_b0, convnext_tiny, vit_b_16"
        )
    for block in blocks:
        block.forward = partial(_forgetful, block)


def _forgetful(block: nn.Module, *inputs: Any) -> Any:
    """The block's output; what the backward pass needs is computed again."""
    forward = partial(type(block).forward, block)
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs)
    kept = [list(one) if isinstance(one, list) else one for one in inputs]  # DenseNet's list of features grows
    if torch.compiler.is_compiling():  # compiled code updates buffers once by itself, and takes no such context
        return checkpoint(forward, *kept, use_reentrant=False)
    return checkpoint(forward, *kept, use_reentrant=False, context_fn=partial(_first_and_again, block))


def _first_and_again(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """The running statistics of batch normalisation were updated by the first pass, and are left alone here."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    as_set = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, torch.tensor(0)
    try:
        yield
    finally:  # the second pass ends early, by an exception, when it has all that is needed
        for norm, (momentum, batches) in zip(norms, as_set, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class ConvEncoder(ImageEncoder):
    """A small convolutional network, for small images: stages of stride 2, then the mean over the image.

    Args:
        channels: output channels of each stage; the last is `features_dim`.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.features_dim = self.channels[-1]
        stages = []
        for inputs, outputs in zip((1, *self.channels), self.channels, strict=False):
            stages += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs)]
            stages += [nn.ReLU()]
        self.network = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim]."""
        return self.network((images - 0.5) / 0.25).float()


class SmallResNetEncoder(ImageEncoder):
    """A narrow residual network for few or small images: ResNet's stem, then stages of torchvision's basic blocks.

    Args:
        channels: output channels of each stage; the last is `features_dim`. Each but the first halves the image.
        blocks: basic blocks a stage.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256), blocks: int = 1) -> None:
        super().__init__()
        self.channels, self.blocks = tuple(channels), blocks
        self.features_dim = self.channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(1, self.channels[0], 7, stride=2, padding=3, bias=False)]
        layers += [nn.BatchNorm2d(self.channels[0]), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        inputs = self.channels[0]
        for stage, outputs in enumerate(self.channels):
            for block in range(blocks):
                layers.append(_basic_block(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim]."""
        return self.network(((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)).float()


def _basic_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return _torchvision_models().resnet.BasicBlock(inputs, outputs, stride, shortcut)


# -------------------------------------------------------------------------------- pretrained weights


def load_image_weights(network: nn.Module, name: str, weights: str, head: str) -> None:
    """Copies pretrained weights into a torchvision network; its head is not needed, and may be of another size.

    Args:
        network: a torchvision classification network.
        name: its name, for torchvision's own weights.
        weights: "imagenet", or a file (.pth, .pt or .safetensors).
        head: name of the head's layer in the network.

    Raises:
        UserError: the weights are not there, or are of another network; the message names the file wanted.
    """
    path = _imagenet_file(name) if weights == "imagenet" else Path(weights)
    if not path.is_file():
        raise UserError(
            f"image_encoder.weights: no file {path}; put the weights of {name} there "
            f"({_imagenet_url(name)}), or set image_encoder.weights to their path, or to null for a random start"
        )
    # Files of DenseNet from before 2018 name a layer "norm.1" where torchvision now says "norm1".
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in load_state(path).items()
        if not key.startswith(f"{head}.")
    }
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith(f"{head}.")}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted]
    reshaped = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or unknown or reshaped:
        raise UserError(
            f"{path}: not weights of {name}: {len(missing)} parameters missing, {len(unknown)} unknown, "
            f"{len(reshaped)} of another shape (e.g. {(missing + unknown + reshaped)[0]}); "
            f"expected a state dict of torchvision's {name}"
        )
    network.load_state_dict(state, strict=False)


def _head(network: nn.Module, name: str) -> tuple[str, nn.Linear]:
    linear = [(key, module) for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"image_encoder.name: {name} does not end in one linear layer; expected e.g. densenet121")
    return linear[-1]


def _imagenet_url(name: str) -> str:
    return _torchvision_models().get_model_weights(name)["DEFAULT"].url


def _imagenet_file(name: str) -> Path:
    """Where torch.hub keeps torchvision's weights; downloaded there if the network allows it."""
    url = _imagenet_url(name)
    path = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlparse(url).path))
    if not path.is_file():
        try:
            torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:  # no network; or a download that does not match its hash
            raise UserError(
                f"image_encoder.weights: {path.name} is not at {path} and could not be downloaded ({error}); "
                f"fetch {url} and put it there, or set image_encoder.weights to its path"
            ) from error
    return path


def load_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file; nothing in it is run.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"image_encoder.weights: no file {path}; set it to the path of the weights, or to null")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state.get("state_dict", state))
    except Exception as error:  # both raise many kinds for a file that is not one of their own
        raise UserError(f"{path}: not a file of tensors that can be read safely ({type(error).__name__})") from error


COMPILER = "torch._dynamo.utils"


def _torchvision_models() -> Any:
    """`torchvision.models`, imported when first wanted, and without torch's compiler.

    torchvision takes one function of the compiler, which only object detection calls; it alone would double the time
    that `vkd predict` takes to start.
    """
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return import_module("torchvision.models")
    sys.modules[COMPILER] = stand_in = _compiler_when_asked()
    try:
        return import_module("torchvision.models")
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]


def _compiler_when_asked() -> ModuleType:
    """Stands in for the compiler's module: the function imports the real one when called, other names at once."""
    stand_in = ModuleType(COMPILER)

    def real(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)

    vars(stand_in).update(is_compile_supported=lambda device: real("is_compile_supported")(device), __getattr__=real)
    return stand_in
