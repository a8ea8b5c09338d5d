"""Writing a store, and going on with one that was interrupted."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import BadImages, Selected, Selection, check_flat, check_share, keep_images
from vkd_pyro.data.source import Kind
from vkd_pyro.data.store.features import ImageFeatures, write_features
from vkd_pyro.data.store.layout import (
    BAD_IMAGES,
    COMPLETE,
    PLAN,
    PREPARED_FOR,
    STUDIES,
    VERSION,
    check_content,
    check_same,
    hash_in,
    missing_blocks,
    number_of_shards,
    open_arrow,
    read_json,
    shard_path,
    write_arrow,
)
from vkd_pyro.data.store.shards import is_source, write_images, write_reports
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.executors import Executor, ThisProcess
from vkd_pyro.utils.files import UNFINISHED, private_folder, remove_unfinished, sha256_of, write_signed_json, written
from vkd_pyro.utils.locks import LOCK, locked


def prepare(
    selection: Selection,
    encoder: Preparation | None,
    folder: str | Path,
    bad_images: BadImages | None = None,
    progress: bool = True,
    observation: Preparation | None = None,
    features: ImageFeatures | None = None,
    executor: Executor | None = None,
    reuse: str | Path | None = None,
) -> dict[str, Any]:
    """Writes a store, or goes on with one that was interrupted; returns the content of its `store.json`.

    Args:
        selection: what is read.
        encoder: prepares the reports, on the device where it is; None leaves them out.
        folder: to write to; must be absent, empty, or an unfinished store of the same.
        bad_images: what to do with images that cannot be read.
        progress: show progress bars.
        observation: prepares the reports for a report likelihood; None leaves that out.
        features: makes features of the images; None leaves them out.
        executor: who writes the shards; this process if nothing is said. The store is the same.
        reuse: another store of the same studies: what it holds that would be made alike is taken from there.

    Raises:
        UserError: the folder holds something else, another process writes to it, images cannot be read, or too many
            have hardly any gray levels; `reuse` is of other studies, or other images of them.
    """
    folder, policy, executor = Path(folder), bad_images or BadImages(), executor or ThisProcess()
    selected = selection.read()
    prepared: dict[Kind, Preparation | None] = {"reports": encoder, "observed": observation}
    plan: dict[str, Any] = {
        "version": VERSION,
        "made from": selection.identity()
        | {PREPARED_FOR[kind]: part and part.preparation for kind, part in prepared.items()}
        | {PREPARED_FOR["features"]: features and features.preparation},
        "content": _content_hash(selected),
        "shards": number_of_shards(len(selected.studies)),
    }
    if reuse is not None:
        _check_reused(Path(reuse), plan)
    with _claimed(folder, plan):
        complete = (folder / COMPLETE).is_file()
        if reuse is not None and not complete:
            _take_from(Path(reuse), folder, plan)
        _check_images(folder, selected, policy, complete)
        if complete:
            return _counts(read_json(folder / COMPLETE))
        images = partial(write_images, transform=selection.transform, policy=policy)
        executor.run(images, missing_blocks(folder, selected.studies, "images"), "images", progress)
        if features is not None:
            of_images = partial(write_features, size=selection.image_size, features=features)
            blocks = missing_blocks(folder, [None] * len(selected.studies), "features")
            executor.run(of_images, blocks, "features", progress, network=True)
        for kind, part in prepared.items():
            if part is not None:
                reports = partial(write_reports, preparation=part)
                executor.run(reports, missing_blocks(folder, selected.texts, kind), kind, progress, network=True)
        remove_unfinished(folder)  # of a worker that was killed
        return _finish(folder, selected, plan, policy)


@contextmanager
def _claimed(folder: Path, plan: dict[str, Any]) -> Iterator[None]:
    """The folder with this plan in it, and no other process that writes to it."""
    if folder.exists() and not (folder / PLAN).is_file() and (not folder.is_dir() or any(_others(folder))):
        raise UserError(f"{folder}: holds something that is no store; choose another --output")
    private_folder(folder)
    with locked(folder, "vkd prepare"):
        remove_unfinished(folder)
        if not (folder / PLAN).is_file():
            write_signed_json(folder / PLAN, plan)
        _check_same_plan(folder, plan)
        yield


def _check_reused(other: Path, plan: dict[str, Any]) -> None:
    """Raises `UserError` unless another store is of the same studies and images."""
    found, prepared = read_json(other / PLAN), set(PREPARED_FOR.values())
    check_same(other, found["made from"], {n: v for n, v in plan["made from"].items() if n not in prepared})
    if found["content"] != plan["content"]:
        raise UserError(f"{other}: the corpus has changed since this store was made; leave out --reuse")


def _take_from(other: Path, folder: Path, plan: dict[str, Any]) -> None:
    """The shards of another store that would be written alike: links, or copies where the file system has no links."""
    found, wanted = (each["made from"] for each in (read_json(other / PLAN), json.loads(json.dumps(plan))))
    kinds = ["images", *(kind for kind, name in PREPARED_FOR.items() if found.get(name) == wanted[name])]
    for kind, number in product(kinds, range(plan["shards"])):
        path, source = shard_path(folder, number, kind), shard_path(other, number, kind)
        if source.is_file() and not source.is_symlink() and not path.exists():
            try:
                os.link(source, path)
            except OSError:
                with written(path) as unfinished:
                    shutil.copyfile(source, unfinished)


def _others(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name != LOCK and not UNFINISHED.fullmatch(path.name))


def _check_same_plan(folder: Path, plan: dict[str, Any]) -> None:
    found = read_json(folder / PLAN)
    check_same(folder, found.get("made from", {}), plan["made from"])
    if found != json.loads(json.dumps(plan)) | {"config_sha256": found["config_sha256"]}:
        raise UserError(f"{folder}: the corpus has changed since this store was begun; prepare it into another folder")


def _content_hash(selected: Selected) -> str:
    """sha256 over what the corpus's tables and texts say; its images are checked shard by shard."""
    digest = hashlib.sha256()
    for study, text in zip(selected.studies, selected.texts, strict=True):
        person = study.patient_id, study.sex, float(study.age)
        said = (study.study_id, person, study.split, study.views, study.labels.tobytes(), text)
        digest.update(repr(said).encode())
    return digest.hexdigest()


def _check_images(folder: Path, selected: Selected, policy: BadImages, complete: bool) -> None:
    """Refuses images that have changed since they were written, and what is written if it is damaged.

    In an unfinished store, one that could not be read may have been mended: its shard is written again.
    """
    for path in sorted(folder.glob("*.images.arrow")):
        check_content(path)
        numbers, places, problems, sources = (
            open_arrow(path, "study", "image", "problem", "source").to_pydict().values()
        )
        studies = [selected.studies[number] for number in numbers]
        images = [study.images[place] for study, place in zip(studies, places, strict=True)]
        with ThreadPoolExecutor() as pool:
            same = list(pool.map(is_source, images, sources))
        again = False
        for study, problem, changed in zip(studies, problems, np.logical_not(same), strict=True):
            if changed and (complete or not problem):
                raise UserError(
                    f"{folder}: an image of study {study.study_id} has changed since this store was begun; "
                    "prepare it into another folder"
                )
            again |= bool(problem) and (changed or policy.policy == "error")
        if again and not complete:
            shard_path(folder, int(path.name.split(".")[0]), "features").unlink(missing_ok=True)  # made of these images
            path.unlink()


def _finish(folder: Path, selected: Selected, plan: dict[str, Any], policy: BadImages) -> dict[str, Any]:
    """Writes the table of studies, and the mark that the store is whole."""
    kept: list[list[int]] = [[] for _ in selected.studies]
    bad, flat = [], 0
    for number in range(plan["shards"]):
        table = open_arrow(shard_path(folder, number, "images"), "study", "image", "problem", "flat").to_pydict()
        flat += sum(table.pop("flat"))
        for study, image, problem in zip(*table.values(), strict=True):
            if problem:
                bad.append((selected.studies[study].study_id, problem))
            else:
                kept[study].append(image)
    check_share(len(bad), sum(map(len, kept)) + len(bad), policy)
    check_flat(flat, sum(map(len, kept)), policy)
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
    write_arrow(folder / STUDIES, pa.table(columns))
    with written(folder / BAD_IMAGES) as unfinished:
        pd.DataFrame(bad, columns=["study", "problem"]).to_csv(unfinished, index=False)
    counts = {
        "studies": len(studies),
        "images": sum(len(study.images) for study in studies),
        "reports": sum(has_report for _, has_report in rows),
        "left_out": dict(selected.left_out),
    }
    write_signed_json(folder / COMPLETE, {"version": VERSION, **counts, "sha256": _hashes(folder)})
    return counts


def _counts(complete: dict[str, Any]) -> dict[str, Any]:
    return {name: complete[name] for name in ("studies", "images", "reports", "left_out")}


def _hashes(folder: Path) -> dict[str, str]:
    """The hash of each file of a store, by its name; `UserError` where a table is damaged."""
    tables = sorted(folder.glob("*.arrow"))
    for path in tables:
        check_content(path)
    whole = {path.name: sha256_of(path) for path in (folder / PLAN, folder / BAD_IMAGES)}
    return whole | {path.name: hash_in(path) for path in tables}
