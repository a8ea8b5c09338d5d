"""Shards of a store: the images of some studies, and their prepared reports."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.levels import is_flat
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import BadImages
from vkd_pyro.data.store.layout import Block, write_arrow
from vkd_pyro.data.study import Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import open_plain

PART = 16
"""Images that a thread reads at a time."""
END = 1 << 16
"""Bytes at each end of a file that tell it from others: headers with their UIDs, and pixels; all were read twice."""


def image_source(image: Path | NDArray[np.uint8]) -> str:
    """What tells an image from another of the same name: a file's size and a hash of both its ends, blank where it
    cannot be read; an array's hash."""
    if not isinstance(image, Path):
        return hashlib.sha256(image.tobytes()).hexdigest()
    try:
        with open_plain(image) as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256(file.read(END))
            file.seek(max(size - END, 0))
            digest.update(file.read(END))
    except (OSError, UserError):  # which reading the picture has said
        return ""
    return f"{size}:{digest.hexdigest()[:32]}"


def is_source(image: Path | NDArray[np.uint8], source: str) -> bool:
    """Whether an image is the one that `image_source` was asked of; in stores of earlier versions by its size alone."""
    found = image_source(image)
    return found == source or (source.isdecimal() and found.split(":")[0] == source)


def write_images(blocks: Iterable[Block[Study]], transform: ImageTransform, policy: BadImages) -> None:
    """Writes shards of images, a row an image.

    Raises:
        UserError: an image cannot be read, and the policy is "error".
    """
    # Decoding and writing release the interpreter's lock: a shard is written while the next one is decoded.
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as disk, quiet_readers():
        written_before: Future[None] | None = None
        for block in blocks:
            table = _image_table(block, transform, policy, pool)
            if written_before is not None:
                written_before.result()
            written_before = disk.submit(write_arrow, block.path, table)
        if written_before is not None:
            written_before.result()


def _image_table(
    block: Block[Study], transform: ImageTransform, policy: BadImages, pool: ThreadPoolExecutor
) -> pa.Table:
    """A row an image: its study, its number there, its pixels, null where it cannot be read, and why;
    whether it has hardly any gray levels; its source."""
    places = [(i, j) for i, study in enumerate(block.content, block.first) for j in range(len(study.images))]
    images = [image for study in block.content for image in study.images]
    pixels = np.zeros((len(images), transform.size**2), np.uint8)

    def read(rows: slice) -> list[tuple[str, bool, str]]:
        return [_read(image, row, transform, policy) for image, row in zip(images[rows], pixels[rows], strict=True)]

    parts = [slice(start, start + PART) for start in range(0, len(images), PART)]
    problems, flat, sources = zip(*chain(*pool.map(read, parts)), strict=True)
    sound = [not problem for problem in problems]
    _, readable = pa.array(sound).buffers()
    columns = {
        "study": pa.array([i for i, _ in places], pa.int32()),
        "image": pa.array([j for _, j in places], pa.int32()),
        "pixels": pa.Array.from_buffers(pa.binary(pixels.shape[1]), len(places), [readable, pa.py_buffer(pixels)]),
        "problem": pa.array(problems, pa.string()),
        "flat": pa.array(flat, pa.bool_()),
        "source": pa.array(sources, pa.string()),
    }
    return pa.table(columns)


def _read(
    image: Path | NDArray[np.uint8], pixels: NDArray[np.uint8], transform: ImageTransform, policy: BadImages
) -> tuple[str, bool, str]:
    """Reads an image into a row of pixels, uint8 [size * size].

    Returns: what is wrong with it, or ""; whether it has hardly any gray levels; its source.
    """
    try:
        pixels[:] = transform(image).numpy().ravel()
    except UserError as error:
        if policy.policy == "error":
            raise
        return str(error), False, image_source(image)
    return "", is_flat(pixels), image_source(image)


def write_reports(blocks: Iterable[Block[str | None]], preparation: Preparation) -> None:
    """Writes shards of reports. A row a study: token ids, or token embeddings one after the other; `width` is that of
    one token, 0 for ids."""
    for block in blocks:
        reports = preparation.prepare([text or "" for text in block.content])
        flat = torch.cat([report.flatten() for report in reports]).numpy()
        offsets = np.cumsum([0, *(report.numel() for report in reports)])
        tokens = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat))
        width = reports[0].shape[1] if reports[0].ndim == 2 else 0
        write_arrow(block.path, pa.table({"tokens": tokens}).replace_schema_metadata({"width": str(width)}))
