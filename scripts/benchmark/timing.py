"""Things run in turn, their times, and the row that compares two of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

Action = Callable[[], object]
Clock = Callable[[], float]
Named = tuple[str, Action]


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the median of `slower` over that of `faster`, times unless the unit says otherwise.

    Attributes:
        low, high: the range of the paired ratios.
        images: how many each of the two works on, for images/s; 0 where none are counted.
    """

    name: str
    slower: str
    faster: str
    slower_value: float
    faster_value: float
    unit: str
    ratio: float
    low: float
    high: float
    aim: str
    images: int = 0

    def cells(self) -> dict[str, str]:
        """What the table shows, by column."""
        return {
            "ratio": f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]",
            "aim": self.aim,
            "of": f"{self.slower}: {self._shown(self.slower_value)}",
            "to": f"{self.faster}: {self._shown(self.faster_value)}",
        }

    def _shown(self, value: float) -> str:
        if self.unit != "s":
            return f"{value:,.2f} {self.unit}"
        seconds = f"{value:,.2f} s" if value >= 1 else f"{1000 * value:,.1f} ms"
        return f"{seconds}, {self.images / value:,.1f} images/s" if self.images else seconds


def single(
    name: str, slower: tuple[str, float], faster: tuple[str, float], unit: str, aim: str = "", images: int = 0
) -> Row:
    """The row of two values that were found once each, or are known."""
    ratio = slower[1] / faster[1]
    return Row(name, slower[0], faster[0], slower[1], faster[1], unit, ratio, ratio, ratio, aim, images)


@dataclass(frozen=True)
class Timed:
    """What was run, and the seconds that each run took."""

    name: str
    times: tuple[float, ...]

    def over(self, other: "Timed", name: str, aim: str = "", images: int = 0) -> Row:
        """The row of this one, the slower, and the other."""
        pairs = [a / b for a, b in zip(self.times, other.times, strict=True)]
        a, b = median(self.times), median(other.times)
        return Row(name, self.name, other.name, a, b, "s", a / b, min(pairs), max(pairs), aim, images)


def in_turn(actions: Sequence[Named], repeats: int, clock: Clock = time.perf_counter) -> list[Timed]:
    """Runs all in turn, so many times, and once each before the clock starts."""
    for _, action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for (_, action), found in zip(actions, times, strict=True):
            start = clock()
            action()
            found.append(clock() - start)
    return [Timed(name, tuple(found)) for (name, _), found in zip(actions, times, strict=True)]


def compare(
    name: str,
    slower: Named,
    faster: Named,
    repeats: int,
    aim: str = "",
    clock: Clock = time.perf_counter,
    images: int = 0,
) -> Row:
    """The row of two that are run in turn."""
    one, other = in_turn([slower, faster], repeats, clock)
    return one.over(other, name, aim, images)


def clock_of(device: str) -> Clock:
    """Seconds; of a GPU when it has done all that it was given."""

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock if device == "cuda" else time.perf_counter


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def on(device: str) -> str:
    """The end of a row's name."""
    return ", CUDA" if device == "cuda" else ""
