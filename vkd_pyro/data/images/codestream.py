"""What a JPEG, JPEG-LS or JPEG 2000 image says of itself, read before a decoder makes room and takes time for it."""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from vkd_pyro.utils.errors import UserError

MAX_SCANS = 100
"""Scans of a JPEG, at most. Each is a pass over the whole image; encoders write about ten."""
MAX_SEGMENTS = 10_000
"""Before the first scan of a JPEG, or the first tile of a JPEG 2000 image."""
MAX_JUNK = 1 << 16
"""Bytes between the segments of a JPEG that belong to none."""
MAX_TILES, MAX_LAYERS, MIN_PRECINCT = 10_000, 1_000, 4
"""Limits of a JPEG 2000 image; precincts by the exponent of their side. A decoder keeps a record of each."""

MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
BARE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length: of restarts, and the beginning."""


@dataclass(frozen=True)
class Codestream:
    """What a compressed image is.

    Attributes:
        width, height: in pixels.
        components: samples a pixel.
        precision: bits a sample.
        signed: whether samples may be negative.
    """

    width: int
    height: int
    components: int
    precision: int
    signed: bool = False


def read_codestream(path: Path, content: bytes) -> Codestream | None:
    """What a compressed image is; None where it has no header that can be read.

    Raises:
        UserError: to decode it would take too long, or too much memory; or a JPEG or JPEG-LS image has no end.
    """
    # A JP2 file has boxes before its codestream, which DICOM forbids and some write.
    if (start := content.find(b"\xff\x4f\xff\x51")) in range(128):
        return _jpeg2000(path, content, start)
    return _jpeg(path, content) if content[:2] == b"\xff\xd8" else None


def end_of_jpeg(content: bytes) -> int:
    """Where the first image of a JPEG file ends; before it there may be a thumbnail, and other images after it."""
    position = 2
    while (marker := MARKER.search(content, position)) is not None and marker.end() + 2 <= len(content):
        kind, position = marker[1][0], marker.end()
        if kind == 0xDA:
            return content.find(b"\xff\xd9", position)
        if kind not in BARE and kind != 0:
            position += max(2, struct.unpack_from(">H", content, position)[0])
    return -1


def _jpeg(path: Path, content: bytes) -> Codestream | None:
    position, junk, found = 2, 0, None
    for _ in range(MAX_SEGMENTS):
        marker = MARKER.search(content, position)
        if marker is None:
            return found
        junk += marker.end() - position - 2
        if junk > MAX_JUNK:
            raise UserError(f"{path}: a JPEG with more than {MAX_JUNK:,} bytes of padding; save it anew")
        kind, position = marker[1][0], marker.end()
        if kind == 0xDA:
            end = content.find(b"\xff\xd9", position)
            if end < 0 or content.find(b"\xff\xd8", position, end) >= 0:  # neither can stand within the data of a scan
                raise UserError(f"{path}: truncated image (a JPEG without an end); fetch it again")
            scans = content.count(b"\xff\xda", position) + 1
            if scans > MAX_SCANS:
                raise UserError(f"{path}: a JPEG of {scans:,} scans, more than the limit of {MAX_SCANS}; save it anew")
            return found
        if kind in BARE or kind == 0:
            continue
        if kind == 0xD9 or position + 2 > len(content):
            return found
        if kind in FRAMES and found is None and position + 8 <= len(content):
            precision, height, width, components = struct.unpack_from(">BHHB", content, position + 2)
            found = Codestream(width, height, components, precision)
        position += max(2, struct.unpack_from(">H", content, position)[0])
    raise UserError(f"{path}: a JPEG of more than {MAX_SEGMENTS:,} segments before its first scan; save it anew")


def _jpeg2000(path: Path, content: bytes, start: int) -> Codestream | None:
    if len(content) < start + 43:
        return None
    size = struct.unpack_from(">8IHB", content, start + 8)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components, bits = size
    if right <= left or bottom <= top or not tile_width or not tile_height:
        return None
    tiles = math.ceil((right - tile_left) / tile_width) * math.ceil((bottom - tile_top) / tile_height)
    if tiles > MAX_TILES:
        raise UserError(f"{path}: a JPEG 2000 image of {tiles:,} tiles, more than the limit of {MAX_TILES:,}")
    _check_coding(path, content, start + 2)
    return Codestream(right - left, bottom - top, components, (bits & 0x7F) + 1, bits >> 7 == 1)


def _check_coding(path: Path, content: bytes, position: int) -> None:
    """Looks at the styles of coding of the main header, up to its first tile."""
    for _ in range(MAX_SEGMENTS):
        if position + 4 > len(content):
            return
        marker, length = struct.unpack_from(">HH", content, position)
        segment = content[position + 4 : position + 2 + length]
        if marker == 0xFF90 or marker < 0xFF00:
            return
        if marker == 0xFF52 and len(segment) >= 10:
            layers = int.from_bytes(segment[2:4], "big")
            # From the second on: at the lowest resolution a small one is usual.
            precincts = segment[11:] if segment[0] & 1 else b""
            if layers > MAX_LAYERS or any(min(one & 15, one >> 4) < MIN_PRECINCT for one in precincts):
                raise UserError(
                    f"{path}: a JPEG 2000 image of {layers:,} layers, or of precincts below {2**MIN_PRECINCT} pixels; "
                    f"expected at most {MAX_LAYERS:,}, and larger ones"
                )
        position += 2 + max(2, length)
