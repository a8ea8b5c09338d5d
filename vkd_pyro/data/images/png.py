"""PNG pictures of 16 bits: how many of the bits are used, and the samples that Pillow would cut to 8."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.utils.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000
"""Of a PNG: an encoder writes one each 8 kB or more."""
FEWEST_BITS = 8
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


def is_deep(parts: list[tuple[bytes, bytes]]) -> bool:
    """Whether the samples of a PNG have 16 bits."""
    kind, header = parts[0] if parts else (b"", b"")
    return kind == b"IHDR" and len(header) == 13 and header[8] == 16


def deep_samples(parts: list[tuple[bytes, bytes]]) -> NDArray[np.uint16]:
    """Samples of a PNG of 16 bits that is known to be whole, [channels, height, width]."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    needed = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
        if kind in (b"IHDR", b"IDAT", b"IEND")
    )
    data = torch.frombuffer(bytearray(SIGNATURE + needed), dtype=torch.uint8)
    samples: NDArray[np.uint16] = decode_png(data, ImageReadMode.UNCHANGED).numpy()
    return samples


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
    if said >= FEWEST_BITS:
        bits = said if most < 1 << said else 16
    weights = LUMA if len(samples) == 3 else (1.0,)
    gray = np.zeros(samples.shape[1:], np.float32)
    for weight, channel in zip(weights, samples, strict=True):
        gray += channel * np.float32(weight * 255 / ((1 << bits) - 1))
    return gray.round(out=gray).clip(0, 255, out=gray).astype(np.uint8)
