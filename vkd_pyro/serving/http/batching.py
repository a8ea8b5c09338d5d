"""Requests that wait are computed together, by one thread, in a queue that is bounded."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol


class Job(Protocol):
    """What is to be computed."""

    @property
    def key(self) -> Hashable:
        """Jobs of one key may be computed together."""

    @property
    def size(self) -> int:
        """How many images it has."""


class Busy(Exception):
    """As many requests as there may be are being answered already, or the service stops."""


Compute = Callable[[Sequence[Any]], Sequence[Any]]


class Batcher:
    """Computes jobs in the order in which they come; those of the first one's key with it, up to a batch.

    It waits for no batch to fill: while one is computed the next one gathers.

    Args:
        compute: jobs of one key to an answer each, which may be an exception; runs in a thread, one call at a time.
        capacity: requests that may be in the house at once.
        batch_size: images computed together, about.
        on_batch: is told the number of images of each batch.
    """

    def __init__(
        self, compute: Compute, capacity: int, batch_size: int, on_batch: Callable[[int], None] = lambda size: None
    ) -> None:
        self.compute, self.capacity, self.batch_size, self.on_batch = compute, capacity, batch_size, on_batch
        self.inside = 0
        self._waiting: deque[tuple[Job, asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(1, "compute")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to compute; in a running event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Takes no more, and returns when all that was taken is answered."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._pool.shutdown()

    @property
    def is_ready(self) -> bool:
        """Whether it computes what comes."""
        return self._task is not None and not self._task.done() and not self._stopping

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the house, held from before a request is read until it is answered.

        Raises:
            Busy: there is none.
        """
        if self._stopping or self.inside >= self.capacity:
            raise Busy
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def submit(self, job: Job) -> Any:
        """The answer to a job; raises the exception that is its answer.

        Raises:
            Busy: the service stops.
        """
        if self._stopping:
            raise Busy
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._wake.set()
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping or self._waiting:
            await self._wake.wait()
            while batch := self._next():
                jobs = [job for job, _ in batch]
                self.on_batch(sum(job.size for job in jobs))
                answers = await loop.run_in_executor(self._pool, self._answers, jobs)
                for (_, future), answer in zip(batch, answers, strict=True):
                    _give(future, answer)
            if not self._stopping:
                self._wake.clear()

    def _next(self) -> list[tuple[Job, asyncio.Future[Any]]]:
        """The first job, and others of its key; those whose client has gone are dropped."""
        some: list[tuple[Job, asyncio.Future[Any]]] = []
        others: deque[tuple[Job, asyncio.Future[Any]]] = deque()
        size = 0
        for job, future in self._waiting:
            if future.done():
                continue
            if some and (size >= self.batch_size or job.key != some[0][0].key):
                others.append((job, future))
                continue
            some.append((job, future))
            size += job.size
        self._waiting = others
        return some

    def _answers(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """An answer each; where a batch fails each job is tried alone, so that none fails for another's sake."""
        try:
            return self.compute(jobs)
        except Exception as error:
            return [error] if len(jobs) == 1 else [answer for job in jobs for answer in self._answers([job])]


def _give(future: "asyncio.Future[Any]", answer: Any) -> None:
    if future.done():  # the client waits no longer
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
