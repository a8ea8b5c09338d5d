"""PNG pictures of 16 bits: how many of the bits are used, and the samples that Pillow would cut to 8."""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vkd_pyro.utils.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000
"""Chunks of a PNG, at most: an encoder writes one each 8 kB or more."""
GRAY, GRAY_ALPHA, COLOUR_ALPHA = 0, 4, 6
"""Types of colour."""
CHANNELS = {GRAY: 1, 2: 3, 3: 1, GRAY_ALPHA: 2, COLOUR_ALPHA: 4}
WHOLE = ((0, 0, 1, 1),)
INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes over an image: the first column and row, and from each to the next."""
PIECE = 1 << 24
"""Bytes that are inflated at once."""
FEWEST_BITS, MOST_BITS = 8, 16
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as Pillow's own conversion to gray has them (ITU-R 601)."""


def chunks(path: Path, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG, as far as they are whole.

    Raises:
        UserError: there are too many to be gone through.
    """
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + length]
        position += 12 + length
    raise UserError(f"{path}: a PNG of more than {MAX_CHUNKS:,} chunks; save it anew")


def depth_and_color(parts: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Bits of a sample, and the type of colour, by the header of a PNG; 0 and 0 where there is none."""
    kind, header = parts[0] if parts else (b"", b"")
    return (header[8], header[9]) if kind == b"IHDR" and len(header) == 13 else (0, 0)


def check_rows(path: Path, parts: list[tuple[bytes, bytes]], image: Image.Image) -> None:
    """Raises `UserError` where a PNG has fewer rows than it says, though its compression ends well.

    Pillow leaves the others black; so only where the last row is, or rows do not come in order, are they counted,
    which takes as long as to decode them.
    """
    depth, color = depth_and_color(parts)
    interlaced = parts[0][1][-1:] == b"\1"
    if not interlaced and np.asarray(image)[-1].any():
        return
    missing = 0
    for left, top, right, down in INTERLACED if interlaced else WHOLE:
        columns, rows = math.ceil((image.width - left) / right), math.ceil((image.height - top) / down)
        missing += rows * (1 + math.ceil(columns * depth * CHANNELS[color] / 8)) if columns > 0 else 0
    inflate, data = zlib.decompressobj(), b"".join(content for kind, content in parts if kind == b"IDAT")
    while missing > 0 and data:
        missing -= len(inflate.decompress(data, PIECE))
        data = inflate.unconsumed_tail
    if missing > 0:
        raise UserError(f"{path}: truncated image (a PNG whose rows end early); fetch it again")


def deep_samples(content: bytes, color: int) -> NDArray[np.uint16]:
    """Samples of a PNG of 16 bits and several channels, [channels, height, width], which Pillow would cut to 8 bits.

    Pillow keeps one byte of each sample, the first or the second one as it is told.
    """
    if color == GRAY_ALPHA:  # as many bytes as four channels of 8 bits
        gray_alpha: NDArray[np.uint16] = _decoded(content, "RGBA").view(">u2").astype(np.uint16)
        return np.moveaxis(gray_alpha, -1, 0)
    mode = "RGBA" if color == COLOUR_ALPHA else "RGB"
    high, low = (_decoded(content, f"{mode};16{order}").astype(np.uint16) for order in "BL")
    colours: NDArray[np.uint16] = high << np.uint16(8) | low
    return np.moveaxis(colours, -1, 0)


def _decoded(content: bytes, layout: str) -> NDArray[np.uint8]:
    """uint8 [height, width, channels], with the bytes of a pixel taken for what Pillow calls a raw mode."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=layout) for tile in image.tile]
        return np.array(image)


def deep_gray(samples: NDArray[np.uint16], parts: list[tuple[bytes, bytes]]) -> NDArray[np.uint8]:
    """Gray bytes of samples of 16 bits, [height, width]; white is the greatest number of the bits that are used.

    These are all that the greatest sample needs, and 8 at least: many write 10, 12 or 14 bits as they are, where the
    format wants them scaled to 16. `sBIT` says how many, but not whether they were scaled.

    Args:
        samples: [channels, height, width]: gray, or red, green, blue.
        parts: of the PNG.
    """
    most = int(samples.max())
    bits = max(most.bit_length(), FEWEST_BITS)
    said = max(next((content for kind, content in parts if kind == b"sBIT"), b"")[: len(samples)], default=0)
    if FEWEST_BITS <= said <= MOST_BITS:  # another is to be ignored
        bits = said if most < 1 << said else 16
    weights = LUMA if len(samples) == 3 else (1.0,)
    gray = np.zeros(samples.shape[1:], np.float32)
    for weight, channel in zip(weights, samples, strict=True):
        gray += channel * np.float32(weight * 255 / ((1 << bits) - 1))
    return gray.round(out=gray).clip(0, 255, out=gray).astype(np.uint8)
