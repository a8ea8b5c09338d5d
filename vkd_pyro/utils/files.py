"""Files that are written whole or not at all, and that nobody else may read: they hold patient data."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vkd_pyro.utils.errors import UserError

MAX_JSON = 2**23
"""Bytes of a config in JSON, at most (8 MiB)."""


def private_folder(path: Path) -> None:
    """Makes a folder that only its owner may enter; those above it that are missing are made as usual."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` when the block ends without an error."""
    unfinished = path.with_name(path.name + ".unfinished")
    os.close(private(str(unfinished), os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it becomes `path` when the block ends without an error.

    `path` must not exist, or be an empty folder; folders above it that are missing are made.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all; a NaN is an error, since JSON has none."""
    with written(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_signed_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON that carries its own hash, as `config_sha256`."""
    write_json(path, content | {"config_sha256": hash_of(content)})


def read_signed_json(path: Path, version: tuple[str, object], older: str, damaged: str) -> dict[str, Any]:
    """What `write_signed_json` has written, unchanged.

    Args:
        path: of the file.
        version: the field that names the format's version, and the value that can be read.
        older: what to do about another version.
        damaged: what to do about a file that is not as it was written.

    Raises:
        UserError: it is damaged, or of another version.
    """
    if (size := path.stat().st_size) > MAX_JSON:
        raise UserError(f"{path}: {size:,} bytes, more than the limit of {MAX_JSON:,}; {damaged}")
    try:
        content = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_no_constant, object_pairs_hook=_each_once
        )
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and a number of too many digits
        raise UserError(f"{path}: not readable as JSON ({error}); {damaged}") from error
    field, expected = version
    found = content.get(field) if isinstance(content, dict) else None
    if found != expected:
        raise UserError(f"{path}: {field} is {str(found)[:40]}, this version of vkd_pyro reads {expected}; {older}")
    if content.get("config_sha256") != hash_of(content):
        raise UserError(f"{path}: changed since it was written; {damaged}")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a field stands in it twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"found {name}, which JSON does not have")


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 over everything in a config but `config_sha256`, whatever the order of its fields."""
    signed = {key: value for key, value in content.items() if key != "config_sha256"}
    return hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()


def private(path: str, flags: int) -> int:
    """An opener, for `open`, of files that only their owner may read."""
    return os.open(path, flags, 0o600)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Says in one line where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{folder}: the disk is full; make room and run again") from error
        raise


def check_space(folder: Path, needed: int) -> None:
    """Raises `UserError` where the disk of a folder has not so many bytes free."""
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(f"{folder}: {free} bytes free on the disk, {needed} needed; make room and run again")
