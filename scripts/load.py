"""How `vkd serve` bears load: throughput beside `vkd predict` on the same files, latency, memory, bodies that are none.

    python scripts/load.py runs/mine/bundle ../shared/openi/images --json results/serving.json

Requests go to a service that this script starts on loopback and stops again. Figures are of the machine it runs on;
what is to be compared is the ratio to `vkd predict`, measured in the same run.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
from comparing import write_result
from jsonargparse.typing import PositiveInt
from trainings import errors_in_one_line

Body = tuple[bytes, str]
"""Content of a request, and its type."""

SECONDS = 120.0
"""That a request may take."""


@contextmanager
def service(bundle: Path, samples: int) -> Iterator[tuple[str, int, float]]:
    """A service of its own process: its address, its process, and seconds from its start to ready."""
    command = [sys.executable, "-m", "vkd_pyro.cli", "serve", str(bundle), "--port", "0", "--num_samples", str(samples)]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("ready: "))
        try:
            yield ready.split()[1], process.pid, time.perf_counter() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def memory(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def request_of(content: bytes) -> Body:
    """The body of a request for one image, and its content type."""
    request = httpx.Request("POST", "http://127.0.0.1", files=[("images", ("image", content))])
    return request.read(), request.headers["content-type"]


def asked(urls: list[str], bodies: list[Body], at_once: int) -> tuple[list[float], list[int], float]:
    """Seconds and status of each request, to the services in turn, and seconds of all; who is told to wait does."""
    with httpx.Client(timeout=SECONDS, limits=httpx.Limits(max_connections=at_once)) as client:

        def one(number: int, body: Body) -> tuple[float, int]:
            begun, url = time.perf_counter(), urls[number % len(urls)]
            while True:
                content, kind = body
                answer = client.post(f"{url}v1/predictions", content=content, headers={"content-type": kind})
                if answer.status_code != 503:
                    return time.perf_counter() - begun, answer.status_code
                time.sleep(float(answer.headers["retry-after"]))

        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(one, range(len(bodies)), bodies))
        whole = time.perf_counter() - begun
    return [seconds for seconds, _ in answers], [status for _, status in answers], whole


def predicted(bundle: Path, files: list[Path], samples: int) -> float:
    """Images a second of `vkd predict`, its start taken out: the time of all less that of one."""

    def run(some: list[Path]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            output = str(Path(folder) / "out.csv")
            command = [sys.executable, "-m", "vkd_pyro.cli", "predict", str(bundle), *map(str, some)]
            begun = time.perf_counter()
            options = ["--output", output, "--num_samples", str(samples), "--group", "none"]
            subprocess.run([*command, *options], check=True, capture_output=True)
            return time.perf_counter() - begun

    run(files[:1])  # from now on all that is read at the start is in memory
    return (len(files) - 1) / (run(files) - run(files[:1]))


def mutated(body: Body, rng: random.Random) -> Body:
    """A request of which some bytes are changed, in its head or anywhere, and half are cut short."""
    changed = bytearray(body[0])
    for _ in range(rng.randint(1, 30)):
        changed[rng.randrange(rng.choice((200, len(changed))))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.5 else changed), body[1]


def counted(statuses: list[int]) -> str:
    """How often each status occurs."""
    return ", ".join(f"{status}: {statuses.count(status)}" for status in sorted(set(statuses)))


def measured(given: argparse.Namespace, bodies: list[Body], by_predict: float) -> dict[str, str]:
    """The figures of one service, by name."""
    rows: dict[str, str] = {}
    with service(given.bundle, given.num_samples) as (url, pid, start):
        rows["start to ready, s"] = f"{start:.1f}"
        asked([url], bodies[: given.at_once], given.at_once)  # warm
        seconds, statuses, whole = asked([url], (bodies * given.requests)[: given.requests], given.at_once)
        rate = len(seconds) / whole
        rows[f"{given.requests:,} requests, {given.at_once} at once: images a second"] = f"{rate:.1f}"
        rows[f"`vkd predict`, {len(bodies):,} of the same files: images a second"] = f"{by_predict:.1f}"
        rows["ratio"] = f"{rate / by_predict:.2f}"
        rows["p50, s"], rows["p99, s"] = (f"{np.quantile(seconds, share):.2f}" for share in (0.5, 0.99))
        rows["statuses"] = counted(statuses)
        before = memory(pid)
        asked([url], (bodies * given.long)[: given.long], given.at_once)
        rows[f"memory, MiB: before and after {given.long:,} more"] = f"{before:.0f}, {memory(pid):.0f}"
        rng = random.Random(0)
        none = [(rng.randbytes(rng.randrange(1, 100_000)), bodies[0][1]) for _ in range(given.bodies)]
        none += [mutated(rng.choice(bodies), rng) for _ in range(given.bodies)]
        before = memory(pid)
        _, statuses, _ = asked([url], none, given.at_once)
        rows[f"{given.bodies:,} random and {given.bodies:,} mutated bodies: statuses"] = counted(statuses)
        rows["memory after them, times that before"] = f"{memory(pid) / before:.2f}"
        rows["ready after them"] = str(httpx.get(f"{url}health/ready").status_code == 200).lower()
    return rows


def by_two(given: argparse.Namespace, bodies: list[Body]) -> dict[str, str]:
    """The same requests, halved between two processes that each hold the model."""
    with ExitStack() as stack:
        started = [stack.enter_context(service(given.bundle, given.num_samples)) for _ in range(2)]
        urls = [url for url, _, _ in started]
        asked(urls, bodies[: given.at_once], given.at_once)
        _, _, whole = asked(urls, (bodies * given.requests)[: given.requests], given.at_once)
        held = sum(memory(pid) for _, pid, _ in started)
    return {"two processes: images a second": f"{given.requests / whole:.1f}", "their memory, MiB": f"{held:.0f}"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="a folder of X-rays")
    parser.add_argument("--requests", type=PositiveInt, default=1000)
    parser.add_argument("--at_once", type=PositiveInt, default=32)
    parser.add_argument("--long", type=PositiveInt, default=10_000, help="requests over which memory is watched")
    parser.add_argument("--bodies", type=PositiveInt, default=1000, help="random ones, and as many mutated ones")
    parser.add_argument("--num_samples", type=PositiveInt, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    files = sorted(path for path in given.images.iterdir() if path.suffix in (".png", ".jpg", ".dcm"))[: given.requests]
    by_predict = predicted(given.bundle, files, given.num_samples)
    bodies = [request_of(path.read_bytes()) for path in files]
    rows = measured(given, bodies, by_predict) | by_two(given, bodies)
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    if given.json:
        write_result(given.json, {"rows": "measured", "table": {name: {"": value} for name, value in rows.items()}})


if __name__ == "__main__":
    with errors_in_one_line():
        main()
