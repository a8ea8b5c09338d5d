"""Reading a store: its studies, with images and reports that stay in the mapped files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.source import Kind, Source
from vkd_pyro.data.store.features import StoredFeatures
from vkd_pyro.data.store.layout import (
    BAD_IMAGES,
    COMPLETE,
    PLAN,
    PREPARED_FOR,
    STUDIES,
    STUDY_COLUMNS,
    check_content,
    check_same,
    damaged,
    hash_in,
    open_arrow,
    place_of,
    read_json,
    shard_path,
)
from vkd_pyro.data.study import Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of


class Store(Source):
    """A complete store, opened.

    Its studies' images are views of the mapped files, uint8 [size, size]; their reports are not kept as text.

    Args:
        folder: of the store.

    Raises:
        UserError: there is no store, or it is not complete.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        plan = read_json(self.folder / PLAN)
        try:
            self._read(plan)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{folder}: no store of this version ({type(error).__name__}); prepare it again") from error

    def _read(self, plan: dict[str, Any]) -> None:
        """Everything but the content of the shards."""
        if not (self.folder / COMPLETE).is_file():
            images, reports = (len(list(self.folder.glob(f"*.{kind}.arrow"))) for kind in ("images", "reports"))
            raise UserError(
                f"{self.folder}: not complete (of {plan['shards']} shards {images} of images, {reports} of reports); "
                "run the same vkd prepare again to go on"
            )
        complete = read_json(self.folder / COMPLETE)
        self._check_hashes(complete["sha256"])
        self.made_from = plan["made from"]
        table = open_arrow(self.folder / STUDIES, *STUDY_COLUMNS).to_pandas()
        self.studies = self._studies(table, self._views(table["row"].tolist(), plan["shards"]))
        self.has_report, self.rows = table["has_report"].tolist(), table["row"].tolist()
        self.left_out = Counter(complete["left_out"])
        self.bad = _read_bad_images(self.folder / BAD_IMAGES)

    def _views(self, rows: list[int], shards: int) -> dict[int, list[NDArray[np.uint8]]]:
        """The images of each row, uint8 [size, size] each: views of the mapped files."""
        size = self.made_from["image transform"]["size"]
        views: dict[int, list[NDArray[np.uint8]]] = {row: [] for row in rows}
        for number in range(shards):
            for study, image in _pixels(shard_path(self.folder, number, "images"), size):
                if study in views:
                    views[study].append(image)
        return views

    def _studies(self, table: pd.DataFrame, views: dict[int, list[NDArray[np.uint8]]]) -> list[Study]:
        checked: set[Path] = set()

        def study(row: Any) -> Study:
            shard = shard_path(self.folder, place_of(row.row)[0], "images")
            return Study(
                study_id=row.study_id,
                patient_id=row.patient_id,
                images=StoredImages(shard, views[row.row], checked),
                views=tuple(row.views),
                report={},
                labels=row.labels,
                split=row.split,
                sex=row.sex,
                age=row.age,
            )

        return [study(row) for row in table.itertuples()]

    def _check_hashes(self, written: dict[str, str]) -> None:
        """Checks the content of small files, and that shards are this store's; `UserError` names what is not."""
        for name, expected in written.items():
            path = self.folder / name
            small = path.suffix != ".arrow"
            if (sha256_of(path) if small and path.is_file() else hash_in(path)) != expected:
                raise damaged(path)
        check_content(self.folder / STUDIES)

    def check_contents(self, progress: bool = False) -> None:
        """Reads every file; raises `UserError` where a bit of one is not as it was written."""
        for path in tqdm(sorted(self.folder.glob("*.arrow")), "contents", unit="file", disable=not progress):
            check_content(path)

    def __reduce__(self) -> Any:
        return Store, (self.folder,)  # a loader's process maps the files itself

    def some(self, studies: Sequence[int]) -> "StoredStudies":
        """The studies with these numbers, which a loader's process opens itself."""
        return StoredStudies(self, studies)

    def check(self, selection: Selection) -> None:
        """Raises `UserError` where the store was made from another selection."""
        check_same(self.folder, self.made_from, selection.identity())

    def reports(self, preparation: Preparation, studies: Sequence[int], kind: Kind = "reports") -> "StoredReports":
        """What was prepared of the reports of these studies; `UserError` where it was prepared otherwise."""
        check_same(self.folder, self.made_from, {PREPARED_FOR[kind]: preparation.preparation})
        return StoredReports(self.folder, [self.rows[study] for study in studies], kind)

    def features(self, studies: Sequence[int]) -> StoredFeatures:
        """What was made of the images of these studies; `UserError` where nothing was."""
        if self.made_from.get(PREPARED_FOR["features"]) is None:
            raise UserError(
                f"{self.folder}: holds no features; write another store by vkd prepare --features, or set "
                "data.loading.features to false"
            )
        return StoredFeatures(self.folder, [self.rows[study] for study in studies])

    def check_features(self, preparation: dict[str, Any]) -> None:
        """Raises `UserError` where the features are not those of this encoder."""
        found = self.made_from.get(PREPARED_FOR["features"]) or {}
        check_same(self.folder, found, {"extractor": preparation})


class StoredImages(Sequence[NDArray[np.uint8]]):
    """Images of a study: views of the mapped file, whose content is checked before the first of them is given.

    Args:
        shard: the file.
        views: of it, uint8 [size, size] each.
        checked: files of the store whose content was compared with their hash; this one is added.
    """

    def __init__(self, shard: Path, views: list[NDArray[np.uint8]], checked: set[Path]) -> None:
        self.shard, self.views, self.checked = shard, views, checked

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: Any) -> Any:
        if self.shard not in self.checked:
            check_content(self.shard)
            self.checked.add(self.shard)
        return self.views[index]


class StoredStudies(Sequence[Study]):
    """Some studies of a store. Sent to another process, their images are not: it opens the store itself."""

    def __init__(self, store: Store, rows: Sequence[int]) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.store.studies[self.rows[index]]


class StoredReports(Sequence[Tensor]):
    """Prepared reports, each read from its mapped file when asked for: int64 [T], or float [T, E]."""

    def __init__(self, folder: Path, rows: list[int], kind: Kind = "reports") -> None:
        self.folder, self.rows, self.kind = folder, rows, kind
        self._shards: dict[int, tuple[NDArray[Any], NDArray[np.int64], int]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        (values, offsets, width), row = self._shard_of(self.rows[index])
        tokens = torch.from_numpy(values[offsets[row] : offsets[row + 1]].copy())
        return tokens.view(-1, width) if width else tokens

    def lengths(self) -> list[int]:
        """Tokens of each, none of which is read."""
        places = (self._shard_of(row) for row in self.rows)
        return [int(offsets[row + 1] - offsets[row]) // (width or 1) for (_, offsets, width), row in places]

    def _shard_of(self, row: int) -> tuple[tuple[NDArray[Any], NDArray[np.int64], int], int]:
        number, place = place_of(row)
        if number not in self._shards:
            self._shards[number] = _tokens(shard_path(self.folder, number, self.kind))
        return self._shards[number], place

    def __reduce__(self) -> Any:
        return StoredReports, (self.folder, self.rows, self.kind)


def _pixels(path: Path, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(study, image) of the readable images of a shard; views of the mapped file."""
    table = open_arrow(path, "study", "pixels")
    column = table["pixels"].chunk(0)
    pixels = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, size, size)
    readable = column.is_valid().to_numpy(zero_copy_only=False)
    return (
        (int(study), image) for study, image, ok in zip(table["study"].to_numpy(), pixels, readable, strict=True) if ok
    )


def _tokens(path: Path) -> tuple[NDArray[Any], NDArray[np.int64], int]:
    """Values of all reports of a shard, their offsets, and the width of a token; views of the mapped file."""
    check_content(path)
    table = open_arrow(path, "tokens")
    column = table["tokens"].chunk(0)
    width = int(table.schema.metadata[b"width"])
    values = column.values.to_numpy()
    return values, column.offsets.to_numpy(), width


def _read_bad_images(path: Path) -> list[tuple[str, str]]:
    try:
        return list(pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False, name=None))
    except (OSError, ValueError) as error:
        raise damaged(path) from error
