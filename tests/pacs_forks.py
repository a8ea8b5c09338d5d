"""Nodes to be killed: a process that loads a bundle once, and forks a node for each line that it reads.

    python -m tests.pacs_forks BUNDLE FOLDER ARCHIVE_PORT NODE_PORT LOG

A line "start" forks a node, and its process id is printed; "kill" kills it with SIGKILL.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from tests.pacs_trial import settings
from vkd_pyro import load_bundle
from vkd_pyro.serving.pacs.node import Node
from vkd_pyro.serving.pacs.settings import Answering, Receiving


def main() -> None:
    """Reads lines until there are no more; the last node is told to stop."""
    bundle_folder, folder, archive_port, node_port, log = sys.argv[1:]
    bundle, pid = load_bundle(bundle_folder), 0
    given = settings(
        Path(folder),
        int(archive_port),
        receive=Receiving(port=int(node_port)),
        answer=Answering(quiet_seconds=1.5, num_samples=8, overlays=False),
    )
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "start\n":
            pid = os.fork()
            if not pid:
                logging.basicConfig(level=logging.INFO, filename=log)
                stop = threading.Event()
                signal.signal(signal.SIGTERM, lambda *_: stop.set())
                Node(bundle, given).run(stop)
                os._exit(0)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        print(pid, flush=True)
    os.kill(pid, signal.SIGTERM)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
