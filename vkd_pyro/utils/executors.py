"""Who carries out the blocks of a large job: this process, or many of many machines."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from tqdm import tqdm

Write = Callable[[Iterable[Any]], None]
"""Writes blocks, each to a file of its own, whole or not at all."""


class Executor(Protocol):
    """Carries out blocks; what they leave is the same whoever does it, and in whatever order."""

    def run(self, write: Write, blocks: Sequence[Any], name: str, progress: bool = True, network: bool = False) -> None:
        """Writes each block.

        Args:
            write: writes blocks; it and the blocks can be pickled.
            blocks: what is left to write.
            name: of what is written, for the progress bar.
            progress: show one.
            network: a network computes, so that a GPU is of use.

        Raises:
            UserError: of the first block that cannot be written for a reason that the user can mend.
        """
        ...


class ThisProcess:
    """One block after the other, here."""

    def run(self, write: Write, blocks: Sequence[Any], name: str, progress: bool = True, network: bool = False) -> None:
        """As `Executor.run`."""
        write(tqdm(blocks, name, unit="block", disable=not progress))
