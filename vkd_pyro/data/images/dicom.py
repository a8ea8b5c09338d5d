"""From a DICOM file to gray pixels as a radiologist's screen would show them, and what its header says it is.

Only the tags named here are read, so that nothing about the patient is ever held, let alone told in an error.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

NEEDED_TAGS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
GRAY_TAGS = (
    "NumberOfFrames",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)
HEADER_TAGS = ("Modality", "BodyPartExamined", "ViewPosition")

MAGIC = b"DICM"  # after 128 bytes that mean nothing
DEFLATED = "1.2.840.10008.1.2.1.99"
MODALITIES = ("CR", "DX", "RG")
CHEST_WORDS = ("CHEST", "THORAX", "TORAX", "TORACE", "LUNG")
VIEWS = {"AP": "frontal", "PA": "frontal"} | dict.fromkeys(("LL", "RL", "LAT", "LATERAL"), "lateral")
"""View position to kind of view."""


# ------------------------------------------------------------------------------------- what it is


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says it shows; "" where a tag is absent or blank.

    Attributes:
        modality: "DX", "CT", ...
        body_part: "CHEST", ...
        view: "PA", "LATERAL", ...
    """

    modality: str
    body_part: str
    view: str


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM magic, or is named .dcm and has the tags of an image; not if it cannot be opened.

    Raises:
        UserError: the file is named .dcm, lacks the magic, and there is no pydicom to look closer.
    """
    try:
        if _has_magic(path):
            return True
    except OSError:
        return False
    if path.suffix.lower() != ".dcm":
        return False
    _require_pydicom(path)
    try:
        with _blame(path, "header"):
            dataset = _load(path, NEEDED_TAGS)
            return all(dataset.get(tag) is not None for tag in NEEDED_TAGS)
    except UserError:  # not even a damaged one: whoever reads it as another type will say so
        return False


def read_header(path: Path) -> DicomHeader:
    """The tags that tell a chest X-ray from something else; none of the patient's.

    Raises:
        UserError: pydicom is not installed, or the file is missing or damaged.
    """
    _require_pydicom(path)
    with _blame(path, "header"):
        dataset = _load(path, HEADER_TAGS)
        return DicomHeader(*(_code(dataset.get(tag)) for tag in HEADER_TAGS))


def mismatches(header: DicomHeader, views: Sequence[str] = ("frontal", "lateral")) -> list[str]:
    """Reasons, in plain words, why this is no chest X-ray of the wanted views; empty if there is none.

    An absent tag is no reason: body part and view position are often left blank.

    Args:
        header: of the file.
        views: the kinds of view that the model was trained on, of "frontal" and "lateral".
    """
    reasons = []
    if header.modality and header.modality not in MODALITIES:
        reasons.append(f"modality {header.modality} is not an X-ray ({', '.join(MODALITIES)})")
    if header.body_part and not any(word in header.body_part for word in CHEST_WORDS):
        reasons.append(f"body part {header.body_part} is not the chest")
    if header.view and VIEWS.get(header.view) not in views:
        kind = VIEWS.get(header.view, "neither frontal nor lateral")
        reasons.append(f"view position {header.view} is {kind}, not {' or '.join(views)}")
    return reasons


def _code(value: object) -> str:
    """A code string: the first if several, upper case, at most the 16 characters that DICOM allows."""
    first = value if isinstance(value, str) else next(iter(value), "") if isinstance(value, Sequence) else ""
    return _printable(first, 16).strip().upper()


def _printable(value: object, length: int) -> str:
    """Text of a file made fit for one line of a terminal."""
    return "".join(character for character in str(value) if character.isprintable())[:length]


# ---------------------------------------------------------------------------------------- pixels


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
    _require_pydicom(path)
    with _blame(path, "header"):
        _check(path, _load(path, NEEDED_TAGS + GRAY_TAGS), max_pixels)
    with _blame(path, "pixel data", quote=True):
        dataset = _load(path, (*NEEDED_TAGS, *GRAY_TAGS, "PixelData"), pixels=True)
        pixels = _decode(path, dataset)
    with _blame(path, "gray scale"):
        return _gray(path, dataset, pixels)


def _check(path: Path, dataset: "Dataset", max_pixels: int) -> None:
    if absent := [tag for tag in NEEDED_TAGS if dataset.get(tag) is None]:
        raise UserError(f"{path}: no DICOM tag {', '.join(absent)}; expected a DICOM file with an image")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    interpretation = _code(dataset.PhotometricInterpretation)
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


def _decode(path: Path, dataset: "Dataset") -> NDArray[np.int32]:
    """Stored values, int32 [height, width]."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        name = _printable(syntax.name, 64)
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
    return pixels.astype(np.int32)


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


# ------------------------------------------------------------------------------------- gray scale


def _gray(path: Path, dataset: "Dataset", pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Args: stored values, [height, width]. Returns: uint8 [height, width]."""
    least = pixels.min()
    # Gray depends on the stored value alone, so it is worked out once a value, not once a pixel.
    values = np.arange(least, pixels.max() + 1, dtype=np.float64)
    with np.errstate(all="ignore"):  # what is not finite is refused below
        shares = _displayed(path, dataset, _rescaled(dataset, values))
    if not np.isfinite(shares).all():
        raise UserError(f"{path}: rescale or window without finite values")
    if _code(dataset.PhotometricInterpretation) == "MONOCHROME1":
        shares = 1 - shares
    return (shares * 255).round().astype(np.uint8)[pixels - least]


def _rescaled(dataset: "Dataset", values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Through the modality's lookup table, or slope and intercept, [N]."""
    if tables := dataset.get("ModalityLUTSequence"):
        return _looked_up(tables[0], values, dataset.original_encoding[1] is not False)[0]
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _displayed(path: Path, dataset: "Dataset", values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of white in [0, 1], through the viewer's table or window or the range of the values, [N]."""
    if tables := dataset.get("VOILUTSequence"):
        entries, bits = _looked_up(tables[0], values, dataset.original_encoding[1] is not False)
        return (entries / (2**bits - 1)).clip(0, 1)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is not None and width is not None:
        return _windowed(path, values, center, width, _code(dataset.get("VOILUTFunction")) or "LINEAR")
    spread = values.max() - values.min()
    return (values - values.min()) / (spread or 1.0)


def _windowed(
    path: Path, values: NDArray[np.float64], center: float, width: float, function: str
) -> NDArray[np.float64]:
    """The three functions of DICOM PS3.3 C.11.2, to [0, 1]."""
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not width > 0 or (function == "LINEAR" and width < 1):
        raise UserError(f"{path}: window of width {width:g} and function {function}; expected a width of 1 or more")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return ((values - center) / width + 0.5).clip(0, 1)


def _looked_up(table: "Dataset", values: NDArray[np.float64], little: bool) -> tuple[NDArray[np.float64], int]:
    """Entries of a lookup table at some values, [N], and their bits; values beyond its ends get the end's entry."""
    count, first, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 65536  # as DICOM writes what does not fit 16 bits
    data: Any = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, ("<u2" if little else ">u2") if len(data) >= 2 * count else "u1")
    entries = np.atleast_1d(np.asarray(data, dtype=np.float64))[:count]
    if len(entries) < count or not 8 <= bits <= 16:
        raise ValueError("a lookup table of fewer entries, or other bits, than it says")
    return entries[(values - first).clip(0, count - 1).astype(np.intp)], bits


def _first(dataset: "Dataset", tag: str) -> float | None:
    """The first number of a tag, None if absent or blank."""
    value = dataset.get(tag)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    return None if value in (None, "") else float(value)


# ---------------------------------------------------------------------------------------- pydicom


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == MAGIC


def _load(path: Path, tags: Sequence[str], pixels: bool = False) -> "Dataset":
    """Some tags of a file; its transfer syntax is guessed from its bytes if it says none."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    # To read any tag of a deflated file is to inflate all of it, to who knows what size.
    if _has_magic(path) and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise UserError(f"{path}: a deflated DICOM file; export it with another transfer syntax")
    dataset = dcmread(path, stop_before_pixels=not pixels, force=True, specific_tags=list(tags))
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(*dataset.original_encoding)
    return dataset


def _guessed_syntax(implicit: bool, little: bool) -> "UID":
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _require_pydicom(path: Path) -> None:
    try:
        import pydicom.pixels  # noqa: F401  (new in pydicom 3)
    except ImportError as error:
        raise UserError(f"{path}: reading DICOM needs pydicom 3 or newer; pip install 'vkd-pyro[dicom]'") from error


@contextmanager
def _blame(path: Path, part: str, quote: bool = False) -> Iterator[None]:
    """Makes whatever pydicom trips over a UserError that names file and part, and silences its warnings.

    Args:
        path: the file.
        part: of the file, as the error names it.
        quote: whether the error repeats pydicom's words. Those on headers may hold the header's text.
    """
    try:
        with quiet_readers():
            yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    # pydicom, and the decoders behind it, name no classes of exception for damaged bytes and raise nearly any.
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        found = f"{type(error).__name__}: {words}" if quote and words else type(error).__name__
        raise UserError(f"{path}: damaged DICOM {part} ({found}); expected a whole DICOM file") from error
