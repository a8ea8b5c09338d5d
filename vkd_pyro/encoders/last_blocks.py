"""An image encoder of which the last blocks are trained, and the others stay as they were pretrained."""

from typing import Self

from torch import Tensor, nn

from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.utils.errors import UserError, check_count


class LastBlocksEncoder(ImageEncoder):
    """features = backbone(x_I), of which the last blocks are trained, with what follows them.

    A block is what the network repeats: a residual block, a dense layer, a layer of a Transformer. What is before them
    has no gradient, keeps its running statistics, and is not in autograd's graph, so a step costs its forward pass
    alone.

    Args:
        backbone: a pretrained image encoder.
        blocks: how many are trained, at least 1; those of DenseNet-121 are 58, of ViT-B 12, of EfficientNet-Lite0 16.

    Raises:
        UserError: the backbone has no blocks, or fewer.
    """

    def __init__(self, backbone: ImageEncoder, blocks: int = 2) -> None:
        super().__init__()
        check_count("LastBlocksEncoder.blocks", blocks)
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
        self.features_dim = backbone.features_dim

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in eval mode."""
        super().train(mode)
        _train_what_learns(self.backbone, mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim]."""
        return self.backbone(images)


def _train_what_learns(module: nn.Module, mode: bool) -> None:
    """Modules all of whose parameters are trained are in this mode, others in eval mode."""
    parameters = list(module.parameters())
    if parameters and all(parameter.requires_grad for parameter in parameters):
        module.train(mode)
        return
    module.training = False
    for child in module.children():
        _train_what_learns(child, mode)
