"""A training that is stopped by hand leaves a method that can be used, and a process that can be stopped again."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vkd_pyro.artifacts.run import CHECKPOINTS, has_checkpoint, load_checkpoint
from vkd_pyro.methods.base import Method


@contextmanager
def stoppable(method: Method, run: Path) -> Iterator[None]:
    """On Ctrl-C, or a notebook's stop button, leaves the method in eval mode on the CPU, with the best weights so far.

    Those are of the run's best epoch; before the first has ended, of the last step.

    Raises:
        KeyboardInterrupt: as it came, and in place of the exit that Lightning makes of it.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and handler is not None:  # Lightning's, for good
            signal.signal(signal.SIGINT, handler)
        held = "the weights of its last step"
        if (run / CHECKPOINTS / "best.ckpt").is_file():
            load_checkpoint(method, run)
            held = "the weights of the best epoch so far, of which finish() writes the bundle"
        method.cpu().eval()
        rest = "resume=True goes on" if has_checkpoint(run) else "nothing was saved yet, so another fit begins anew"
        raise KeyboardInterrupt(f"fit was stopped: the method has {held}; {rest}") from error
