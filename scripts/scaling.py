"""What `vkd prepare` and `vkd predict` cost on Ray beside one process, and that they write the same bytes.

    python scripts/scaling.py BUNDLE --openi PATH --json results/scaling.json

Each command is run once by itself and once with two workers of Ray, in turn, on the images of Open-I. Core hours are of
the processor: of the command and all that it starts, Ray's own processes too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.run import machine_of
from comparing import write_result

CONFIG = """
data:
  selection:
    corpus: {{class_path: vkd_pyro.data.corpora.openi.OpenI, init_args: {{root: {root}}}}}
    image_size: 224
    views: all
    unknown_views: keep
"""
WORKERS = 2
RAY = ("--executor", "ray", "--num_workers", str(WORKERS))
PER = 100_000
NOTE = (
    "Each command once, in turn, on a machine of two cores that other work shared: seconds are what passed, so their "
    "ratio is of that hour and of that load. The start of Ray is in them. Files are equal to the byte."
)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Of a command.

    Attributes:
        wall: seconds.
        cores: seconds of the processor by process, as last seen.
    """

    wall: float = 0.0
    cores: dict[int, float] = field(default_factory=dict)

    def see(self, root: int) -> None:
        """Notes what a process and those below it have used so far."""
        parents, used = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            except OSError:  # it has ended
                continue
            pid = int(path.parent.name)
            parents[pid], used[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
        below, found = {root}, True
        while found:
            found = {pid for pid, parent in parents.items() if parent in below} - below
            below |= found
        self.cores |= {pid: used[pid] for pid in below if pid in used}


def cost_of(*arguments: object) -> Cost:
    """Runs a `vkd` command; an exit code of 2 is of images that cannot be read."""
    cost, start, ended = Cost(), time.monotonic(), threading.Event()
    command = [sys.executable, "-m", "vkd_pyro.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:

        def watch() -> None:
            while not ended.wait(0.2):
                cost.see(process.pid)

        watching = threading.Thread(target=watch)
        watching.start()
        code = process.wait()
        cost.wall = time.monotonic() - start
        ended.set()
        watching.join()
    if code:
        sys.exit(f"vkd {arguments[0]}: ended with {code}")
    return cost


def row(images: int, alone: Cost, by_ray: Cost) -> dict[str, str]:
    """Of one command, both ways."""
    hours = [sum(cost.cores.values()) / 3600 * PER / images for cost in (alone, by_ray)]
    return {
        "images": f"{images:,}",
        "one process": f"{alone.wall:,.0f} s",
        f"Ray, {WORKERS} workers": f"{by_ray.wall:,.0f} s",
        "ratio of times": f"{by_ray.wall / alone.wall:.2f}",
        f"core hours per {PER:,} images, one process": f"{hours[0]:.2f}",
        f"core hours per {PER:,} images, Ray": f"{hours[1]:.2f}",
    }


def preparing(root: Path, folder: Path) -> dict[str, str]:
    """All images of the corpus to 224 px."""
    config = folder / "images.yaml"
    config.write_text(CONFIG.format(root=root.resolve()), encoding="utf-8")
    costs = [
        cost_of("prepare", "--config", config, "--output", folder / name, *options)
        for name, options in (("alone", ()), ("ray", RAY))
    ]
    files = [
        {path.name: path.read_bytes() for path in (folder / name).iterdir() if path.name != ".lock"}
        for name in ("alone", "ray")
    ]
    if files[0] != files[1]:
        sys.exit("vkd prepare: other bytes on Ray")
    return row(json.loads(files[0]["store.json"])["images"], *costs)


def predicting(bundle: Path, root: Path, folder: Path, number: int) -> dict[str, str]:
    """So many images by a bundle, 100 draws of z each."""
    images = sorted(root.glob("images/*.jpg"))[:number] or sorted(root.rglob("*.png"))[:number]
    costs = [
        cost_of("predict", bundle, *images, "--output", folder / f"{name}.csv", *options)
        for name, options in (("alone", ()), ("ray", RAY))
    ]
    if (folder / "alone.csv").read_bytes() != (folder / "ray.csv").read_bytes():
        sys.exit("vkd predict: other bytes on Ray")
    return row(len(images), *costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="RUN/bundle")
    parser.add_argument("--openi", type=Path, required=True, metavar="PATH", help="folder of Open-I")
    parser.add_argument("--images", type=int, default=3000, help="that are predicted")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = {
            "vkd prepare, 224 px": preparing(given.openi, Path(folder)),
            "vkd predict": predicting(given.bundle, given.openi, Path(folder), given.images),
        }
    for name, cells in table.items():
        print(f"{name}: {'; '.join(f'{column} {cell}' for column, cell in cells.items())}")
    if given.json:
        content = {
            "command": "python scripts/scaling.py BUNDLE --openi PATH --json results/scaling.json",
            "machine": {"cpu": machine_of("cpu")},
            "rows": "command",
            "note": NOTE,
            "table": table,
        }
        write_result(given.json, content)


if __name__ == "__main__":
    main()
