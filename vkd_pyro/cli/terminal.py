"""What commands print: names of files and findings may hold anything, and are shown escaped."""

import sys
from typing import TextIO

from vkd_pyro.utils.text import KEPT, printable


def say(text: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Prints lines of text, to standard output unless said; what the terminal cannot show is escaped."""
    file = file or sys.stdout
    known = printable(text, KEPT).encode(file.encoding or "utf-8", "backslashreplace")
    print(known.decode(file.encoding or "utf-8"), file=file, flush=flush)
