"""One image by `vkd predict`, a process of its own each time: what is imported and read decides."""

import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from benchmark.export import engines, write_noise
from benchmark.networks import images_only
from benchmark.timing import Row, Timed
from vkd_pyro.encoders.image import TorchvisionEncoder

PAGE_CACHE = Path("/proc/sys/vm/drop_caches")
"""Of Linux: what was read is read from the disk again, once root has written to it."""


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """DenseNet-121, 224 px: by a bundle and by its export; with what they read in the page cache, and not."""
    folders = engines(images_only(TorchvisionEncoder("densenet121")), 224, folder / "start")
    (image,) = write_noise(folder / "one", 1, 256, 256, ".png")
    yield starting(folders, image, cold=False)
    if os.access(PAGE_CACHE, os.W_OK):
        yield starting(folders, image, cold=True)
    else:
        print("  no row of a cold start: dropping the page cache needs Linux and root")


def starting(folders: dict[str, Path], image: Path, cold: bool, repeats: int = 5) -> Row:
    """The bundle and the export by turns, after one run of each."""
    named = {"vkd predict, PyTorch": "bundle, PyTorch", "OpenVINO, fp32": "export, OpenVINO"}
    times: dict[str, list[float]] = {name: [] for name in named}
    for repeat in range(1 + repeats):
        for name, found in times.items():
            taken = seconds(folders[name], image, cold)
            if repeat:
                found.append(taken)
    bundle, export = (Timed(named[name], tuple(found)) for name, found in times.items())
    cache = "dropped" if cold else "warm"
    return bundle.over(export, f"vkd predict of one image, page cache {cache}", "< 3 s by the export")


def seconds(folder: Path, image: Path, cold: bool) -> float:
    """Of the command, from its start to its end."""
    if cold:
        os.sync()
        PAGE_CACHE.write_bytes(b"3")
    command = [sys.executable, "-m", "vkd_pyro", "predict", str(folder), str(image)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start
