"""The blocks that a network repeats: what one trains of its end alone, and what gradient checkpointing forgets."""

from torch import nn

BLOCKS = (
    "_DenseLayer",
    "_InvertedResidual",
    "BasicBlock",
    "BeitLayer",
    "Bottleneck",
    "CNBlock",
    "DeiTLayer",
    "DINOv3ViTLayer",
    "Dinov2Layer",
    "Dinov2WithRegistersLayer",
    "EncoderBlock",
    "FusedMBConv",
    "IJepaLayer",
    "InvertedResidual",
    "MBConv",
    "MBConvBlock",
    "PartitionAttentionLayer",
    "ResBottleneckBlock",
    "SwinLayer",
    "SwinTransformerBlock",
    "SwinTransformerBlockV2",
    "Swinv2Layer",
    "ViTLayer",
)
"""Classes that the networks of torchvision, of efficientnet-lite-pytorch and of transformers repeat."""


def is_block(module: nn.Module) -> bool:
    """Whether a module is one of the blocks that a network repeats."""
    return type(module).__name__ in BLOCKS


def is_attention(module: nn.Module) -> bool:
    """Whether a module mixes all places of an image, as the libraries name it: ViTAttention, WindowAttention."""
    return "Attention" in type(module).__name__


def parameters_by_block(network: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters in the order in which the network defines them: before its first block, then of each block on.

    Libraries define layers in the order of computation. Returns: [] where there are no blocks.
    """
    blocks = [name for name, module in network.named_modules() if is_block(module)]
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    number = 0
    for name, parameter in network.named_parameters():
        while number < len(blocks) and name.startswith(f"{blocks[number]}."):
            number += 1
        groups[number].append(parameter)
    return groups if blocks else []
