"""Numbers of a DICOM header. What stands there instead is never repeated: in a damaged file it may be the patient's."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset


def numbers(path: Path, dataset: "Dataset", tag: str, part: str, whole: bool = False) -> list[float | None]:
    """The numbers of a tag, none if it is absent; None in the place of one that is blank.

    Args:
        path: of the file, for errors.
        dataset: that may have the tag.
        tag: by its keyword.
        part: what it belongs to, as an error names it.
        whole: whether only whole numbers will do.

    Raises:
        UserError: it holds something else.
    """
    try:
        value = dataset.get(tag)
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        found = [None if one in (None, "") else float(one) for one in values]
    # pydicom turns text into numbers here, and raises nearly any exception where it is none.
    except Exception as error:
        raise UserError(_wrong(path, tag, part, "no number")) from error
    known = [one for one in found if one is not None]
    if not all(map(math.isfinite, known)):
        raise UserError(_wrong(path, tag, part, "no finite number"))
    if whole and any(one != int(one) for one in known):
        raise UserError(_wrong(path, tag, part, "no whole number"))
    return found


def number(path: Path, dataset: "Dataset", tag: str, part: str, whole: bool = False) -> float | None:
    """The first of `numbers`; None where it is absent or blank."""
    return next(iter(numbers(path, dataset, tag, part, whole)), None)


def _wrong(path: Path, tag: str, part: str, what: str) -> str:
    return f"{path}: {part} is {what} (DICOM tag {tag}); correct it, or export the file again"
