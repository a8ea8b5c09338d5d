"""Files and folders that are written whole or not at all.

What may hold something of a patient is for its owner alone, whatever the umask: files 0600, folders 0700. A folder that
is to be handed on (a bundle, an export, a made-up corpus) has 0755 less the umask: nobody else may ever write to it.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import open_plain, read_json

UNFINISHED = re.compile(r"\..*\.[0-9a-f]{16}\.unfinished", re.DOTALL)
"""The names of what is not finished: hidden, and random, so that nobody can put something in their place."""
NO_ROOM = (*map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)), "iostream error")
"""What is said where there is no room: by the system, and by libraries in C++ of any write that failed."""

MAX_JSON = 2**23
"""Bytes of a config in JSON, at most (8 MiB)."""


def private_folder(path: Path) -> None:
    """Makes a folder that only its owner may enter, and those above it that are missing, which others may enter."""
    folders_above(path)
    path.mkdir(mode=0o700, exist_ok=True)


def folders_above(path: Path) -> None:
    """Makes the folders above a file or folder that are missing: 0755 less the umask."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o755, exist_ok=True)


# ------------------------------------------------------------------------------------ written whole


@contextmanager
def written(path: Path, replace: bool = True) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it becomes `path` when the block ends without an error.

    It is a new file, whatever stands there. What a killed process left of its own is removed first.

    Args:
        path: of the file.
        replace: whether a file that is there by then may be replaced.

    Raises:
        UserError: the disk is full; or there is a file, and it may not be replaced.
    """
    _remove_once(os.path.abspath(path.parent))
    with full_disk(path), _held(path, _new_file) as unfinished:
        try:
            yield unfinished
            if replace:
                unfinished.replace(path)
            else:
                _move_to_free(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it becomes `path` when the block ends without an error.

    `path` must not exist, or be an empty folder; folders above it that are missing are made.

    Raises:
        UserError: the disk is full.
    """
    with full_disk(path), scratch_folder(path) as unfinished:
        mode = stat.S_IMODE(unfinished.stat().st_mode)
        unfinished.chmod(0o700)
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.chmod(mode)
        unfinished.rename(path)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which is removed when the block ends; folders above it that are missing are made."""
    folders_above(path)
    _remove_once(os.path.abspath(path.parent))
    with _held(path, _new_folder) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: str | Path) -> None:
    """Removes what killed processes of this user left unfinished in a folder.

    Whoever writes holds the lock of what it writes, which its end releases, however it ends. Where a file system has no
    locks, everything stays.
    """
    try:
        with os.scandir(folder) as entries:
            left = [entry for entry in entries if UNFINISHED.fullmatch(entry.name) and not entry.is_symlink()]
    except OSError:  # a folder that may be written to, but not listed
        return
    for entry in left:
        path = Path(entry.path)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:  # it is gone, or another user's
            continue
        try:
            if os.fstat(handle).st_uid == os.geteuid() and _lock(handle):
                shutil.rmtree(path) if entry.is_dir() else path.unlink(missing_ok=True)
        finally:
            os.close(handle)


@lru_cache(maxsize=1024)
def _remove_once(folder: str) -> None:
    """Once a process: a folder may have many files, each of which is written."""
    if os.path.isdir(folder):
        remove_unfinished(folder)


@contextmanager
def _held(path: Path, make: Any) -> Iterator[Path]:
    """A new file or folder of a random name beside `path`, whose lock is held while the block lasts."""
    while True:
        # The name is cut where with ours it would be longer than a file's name may be.
        unfinished = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.unfinished")
        handle = make(unfinished)
        _lock(handle)
        if unfinished.exists():  # else another process has taken it for a dead one's before it was locked
            break
        os.close(handle)
    try:
        yield unfinished
    finally:
        os.close(handle)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)


def _new_folder(path: Path) -> int:
    path.mkdir(mode=0o755)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _lock(handle: int) -> bool:
    """Whether the lock of an open file could be had."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another holds it, or the file system has none
        return False
    return True


def _move_to_free(unfinished: Path, path: Path) -> None:
    """Gives a file its name, if nothing has it."""
    taken = f"{path}: something was put there meanwhile, and it is kept; choose another file, or delete it"
    try:
        os.link(unfinished, path, follow_symlinks=False)
    except FileExistsError as error:
        raise UserError(taken) from error
    except OSError as error:  # no hard links on this file system
        if os.path.lexists(path):
            raise UserError(taken) from error
        unfinished.rename(path)


def private(path: str, flags: int) -> int:
    """An opener, for `open`, of files that only their owner may read; a link is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


# --------------------------------------------------------------------------------------- JSON, hashes


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
    content = read_json(path, damaged, parse_constant=_no_constant, object_pairs_hook=_each_once)
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


def sha256_of(path: Path) -> str:
    """SHA-256 of the content of a plain file, in hexadecimal; raises as `open_plain`."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------- room on disk


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Says in one line where a disk is full, of a file or folder that is written; also where a library hides it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if problem := _no_room(error):
            raise UserError(f"{path}: the disk is full ({problem}); make room and run again") from error
        raise


def _no_room(error: BaseException | None) -> str:
    """What an error, or one that it was made of, says of a lack of room; "" where it says nothing of it."""
    while error is not None:
        said = f"{error} {error.strerror}" if isinstance(error, OSError) else str(error)
        if found := [text for text in NO_ROOM if text in said]:
            return found[0]
        error = error.__cause__ or error.__context__
    return ""


def check_space(folder: Path, needed: int) -> None:
    """Raises `UserError` where the disk of a folder has not so many bytes free."""
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(f"{folder}: {free} bytes free on the disk, {needed} needed; make room and run again")
