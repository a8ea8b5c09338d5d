"""What stands between a stranger's file and this process: it is loaded as it should be, or refused in one line.

Before a file is read: it is a regular file in its folder, no link to another of this machine's, and not too large.
Before a network is built: each of its tensors has the shape that the file's header says (`vkd_pyro.artifacts.parts`).
"""

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors

from vkd_pyro.utils.errors import UserError, one_line

MAX_WEIGHTS = 2**30
"""Bytes of a file of weights, at most (1 GiB): 268 million parameters; DenseNet-121 has 7, ViT-B 86."""

MAX_HEADER = 2**24
"""Bytes of the header of a file of weights, at most."""

LONGEST = 300
"""Characters of another library's message that are repeated."""


@contextmanager
def guarded(path: Path, fix: str, wrong: str = "not to be read", named: bool = True) -> Iterator[None]:
    """Whatever goes wrong with what a file holds is one line that names it: any library may raise anything.

    Args:
        path: of the file, or of its folder.
        fix: what to do about it.
        wrong: what is said of it where the error is not ours.
        named: whether an error of ours is told with the file's name, where it does not tell it; it need not be of it.
    """
    try:
        yield
    except Exception as error:
        ours = _of_ours(error)
        if ours is None:
            raise UserError(f"{path}: {wrong} ({one_line(error)[:LONGEST]}); {fix}") from error
        if not named or str(path if path.is_dir() else path.parent) in str(ours):
            raise ours from error.__cause__
        raise UserError(f"{path}: {ours}") from error


def _of_ours(error: BaseException | None) -> UserError | None:
    """The error itself, or what another library made another of."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def regular_file(path: Path, fix: str) -> Path:
    """The path, if a regular file is there.

    Raises:
        UserError: nothing is there; or a link, a folder, a device.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise UserError(f"{path}: not there, or not to be opened ({error.strerror}); {fix}") from error
    if not stat.S_ISREG(mode):
        kind = "a link, which could lead to any file of this machine" if stat.S_ISLNK(mode) else "no regular file"
        raise UserError(f"{path}: {kind}; expected the file itself; {fix}")
    return path


@dataclass(frozen=True)
class Stored:
    """A tensor as the header of a file describes it.

    Attributes:
        shape: of any number of axes.
        dtype: as safetensors calls it, e.g. "F32".
    """

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def header_of(path: Path, fix: str, most: int = MAX_WEIGHTS) -> dict[str, Stored]:
    """The tensors of a file of safetensors by their names, of which none is read.

    Raises:
        UserError: the file is larger than `most` bytes, or its header is damaged.
    """
    size = path.stat().st_size
    if size > most:
        raise UserError(f"{path}: {size:,} bytes, more than the limit of {most:,}; {fix}")
    with guarded(path, fix, "not a file of safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise UserError(f"{path}: a header of {length:,} bytes, more than the limit of {MAX_HEADER:,}; {fix}")
        with safetensors.safe_open(path, "np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it is no dict
            return {name: Stored(tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
