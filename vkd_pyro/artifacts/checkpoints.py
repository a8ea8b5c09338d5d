"""Checkpoints that carry their own hash: a damaged one is named, never loaded.

A checkpoint is the ZIP archive that `torch.save` writes. Its comment, the last 64 bytes of the file, is the SHA-256 of
all bytes before it, in hexadecimal; `torch.load` reads it as any other.
"""

import hashlib
import io
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, sha256_of, written

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
HASH = 64


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
    """The content of a checkpoint, tensors on the CPU.

    Raises:
        UserError: it is missing, or a bit of it is not as it was written.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a run that vkd train has written")
    content = path.read_bytes()
    if problem := _problem(content):
        raise UserError(f"{path}: {problem}; put back a copy of it, or train again")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


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
        if problem := _problem(path.read_bytes()):
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
