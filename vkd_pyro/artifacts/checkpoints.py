"""Checkpoints that carry their own hash: a damaged one is named, never loaded.

A checkpoint is the ZIP archive that `torch.save` writes. Its comment, the last 64 bytes of the file, is the SHA-256 of
all bytes before it, in hexadecimal; `torch.load` reads it as any other.
"""

import hashlib
import io
import os
import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from vkd_pyro.artifacts.guard import guarded, regular_file
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, sha256_of, written

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
HASH = 64
AGAIN = "put back a copy of it, or train again"
BUILT = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (\w+Storage|Size|device|b?float\d+|u?int\d+|bool)"
)
"""What a checkpoint is made of, as its pickle names it."""

MAX_PICKLE = 2**26
"""Bytes of all of a checkpoint but its tensors, at most."""


def save_checked(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint, whole or not at all."""
    private_folder(path.parent)
    with written(path) as unfinished:
        with unfinished.open("wb") as file:  # given the path, torch would lose why a write failed
            torch.save(state, file)
        with unfinished.open("r+b") as file:
            file.seek(-2, os.SEEK_END)  # a ZIP archive ends with the length of its comment
            file.write(struct.pack("<H", HASH))
        digest = sha256_of(unfinished)
        with unfinished.open("ab") as file:
            file.write(digest.encode())
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the name without the content


def load_checked(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU; of what it says, nothing is imported or run.

    Raises:
        UserError: it is missing, or a link; a bit of it is not as it was written; or it is none, whoever signed it.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a run that vkd train has written")
    content = regular_file(path, AGAIN).read_bytes()
    if problem := _problem(content):
        raise UserError(f"{path}: {problem}; {AGAIN}")
    with guarded(path, AGAIN, "not a checkpoint"):
        _check_packed(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        weights = state["state_dict"]
        if not all(isinstance(key, str) and _is_state(key, one) for key, one in weights.items()):
            raise UserError("state_dict: expected tensors by name")
        return state


def _is_state(key: str, value: object) -> bool:
    """Whether it is a tensor, or the words that a part keeps of itself, such as the name of its language model."""
    if key.endswith("_extra_state") and isinstance(value, dict):
        return all(isinstance(word, str) for pair in value.items() for word in pair)
    return isinstance(value, torch.Tensor)


def resumption_of(path: Path) -> tuple[int, int, dict[str, Any]]:
    """What going on from a checkpoint needs: its epoch, its batch, and the settings it was trained with, by name.

    Raises:
        UserError: it does not say so; or as of `load_checked`.
    """
    state = load_checked(path)
    position, settings = state.get("position"), state.get("settings")
    if not isinstance(position, dict) or [type(position.get(name)) for name in ("epoch", "batch")] != [int, int]:
        raise UserError(f"{path}: does not say where its training was; {AGAIN}")
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise UserError(f"{path}: does not say with which settings it was trained; {AGAIN}")
    return position["epoch"], position["batch"], settings


def _check_packed(content: bytes) -> None:
    """Raises `UserError` where a checkpoint would take more memory than its file.

    torch.save packs without compression. What torch.load agrees to build includes what can be asked for in any size,
    such as a bytearray; so only what a checkpoint is made of is left to it.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise UserError("its parts overlap")
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(f"{entry.filename[:80]} in it is compressed, and torch.save compresses nothing")
            if not entry.filename.endswith("/data.pkl"):
                continue
            if entry.file_size > MAX_PICKLE:
                raise UserError(f"{entry.file_size:,} bytes beside its tensors, more than the limit of {MAX_PICKLE:,}")
            for opcode, argument, _ in pickletools.genops(archive.read(entry)):
                named = opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BYTEARRAY8")
                if named and not (opcode.name == "GLOBAL" and BUILT.fullmatch(str(argument))):
                    raise UserError(f"asks for {opcode.name} {str(argument)[:80]}, as no checkpoint of ours does")


def _problem(content: bytes) -> str:
    """What is wrong with the bytes of a checkpoint; "" for nothing."""
    if hashlib.sha256(content[:-HASH]).hexdigest().encode() == content[-HASH:]:
        return ""
    if set(content[-HASH:]) <= set(b"0123456789abcdef"):
        return "damaged (its SHA-256 is not the one it was written with)"
    return "damaged, or of an earlier version (it does not end in its SHA-256)"


def newest(folder: Path) -> Path:
    """The checkpoint to go on from: the last, or the one before it, with a warning, where the last is damaged.

    Raises:
        UserError: neither is whole.
    """
    problems: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():  # for a moment, while the next is written, there is no last one
            continue
        if problem := _problem(regular_file(path, AGAIN).read_bytes()):
            problems.append(f"{path}: {problem}")
            continue
        for problem in problems:
            warnings.warn(f"{problem}; going on from {path.name}", stacklevel=2)
        return path
    found = "; ".join(problems) or f"{folder}: no {LAST}"
    raise UserError(f"{found}; nothing to resume from: put back a copy, or start a new run")


class CheckedIO(TorchCheckpointIO):
    """Lightning's checkpoints, as `save_checked` writes them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint that carries its hash, whole or not at all."""
        save_checked(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The content of a checkpoint; raises `UserError` where it is damaged."""
        return load_checked(Path(path))
