"""The files that cells of a table name."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
"""Suffixes of images, in the order that they are looked for."""


def file_of(folder: Path, cell: str) -> Path:
    """The file that a cell names, relative to a folder; a backslash is a slash, unless a file is named with it."""
    path = folder / cell
    if "\\" not in cell or os.path.isfile(path):
        return path
    return folder / cell.replace("\\", "/")


def none_of(folder: Path, images: int, expected: str) -> list[str]:
    """What to do where a table lists images and none of them is there: where they are looked for."""
    return [f"{folder}: none of the {images:,} images is there; move them so that one is {expected}"]


def near_miss(folder: Path, cell: str) -> str:
    """How a cell that names no file would name one; "" where that is not seen."""
    return next((words for words, path in _others(folder, cell) if path != folder / cell and os.path.isfile(path)), "")


def _others(folder: Path, cell: str) -> Iterator[tuple[str, Path]]:
    cell = cell.replace("\\", "/")
    yield "without its quotes", folder / cell.strip("'\"` ")
    yield "with what is written as %20 decoded", folder / unquote(cell)
    yield "without file://", folder / cell.removeprefix("file://")
    path = folder / cell
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        names = []
    yield from (("in other capitals", path.parent / name) for name in names if name.lower() == path.name.lower())
    yield from ((f"with the suffix {suffix}", path.with_name(path.name + suffix)) for suffix in SUFFIXES if path.name)
    yield from ((f"with the suffix {suffix}", path.with_suffix(suffix)) for suffix in SUFFIXES if path.name)
    yield "without the folders before its name", folder / path.name
