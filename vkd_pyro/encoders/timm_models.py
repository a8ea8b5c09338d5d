"""timm's networks, with weights from a file or from where the hub keeps timm's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.hub import ASK, may_be_asked
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.torchvision_models import OPTION, load_state
from vkd_pyro.utils.errors import UserError, check_count, one_line
from vkd_pyro.utils.precision import full_precision

OWN = ("pretrained", "imagenet")
"""What names timm's own weights rather than a file."""

LARGEST = 2048
"""Side, at most, of the images that a network is built for: one of fixed size has a position for each patch of it."""


class TimmEncoder(ImageEncoder):
    """A network of timm (Wightman 2019), its head removed: convolutional, or a vision transformer.

    Images are normalised by the mean and standard deviation that the network's weights were trained with, by its name
    in timm; they are kept with the weights. The gray channel is repeated to three. With one channel, the network's
    first convolution is the sum of the three of the weights, and one mean and one standard deviation are the means of
    the three: the same features where the three are equal, and close to them else.

    Args:
        name: of the network in timm, with the tag of its weights where one is wanted: "resnet50",
            "vit_small_patch16_224.augreg_in21k_ft_in1k".
        weights: None (random); "pretrained" or "imagenet", timm's own of that name and tag; or a file of a state dict
            (.safetensors, .pth), timm's or one that timm can read, such as DeiT's and DINO's own. Its head is left out.
        image_size: side of the images, for networks that read one size alone (vision transformers), whose position
            embeddings are interpolated from those of the weights; None is the network's own, mostly 224.
        channels: of the network's input.

    Raises:
        UserError: timm is not installed, has no such network, or the weights are not there or of another one.
    """

    def __init__(
        self, name: str, weights: str | None = None, image_size: int | None = None, channels: Literal[1, 3] = 3
    ) -> None:
        super().__init__()
        if image_size is not None:
            check_count("image_encoder.image_size", image_size, most=LARGEST)
        if channels not in (1, 3):
            raise UserError(f"image_encoder.channels: found {channels!r}, expected 1 or 3")
        self.name, self.weights, self.image_size, self.channels = name, weights, image_size, channels
        timm = _timm()
        if not timm.is_model(name):  # names that begin with "hf-hub:" are none
            raise UserError(
                f"image_encoder.name: timm has no network {name!r}; expected e.g. resnet50, convnext_tiny, "
                "vit_small_patch16_224; python -c 'import timm; print(timm.list_models())' lists them"
            )
        self.network = _network(timm, name, weights, image_size, channels)
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        if image_size is not None and patch and any(image_size % side for side in patch):
            raise UserError(
                f"image_encoder.image_size: found {image_size}, and {name} reads patches of {patch[0]} x {patch[1]}; "
                f"set it, and data.selection.image_size, to a multiple of {patch[0]}"
            )
        self.features_dim: int = getattr(self.network, "head_hidden_size", None) or self.network.num_features
        config = self.network.pretrained_cfg
        self._demanded = (image_size or config["input_size"][-1]) if config.get("fixed_input_size") else None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", _per_channel(config["mean"], channels))
        self.register_buffer("std", _per_channel(config["std"], channels))
        self.network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim].

        Raises:
            UserError: the network reads another size alone.
        """
        height, width = images.shape[-2:]
        if self._demanded is not None and not height == width == self._demanded:
            raise UserError(
                f"data.selection.image_size: found images of {height} x {width}, and {self.name} reads "
                f"{self._demanded} x {self._demanded} alone; set it to {self._demanded}, or image_encoder.image_size "
                "to what the images are"
            )
        normalised = (images - self.mean) / self.std
        return full_precision(self.network(normalised.contiguous(memory_format=torch.channels_last)))

    def parameter_blocks(self) -> list[list[nn.Parameter]]:
        """As timm itself groups them for layer-wise learning rates."""
        from timm.models import group_parameters

        groups = group_parameters(self.network, self.network.group_matcher(coarse=False))
        named = dict(self.network.named_parameters())
        blocks = [[named[key] for key in groups[number]] for number in sorted(groups)]
        if len(blocks) > 2 and all(parameter.dim() < 2 for parameter in blocks[-1]):  # a last norm, and no block
            blocks[-2] += blocks.pop()
        return blocks

    @property
    def feature_options(self) -> dict[str, Any]:
        """The network, and the size it is built for."""
        return {"name": self.name, "image_size": self.image_size}


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    """Float [channels, 1, 1]; one channel has the mean of all."""
    numbers = torch.tensor(values)
    return (numbers if len(numbers) == channels else numbers.mean().expand(channels)).reshape(channels, 1, 1).clone()


def _network(timm: Any, name: str, weights: str | None, image_size: int | None, channels: int) -> Any:
    """The network, with what the file holds; nothing is downloaded here."""
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    options |= {} if image_size is None else {"img_size": image_size}
    path = None
    if weights is not None:
        path = _own_file(timm, name) if weights in OWN else Path(weights)
        # An overlay with weights goes before timm's own address of them. With no class in it timm is strict.
        overlay = {"num_classes": 0, "label_offset": 0, "url": "", "hf_hub_id": None, "source": ""}
        overlay["state_dict"] = _without_head(load_state(path), timm.get_pretrained_cfg(name), path, name)
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    try:
        network = timm.create_model(name, **options)
    except Exception as error:  # each of its networks raises what it likes
        if image_size is not None and "img_size" in str(error):
            raise UserError(
                f"image_encoder.image_size: found {image_size}, but {name} reads any; set it to null"
            ) from error
        if path is None:
            raise UserError(f"image_encoder.name: timm cannot build {name}: {one_line(error)[:300]}") from error
        raise UserError(
            f"image_encoder.weights: {path} holds no weights of {name} ({one_line(error)[:300]}); expected a state "
            f"dict of timm's {name}"
        ) from error
    network.pretrained_cfg.pop("state_dict", None)
    return network


def _without_head(state: dict[str, Tensor], config: Any, path: Path, name: str) -> Mapping[str, Tensor]:
    """What the file holds without its classifier, which may be of any number of classes."""
    heads = config.classifier or ()
    heads = (heads,) if isinstance(heads, str) else heads
    kept = {key: value for key, value in state.items() if key.rpartition(".")[0] not in heads}
    if not kept:
        raise UserError(f"image_encoder.weights: {path} holds no tensor; expected a state dict of timm's {name}")
    return kept


def _own_file(timm: Any, name: str) -> Path:
    """Where the hub's cache has timm's own weights; downloaded there if that is allowed."""
    import huggingface_hub as hub

    config = timm.get_pretrained_cfg(name)
    if not getattr(config, "hf_hub_id", None):
        raise UserError(f"image_encoder.weights: timm has no weights of {name} on the hub; give {OPTION} FILE, or null")
    file = config.hf_hub_filename or "model.safetensors"
    found = hub.try_to_load_from_cache(config.hf_hub_id, file)
    if isinstance(found, str):
        return Path(found)
    where = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}"
    if not may_be_asked():
        raise UserError(
            f"image_encoder.weights: the weights of {name} are not on this machine; fetch {where} and give {OPTION} "
            f"FILE; or, to download them, put {ASK} before the command"
        )
    try:
        return Path(hub.hf_hub_download(config.hf_hub_id, file))
    except Exception as error:  # its own, and by its version httpx' or requests'
        raise UserError(
            f"image_encoder.weights: the weights of {name} could not be downloaded ({one_line(error)[:200]}); fetch "
            f"{where} and give {OPTION} FILE"
        ) from error


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError("image_encoder: TimmEncoder needs timm; pip install 'vkd-pyro[encoders]'") from error
    return timm
