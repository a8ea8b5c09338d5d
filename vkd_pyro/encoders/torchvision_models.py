"""torchvision's networks and their pretrained weights, from a file or from where torch.hub keeps them."""

import os
import re
import socket
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor, nn

from vkd_pyro.encoders.hub import ASK, may_be_asked
from vkd_pyro.utils.errors import UserError

OPTION = "--method.image_encoder.weights"
"""Where a file of weights is given; of a frozen backbone it is --method.image_encoder.backbone.weights."""

TIMEOUT = 20.0
"""Seconds that a host of weights may be silent."""


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
            f"({_imagenet_url(name)}), or give {OPTION} FILE, or null for a random start"
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


def _imagenet_url(name: str) -> str:
    return torchvision_models().get_model_weights(name)["DEFAULT"].url


def _imagenet_file(name: str) -> Path:
    """Where torch.hub keeps torchvision's weights; downloaded there if that is allowed."""
    url = _imagenet_url(name)
    path = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlparse(url).path))
    if not path.is_file() and not may_be_asked():
        raise UserError(
            f"image_encoder.weights: {path.name} is not at {path}; fetch {url} and put it there, or give {OPTION} "
            f"FILE; or, to download it, put {ASK} before the command"
        )
    if not path.is_file():
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)  # torch sets none, and waits for ever for a host that is silent
        try:
            torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:  # no network; or a download that does not match its hash
            raise UserError(
                f"image_encoder.weights: {path.name} is not at {path} and could not be downloaded ({error}); "
                f"fetch {url} and put it there, or give {OPTION} FILE"
            ) from error
        finally:
            socket.setdefaulttimeout(before)
    return path


def load_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file; nothing in it is run.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"image_encoder.weights: no file {path}; give {OPTION} FILE, or null")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = dict(state.get("state_dict", state))
    except Exception as error:  # both raise many kinds for a file that is not one of their own
        raise UserError(f"{path}: not a file of tensors that can be read safely ({type(error).__name__})") from error
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {key} is a {type(value).__name__}; expected a state dict: names and tensors")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{path}: {key} has values that are not finite; fetch the file again")
    return state


COMPILER = "torch._dynamo.utils"


def torchvision_models() -> Any:
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
