"""The command line: which rows are measured, on which machine, and the file that they go to."""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyro
import torch

import benchmark
import vkd_pyro
from benchmark import busy, cuda, data, export, memory, prediction, start, steps
from benchmark.timing import Row, on
from vkd_pyro.utils.files import write_json

COMMANDS = (
    "python scripts/benchmark --root ../shared/openi --language_model models/all-MiniLM-L6-v2 "
    "--json results/benchmark.json",
    "python scripts/benchmark --device cuda --json results/benchmark.json",
)
"""What measures everything: on a CPU, and on a GPU."""

Machine = dict[str, str | int]
Table = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Part:
    """Some rows: what measures them, where, and which options it needs."""

    rows: Callable[[argparse.Namespace, Path], Iterable[Row]]
    devices: tuple[str, ...] = ("cpu",)
    needs: tuple[str, ...] = ()


PARTS = {
    "data": Part(data.rows, needs=("root", "language_model")),
    "decode": Part(data.decoding_rows),
    "memory": Part(memory.rows, needs=("language_model",)),
    "predict": Part(prediction.rows),
    "step": Part(steps.step_rows, ("cpu", "cuda")),
    "export": Part(export.rows),
    "network": Part(steps.network_rows, ("cpu", "cuda")),
    "start": Part(start.rows),
    "busy": Part(busy.rows),
    "gpu": Part(cuda.rows, ("cuda",)),
}


def main() -> None:
    chosen = arguments()
    machine = machine_of(chosen.device)
    print(machine)
    machines, table = rows_kept(chosen, machine)
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen.parts:
            for row in PARTS[part].rows(chosen, Path(folder)):
                table[row.name] = row.cells()
                print(row.name, *row.cells().values(), sep="\n    ", flush=True)
    if chosen.json:
        table = dict(sorted(table.items(), key=lambda row: row[0].endswith(on("cuda"))))  # a GPU's rows last
        origin = {"command": "; ".join(COMMANDS), "machine": machines, "rows": "measured"}
        write_json(chosen.json, origin | {"table": table})


def arguments() -> argparse.Namespace:
    """What is asked for; ends the process where it cannot be done."""
    parser = argparse.ArgumentParser(description=benchmark.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, help="Open-I, as downloaded")
    parser.add_argument("--language_model", help="folder of the frozen language model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks are")
    parser.add_argument("--workers", type=int, default=8, help="processes that read data for a GPU")
    parser.add_argument("--only", choices=PARTS, help="the rows to measure; others that the file has are kept")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    chosen.parts = [chosen.only] if chosen.only else [n for n, part in PARTS.items() if chosen.device in part.devices]
    if chosen.only and chosen.device not in PARTS[chosen.only].devices:
        parser.error(f"--only {chosen.only} is measured with --device {PARTS[chosen.only].devices[0]}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"--device cuda: no GPU here; on a machine with one: {COMMANDS[1]}")
    for part in chosen.parts:
        for option in PARTS[part].needs:
            if not getattr(chosen, option):
                parser.error(f"--{option} is needed for {part}; or choose other rows by --only")
    return chosen


def machine_of(device: str) -> Machine:
    """The device, and the versions of what computes on it."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "openvino": installed("openvino"),
        "lightning": installed("lightning"),
        "pyro": pyro.__version__,
        "vkd_pyro": vkd_pyro.__version__,
    }


def processor() -> str:
    """The model's name where the system tells it, else the kind."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str:
    """The version of a package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def rows_kept(chosen: argparse.Namespace, machine: Machine) -> tuple[dict[str, Machine], Table]:
    """The machines, by device, and the table of an earlier run, as far as its rows are not to be measured again.

    All rows of the other device stay, and with `--only` those of this one, which must be of the same machine.
    """
    device, path = chosen.device, chosen.json
    if path is None or not path.exists():
        return {device: machine}, {}
    content = json.loads(path.read_text(encoding="utf-8"))
    machines, table = content["machine"], content["table"]
    if not chosen.only:
        table = {name: cells for name, cells in table.items() if name.endswith(on("cuda")) != (device == "cuda")}
    elif machines.get(device, machine) != machine:
        sys.exit(f"{path}: measured on {machines[device]}, this is {machine}; measure all, without --only")
    return machines | {device: machine}, table
