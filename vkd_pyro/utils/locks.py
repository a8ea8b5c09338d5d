"""A folder that one process at a time writes to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from vkd_pyro.utils.errors import UserError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Holds the lock of a folder while the block lasts; the end of the process, however it comes, releases it.

    A process that is forked meanwhile does not hold it. On a file system without locks `filelock` warns, and takes a
    file that names the process in place of one.

    Args:
        folder: which is there; the file `.lock` in it stays.
        command: that writes to it, for the message.

    Raises:
        UserError: another process holds it.
    """
    try:
        with filelock.FileLock(folder / LOCK, timeout=0, mode=0o600):
            yield
    except filelock.Timeout as error:
        raise UserError(f"{folder}: another {command} is writing to it; wait until it has ended, or stop it") from error
