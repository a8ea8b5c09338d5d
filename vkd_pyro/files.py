"""Files that are written whole or not at all, and that nobody else may read: they hold patient data."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def private_folder(path: Path) -> None:
    """Makes a folder, and those above it, that only its owner may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` when the block ends without an error."""
    unfinished = path.with_name(path.name + ".unfinished")
    os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all; a NaN is an error, since JSON has none."""
    with written(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
