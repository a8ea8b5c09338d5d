"""A network cut before one of its blocks: what the block is given, and what the network gives from there on."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.utils.errors import UserError


class _Reached(Exception):
    """The block was reached; what it was given."""

    def __init__(self, given: Tensor) -> None:
        self.given = given


def first_module_of(network: nn.Module, parameters: Sequence[nn.Parameter]) -> nn.Module:
    """The largest module that has the first of these parameters, and no others than these."""
    own = {id(parameter) for parameter in parameters}
    for module in network.modules():  # a module comes before its parts
        found = [id(parameter) for parameter in module.parameters()]
        if found and found[0] == id(parameters[0]) and own.issuperset(found):
            return module
    raise AssertionError("a parameter is in a module")


def input_of(network: Callable[[Tensor], Any], block: nn.Module, images: Tensor) -> Tensor:
    """What the block is given where the network reads images; what follows is not computed.

    Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, ...].

    Raises:
        UserError: the block takes more than one tensor, as a dense layer does.
    """

    def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not arguments or not isinstance(arguments[0], Tensor):
            raise UserError(
                f"LastBlocksEncoder: a {type(block).__name__} reads more than the block before it: no cache;"
                " leave out --features and set data.loading.features to false"
            )
        raise _Reached(arguments[0])

    hook = block.register_forward_pre_hook(stop)
    try:
        network(images)
    except _Reached as reached:
        return reached.given
    finally:
        hook.remove()
    raise AssertionError("the network does not use its block")


def output_from(network: Callable[[Tensor], Tensor], block: nn.Module, given: Tensor, blank: Tensor) -> Tensor:
    """What the network gives where the block is given this.

    What is before the block reads one blank image, and its result is put aside.

    Args: float [B, F], `input_of` flattened; the blank image, [1, 1, height, width]. Returns: as the network's.

    Raises:
        UserError: F is not of what the block takes.
    """

    def exchange(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return given.unflatten(1, shape_like(arguments[0], given.shape[1])).to(arguments[0].dtype), *arguments[1:]

    hook = block.register_forward_pre_hook(exchange)
    try:
        return network(blank)
    finally:
        hook.remove()


def shape_like(one: Tensor, size: int) -> tuple[int, ...]:
    """The shape of so many numbers where another image's are [1, C, H, W], or tokens [1, T, C]."""
    shape = tuple(one.shape[1:])
    side = isqrt(size // shape[0])
    if one[0].numel() == size:
        return shape
    if len(shape) == 2 and size % shape[1] == 0:
        return size // shape[1], shape[1]
    if len(shape) != 3 or shape[0] * side * side != size:
        raise UserError(
            f"data.loading.store: its features have {size} numbers an image, and the image encoder's first trained "
            f"block takes {' x '.join(map(str, shape))}; write the store again by vkd prepare --features"
        )
    return shape[0], side, side


def blank_of(backbone: nn.Module) -> Tensor:
    """A black image, of the size that a network is built for, 64 pixels where it reads any; [1, 1, size, size]."""
    parts: list[Any] = [backbone, getattr(backbone, "network", None)]
    sizes = [size for part in parts if isinstance(size := getattr(part, "image_size", None), int)]
    size = sizes[0] if sizes else 64
    return torch.zeros(1, 1, size, size, device=next(backbone.parameters()).device)
