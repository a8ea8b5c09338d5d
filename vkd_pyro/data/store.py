"""A prepared store: a corpus as training reads it, written once by `vkd prepare`.

store/
  plan.json             what it is made from: written first, and never changed
  00000.images.arrow    the images of 256 studies, resized, uint8
  00000.reports.arrow   what the report encoder prepared of their reports, ragged: no padding is stored
  studies.arrow         ids, splits, views, labels, sex and age, as the corpus gives them: any label policy fits
  bad_images.csv        images that could not be read, if some were skipped
  store.json            counts: written last, so where it is the store is whole

Arrow files (IPC), memory-mapped. Each is renamed into place when it is complete, so a killed writer loses one shard at
most, goes on where it was, and never disturbs a reader.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from math import nan
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import BadImages, Selected, Selection, check_share, keep_images
from vkd_pyro.data.source import Source
from vkd_pyro.data.study import Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, write_json, written

VERSION = 1
PLAN, STUDIES, BAD_IMAGES, COMPLETE = "plan.json", "studies.arrow", "bad_images.csv", "store.json"
STUDY_COLUMNS = ("row", "study_id", "patient_id", "split", "views", "has_report", "labels")
PERSON_COLUMNS = ("sex", "age")
"""Of a store that was written before them, both are unknown."""
PART = 16
"""Images that a thread reads at a time."""
SHARD = 256
"""Studies a shard: large enough to sort their reports by length, small enough that memory does not matter.
Readers count by it, so another number is another `VERSION`."""


# ------------------------------------------------------------------------------------------ writing


def prepare(
    selection: Selection,
    encoder: Preparation | None,
    folder: str | Path,
    bad_images: BadImages | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a store, or goes on with one that was interrupted; returns the content of its `store.json`.

    Args:
        selection: what is read.
        encoder: prepares the reports, on the device where it is; None leaves them out.
        folder: to write to; must be absent, empty, or an unfinished store of the same.
        bad_images: what to do with images that cannot be read.
        progress: show progress bars.

    Raises:
        UserError: the folder holds something else, another process writes to it, or images cannot be read.
    """
    folder, policy = Path(folder), bad_images or BadImages()
    selected = selection.read()
    plan: dict[str, Any] = {
        "version": VERSION,
        "made from": selection.identity() | {"report encoder": encoder and encoder.preparation},
        "content": _content_hash(selected),
        "shards": math.ceil(len(selected.studies) / SHARD),
    }
    with _claimed(folder, plan):
        complete = (folder / COMPLETE).is_file()
        _check_images(folder, selected, policy, complete)
        if complete:
            return _read_json(folder / COMPLETE)
        write_images(selected.studies, selection.transform, policy, folder, progress)
        if encoder is not None:
            write_reports(selected.texts, encoder, folder, progress)
        return _finish(folder, selected, plan, policy)


@contextmanager
def _claimed(folder: Path, plan: dict[str, Any]) -> Iterator[None]:
    """The folder with this plan in it, and no other process that writes to it."""
    if folder.exists() and not (folder / PLAN).is_file() and (not folder.is_dir() or any(_others(folder))):
        raise UserError(f"{folder}: holds something that is no store; choose another --output")
    private_folder(folder)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0, mode=0o600):
            if not (folder / PLAN).is_file():
                write_json(folder / PLAN, plan)
            _check_same_plan(folder, plan)
            for leftover in folder.glob("*.unfinished"):
                leftover.unlink()
            yield
    except filelock.Timeout as error:
        raise UserError(f"{folder}: another vkd prepare is writing to it; wait until it has ended") from error


def _others(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name != ".lock" and path.suffix != ".unfinished")


def _check_same_plan(folder: Path, plan: dict[str, Any]) -> None:
    found = _read_plan(folder)
    _check_same(folder, found.get("made from", {}), plan["made from"])
    if found != json.loads(json.dumps(plan)):
        raise UserError(f"{folder}: the corpus has changed since this store was begun; prepare it into another folder")


def _content_hash(selected: Selected) -> str:
    """sha256 over what the corpus's tables and texts say, but for sex and age, which stores written before them do not
    have; its images are checked shard by shard."""
    digest = hashlib.sha256()
    for study, text in zip(selected.studies, selected.texts, strict=True):
        said = (study.study_id, study.patient_id, study.split, study.views, study.labels.tobytes(), text)
        digest.update(repr(said).encode())
    return digest.hexdigest()


def _check_images(folder: Path, selected: Selected, policy: BadImages, complete: bool) -> None:
    """Refuses images that have changed since they were written.

    In an unfinished store, one that could not be read may have been mended: its shard is written again.
    """
    for path in sorted(folder.glob("*.images.arrow")):
        columns = _open_arrow(path, "study", "image", "problem", "source").to_pydict()
        again = False
        for number, image, problem, source in zip(*columns.values(), strict=True):
            study = selected.studies[number]
            changed = _image_source(study.images[image]) != source
            if changed and (complete or not problem):
                raise UserError(
                    f"{folder}: an image of study {study.study_id} has changed since this store was begun; "
                    "prepare it into another folder"
                )
            again |= bool(problem) and (changed or policy.policy == "error")
        if again and not complete:
            path.unlink()


def _image_source(image: Path | NDArray[np.uint8]) -> str:
    """What tells an image from another of the same name: a file's size, blank where there is none; an array's hash."""
    if not isinstance(image, Path):
        return hashlib.sha256(image.tobytes()).hexdigest()
    return str(image.stat().st_size) if image.is_file() else ""


def _shard(folder: Path, number: int, kind: str) -> Path:
    return folder / f"{number:05d}.{kind}.arrow"


def write_images(
    studies: Sequence[Study], transform: ImageTransform, policy: BadImages, folder: Path, progress: bool
) -> None:
    """The shards of images that are missing. A row an image: its study, its number there, and its pixels; null where
    it cannot be read."""

    def read(images: Sequence[Path | NDArray[np.uint8]], pixels: NDArray[np.uint8]) -> list[str]:
        return [problem_of(image, row) for image, row in zip(images, pixels, strict=True)]

    def problem_of(image: Path | NDArray[np.uint8], pixels: NDArray[np.uint8]) -> str:
        try:
            pixels[:] = transform(image).numpy().ravel()
            return ""
        except UserError as error:
            if policy.policy == "error":
                raise
            return str(error)

    # Decoding and writing release the interpreter's lock: a shard is written while the next one is decoded.
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as disk, quiet_readers():
        written_before: Future[None] | None = None
        for path, part in tqdm(_missing(folder, studies, "images"), "images", unit="shard", disable=not progress):
            places = [(i, j) for i in part for j in range(len(studies[i].images))]
            pixels = np.zeros((len(places), transform.size**2), np.uint8)
            images = [studies[i].images[j] for i, j in places]
            parts = [slice(start, start + PART) for start in range(0, len(images), PART)]
            problems = list(chain(*pool.map(read, [images[p] for p in parts], [pixels[p] for p in parts])))
            _, readable = pa.array([not problem for problem in problems]).buffers()
            columns = {
                "study": pa.array([i for i, _ in places], pa.int32()),
                "image": pa.array([j for _, j in places], pa.int32()),
                "pixels": pa.Array.from_buffers(
                    pa.binary(pixels.shape[1]), len(places), [readable, pa.py_buffer(pixels)]
                ),
                "problem": pa.array(problems, pa.string()),
                "source": pa.array(map(_image_source, images), pa.string()),
            }
            if written_before is not None:
                written_before.result()
            written_before = disk.submit(_write_arrow, path, pa.table(columns))
        if written_before is not None:
            written_before.result()


def write_reports(texts: Sequence[str | None], encoder: Preparation, folder: Path, progress: bool) -> None:
    """The shards of reports that are missing. A row a study: token ids, or token embeddings one after the other;
    `width` is that of one token, 0 for ids."""
    for path, part in tqdm(_missing(folder, texts, "reports"), "reports", unit="shard", disable=not progress):
        reports = encoder.prepare([texts[i] or "" for i in part])
        flat = torch.cat([report.flatten() for report in reports]).numpy()
        offsets = np.cumsum([0, *(report.numel() for report in reports)])
        tokens = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat))
        width = reports[0].shape[1] if reports[0].ndim == 2 else 0
        _write_arrow(path, pa.table({"tokens": tokens}).replace_schema_metadata({"width": str(width)}))


def _missing(folder: Path, rows: Sequence[Any], kind: str) -> list[tuple[Path, range]]:
    """The shards that are not there, and their rows."""
    starts = range(0, len(rows), SHARD)
    shards = [(_shard(folder, n, kind), range(start, min(start + SHARD, len(rows)))) for n, start in enumerate(starts)]
    return [(path, part) for path, part in shards if not path.is_file()]


def _write_arrow(path: Path, table: pa.Table) -> None:
    with written(path) as unfinished, pa.ipc.new_file(str(unfinished), table.schema) as writer:
        writer.write_table(table)


def _finish(folder: Path, selected: Selected, plan: dict[str, Any], policy: BadImages) -> dict[str, Any]:
    """Writes the table of studies, and the mark that the store is whole."""
    kept: list[list[int]] = [[] for _ in selected.studies]
    bad = []
    for number in range(plan["shards"]):
        table = _open_arrow(_shard(folder, number, "images"), "study", "image", "problem").to_pydict()
        for study, image, problem in zip(*table.values(), strict=True):
            if problem:
                bad.append((selected.studies[study].study_id, problem))
            else:
                kept[study].append(image)
    check_share(len(bad), sum(map(len, kept)) + len(bad), policy)
    rows = [(i, text is not None) for i, text in enumerate(selected.texts) if kept[i]]
    selected = keep_images(selected, kept)
    studies = selected.studies
    columns = {
        "row": pa.array([i for i, _ in rows], pa.int32()),
        "study_id": pa.array([study.study_id for study in studies], pa.string()),
        "patient_id": pa.array([study.patient_id for study in studies], pa.string()),
        "split": pa.array([study.split for study in studies], pa.string()),
        "views": pa.array([list(study.views) for study in studies], pa.list_(pa.string())),
        "has_report": pa.array([has_report for _, has_report in rows], pa.bool_()),
        "labels": pa.array([study.labels for study in studies], pa.list_(pa.float32())),
        "sex": pa.array([study.sex for study in studies], pa.string()),
        "age": pa.array([study.age for study in studies], pa.float64()),
    }
    _write_arrow(folder / STUDIES, pa.table(columns))
    with written(folder / BAD_IMAGES) as unfinished:
        pd.DataFrame(bad, columns=["study", "problem"]).to_csv(unfinished, index=False)
    complete = {
        "studies": len(studies),
        "images": sum(len(study.images) for study in studies),
        "reports": sum(has_report for _, has_report in rows),
        "left_out": dict(selected.left_out),
    }
    write_json(folder / COMPLETE, complete)
    return complete


# ------------------------------------------------------------------------------------------ reading


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
        plan = _read_plan(self.folder)
        if not (self.folder / COMPLETE).is_file():
            images, reports = (len(list(self.folder.glob(f"*.{kind}.arrow"))) for kind in ("images", "reports"))
            raise UserError(
                f"{folder}: not complete (of {plan['shards']} shards {images} of images, {reports} of reports); "
                "run the same vkd prepare again to go on"
            )
        self.made_from = plan["made from"]
        table = _open_arrow(self.folder / STUDIES, *STUDY_COLUMNS, optional=PERSON_COLUMNS).to_pandas()
        pixels: dict[int, list[NDArray[np.uint8]]] = {row: [] for row in table["row"]}
        for number in range(plan["shards"]):
            shard = _shard(self.folder, number, "images")
            for study, image in _pixels(shard, self.made_from["image transform"]["size"]):
                if study in pixels:
                    pixels[study].append(image)
        self.studies = [
            Study(
                study_id=row.study_id,
                patient_id=row.patient_id,
                images=tuple(pixels[row.row]),
                views=tuple(row.views),
                report={},
                labels=row.labels,
                split=row.split,
                sex=getattr(row, "sex", "unknown"),
                age=getattr(row, "age", nan),
            )
            for row in table.itertuples()
        ]
        self.has_report, self.rows = table["has_report"].tolist(), table["row"].tolist()
        self.left_out = Counter(_read_json(self.folder / COMPLETE)["left_out"])
        self.bad = _read_bad_images(self.folder / BAD_IMAGES)

    def __reduce__(self) -> Any:
        return Store, (self.folder,)  # a loader's process maps the files itself

    def some(self, studies: Sequence[int]) -> "StoredStudies":
        """See `Source`."""
        return StoredStudies(self, studies)

    def check(self, selection: Selection) -> None:
        """Raises `UserError` where the store was made from another selection."""
        _check_same(self.folder, self.made_from, selection.identity())

    def reports(self, encoder: Preparation, studies: Sequence[int]) -> "StoredReports":
        """What the encoder prepared of the reports of these studies; `UserError` where it was another encoder."""
        _check_same(self.folder, self.made_from, {"report encoder": encoder.preparation})
        return StoredReports(self.folder, [self.rows[study] for study in studies])


class StoredStudies(Sequence[Study]):
    """Some studies of a store. Sent to another process, their images are not: it opens the store itself."""

    def __init__(self, store: Store, rows: Sequence[int]) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.store.studies[self.rows[index]]


class StoredReports(Sequence[Tensor]):
    """Prepared reports, each read from its mapped file when asked for: int64 [T], or float16 [T, E]."""

    def __init__(self, folder: Path, rows: list[int]) -> None:
        self.folder, self.rows = folder, rows
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
        number, place = divmod(row, SHARD)
        if number not in self._shards:
            self._shards[number] = _tokens(_shard(self.folder, number, "reports"))
        return self._shards[number], place

    def __reduce__(self) -> Any:
        return StoredReports, (self.folder, self.rows)


def _pixels(path: Path, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(study, image) of the readable images of a shard; views of the mapped file."""
    table = _open_arrow(path, "study", "pixels")
    column = table["pixels"].chunk(0)
    pixels = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, size, size)
    readable = column.is_valid().to_numpy(zero_copy_only=False)
    return (
        (int(study), image) for study, image, ok in zip(table["study"].to_numpy(), pixels, readable, strict=True) if ok
    )


def _tokens(path: Path) -> tuple[NDArray[Any], NDArray[np.int64], int]:
    """Values of all reports of a shard, their offsets, and the width of a token; views of the mapped file."""
    table = _open_arrow(path, "tokens")
    column = table["tokens"].chunk(0)
    width = int(table.schema.metadata[b"width"])
    values = column.values.to_numpy()
    return values, column.offsets.to_numpy(), width


def _open_arrow(path: Path, *columns: str, optional: Sequence[str] = ()) -> pa.Table:
    """These columns of a mapped file, and the optional ones that are there."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # else a damaged offset ends the process
        if not table.num_rows:
            raise pa.ArrowInvalid("no row")
        return table.select([*columns, *(name for name in optional if name in table.column_names)])
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: missing or damaged; delete it and {COMPLETE}, and run vkd prepare again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: not a store (no {path.name}); make one by vkd prepare") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON; prepare the store again, into another folder") from error
    return content


def _read_plan(folder: Path) -> dict[str, Any]:
    plan = _read_json(folder / PLAN)
    if plan.get("version") != VERSION:
        raise UserError(f"{folder}: a store of version {plan.get('version')}, expected {VERSION}; prepare it again")
    return plan


def _read_bad_images(path: Path) -> list[tuple[str, str]]:
    try:
        return list(pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False, name=None))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged; delete it and {COMPLETE}, and run vkd prepare again") from error


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises `UserError` naming the first setting in which a store differs from what is wanted."""
    wanted = json.loads(json.dumps(wanted, default=str))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UserError(
                f"{folder}: this store was made with {name} {_short(found.get(name), value)}, found now "
                f"{_short(value, found.get(name))}; prepare another store, or set it back"
            )


def _short(value: Any, other: Any) -> str:
    """A value; of two mappings, only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {key: item for key, item in value.items() if other.get(key) != item}
    return str(value)
