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

from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.serving.pacs.node import Node
from vkd_pyro.serving.pacs.settings import Answering, Dicom, PacsSettings, Receiving, Spool, Waiting


def main() -> None:
    """Reads lines until there are no more; the last node is told to stop."""
    bundle_folder, folder, archive_port, node_port, log = sys.argv[1:]
    bundle, pid = load_bundle(bundle_folder), 0
    given = PacsSettings(
        receive=Receiving(port=int(node_port)),
        send_dicom=Dicom("127.0.0.1", int(archive_port), "ARCHIVE", timeout_seconds=5),
        answer=Answering(quiet_seconds=1.5, num_samples=8, overlays=False),
        spool=Spool(Path(folder) / "spool"),
        wait=Waiting(0.1, 0.4),
    )
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "start\n":
            pid = os.fork()
            if not pid:
                run(Node(bundle, given), log)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        print(pid, flush=True)
    os.kill(pid, signal.SIGTERM)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def run(node: Node, log: str) -> None:
    """Runs a node in this process until SIGTERM, and ends the process."""
    logging.basicConfig(level=logging.INFO, filename=log)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    node.run(stop)
    os._exit(0)


if __name__ == "__main__":
    main()
