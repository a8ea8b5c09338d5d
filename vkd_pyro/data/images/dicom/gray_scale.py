"""From stored values to gray, as a viewer shows them: pydicom computes what the standard says, the choices are ours.

stored value -> modality table, or slope and intercept -> VOI table, or window, or range -> inverted or not -> 0..255
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.dicom.file import code
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

GRAY_TAGS = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)


def to_gray(path: Path, dataset: "Dataset", pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Gray bytes of stored values.

    Args:
        path: of the file, for errors.
        dataset: with `GRAY_TAGS`, as far as the file has them, and the photometric interpretation.
        pixels: stored values, integers [height, width].

    Returns:
        uint8 [height, width].

    Raises:
        UserError: a window that the standard does not know, or numbers without a finite result.
    """
    from pydicom.pixels import apply_modality_lut

    least = int(pixels.min())
    # Gray depends on the stored value alone, so it is worked out once a value, not once a pixel.
    values = np.arange(least, int(pixels.max()) + 1)
    with np.errstate(all="ignore"):  # what is not finite is refused below
        values = apply_modality_lut(values, _modality(dataset))
        shares = _shares(path, dataset, values) if np.isfinite(values).all() else values
    if not np.isfinite(shares).all():
        raise UserError(f"{path}: rescale or window without finite values")
    if code(dataset.PhotometricInterpretation) == "MONOCHROME1":
        shares = 1 - shares
    return (shares * 255).round().astype(np.uint8)[pixels.astype(np.int32) - least]


def _modality(dataset: "Dataset") -> "Dataset":
    """What `apply_modality_lut` is to do: the file's table, or its slope and intercept, 1 and 0 where blank."""
    from pydicom import Dataset

    settled = Dataset()
    if tables := dataset.get("ModalityLUTSequence"):
        settled.ModalityLUTSequence = [_table(dataset, tables[0])[0]]
        settled.file_meta = _little_endian()
    else:
        slope = _first(dataset, "RescaleSlope")
        settled.RescaleSlope = 1.0 if slope is None else slope
        settled.RescaleIntercept = _first(dataset, "RescaleIntercept") or 0.0
    return settled


def _shares(path: Path, dataset: "Dataset", values: NDArray[Any]) -> NDArray[np.float64]:
    """Shares of white in [0, 1], by the first VOI table, or the first window, or the range of the values, [N]."""
    from pydicom.pixels import apply_voi, apply_windowing

    if tables := dataset.get("VOILUTSequence"):
        table, bits = _table(dataset, tables[0])
        first = table.LUTDescriptor[1]
        # pydicom looks up whole numbers alone, and counts from the first one in 16 bits.
        whole = np.floor(values).clip(first, first + 0xFFFF).astype(np.int64)
        entries = apply_voi(whole, _view(VOILUTSequence=[table]))
        return (entries / (2**bits - 1)).clip(0, 1)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is None or width is None:
        spread = values.max() - values.min()
        return (values - values.min()) / (spread or 1.0)
    function = code(dataset.get("VOILUTFunction")) or "LINEAR"
    try:
        return apply_windowing(values, _view(WindowCenter=center, WindowWidth=width, VOILUTFunction=function))
    except ValueError as error:
        raise UserError(
            f"{path}: window of width {width:g} and function {function}; expected a width of 1 or more"
        ) from error


def _view(**tags: Any) -> "Dataset":
    """A dataset whose windows run from 0 to 1, the range of values of a single bit."""
    from pydicom import Dataset

    view = Dataset()
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 1, 0
    view.file_meta = _little_endian()
    for tag, value in tags.items():
        setattr(view, tag, value)
    return view


def _table(dataset: "Dataset", table: "Dataset") -> tuple["Dataset", int]:
    """A lookup table as pydicom reads any: its entries as little-endian words; and the bits that it says they have.

    Of a file, pydicom reads neither bytes packed two to a word nor, of a modality table, entries of 9 to 15 bits, and
    it counts the entries of a VOI table of 8 bits in 8 bits.

    Raises:
        ValueError: fewer entries than it says, or other bits than there are.
    """
    from pydicom import Dataset

    count, first, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 0x10000  # as DICOM writes what does not fit 16 bits
    data: Any = table.LUTData
    if isinstance(data, bytes):
        little = dataset.original_encoding[1] is not False
        data = np.frombuffer(data, ("<u2" if little else ">u2") if len(data) >= 2 * count else "u1")
    entries = np.atleast_1d(data)[:count]
    if len(entries) < count or not 8 <= bits <= 16:
        raise ValueError("a lookup table of fewer entries, or other bits, than it says")
    words = Dataset()
    words.LUTDescriptor = [count % 0x10000, first, 16]
    words.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return words, bits


def _little_endian() -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _first(dataset: "Dataset", tag: str) -> float | None:
    """The first number of a tag, None if absent or blank."""
    value = dataset.get(tag)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    return None if value in (None, "") else float(value)
