"""The options that say who carries out the blocks of a large job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.executors import Executor, ThisProcess

OPTIONS = ("executor", "num_workers", "ray_address")


def add_executor(parser: ArgumentParser) -> None:
    """--executor, --num_workers, --ray_address."""
    parser.add_argument(
        "--executor",
        type=Literal["process", "ray"],
        default="process",
        help="who does the work: this process, or workers of Ray, on machines that share the files; the same bytes "
        "are written, and the same command goes on where it was interrupted",
    )
    parser.add_argument(
        "--num_workers",
        type=PositiveInt | None,
        help="processes of Ray, each with OMP_NUM_THREADS cores; by default as many as there are cores for",
    )
    parser.add_argument(
        "--ray_address",
        type=str | None,
        help="of a cluster that runs, such as auto or HOST:6379; by default Ray is started on this machine",
    )


@contextmanager
def executor_of(settings: Namespace) -> Iterator[Executor]:
    """Who does the work, while the block lasts."""
    if settings.executor == "ray":
        from vkd_pyro.utils.on_ray import ray_executor

        with ray_executor(settings.num_workers, settings.ray_address) as executor:
            yield executor
        return
    for option in ("num_workers", "ray_address"):
        if settings[option] is not None:
            raise UserError(f"--{option}: of workers of Ray; give --executor ray too")
    yield ThisProcess()
