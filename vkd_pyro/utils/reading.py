"""Files that are read only where they are plain files, of a size that they may have."""

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from vkd_pyro.utils.encodings import decode
from vkd_pyro.utils.errors import UserError, one_line

LARGEST_REPORT = 1 << 20
"""Bytes of the largest report: far more than a radiologist writes."""
LARGEST = 1 << 26
"""Bytes of the largest text or JSON file that is read whole: 64 MiB."""


def open_plain(path: Path) -> io.BufferedReader:
    """Opens a file for reading.

    Raises:
        UserError: it is no plain file: a pipe would be waited for, and a device may have no end.
        OSError: it is not there, or may not be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise UserError(f"{path}: a folder, a pipe or a device, expected a plain file; put one there")


def check_plain(path: Path) -> None:
    """Raises as `open_plain` does, for what another library will open."""
    open_plain(path).close()


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a plain file.

    Raises:
        UserError: it is no plain file, or larger than so many bytes.
        OSError: it is not there, or may not be read.
    """
    content = bytearray()
    with open_plain(path) as file:
        size = min(max(os.fstat(file.fileno()).st_size, 1 << 12), 1 << 20)
        while len(content) <= largest and (piece := file.read(size)):
            content += piece
    if len(content) > largest:
        raise UserError(f"{path}: more than {largest:,} bytes, expected a small file; is it the right one?")
    return bytes(content)


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The text of a plain file in UTF-8 or UTF-16, without a byte order mark; raises as `read_bytes`, or if none."""
    try:
        return decode(read_bytes(path, largest))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8; save it in that encoding") from error


def read_json(path: Path, damaged: str, **options: Any) -> Any:
    """The content of a JSON file; raises as `read_bytes`, and where it is none: `damaged` says what to do then.

    Options are those of `json.loads`.
    """
    content = read_bytes(path)
    try:
        return json.loads(content.decode("utf-8-sig"), **options)
    except (ValueError, RecursionError) as error:  # too long a number is a ValueError, too deep a list the other
        raise UserError(f"{path}: not readable as JSON ({one_line(error)}); {damaged}") from error
