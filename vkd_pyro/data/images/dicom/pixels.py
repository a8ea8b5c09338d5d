"""From a DICOM file to gray pixels: what its header refuses, then the decoders of pydicom, then the gray scale."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.codestream import Codestream, read_codestream
from vkd_pyro.data.images.dicom.file import blame, code, load, require_pydicom
from vkd_pyro.data.images.dicom.gray_scale import GRAY_TAGS, to_gray
from vkd_pyro.data.images.dicom.stored import STORED_TAGS, Layout, Stored, stored_values
from vkd_pyro.data.images.files import check_bytes
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
WANTED_TAGS = (*NEEDED_TAGS, "NumberOfFrames", *STORED_TAGS, *GRAY_TAGS)
INTERPRETATIONS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "HSV", "CMYK", "ARGB")
"""Those of colour images that may be repeated in an error."""
MAX_FRAGMENTS, FRAGMENT = 10_000, b"\xfe\xff\x00\xe0"
"""Parts in which a compressed image may come, one is usual; and how each begins."""


def read_dicom(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Gray pixels: stored values, through the modality's and the viewer's lookup tables or scales, to 0..255.

    The viewer's scale is the first of these that shows something: the VOI tables, the windows, from the least to the
    greatest value. MONOCHROME1 is inverted, so that bone is bright in all; padding is black.

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
    with blame(path, "pixel data"):
        dataset = load(path, (*WANTED_TAGS, "PixelData"), pixels=True)
        stored = _decode(path, dataset)
    with blame(path, "gray scale"):
        return to_gray(path, dataset, stored)


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
    samples = int(dataset.SamplesPerPixel)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        found = interpretation if interpretation in INTERPRETATIONS else f"an unknown kind, {samples} samples a pixel"
        raise UserError(f"{path}: {found}, no gray image; expected MONOCHROME1 or MONOCHROME2 of one sample")
    bits, stored, sign = (int(dataset[tag].value) for tag in ("BitsAllocated", "BitsStored", "PixelRepresentation"))
    if bits not in (8, 16) or not 1 <= stored <= bits or sign not in (0, 1):
        raise UserError(
            f"{path}: BitsAllocated {bits}, BitsStored {stored}, PixelRepresentation {sign}; "
            "expected 8 or 16, as many or fewer, and 0 or 1"
        )


def _decode(path: Path, dataset: "Dataset") -> Stored:
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import UID_dictionary

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        name = syntax.name if syntax in UID_dictionary else "of an unknown number"
        raise UserError(f"{path}: transfer syntax {name} is not of a still image; export it with another") from error
    if not decoder.is_available:
        package = "pylibjpeg-openjpeg" if "JPEG 2000" in syntax.name else "pylibjpeg-libjpeg"
        raise UserError(f"{path}: compressed as {syntax.name}, and no decoder; pip install pylibjpeg {package}")
    if dataset.get("PixelData") is None:  # pydicom leaves out what ends before it should
        raise UserError(f"{path}: no DICOM tag PixelData, or a truncated one; expected a whole file with an image")
    dataset.PhotometricInterpretation = code(dataset.PhotometricInterpretation)  # pydicom knows it in capitals alone
    layout, codestream = Layout.of(dataset), None
    if syntax.is_encapsulated:
        codestream = _checked_frame(path, dataset)
    else:
        _check_length(path, dataset)
    # What the decoder gives is taken as it is; what bits and sign mean is said by `stored_values`.
    dataset.PixelRepresentation = 0
    if codestream is not None:
        dataset.PixelRepresentation, dataset.BitsStored = int(codestream.signed), codestream.precision
        dataset.BitsAllocated = 8 if codestream.precision <= 8 else 16
        dataset.HighBit = codestream.precision - 1
    pixels = pixel_array(dataset, index=0, correct_unused_bits=False, allow_excess_frames=False)
    return stored_values(path, dataset, layout, codestream, pixels)


def _check_length(path: Path, dataset: "Dataset") -> None:
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if (found := len(dataset.PixelData)) < expected:
        raise UserError(f"{path}: {found:,} bytes of pixel data, less than expected ({expected:,}); fetch it again")
    # Of bytes, twice as many are 16 bits, or colours; of 16 bits, a second frame, and three times as many are colours.
    most = (2 if int(dataset.BitsAllocated) == 8 else 3) * expected
    if found >= max(most, expected + 2):  # a single pixel of one byte has another to be even
        raise UserError(
            f"{path}: {found:,} bytes of pixel data, too many for {expected:,} expected: more bits or samples a pixel "
            "than the header says, or frames; correct the header"
        )


def _checked_frame(path: Path, dataset: "Dataset") -> Codestream | None:
    """What the compressed image is, None where it is coded in runs; refused before a decoder makes room for it.

    Raises:
        UserError: it is of another size than the header says, or no gray image, or would take too long.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    check_bytes(path, len(dataset.PixelData), int(dataset.Rows) * int(dataset.Columns))
    if dataset.PixelData.count(FRAGMENT) > MAX_FRAGMENTS:
        raise UserError(f"{path}: a compressed image in more than {MAX_FRAGMENTS:,} fragments; save it anew")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return None
    found, size = read_codestream(path, frame), (int(dataset.Columns), int(dataset.Rows))
    if found is None:
        raise UserError(f"{path}: compressed image damaged; expected {size[0]} x {size[1]} pixels")
    if (found.width, found.height) != size:
        what = f"{found.width} x {found.height} pixels"
        raise UserError(f"{path}: compressed image {what}; expected {size[0]} x {size[1]} pixels")
    if found.components != 1 or not 2 <= found.precision <= 16:
        what = f"of {found.components} samples a pixel and {found.precision} bits"
        raise UserError(f"{path}: compressed image {what}; expected a gray image of at most 16 bits")
    return found
