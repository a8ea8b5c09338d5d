"""Blocks on Ray Data: processes of one machine or of many, all of which see the same files.

A worker is an actor that writes one block after the other. One that dies is started again, and so is its block; what
it had of a file is gone, since files are written whole or not at all. What a block says (warnings, what the user can
mend) comes back to this process and is said here: workers log nothing of studies.
"""

import logging
import os
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vkd_pyro.utils.errors import UserError, as_user_error
from vkd_pyro.utils.executors import Write

MOST = 4
"""A block is begun so often where the process that writes it dies; then it is the block that kills it."""


@dataclass(frozen=True)
class RayExecutor:
    """An `Executor` of so many workers; as `ray_executor` yields it.

    Attributes:
        num_workers: processes, at most.
        threads: cores of each, and threads that it computes with.
        gpus: of each, where a network computes.
    """

    num_workers: int
    threads: int
    gpus: int

    def run(self, write: Write, blocks: Sequence[Any], name: str, progress: bool = True, network: bool = False) -> None:
        """As `Executor.run`."""
        if not blocks:
            return
        import ray
        from ray.data import ActorPoolStrategy, from_items

        worker: Any = _Worker
        given = [{"number": number, "block": ray.cloudpickle.dumps(block)} for number, block in enumerate(blocks)]
        done = from_items(given, override_num_blocks=len(blocks)).map(
            worker,
            fn_constructor_args=(ray.cloudpickle.dumps(write), ray.remote(num_cpus=0)(_Attempts).remote(), name),
            compute=ActorPoolStrategy(size=min(self.num_workers, len(blocks))),
            num_cpus=self.threads,
            num_gpus=self.gpus * network,
        )
        for row in tqdm(done.iter_rows(), name, len(blocks), unit="block", disable=not progress):
            for text in row["warnings"]:
                warnings.warn(str(text), stacklevel=2)
            if row["problem"]:
                raise UserError(str(row["problem"]))
            if row["fault"]:
                raise RuntimeError(f"a worker of Ray failed:\n{row['fault']}")


class _Attempts:
    """How often each block was begun; Ray itself begins it again for ever."""

    def __init__(self) -> None:
        self.number: Counter[int] = Counter()

    def begin(self, block: int) -> int:
        """How often it was begun, with this time."""
        self.number[block] += 1
        return self.number[block]


class _Worker:
    """Writes blocks in a process of Ray."""

    def __init__(self, write: bytes, attempts: Any, name: str) -> None:
        import ray

        self.write: Write = ray.cloudpickle.loads(write)
        self.attempts, self.name = attempts, name

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        problem = fault = ""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            try:
                if ray.get(self.attempts.begin.remote(int(row["number"]))) > MOST:
                    raise UserError(
                        f"--executor ray: a process that writes {self.name} died {MOST} times at one block (too little "
                        "memory?); what is done is kept; take fewer --num_workers, and the same command goes on"
                    )
                self.write([ray.cloudpickle.loads(row["block"])])
            except Exception as error:
                mendable = as_user_error(error)
                problem, fault = (str(mendable), "") if mendable else ("", traceback.format_exc())
        texts = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
        return {"warnings": texts, "problem": problem, "fault": fault}


@contextmanager
def ray_executor(num_workers: int | None = None, address: str | None = None) -> Iterator[RayExecutor]:
    """Workers of a cluster, or of this machine, while the block lasts.

    Each has as many cores, and threads, as this process has threads (`OMP_NUM_THREADS`): sums of floating-point numbers
    depend on how many take part in them, so that is what makes their bytes those of one process.

    Args:
        num_workers: as many as there are cores for, if nothing is said.
        address: of a cluster that runs; None starts Ray on this machine, without a dashboard or usage statistics, in a
            folder of its own that is removed at the end.

    Raises:
        UserError: Ray is not installed, or not at that address; no machine has so many cores.
    """
    import torch  # seconds, which the process that counts does without

    threads, gpus = torch.get_num_threads(), int(torch.cuda.is_available())
    if address is None:
        cores = len(os.sched_getaffinity(0))
        workers = num_workers or max(1, cores // threads)
        with started(workers * threads):
            yield RayExecutor(workers, threads, gpus)
        return
    with started(address=address) as ray:
        machines = [machine["Resources"].get("CPU", 0) for machine in ray.nodes() if machine["Alive"]]
        room = sum(int(cores // threads) for cores in machines)
        if not room:
            raise UserError(
                f"--ray_address {address}: no machine has {threads} cores, which this process computes with; set "
                "OMP_NUM_THREADS lower"
            )
        yield RayExecutor(min(num_workers or room, room), threads, gpus)


@contextmanager
def started(num_cpus: int | None = None, address: str | None = None) -> Iterator[Any]:
    """Ray on this machine, with so many cores to give away, or a cluster that runs; the module `ray`, while it lasts.

    Raises:
        UserError: it is not installed, or not at that address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            from ray.data import DataContext

            context = DataContext.get_current()
    except ModuleNotFoundError as error:
        raise UserError(f"Ray needs {error.name}: pip install 'vkd-pyro[scale]'") from error
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True  # so that the problem that is told is the first
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    # Ray opens its own folder to everybody, so it lies in one that only we may enter; paths of its sockets are short.
    folder = tempfile.mkdtemp(prefix="vkd-ray-") if address is None else None
    local = {"num_cpus": num_cpus, "include_dashboard": False, "_temp_dir": f"{folder}/r"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own future, and the machine's shared memory
            try:
                ray.init(**quiet, **({"address": address} if address else local))
            except (ConnectionError, ValueError) as error:
                raise UserError(f"--ray_address {address}: no cluster of Ray is found there") from error
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is told in one line, above
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
