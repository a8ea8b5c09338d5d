"""Image encoders: gray X-rays to feature vectors."""

import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vkd_pyro.encoders.blocks import is_block, parameters_by_block
from vkd_pyro.encoders.torchvision_models import load_image_weights, torchvision_models
from vkd_pyro.utils.at_once import images_at_once
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.precision import full_precision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TWO_HEADED = ("googlenet", "inception_v3")
"""Networks of torchvision that return two outputs while training."""


class ImageEncoder(nn.Module, abc.ABC):
    """Images to features. A subclass sets `features_dim` and keeps its constructor's arguments as attributes."""

    features_dim: int

    @abc.abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim]."""

    def parameter_blocks(self) -> list[list[nn.Parameter]]:
        """Its parameters in the order of computation: those before its first block, then those of each block.

        A block is what the network repeats (`BLOCKS`); what follows it, until the next one, belongs to it.

        Returns: [] for a network without blocks.
        """
        return parameters_by_block(self)

    @property
    def feature_options(self) -> dict[str, Any]:
        """What its features depend on beside its class and its weights, for JSON."""
        return {}

    def merged(self) -> "ImageEncoder":
        """The same function without what only training needs: what a bundle keeps."""
        return self


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
        models = torchvision_models()
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
        return full_precision(self.network(normalised.contiguous(memory_format=layout)))


# ------------------------------------------------------------------------------- gradient checkpointing


def checkpoint_blocks(network: nn.Module, name: str) -> None:
    """Makes each block of a torchvision network forget what it computed on the way to its output, in training only.

    Its parameters and buffers keep their names, and it can be copied and pickled as before.

    Raises:
        UserError: it has no blocks.
    """
    blocks = [module for module in network.modules() if is_block(module)]
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
        return full_precision(self.network((images - 0.5) / 0.25))


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
        # A quarter faster on a CPU; but with 4 channels, strided 1 x 1 convolutions of torch 2 write past the gradient.
        narrow = any(channel % 8 for channel in self.channels)
        self._layout = torch.contiguous_format if narrow else torch.channels_last
        self.network.to(memory_format=self._layout)

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim]."""
        return full_precision(self.network(((images - 0.5) / 0.25).contiguous(memory_format=self._layout)))


def _basic_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return torchvision_models().resnet.BasicBlock(inputs, outputs, stride, shortcut)


def _head(network: nn.Module, name: str) -> tuple[str, nn.Linear]:
    linear = [(key, module) for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"image_encoder.name: {name} does not end in one linear layer; expected e.g. densenet121")
    return linear[-1]
