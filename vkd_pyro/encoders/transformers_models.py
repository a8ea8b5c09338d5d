"""Vision transformers of the library transformers, from a local folder."""

import inspect
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.pretrained import NOT_WHOLE, check_weights, quiet
from vkd_pyro.encoders.torchvision_models import OPTION
from vkd_pyro.utils.errors import UserError, check_choice, one_line
from vkd_pyro.utils.reading import read_json

SPECIAL_TOKENS = {
    "beit": 1,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "dinov3_vit": 1,
    "ijepa": 0,
    "swin": 0,
    "swinv2": 0,
    "vit": 1,
}
"""The networks, by `model_type`, and their tokens before those of patches: [CLS], DeiT's second; registers are more."""

LARGEST = 2**16
"""The largest whole number in a network's configuration."""

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


class TransformersEncoder(ImageEncoder):
    """A vision transformer of the library transformers: ViT, DeiT, DINOv2 (RAD-DINO is one), DINOv3, BEiT, Swin.

    It is read from a folder as the hub has them: config.json, model.safetensors, and preprocessor_config.json, whose
    mean, standard deviation and scale images are normalised by; the gray channel is repeated to three. Its code is that
    of the installed library alone. Images may be of any size that is a multiple of the patches: position embeddings
    are interpolated where it is not the size that the network was trained with.

    Args:
        weights: the folder.
        pooling: "cls", the last layer's first token; or "mean", the mean of those of the patches.
        architecture: what the folder's config.json says of the network, in place of a folder: a random start. A bundle
            keeps it, and so needs no folder.

    Raises:
        UserError: what is in the folder is no whole network, of another kind, or holds more than tensors.
    """

    def __init__(
        self,
        weights: str | None = None,
        pooling: Literal["cls", "mean"] = "cls",
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_choice("image_encoder.pooling", pooling, ("cls", "mean"))
        if weights is None and architecture is None:
            raise UserError(
                f"image_encoder.weights: found none, expected a folder with {CONFIG}, model.safetensors and "
                f"{PREPROCESSOR}; give {OPTION} FOLDER"
            )
        where = f"image_encoder.architecture{'' if weights is None else f', of {weights}'}"
        found = architecture if weights is None else _json(Path(weights), CONFIG)
        self.weights, self.pooling = weights, pooling
        self.architecture = _architecture(found, where)
        kind = self.architecture["model_type"]
        if pooling == "cls" and not SPECIAL_TOKENS[kind]:
            raise UserError(f"image_encoder.pooling: {kind} has no [CLS] token; set it to mean")
        self.name = kind if weights is None else Path(weights).name
        self.network: Any = _network(weights, self.architecture, where)
        # A pooler that is not read would never learn. That of BEiT has the last normalisation of the mean.
        pooler, self.network.pooler = getattr(self.network, "pooler", None), None
        self.norm = (pooling == "mean" and getattr(pooler, "layernorm", None)) or nn.Identity()
        for name, parameter in self.network.named_parameters():
            if name.endswith("mask_token"):  # of pretraining
                parameter.requires_grad_(False)
        config = self.network.config
        self.features_dim: int = config.hidden_size
        self._special = SPECIAL_TOKENS[kind] + getattr(config, "num_register_tokens", 0)
        self._patch = _side(config.patch_size)
        reads_any = "interpolate_pos_encoding" in inspect.signature(self.network.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if reads_any else {}
        mean, std, size = _normalisation(weights, config)
        self._trained_with = size
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float32 [B, features_dim].

        Raises:
            UserError: a size that is no multiple of the patches.
        """
        height, width = images.shape[-2:]
        if height % self._patch or width % self._patch:
            raise UserError(
                f"data.selection.image_size: found images of {height} x {width}, and {self.name} reads patches of "
                f"{self._patch} x {self._patch}; set it to a multiple of {self._patch}, e.g. {self._trained_with}, "
                "which it was trained with"
            )
        normalised = (images - self.mean) / self.std
        tokens = self.network(pixel_values=normalised, **self._options).last_hidden_state
        return (tokens[:, 0] if self.pooling == "cls" else self.norm(tokens[:, self._special :].mean(1))).float()

    @property
    def feature_options(self) -> dict[str, Any]:
        """The network, and how its tokens are pooled."""
        return {"architecture": self.architecture, "pooling": self.pooling}


def _architecture(found: Any, where: str) -> dict[str, Any]:
    """What of a config describes the network: numbers and words that its class has arguments for, and no names of code.

    Raises:
        UserError: a network that is not read here, or a value that is none of these.
    """
    import transformers

    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind not in SPECIAL_TOKENS:
        raise UserError(f"{where}: found model_type {str(kind)[:80]!r}, expected {', '.join(SPECIAL_TOKENS)}")
    of_all = inspect.signature(transformers.PretrainedConfig.__init__).parameters
    own = inspect.signature(type(transformers.AutoConfig.for_model(kind)).__init__).parameters
    names = sorted(name for name in own if name in found and name not in of_all and not name.startswith("_"))
    for name in names:
        values = found[name] if isinstance(found[name], list | tuple) else [found[name]]
        for value in values:
            fits = value is None or isinstance(value, bool | str | float) or (type(value) is int and value <= LARGEST)
            if not fits:
                raise UserError(
                    f"{where}: {name} is {str(value)[:80]!r}, expected a number of at most {LARGEST:,}, or a word"
                )
    return {"model_type": kind, **{name: found[name] for name in names}}


def _network(weights: str | None, architecture: dict[str, Any], where: str) -> Any:
    import transformers

    settings = {name: value for name, value in architecture.items() if name != "model_type"}
    try:
        config = transformers.AutoConfig.for_model(architecture["model_type"], **settings)
    except Exception as error:  # huggingface_hub's kinds
        raise UserError(f"{where}: not to be built ({one_line(error)[:300]})") from error
    if weights is None:
        try:
            return transformers.AutoModel.from_config(config, trust_remote_code=False).float()
        except (ValueError, TypeError, KeyError, ZeroDivisionError, IndexError) as error:
            raise UserError(f"{where}: not to be built ({one_line(error)[:300]})") from error
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            network, loaded = transformers.AutoModel.from_pretrained(
                weights,
                config=config,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except NOT_WHOLE as error:
        raise UserError(
            f"image_encoder.weights: {weights} has no weights that can be read safely ({one_line(error)[:200]}); "
            "expected model.safetensors there"
        ) from error
    check_weights("image_encoder.weights", weights, network, loaded)
    return network.train()


def _normalisation(weights: str | None, config: Any) -> tuple[Tensor, Tensor, int]:
    """Mean and standard deviation of pixels in [0, 1], float [channels, 1, 1], and the side of images in training.

    Without a folder they are 0 and 1, until weights are loaded.
    """
    channels: int = config.num_channels
    if weights is None:
        return torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1), _side(config.image_size)
    found = _json(Path(weights), PREPROCESSOR)
    mean, std = found.get("image_mean"), found.get("image_std")
    if not found.get("do_normalize", True):
        mean, std = [0.0], [1.0]
    scale = found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0
    for name, value in {"image_mean": mean, "image_std": std, "rescale_factor": [scale]}.items():
        numbers = value if isinstance(value, list) else []
        right = all(isinstance(one, int | float) and math.isfinite(one) for one in numbers)
        if len(numbers) not in (1, channels) or not right or (name != "image_mean" and min(numbers) <= 0):
            above = "" if name == "image_mean" else " above 0"
            raise UserError(
                f"{Path(weights) / PREPROCESSOR}: {name} is {str(value)[:80]}, expected {channels} numbers{above}"
            )
    size = (found.get("do_center_crop") and found.get("crop_size")) or found.get("size") or config.image_size
    return _per_channel(mean, scale, channels), _per_channel(std, scale, channels), _side(size)


def _per_channel(values: list[float], scale: float, channels: int) -> Tensor:
    """For images in [0, 1], which are bytes / 255; the values are for bytes times the scale. [channels, 1, 1]."""
    return torch.tensor(values).expand(channels).reshape(channels, 1, 1) / (255 * scale)


def _side(size: Any) -> int:
    """Pixels, of a number, a pair, or what preprocessor_config.json says: {"height", "width"} or {"shortest_edge"}."""
    values = list(size.values()) if isinstance(size, dict) else size if isinstance(size, list | tuple) else [size]
    return int(values[0])


def _json(folder: Path, name: str) -> Any:
    try:
        return read_json(folder / name, "fetch it again")
    except OSError as error:
        raise UserError(
            f"image_encoder.weights: no {name} in {folder}; expected a folder with {CONFIG}, model.safetensors and "
            f"{PREPROCESSOR}, as the hub has them; fetch it from there"
        ) from error
