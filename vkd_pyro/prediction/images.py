"""Which image files are meant, and what is read of each."""

import glob
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.dicom.header import is_dicom, mismatches, read_header
from vkd_pyro.data.images.files import opened
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.levels import is_flat
from vkd_pyro.data.images.raster import is_raster
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import sha256_of
from vkd_pyro.utils.text import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".dcm", ".dicom", ".dic")
"""Suffixes of images of a kind that is read; `OTHERS` are those of other kinds."""
OTHERS = (".bmp", ".gif", ".jp2", ".j2k", ".tif", ".tiff", ".webp")
NAMED = 3
"""So many of the files that are left out are named."""
FLAT = "hardly any gray levels, nothing is to be seen in it"
"""What is said of a picture that `is_flat`."""
READERS = 4
"""Threads that read files while the network works."""


# ---------------------------------------------------------------------------------------- which files


def find_images(inputs: Iterable[str | Path]) -> list[Path]:
    """The image files that are meant, in the order of the inputs, each once.

    Args:
        inputs: files, taken as named; folders, searched with those below them, sorted: for files whose content is a
            PNG, a JPEG or a DICOM file, whatever their name, and files whose name says that they are images, sound or
            not; patterns such as "xrays/**/*.png", sorted.

    Warns:
        UserWarning: of files in a folder that are no image: how many, and the first of them. Hidden ones and
            DICOMDIR, a table of contents, are passed over.

    Raises:
        UserError: an input has no image, or a folder may not be read.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _meant_by(str(given)):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _meant_by(given: str) -> list[Path]:
    if not given:  # as a path it would be the folder where one is
        raise UserError("images: found an empty name, expected a file or a folder; is a variable of the shell not set?")
    is_pattern = glob.has_magic(given) and not os.path.lexists(given)
    named = [Path(match) for match in sorted(glob.glob(given, recursive=True))] if is_pattern else [Path(given)]
    found = [path for each in named for path in (_in_folder(each) if each.is_dir() else [each])]
    if not found:
        raise UserError(
            f"{given}: no image found; expected a PNG, JPEG or DICOM file, a folder of them, or a pattern "
            "such as 'xrays/*.png'"
        )
    return found


def _in_folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}; expected a folder that may be read") from error

    found: list[Path] = []
    left_out: list[Path] = []
    for parent, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".") and name != "DICOMDIR"):
            (found if _is_image(path) else left_out).append(path)
    if left_out:
        first = ", ".join(printable(path.relative_to(folder)) for path in sorted(left_out)[:NAMED])
        more = f" and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
        number = "1 file is" if len(left_out) == 1 else f"{len(left_out):,} files are"
        warnings.warn(f"{printable(folder)}: {number} no PNG, JPEG or DICOM, and left out: {first}{more}", stacklevel=4)
    return sorted(found)


def _is_image(path: Path) -> bool:
    """By its content; or by its name, so that a damaged image, or one of a kind that is not read, is told of."""
    if path.suffix.lower() in (*SUFFIXES, *OTHERS):
        return True
    try:
        with opened(path) as file:
            head = file.read(16)
    except UserError:
        return False
    return is_raster(head) or is_dicom(path)


# --------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class ImageFile:
    """A file that was read.

    Attributes:
        image: its path, as given.
        sha256: of its content.
        pixels: uint8 [1, size, size], as the model reads it.
        mismatch: how its DICOM header, or that it has hardly any gray levels, says that it is no X-ray of the model's
            kind; "" where neither does.
    """

    image: Path
    sha256: str
    pixels: NDArray[np.uint8]
    mismatch: str


@dataclass(frozen=True)
class Unread:
    """A file of which nothing can be said.

    Attributes:
        image: its path, as given.
        problem: why, in one line.
    """

    image: Path
    problem: str


def read_image(
    image: str | Path, transform: ImageTransform, views: tuple[str, ...], on_mismatch: Literal["error", "warn"]
) -> ImageFile | Unread:
    """A file's pixels and hash; or why it is not read: missing, damaged, no image, flat, or by its header another kind.

    Args:
        image: PNG, JPEG or DICOM.
        transform: of the model.
        views: that the model knows; a DICOM header is compared with them, other files say nothing.
        on_mismatch: whether a header that does not fit, or hardly any gray levels (`is_flat`), is a problem.
    """
    path = Path(image)
    try:
        found = mismatches(read_header(path), views) if is_dicom(path) else []
        if found and on_mismatch == "error":
            return _refused(path, found)
        pixels = transform.array(path)
        found += [FLAT] if is_flat(pixels) else []
        if found and on_mismatch == "error":
            return _refused(path, found)
        return ImageFile(path, sha256_of(path), pixels, "; ".join(found))
    except (UserError, OSError) as error:
        return Unread(path, one_line(error).removeprefix(f"{path}: "))


def _refused(path: Path, found: list[str]) -> Unread:
    return Unread(path, f"{'; '.join(found)}; to predict all the same, --on_mismatch warn")


def read_images(
    images: Iterable[str | Path],
    transform: ImageTransform,
    views: tuple[str, ...],
    on_mismatch: Literal["error", "warn"],
    ahead: int,
) -> Iterator[ImageFile | Unread]:
    """As `read_image`, of each file in turn; in threads, so many files ahead of the one that is asked for."""
    pool, waiting = ThreadPoolExecutor(READERS), deque[Future[ImageFile | Unread]]()
    try:
        for image in images:
            waiting.append(pool.submit(read_image, image, transform, views, on_mismatch))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
