"""Files of a store: their names, their plan, the rows of each shard; opened and written, damage named."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written

VERSION = 1
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


def missing_shards(folder: Path, num_studies: int, kind: str) -> list[tuple[Path, range]]:
    """The shards that are not there, and the studies that belong in each."""
    starts = range(0, num_studies, SHARD)
    shards = [(shard_path(folder, n, kind), range(s, min(s + SHARD, num_studies))) for n, s in enumerate(starts)]
    return [(path, part) for path, part in shards if not path.is_file()]


def write_arrow(path: Path, table: pa.Table) -> None:
    """Writes a table, whole or not at all."""
    with written(path) as unfinished, pa.ipc.new_file(str(unfinished), table.schema) as writer:
        writer.write_table(table)


def open_arrow(path: Path, *columns: str) -> pa.Table:
    """These columns of a mapped file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # else a damaged offset ends the process
        if not table.num_rows:
            raise pa.ArrowInvalid("no row")
        return table.select(columns)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: missing or damaged; delete it and {COMPLETE}, and run vkd prepare again") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a store; `UserError` where there is no store, or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: not a store (no {path.name}); make one by vkd prepare") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON; prepare the store again, into another folder") from error
    return content


def read_plan(folder: Path) -> dict[str, Any]:
    """What a store is made from; `UserError` where it is of another version."""
    plan = read_json(folder / PLAN)
    if plan.get("version") != VERSION:
        raise UserError(f"{folder}: a store of version {plan.get('version')}, expected {VERSION}; prepare it again")
    return plan


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
