"""Files of a store: their names, their plan, the rows of each shard; opened and written, damage named."""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from vkd_pyro.utils import reading
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import hash_of, sha256_of, written
from vkd_pyro.utils.reading import open_plain

Content = TypeVar("Content")
VERSION = 2
HASH = 64
PLAN, STUDIES, BAD_IMAGES, COMPLETE = "plan.json", "studies.arrow", "bad_images.csv", "store.json"
STUDY_COLUMNS = ("row", "study_id", "patient_id", "split", "views", "has_report", "labels", "sex", "age")
PREPARED_FOR = {"reports": "report encoder", "observed": "report likelihood", "features": "image features"}
"""What in the plan says how shards of each kind were prepared."""
SHARD = 256
"""Studies a shard: large enough to sort their reports by length, small enough that memory does not matter.
Readers count by it, so another number is another `VERSION`."""


def number_of_shards(num_studies: int) -> int:
    """Shards of each kind that hold so many studies."""
    return math.ceil(num_studies / SHARD)


def place_of(row: int) -> tuple[int, int]:
    """The shard of a study, and its number there."""
    return divmod(row, SHARD)


def shard_path(folder: Path, number: int, kind: str) -> Path:
    """The file of a shard of "images", "features", "reports" or "observed"."""
    return folder / f"{number:05d}.{kind}.arrow"


@dataclass(frozen=True)
class Block(Generic[Content]):
    """What a shard is written from; it needs nothing of the others.

    Attributes:
        folder: of the store.
        kind: of the shard, as in `shard_path`.
        number: of the shard.
        first: number of its first study.
        content: what there is of each of its studies.
    """

    folder: Path
    kind: str
    number: int
    first: int
    content: Sequence[Content] = field(repr=False)

    @property
    def path(self) -> Path:
        """The file of the shard."""
        return shard_path(self.folder, self.number, self.kind)


def missing_blocks(folder: Path, content: Sequence[Content], kind: str) -> list[Block[Content]]:
    """Of the shards that are not there, what belongs in each; `content` has an item a study."""
    starts = range(0, len(content), SHARD)
    blocks = [Block(folder, kind, n, start, content[start : start + SHARD]) for n, start in enumerate(starts)]
    return [block for block in blocks if not block.path.is_file()]


def write_arrow(path: Path, table: pa.Table) -> None:
    """Writes a table, and behind it the hash of the file, whole or not at all."""
    with written(path) as unfinished:
        with pa.ipc.new_file(str(unfinished), table.schema) as writer:
            writer.write_table(table)
        digest = sha256_of(unfinished)
        with unfinished.open("ab") as file:
            file.write(digest.encode())


def open_arrow(path: Path, *columns: str) -> pa.Table:
    """These columns of a mapped file, whose content is not compared with its hash: `check_content` does that.

    Raises:
        UserError: it is missing, or no such table.
    """
    try:
        file = pa.memory_map(str(path))
        table = pa.ipc.open_file(file, footer_offset=file.size() - HASH).read_all()
        table.validate(full=True)  # else a damaged offset ends the process
        if not table.num_rows:
            raise pa.ArrowInvalid("no row")
        return table.select(columns)
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise damaged(path) from error


def hash_in(path: Path) -> str:
    """The hash that a file was written with, as it stands at its end; "" where there is no file so long."""
    try:
        with open_plain(path) as file:
            file.seek(-HASH, os.SEEK_END)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def check_content(path: Path) -> None:
    """Raises `UserError` where a bit of a table's file is not as it was written: reads it once."""
    try:
        with open_plain(path) as file:
            digest, left = hashlib.sha256(), os.fstat(file.fileno()).st_size - HASH
            while part := file.read(min(1 << 20, max(left, 0))):
                digest.update(part)
                left -= len(part)
            whole = digest.hexdigest().encode() == file.read()
    except OSError:
        whole = False
    if not whole:
        raise damaged(path)


def damaged(path: Path) -> UserError:
    """What is raised of a file of a store that can be written again."""
    return UserError(f"{path}: missing or damaged; delete it and {COMPLETE}, and run vkd prepare again")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a store; `UserError` where there is no store, or it is not as it was written."""
    mended = "delete it, and run vkd prepare again" if path.name == COMPLETE else "prepare the store in another folder"
    try:
        content = reading.read_json(path, mended)
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: not a store (no {path.name}); make one by vkd prepare") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not readable as JSON; {mended}")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise UserError(f"{path.parent}: a store of version {found}, expected {VERSION}; prepare it again")
    if content.get("config_sha256") != hash_of(content):
        raise UserError(f"{path}: changed since it was written; {mended}")
    return content


def check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
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
