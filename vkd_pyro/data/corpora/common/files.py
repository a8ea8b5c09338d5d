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
    yield from (("in other capitals", other) for other in _in_other_capitals(folder, cell))
    yield from ((f"with the suffix {suffix}", path.with_name(path.name + suffix)) for suffix in SUFFIXES if path.name)
    yield from ((f"with the suffix {suffix}", path.with_suffix(suffix)) for suffix in SUFFIXES if path.name)
    parts = [part for part in cell.split("/") if part]
    shorter = (folder.joinpath(*parts[number:]) for number in range(len(parts)))  # of C:/Users/a/images/1.png
    yield from (("without the first of its folders", other) for other in shorter)


def _in_other_capitals(folder: Path, cell: str) -> list[Path]:
    """The files that a cell names where capitals do not count, as on Windows and macOS."""
    found = [folder]
    for part in Path(cell).parts:
        names = ((place, name) for place in found for name in _names(place, part))
        found = [place / name for place, name in names if name.lower() == part.lower()]
    return found


def _names(folder: Path, part: str) -> list[str]:
    """What there may be in place of a part of a path."""
    if part in ("/", ".."):
        return [part]
    try:
        return os.listdir(folder)
    except (OSError, ValueError):
        return []
