"""What commands print: names of files and findings may hold anything, and are shown escaped."""

import sys
from collections.abc import Sequence
from typing import TextIO

from vkd_pyro.utils.text import KEPT, printable


def say_stage(text: str, arguments: Sequence[str]) -> None:
    """Says what takes some seconds now; nothing where the arguments ask for a text alone."""
    if not any(
        option.split("=")[0].split(".")[-1] in ("--help", "help", "-h", "--print_config") for option in arguments
    ):
        say(text, flush=True)


def say(text: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Prints lines of text, to standard output unless said; what the terminal cannot show is escaped."""
    file = file or sys.stdout
    known = printable(text, KEPT).encode(file.encoding or "utf-8", "backslashreplace")
    print(known.decode(file.encoding or "utf-8"), file=file, flush=flush)
