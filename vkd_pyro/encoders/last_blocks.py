"""An image encoder of which the last blocks are trained, and the others stay as they were pretrained."""

from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.frozen import projection
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.prefix import blank_of, first_module_of, input_of, output_from
from vkd_pyro.utils.at_once import images_at_once
from vkd_pyro.utils.errors import UserError, check_count, check_probability
from vkd_pyro.utils.serialization import describe, hash_of_weights


class LastBlocksEncoder(ImageEncoder):
    """features = network(backbone(x_I)), of which the backbone's last blocks are trained, with what follows them.

    A block is what the network repeats: a residual block, a dense layer, a layer of a Transformer. What is before them
    has no gradient, keeps its running statistics, and is not in autograd's graph, so a step costs its forward pass
    alone. That can be computed once for all: `vkd prepare --features` writes what the first trained block is given, of
    each image and of augmented versions of it, and a step then costs the last blocks alone.

    Args:
        backbone: a pretrained image encoder.
        blocks: how many are trained, at least 1; those of DenseNet-121 are 58, of ViT-B 12, of EfficientNet-Lite0 16.
        width: of a layer on the backbone's features, as `FrozenImageEncoder` has it; None for none.
        dropout: probability, on that layer's outputs.
        input_dropout: probability, on its inputs.

    Raises:
        UserError: the backbone has no blocks, or fewer.
    """

    def __init__(
        self,
        backbone: ImageEncoder,
        blocks: int = 2,
        width: int | None = None,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_count("LastBlocksEncoder.blocks", blocks)
        check_probability("LastBlocksEncoder.dropout", dropout)
        check_probability("LastBlocksEncoder.input_dropout", input_dropout)
        groups = backbone.parameter_blocks()
        name = getattr(backbone, "name", type(backbone).__name__)
        if not groups:
            raise UserError(
                f"LastBlocksEncoder.backbone: {name} has no blocks that are known; take e.g. TorchvisionEncoder "
                "(densenet121, resnet50), TimmEncoder or TransformersEncoder, or train all of it"
            )
        if blocks >= len(groups):
            raise UserError(f"LastBlocksEncoder.blocks: found {blocks}, and {name} has {len(groups) - 1}; set it lower")
        for group in groups[:-blocks]:
            for parameter in group:
                parameter.requires_grad_(False)
        self.backbone, self.blocks = backbone, blocks
        self.width, self.dropout, self.input_dropout = width, dropout, input_dropout
        self._seen_to_be_cut = False
        self.network: nn.Module = nn.Identity()
        self.features_dim = backbone.features_dim
        if width is not None:
            check_count("LastBlocksEncoder.width", width)
            self.network, self.features_dim = projection(self.features_dim, width, dropout, input_dropout), width

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in eval mode."""
        super().train(mode)
        _train_what_learns(self.backbone, mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1], or what `extract` gives. Returns: float [B, features_dim]."""
        if images.dim() > 2:
            return self.network(self.backbone(images))
        return self.network(output_from(self.backbone, self._first_block, images, blank_of(self.backbone)))

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """What the first trained block is given. Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, F].

        Raises:
            UserError: this network cannot be cut there.
        """
        parts = images.split(images_at_once(*images.shape[2:]) if images.device.type == "cpu" else len(images))
        given = torch.cat([input_of(self.backbone, self._first_block, part).flatten(1).float() for part in parts])
        if not self._seen_to_be_cut:
            self._check_cut(images[:1], given[:1])
        return given

    @cached_property
    def feature_preparation(self) -> dict[str, Any]:
        """What `extract` depends on, for JSON: the weights that are not trained, and where the others begin."""
        frozen = hash_of_weights(_frozen_state(self.backbone))
        of_class = {"backbone": describe(self.backbone)["class_path"], "weights": frozen, "blocks": self.blocks}
        return of_class | self.backbone.feature_options

    @cached_property
    def _first_block(self) -> nn.Module:
        return first_module_of(self.backbone, self.backbone.parameter_blocks()[-self.blocks])

    def _check_cut(self, image: Tensor, given: Tensor) -> None:
        """Raises `UserError` where the blocks read more of the image than the first of them is given."""
        was, _ = self.training, self.eval()
        whole, joined = self(image), self(given)
        self.train(was)
        if not torch.allclose(whole, joined, rtol=1e-3, atol=1e-4):
            name = getattr(self.backbone, "name", type(self.backbone).__name__)
            raise UserError(
                f"LastBlocksEncoder: {name} reads in its last blocks what earlier ones gave elsewhere, so it cannot be "
                "cut there; leave out --features, or change the number of blocks"
            )
        self._seen_to_be_cut = True


def _frozen_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers of the modules that have no trained parameter of their own."""
    state = network.state_dict()
    names = [
        f"{prefix}{'.' if prefix else ''}{name}"
        for prefix, module in network.named_modules()
        if not any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        for name in (*module._parameters, *module._buffers)
    ]
    return {name: state[name] for name in names if name in state}


def _train_what_learns(module: nn.Module, mode: bool) -> None:
    """Modules all of whose parameters are trained are in this mode, others in eval mode."""
    parameters = list(module.parameters())
    if parameters and all(parameter.requires_grad for parameter in parameters):
        module.train(mode)
        return
    module.training = False
    for child in module.children():
        _train_what_learns(child, mode)
