"""From stored values to gray, as a viewer shows them: pydicom computes what the standard says, the choices are ours.

stored value -> modality table, or slope and intercept -> VOI table, or window, or range -> inverted or not -> 0..255
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.dicom.file import code, shown
from vkd_pyro.data.images.dicom.numbers import number, numbers
from vkd_pyro.data.images.dicom.stored import Stored
from vkd_pyro.data.images.dicom.tables import LookupTable
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
FEWEST_GRAYS = 3
"""A table or window that leaves fewer of more values shows nothing of the image: the next one is taken."""


def to_gray(path: Path, dataset: "Dataset", stored: Stored) -> NDArray[np.uint8]:
    """Gray bytes of stored values.

    Args:
        path: of the file, for errors.
        dataset: with `GRAY_TAGS`, as far as the file has them, and the photometric interpretation.
        stored: values; padding is black, and of no weight for the range.

    Returns:
        uint8 [height, width].

    Raises:
        UserError: numbers that are none, a window that the standard does not know, a table that is damaged, or what
            has no finite result.
    """
    inside = stored.values if stored.padding is None else stored.values[~stored.padding]
    least, most = int(inside.min()), int(inside.max())
    there = np.zeros(most - least + 1, bool)
    there[inside.ravel() - least] = True
    # Gray depends on the stored value alone, so it is worked out once a value, not once a pixel.
    grays = np.zeros(len(there), np.uint8)
    grays[there] = _grays(path, dataset, stored, np.flatnonzero(there) + least)
    shown = grays[(stored.values - least).clip(0, most - least)]
    if stored.padding is not None:
        shown[stored.padding] = 0
    return shown


def _grays(path: Path, dataset: "Dataset", stored: Stored, values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The grays of distinct stored values, [N]: by the first scale that shows something of them."""
    rescaled = _rescaled(path, dataset, stored, values)
    possible = [0, 0xFFFF]  # of a modality table
    if not dataset.get("ModalityLUTSequence"):
        possible = _rescaled(path, dataset, stored, np.array(stored.possible)).tolist()
    inverted = code(dataset.PhotometricInterpretation) == "MONOCHROME1"
    for shares in _scales(path, dataset, rescaled, (min(possible), max(possible))):
        if not np.isfinite(shares).all():
            raise UserError(f"{path}: rescale or window without finite values; correct it, or export the file again")
        grays = ((1 - shares if inverted else shares) * 255).round().astype(np.uint8)
        if len(np.unique(grays)) >= min(FEWEST_GRAYS, len(values)):
            return grays
    return grays  # by the range: there are no more values


def _rescaled(path: Path, dataset: "Dataset", stored: Stored, values: NDArray[Any]) -> NDArray[Any]:
    """By the file's modality table, or its slope and intercept, 1 and 0 where blank."""
    from pydicom import Dataset
    from pydicom.pixels import apply_modality_lut

    settled = Dataset()
    if tables := dataset.get("ModalityLUTSequence"):
        table = LookupTable.of(path, dataset, tables[0], stored.possible)
        settled.ModalityLUTSequence, settled.file_meta = [table.for_pydicom()], _little_endian()
    else:
        slope = number(path, dataset, "RescaleSlope", "rescale")
        if slope == 0:
            raise UserError(f"{path}: a rescale slope of 0 makes one value of all; correct it, or export it again")
        settled.RescaleSlope = 1.0 if slope is None else slope
        settled.RescaleIntercept = number(path, dataset, "RescaleIntercept", "rescale") or 0.0
    with np.errstate(all="ignore"):
        rescaled = apply_modality_lut(values, settled)
    if not np.isfinite(rescaled).all():
        raise UserError(f"{path}: rescale without finite values; correct it, or export the file again")
    return rescaled


def _scales(
    path: Path, dataset: "Dataset", values: NDArray[Any], possible: tuple[float, float]
) -> Iterator[NDArray[np.float64]]:
    """Shares of white in [0, 1] of rescaled values, [N]: by each VOI table, by each window, by the range."""
    for item in dataset.get("VOILUTSequence") or []:
        yield _by_table(LookupTable.of(path, dataset, item, possible), values)
    tags = ("WindowCenter", "WindowWidth")
    pairs = zip_longest(*(numbers(path, dataset, tag, "window") for tag in tags))
    windows = [(center, width) for center, width in pairs if center is not None and width is not None]
    # One of no width is an error only where there is no other.
    for center, width in [window for window in windows if window[1] > 0] or windows:
        yield _by_window(path, dataset, values, center, width)
    with np.errstate(all="ignore"):
        spread = values.max() - values.min()
        yield (values - values.min()) / (spread or 1.0)


def _by_table(table: LookupTable, values: NDArray[Any]) -> NDArray[np.float64]:
    from pydicom.pixels import apply_voi

    # pydicom looks up whole numbers alone, and counts from the first one in 16 bits.
    whole = np.floor(values).clip(table.first, table.first + 0xFFFF).astype(np.int64)
    return apply_voi(whole, _view(VOILUTSequence=[table.for_pydicom()])) / table.white


def _by_window(
    path: Path, dataset: "Dataset", values: NDArray[Any], center: float, width: float
) -> NDArray[np.float64]:
    from pydicom.pixels import apply_windowing

    function = code(dataset.get("VOILUTFunction")) or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise UserError(f"{path}: window of function {shown(function)}; expected LINEAR, LINEAR_EXACT or SIGMOID")
    try:
        with np.errstate(all="ignore"):
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


def _little_endian() -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta
