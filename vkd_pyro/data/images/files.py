"""Opening an image file: regular files only, and no larger than an image may be."""

import os
from pathlib import Path
from typing import BinaryIO

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import open_plain

BYTES_A_PIXEL = 8
"""What the largest pixel takes, four samples of 16 bits: no coding needs more."""
SPARE_BYTES = 4 << 20
"""What a file may hold beside its pixels."""
MAX_BYTES = 512 << 20
"""Bytes of a file, at most: more than the largest image takes."""


def opened(path: Path) -> BinaryIO:
    """A file opened for reading, to be closed by the caller; never waits, as a pipe or a device would.

    Raises:
        UserError: there is no such file, it may not be read, it is no regular file, or it is too large.
    """
    try:
        file = open_plain(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    except UserError as error:
        raise UserError(
            f"{path}: unreadable or truncated image (no regular file); expected a PNG, JPEG or DICOM file"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        found = getattr(error, "strerror", None) or "no name of a file"
        raise UserError(f"{path}: unreadable or truncated image ({found}); expected a file that may be read") from error
    if (size := os.fstat(file.fileno()).st_size) <= MAX_BYTES:
        return file
    file.close()
    raise UserError(f"{path}: a file of {size:,} bytes, more than the limit of {MAX_BYTES:,}")


def check_bytes(path: Path, num_bytes: int, num_pixels: int) -> None:
    """Raises `UserError` where so few pixels are coded in so many bytes: padding, which takes its time to skip."""
    limit = BYTES_A_PIXEL * num_pixels + SPARE_BYTES
    if num_bytes > limit:
        raise UserError(
            f"{path}: {num_bytes:,} bytes for {num_pixels:,} pixels, more than the limit of {limit:,}; save it anew"
        )
