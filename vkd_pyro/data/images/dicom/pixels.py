"""From a DICOM file to gray pixels: what its header refuses, then the decoders of pydicom, then the gray scale."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.dicom.file import blame, code, load, printable, require_pydicom
from vkd_pyro.data.images.dicom.gray_scale import GRAY_TAGS, to_gray
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

NEEDED_TAGS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
WANTED_TAGS = (*NEEDED_TAGS, "NumberOfFrames", *GRAY_TAGS)


def read_dicom(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Gray pixels: stored values, through the modality's and the viewer's lookup tables or scales, to 0..255.

    The viewer's scale is the VOI table, or the first window, or else from the least to the greatest value.
    MONOCHROME1 is inverted, so that bone is bright in all.

    Args:
        path: of a file with one gray frame, compressed or not.
        max_pixels: a larger image is refused before it is decoded.

    Returns:
        uint8 [height, width].

    Raises:
        UserError: pydicom or a decoder is not installed; the file is missing, damaged, or of a kind not read here.
    """
    require_pydicom(path)
    with blame(path, "header"):
        _check(path, load(path, WANTED_TAGS), max_pixels)
    with blame(path, "pixel data", quote=True):
        dataset = load(path, (*WANTED_TAGS, "PixelData"), pixels=True)
        values = _decode(path, dataset)
    with blame(path, "gray scale"):
        return to_gray(path, dataset, values)


def _check(path: Path, dataset: "Dataset", max_pixels: int) -> None:
    if absent := [tag for tag in NEEDED_TAGS if dataset.get(tag) is None]:
        raise UserError(f"{path}: no DICOM tag {', '.join(absent)}; expected a DICOM file with an image")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    interpretation = code(dataset.PhotometricInterpretation)
    if rows < 1 or columns < 1:
        raise UserError(f"{path}: {columns} x {rows} pixels; expected an image")
    if rows * columns > max_pixels:
        raise UserError(f"{path}: {columns} x {rows} pixels, more than the limit of {max_pixels:,}; make it smaller")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise UserError(f"{path}: {frames} frames, a film or a volume; expected a single X-ray image")
    if interpretation not in ("MONOCHROME1", "MONOCHROME2") or int(dataset.SamplesPerPixel) != 1:
        raise UserError(f"{path}: {interpretation}, no gray image; expected MONOCHROME1 or MONOCHROME2 of one sample")
    bits, stored, sign = (int(dataset[tag].value) for tag in ("BitsAllocated", "BitsStored", "PixelRepresentation"))
    if bits not in (8, 16) or not 1 <= stored <= bits or sign not in (0, 1):
        raise UserError(
            f"{path}: BitsAllocated {bits}, BitsStored {stored}, PixelRepresentation {sign}; "
            "expected 8 or 16, as many or fewer, and 0 or 1"
        )


def _decode(path: Path, dataset: "Dataset") -> NDArray[np.int64]:
    """Stored values, int64 [height, width]."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        name = printable(syntax.name, 64)
        raise UserError(f"{path}: transfer syntax {name} is not of a still image; export it with another") from error
    if not decoder.is_available:
        package = "pylibjpeg-openjpeg" if "JPEG 2000" in syntax.name else "pylibjpeg-libjpeg"
        raise UserError(f"{path}: compressed as {syntax.name}, and no decoder; pip install pylibjpeg {package}")
    if dataset.get("PixelData") is None:
        raise UserError(f"{path}: no DICOM tag PixelData; expected a DICOM file with an image")
    if "JPEG" in syntax.name:
        _check_codestream(path, dataset)
    signed = bool(dataset.PixelRepresentation)
    # Signed values may need their sign extended; of unsigned ones any bit above those stored is looked at here.
    pixels = pixel_array(dataset, index=0, correct_unused_bits=signed, allow_excess_frames=False)
    if not signed and pixels.max() >> dataset.BitsStored:
        raise UserError(
            f"{path}: pixel values up to {pixels.max()}, more than BitsStored {dataset.BitsStored} can hold"
        )
    return pixels


def _check_codestream(path: Path, dataset: "Dataset") -> None:
    """Refuses a compressed image of another size than the header says, before a decoder makes room for it."""
    from pydicom.encaps import get_frame

    size = _codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if size != (dataset.Columns, dataset.Rows):
        found = f"{size[0]} x {size[1]} pixels" if size else "damaged"
        raise UserError(f"{path}: compressed image {found}; expected {dataset.Columns} x {dataset.Rows} pixels")


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) by the first frame header of a JPEG, JPEG-LS or JPEG 2000 image; None if there is none."""
    if (start := frame.find(b"\xff\x4f\xff\x51")) in range(128) and len(frame) >= start + 24:  # 128: boxes before it
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return right - left, bottom - top
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker, (length,) = frame[position + 1], struct.unpack_from(">H", frame, position + 2)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">HH", frame, position + 5)
            return width, height
        position += 1 if marker == 0xFF else 2 + length  # 0xFF: padding
    return None
