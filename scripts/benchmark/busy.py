"""A step of training beside other work: threads that spin while they wait, as OpenMP's may, and threads that sleep."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.timing import Row, Timed

STEPS = """
import sys, time, torch
from vkd_pyro.encoders.image import SmallResNetEncoder
encoder, images = SmallResNetEncoder(), torch.rand(16, 1, 96, 96)
def step():
    encoder(images).sum().backward()
step()
start = time.perf_counter()
for _ in range(int(sys.argv[1])):
    step()
print((time.perf_counter() - start) / int(sys.argv[1]))
"""


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """All rows of this part: beside as many busy processes as there are cores, and beside none."""
    cores = len(os.sched_getaffinity(0))
    for busy in (cores, 0):
        yield waiting(busy, cores)


def waiting(busy: int, threads: int, repeats: int = 5, steps: int = 8) -> Row:
    """The same steps in processes of their own, on all cores, by turns with either waiting policy."""
    times: dict[str, list[float]] = {"active": [], "passive": []}
    with others(busy):
        for _ in range(repeats):
            for policy, found in times.items():
                found.append(seconds_a_step(policy, threads, steps))
    name = f"step of a small network, {threads} threads, beside {busy} busy processes"
    spinning, sleeping = (Timed(f"OMP_WAIT_POLICY={policy}", tuple(found)) for policy, found in times.items())
    return spinning.over(sleeping, name, images=16)


def seconds_a_step(policy: str, threads: int, steps: int) -> float:
    """Of a process that begins with this policy: it cannot be changed later."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", STEPS, str(steps)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def others(number: int) -> Iterator[None]:
    """So many processes that compute without end, while the block lasts."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
