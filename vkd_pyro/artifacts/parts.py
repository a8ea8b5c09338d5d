"""An image model as a description, and back: built only where each of its tensors is in the file of its weights."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn.modules import module as registration

from vkd_pyro.artifacts.guard import Stored, header_of
from vkd_pyro.distributions import Family, Likelihood, ReportLikelihood
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.model import ImageModel
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.serialization import build, describe

PARTS: dict[str, type] = {
    "image_encoder": ImageEncoder,
    "prior": Family,
    "likelihood": Likelihood,
    "report_likelihood": ReportLikelihood,
    "backbone": ImageEncoder,
}
"""What a part of a model must be a subclass of, by its argument's name."""

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls them."""

REPLACED = 50, 2**23
"""Tensors, and numbers in them, that a network may have while it is built and not afterwards: torchvision's heads."""


def merged(model: ImageModel) -> ImageModel:
    """A model without what only training needs of its image encoder, which then is no part of a bundle.

    Returns: the model itself where there is nothing of that, else a copy.
    """
    encoder = model.image_encoder.merged()
    if encoder is model.image_encoder:
        return model
    copied = copy.deepcopy(model)
    copied.image_encoder = encoder
    return copied


def describe_model(model: nn.Module) -> dict[str, Any]:
    """A model, or a part of one, by its class and arguments, of which those that are parts are described in turn.

    Of a file of weights that training started from, which is not needed again, the name alone is kept.
    """
    described = describe(model)
    arguments = described["init_args"]
    for name, value in arguments.items():
        if isinstance(value, nn.Module):
            if name not in PARTS:
                raise UserError(
                    f"{described['class_path']}: its argument {name} is a network, and a bundle can hold only "
                    f"{', '.join(PARTS)}; make {name} in the constructor, from numbers"
                )
            arguments[name] = describe_model(value)
    if isinstance(model, ImageEncoder) and isinstance(arguments.get("weights"), str | Path):
        arguments["weights"] = Path(arguments["weights"]).name
    return described


def load_model(description: dict[str, Any], weights: Path, fix: str, allow: Sequence[str] = ()) -> ImageModel:
    """What `describe_model` described, with its weights; in eval mode.

    It is built without memory first (on torch's device "meta"), and compared with the header of the weights; only one
    that has the same tensors is built in earnest.

    Args: the description; the file of weights; what to do about another one; modules that parts may be of (`build`).

    Raises:
        UserError: a part is none, or not to be imported; its tensors are not those of the file; weights are NaN.
    """
    stored = header_of(weights, fix)
    with no_more_than(stored):
        compare(_shapes(description, allow), stored, weights, fix)
        model = _build(description, allow=allow)
    compare({name: _stored(one) for name, one in model.state_dict().items()}, stored, weights, fix)
    state = safetensors.torch.load_file(weights)
    wrong = [name for name, one in state.items() if one.is_floating_point() and not torch.isfinite(one).all()]
    if wrong:
        raise UserError(f"{weights}: {wrong[0]} has values that are not finite; {fix}")
    model.load_state_dict(state)
    return model.eval()


def compare(wanted: Mapping[str, Stored] | None, stored: Mapping[str, Stored], weights: Path, fix: str) -> None:
    """Raises `UserError` where a file has not the tensors that a model wants; None is not known."""
    if wanted is None:
        return
    for name in [*wanted, *stored]:
        expected, found = wanted.get(name, "none"), stored.get(name, "none")
        if expected != found:
            raise UserError(
                f"does not describe this model: {name[:200]} is {found} in {weights.name}, {expected} here; {fix}"
            )


def _shapes(description: dict[str, Any], allow: Sequence[str]) -> dict[str, Stored] | None:
    """The tensors of a model, none of them in memory; None where a part cannot be built so."""
    try:
        with torch.device("meta"):
            state = _build(description, allow=allow).state_dict()
    except Exception as error:
        if "meta" not in one_line(error):  # a part that looks at a value while it is built, as zuko's flows do
            raise
        return None
    return {name: _stored(one) for name, one in state.items()}


def _stored(tensor: torch.Tensor) -> Stored:
    return Stored(tuple(tensor.shape), DTYPES.get(tensor.dtype, str(tensor.dtype)))


def no_more_than(stored: Mapping[str, Stored]) -> AbstractContextManager[None]:
    """While it lasts, a network of more tensors, or more numbers in them, than a file has is an error at once."""
    numbers = sum(prod(one.shape) for one in stored.values())
    return _limited(2 * (numbers + REPLACED[1]), 2 * (len(stored) + REPLACED[0]))  # it is built twice


def no_larger_than(most: int) -> AbstractContextManager[None]:
    """While it lasts, networks with more bytes in all, in float32, are an error at once."""
    return _limited(most // 4, most)


@contextmanager
def _limited(numbers: int, tensors: int) -> Iterator[None]:
    """A parameter is registered before it is filled, so one that is too large takes no memory."""
    left = {"numbers": numbers, "tensors": tensors}

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        left["tensors"] -= tensor is not None
        left["numbers"] -= 0 if tensor is None else tensor.numel()
        for kind, rest in left.items():
            if rest < 0:
                raise UserError(f"the model described has too many {kind}, more than its weights or the limit")

    hooks = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _build(description: dict[str, Any], kind: type = ImageModel, allow: Sequence[str] = ()) -> Any:
    """What `describe_model` described; only such parts are built, whatever the file says."""
    arguments = dict(description["init_args"])
    for name in [name for name in PARTS if isinstance(arguments.get(name), dict)]:
        arguments[name] = _build(arguments[name], PARTS[name], allow)
    unneeded = {"weights": None} if issubclass(kind, ImageEncoder) else {}  # what training started from
    return build({**description, "init_args": arguments}, kind, allow, **unneeded)
