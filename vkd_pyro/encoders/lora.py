"""An image encoder that is fine-tuned by small additions to its weights, which become part of them afterwards."""

import copy
from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor, nn

from vkd_pyro.encoders.blocks import is_attention
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.utils.errors import UserError, check_count, check_number, check_probability, one_line


class LoRAEncoder(ImageEncoder):
    r"""features = backbone(x_I), whose chosen layers compute with W + (alpha / rank) B A (Hu et al. 2022).

    A [rank, in] and B [out, rank] alone are trained, by the library `peft`; W and all else stay as they were, in eval
    mode. B begins as 0, so training begins with the pretrained function, and A has no gradient in the first step. A
    bundle keeps the backbone with the sums in place of W, so it needs no `peft`, and costs nothing more to run.

    Args:
        backbone: a pretrained image encoder.
        rank: of the additions.
        alpha: their scale, over rank.
        dropout: probability, on what the additions read.
        targets: names of layers, or their ends: ["qkv", "mlp.fc1"]; None is the linear layers of all attention.

    Raises:
        UserError: peft is not installed, or the backbone has no such layer, or does not call it.
    """

    def __init__(
        self,
        backbone: ImageEncoder,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_count("LoRAEncoder.rank", rank)
        check_number("LoRAEncoder.alpha", alpha, above=0.0)
        check_probability("LoRAEncoder.dropout", dropout)
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets
        self.features_dim = backbone.features_dim
        self.backbone = backbone.requires_grad_(False)
        _inject(backbone, targets or attention_layers(backbone), r=rank, lora_alpha=alpha, lora_dropout=dropout)
        self._tried = False
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """The backbone stays in eval mode; the additions have dropout."""
        super().train(mode)
        self.backbone.eval()
        for _, layer in _named(self.backbone):
            layer.lora_dropout.train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim].

        Raises:
            UserError: in the first step, where the network reads a layer's weights without calling it.
        """
        if self.training and not self._tried:
            return self._first(images)
        return self.backbone(images)

    def _first(self, images: Tensor) -> Tensor:
        """As `forward`; an addition to a layer that is never called would silently do nothing."""
        called: set[nn.Module] = set()
        layers = dict(_named(self.backbone))
        hooks = [layer.register_forward_hook(lambda module, *_: called.add(module)) for layer in layers.values()]
        try:
            features = self.backbone(images)
        finally:
            for hook in hooks:
                hook.remove()
        if idle := [name for name, layer in layers.items() if layer not in called]:
            raise UserError(
                f"LoRAEncoder.targets: {type(self.backbone).__name__} reads the weights of {idle[0]} without calling "
                "it, so nothing can be added to it; name other layers, e.g. those of its mlp, or take TimmEncoder's "
                "vit_small_patch16_224"
            )
        self._tried = True
        return features

    def merged(self) -> ImageEncoder:
        """The backbone, a copy, with the additions in its weights; alike to rounding."""
        backbone = copy.deepcopy(self.backbone)
        for name, layer in list(_named(backbone)):
            layer.merge(safe_merge=True)
            backbone.set_submodule(name, layer.get_base_layer())
        return backbone.requires_grad_(False)


def attention_layers(network: nn.Module) -> list[str]:
    """Names of the linear layers within the attention of a network.

    Raises:
        UserError: there is none.
    """
    attention = tuple(f"{name}." for name, module in network.named_modules() if is_attention(module))
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    found = [name for name in linear if name.startswith(attention)]
    if not found:
        name = getattr(network, "name", type(network).__name__)
        raise UserError(
            f"LoRAEncoder.targets: found none, and {name} has no linear layer in attention; name its layers, e.g. "
            "['conv1'], or take LastBlocksEncoder"
        )
    return found


def _inject(network: nn.Module, targets: list[str], **options: Any) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("image_encoder: LoRAEncoder needs peft; pip install 'vkd-pyro[encoders]'") from error
    try:
        inject_adapter_in_model(LoraConfig(target_modules=targets, **options), network)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"LoRAEncoder.targets: found {', '.join(targets)[:100]}, not all layers that can be added to "
            f"({one_line(error)[:200]})"
        ) from error


def _named(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that have additions, by their names."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer))
