"""Predictions of very many images, block by block, each in a file: what `Executor` carries out, and goes on with.

A block is some whole batches, the same as one process makes, so each study is predicted beside the same others. Its
file is JSON, in which floats are exact: what is read back is what was said.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_origin

import numpy as np

from vkd_pyro.artifacts.export import Export, load_predictor
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.prediction.files import Predicted, in_batches, predict_files
from vkd_pyro.prediction.images import Unread
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.prediction.queries import Answer
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.executors import Executor
from vkd_pyro.utils.files import private_folder, remove_unfinished, write_json, written
from vkd_pyro.utils.locks import locked
from vkd_pyro.utils.reading import read_json

Images = Path | tuple[Path, ...]
IMAGES = 512
"""Of a block, about: some minutes of work on one core, and what is lost where a process dies."""
PLAN = "plan.json"


@dataclass(frozen=True)
class How:
    """How images are predicted; it can be given to another process.

    Attributes:
        folders: of the bundles or exports.
        engine, allow_module, trusted_key: as `load_predictor` has them.
        device: "cpu", "cuda", or "auto", a GPU where the process has one.
        uncertainty, batch_size, on_mismatch, level, queries: as `predict_files` has them.
    """

    folders: tuple[Path, ...]
    engine: Literal["auto", "torch", "openvino"] = "auto"
    allow_module: Sequence[str] = ()
    trusted_key: Path | None = None
    device: str = "auto"
    uncertainty: UncertaintySources = field(default_factory=UncertaintySources)
    batch_size: int = 32
    on_mismatch: Literal["error", "warn"] = "error"
    level: float = 0.95
    queries: Sequence[str] = ()

    @cached_property
    def predictors(self) -> list[Predictor]:
        """The bundles or exports, on their device."""
        loaded = [
            load_predictor(folder, self.engine, list(self.allow_module), self.trusted_key) for folder in self.folders
        ]
        to_device(loaded, self.device)
        return loaded

    def predict(self, studies: Iterable[Images]) -> Iterator[Predicted | Unread]:
        """What is said of each study or image."""
        how = self.batch_size, self.on_mismatch, self.level
        return predict_files(self.predictors, studies, self.uncertainty, *how, queries=self.queries)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "predictors"}


def to_device(predictors: Sequence[Predictor], device: str) -> None:
    """Moves bundles to a device: "cpu", "cuda", or "auto", a GPU where there is one.

    Raises:
        UserError: no GPU, or an export, which has none.
    """
    models = [predictor.model for predictor in predictors if not isinstance(predictor, Export)]
    if device == "cuda" and len(models) < len(predictors):
        raise UserError("--device cuda: OpenVINO computes on the CPU; leave it out, or give bundles and --engine torch")
    if models:
        import torch

        there = torch.cuda.is_available()
        if device == "cuda" and not there:
            raise UserError("--device cuda: no GPU found; leave it out to compute on the CPU")
        for model in models:
            model.to("cuda" if there and device != "cpu" else "cpu")


@dataclass(frozen=True)
class Block:
    """Studies that are predicted together, and the file that says what was said of them."""

    path: Path
    studies: list[Images] = field(repr=False)


@contextmanager
def predicted_in_blocks(
    how: How, studies: Sequence[Images], folder: Path, executor: Executor, progress: bool = True
) -> Iterator[Iterator[Predicted | Unread]]:
    """As `How.predict`, by an executor: what is said, read from the files of blocks.

    Args:
        how: of the prediction.
        studies: what is predicted.
        folder: of the blocks; one that was interrupted is gone on with. Without an error it is removed in the end.
        executor: who predicts.
        progress: show a bar.

    Raises:
        UserError: the folder holds blocks of something else, or another process writes to it.
    """
    how.predict([])  # what is asked wrongly is known before anything is written
    private_folder(folder)
    with locked(folder, "vkd predict"):
        remove_unfinished(folder)
        _claim(folder, how, studies)
        blocks = list(_blocks(folder, studies, how.batch_size))
        left = [block for block in blocks if not block.path.is_file()]
        executor.run(partial(write_blocks, how=how), left, "predict", progress, network=True)
        yield chain.from_iterable(_read(block) for block in blocks)
    shutil.rmtree(folder)


def _blocks(folder: Path, studies: Sequence[Images], batch_size: int) -> Iterator[Block]:
    batches = in_batches(studies, lambda one: len(one) if isinstance(one, tuple) else 1, batch_size)
    number = 0
    while some := list(islice(batches, max(1, IMAGES // batch_size))):
        yield Block(folder / f"{number:05d}.json", list(chain.from_iterable(some)))
        number += 1


def _claim(folder: Path, how: How, studies: Sequence[Images]) -> None:
    """Writes what the blocks are of; or compares it with what stands there."""
    digest = sha256()
    for one in studies:
        files = one if isinstance(one, tuple) else (one,)
        sizes = [file.stat().st_size if file.is_file() else None for file in files]
        digest.update(repr((isinstance(one, tuple), [os.fsencode(file) for file in files], sizes)).encode())
    plan = {
        "bundles": [getattr(predictor, "export_hash", predictor.bundle_hash) for predictor in how.predictors],
        "images": digest.hexdigest(),
        "uncertainty": vars(how.uncertainty),
        **{name: getattr(how, name) for name in ("engine", "batch_size", "on_mismatch", "level")},
        "queries": list(how.queries),
        "blocks": IMAGES,
    }
    if not (folder / PLAN).is_file():
        write_json(folder / PLAN, plan)
    found = read_json(folder / PLAN, "delete the folder, and run again")
    for name, value in plan.items():
        if not isinstance(found, dict) or found.get(name) != value:
            raise UserError(f"{folder}: blocks of another prediction, with other {name}; delete it, or set that back")


def write_blocks(blocks: Iterable[Block], how: How) -> None:
    """Predicts each block, and writes what was said."""
    for block in blocks:
        said = [_as_json(one) for one in how.predict(block.studies)]
        with written(block.path) as unfinished:
            unfinished.write_text(json.dumps(said), encoding="utf-8")


def _read(block: Block) -> list[Predicted | Unread]:
    content = read_json(block.path, "delete it, and run again")
    try:
        return [_from_json(one) for one in content]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{block.path}: not as it was written; delete it, and run again") from error


ARRAYS = tuple(attribute.name for attribute in fields(Predicted) if get_origin(attribute.type) is np.ndarray)


def _as_json(one: Predicted | Unread) -> dict[str, Any]:
    if isinstance(one, Unread):
        return {"image": str(one.image), "problem": one.problem}
    plain: dict[str, Any] = {name: getattr(one, name) for name in ("image_sha256", "unit", "findings")}
    plain |= {name: getattr(one, name).tolist() for name in ARRAYS}
    plain |= {"image": str(one.image), "images": [str(path) for path in one.images]}
    plain |= {"ood": float(one.ood), "ood_p": float(one.ood_p)}
    plain |= {"flagged": None if one.flagged is None else bool(one.flagged)}
    numbers = ("probability", "standard_error", "product")
    queries = [{name: getattr(answer, name).tolist() for name in numbers} for answer in one.queries]
    return plain | {"queries": [[answer.query, rest] for answer, rest in zip(one.queries, queries, strict=True)]}


def _from_json(one: dict[str, Any]) -> Predicted | Unread:
    if "problem" in one:
        return Unread(Path(one["image"]), one["problem"])
    arrays = [(query, {name: np.array(value) for name, value in rest.items()}) for query, rest in one["queries"]]
    known: dict[str, Any] = {name: np.array(one[name]) for name in ARRAYS}
    known |= {"image": Path(one["image"]), "images": tuple(map(Path, one["images"]))}
    answers = tuple(Answer(query, **numbers) for query, numbers in arrays)
    known |= {"findings": tuple(one["findings"]), "queries": answers}
    return Predicted(**(one | known))
