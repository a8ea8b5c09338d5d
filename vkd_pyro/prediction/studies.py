"""Which files are images of one study, and are judged together."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vkd_pyro.data.images.dicom.header import is_dicom, study_of
from vkd_pyro.utils.errors import UserError

MOST_IMAGES = 32
"""Of a study; a chest X-ray has a few, and a folder of thousands is no study."""

AUTO, NONE, FOLDER = "auto", "none", "folder"


def studies_of(images: Iterable[Path], group: str = AUTO) -> list[Path | tuple[Path, ...]]:
    """The files, those of one study together where that is known; in the order of each study's first file.

    Args:
        images: files.
        group: "auto", by the StudyInstanceUID of DICOM files, other files alone; "none", each alone; "folder", those of
            a folder are a study; or the name of a CSV file with columns `image` (relative to the file's folder) and
            `study`.

    Returns: a tuple for a study, even of one image; a path for a file of which no study is known.

    Raises:
        UserError: a study of more than `MOST_IMAGES`; a table that is not there, or lacks a file.
    """
    name_of = _name_of(group)
    found: dict[object, list[Path]] = {}
    alone: set[object] = set()
    for number, image in enumerate(images):
        name = name_of(image)
        if name is None:
            alone.add(number)
        found.setdefault(number if name is None else name, []).append(image)
    for files in found.values():
        if len(files) > MOST_IMAGES:
            raise UserError(
                f"--group {group}: {len(files):,} images of one study, such as {files[0]}; a study has at most "
                f"{MOST_IMAGES}; give --group none, or a table with a column study"
            )
    return [files[0] if name in alone else tuple(files) for name, files in found.items()]


def _name_of(group: str) -> Callable[[Path], str | None]:
    if group == NONE:
        return lambda image: None
    if group == FOLDER:
        return lambda image: os.path.abspath(image.parent)
    return _by_header if group == AUTO else _by_table(Path(group))


def _by_header(image: Path) -> str | None:
    """None where it is no DICOM file, is damaged (which reading it will tell), or names no study."""
    try:
        return study_of(image) or None if is_dicom(image) else None
    except (UserError, OSError):
        return None


def _by_table(path: Path) -> Callable[[Path], str | None]:
    if not path.suffix.lower().startswith((".csv", ".gz")):
        raise UserError(
            f"--group: found {path}, expected {AUTO}, {NONE}, {FOLDER}, or a CSV file with columns image and study"
        )
    from vkd_pyro.data.corpora.common.tables import read_table  # pandas, which most predictions do without

    table = read_table(path, ["image", "study"])
    studies = {
        os.path.abspath(path.parent / image): study or None
        for image, study in zip(table["image"], table["study"], strict=True)
    }

    def name(image: Path) -> str | None:
        whole = os.path.abspath(image)
        if whole not in studies:
            raise UserError(f"--group {path}: has no row for {image}; add one, a blank study where it is not known")
        return studies[whole]

    return name


def flat(items: Sequence[Path | tuple[Path, ...]]) -> list[Path]:
    """All files of `studies_of`."""
    return [path for item in items for path in (item if isinstance(item, tuple) else (item,))]
