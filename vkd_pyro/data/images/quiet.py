"""Keeps quiet the libraries that warn of every image a little wrong; what matters of that is an error of ours."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image

_lock = threading.Lock()
_readers = 0
_changes = ExitStack()


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Silences PIL and pydicom. Filters and levels belong to the process, so threads share one change of them."""
    global _readers
    with _lock:
        _readers += 1
        if _readers == 1:
            _silence()
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                _changes.close()


def _silence() -> None:
    _changes.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(PIL|pydicom|pylibjpeg)\b")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our limit is lower
    log = logging.getLogger("pydicom")
    _changes.callback(log.setLevel, log.level)
    log.setLevel(logging.CRITICAL)
