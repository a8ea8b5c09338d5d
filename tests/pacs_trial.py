"""What the tests of the node share: a small bundle, an archive, a sender, and a node that runs for a while."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from tests.conftest import TinyCorpus, study_data
from vkd_pyro import VKD
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.serving.pacs.node import Node
from vkd_pyro.serving.pacs.settings import Answering, Dicom, PacsSettings, Receiving, Spool, Waiting
from vkd_pyro.training.posthoc import calibrate

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import pacs_trial  # the script of that name

radiograph = pacs_trial.radiograph


def write_bundle(folder: Path, findings: Sequence[str] | None = None, calibrated: bool = True) -> Path:
    """A bundle of a network without training, in a second; thresholds may be missing, and answers are of no use."""
    torch.manual_seed(0)
    data = study_data(TinyCorpus(100), image_size=32, batch_size=64)
    vkd = VKD(data.findings, ConvEncoder((8, 16)), WordEncoder(32, 8, 16), latent_dim=4).eval()
    calibration = calibrate(vkd, data) if calibrated else None
    save_bundle(folder, vkd.model, tuple(findings or data.findings), data.transform, "", {}, calibration)
    return folder


def images(study: str, number: int = 2, **tags: object) -> list[Dataset]:
    """Radiographs of one study."""
    generator = np.random.default_rng(len(study))
    return [
        radiograph(generator.integers(0, 255, (48, 40), dtype=np.uint8), study, f"image-{place}", **tags)
        for place in range(number)
    ]


class Archive:
    """An archive that is sent answers by C-STORE, in this process.

    Attributes:
        documents: by SOPInstanceUID, as they came last.
        received: how often each came.
        status: that it answers with.
    """

    def __init__(self, port: int = 0) -> None:
        self.port, self.status = port, 0x0000
        self.documents: dict[str, Dataset] = {}
        self.received: Counter[str] = Counter()

    def __enter__(self) -> "Archive":
        self._entity = AE("ARCHIVE")
        for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            self._entity.add_supported_context(sop_class)
        server = self._entity.start_server(
            ("127.0.0.1", self.port), False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        document = event.dataset
        document.file_meta = event.file_meta
        self.received[document.SOPInstanceUID] += 1
        if self.status == 0x0000:
            self.documents[document.SOPInstanceUID] = document
        return self.status

    def reports(self, study: str | None = None) -> list[Dataset]:
        """Reports that are in it; of one study, by its name."""
        found = [each for each in list(self.documents.values()) if each.Modality == "SR"]
        return [each for each in found if study is None or each.StudyInstanceUID == pacs_trial.uid_of(study)]


def send(port: int, datasets: Sequence[Dataset], calling: str = "SENDER", called: str = "VKD") -> list[int | None]:
    """Sends instances by C-STORE. Returns: their statuses; None where there was no answer."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    for dataset in datasets:
        if not any(context.abstract_syntax == dataset.SOPClassUID for context in entity.requested_contexts):
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return [None] * len(datasets)
    statuses = []
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except (RuntimeError, ValueError):  # the connection ended; or the class was not accepted
            statuses.append(None)
    if association.is_established:
        association.release()
    return statuses


def settings(folder: Path, archive: int, **changes: object) -> PacsSettings:
    """Settings of a node that is in a hurry."""
    return PacsSettings(
        **{
            "receive": Receiving(port=0),
            "send_dicom": Dicom("127.0.0.1", archive, "ARCHIVE", timeout_seconds=5),
            "spool": Spool(folder / "spool"),
            "answer": Answering(quiet_seconds=0.2, num_samples=8, overlays=False),
            "wait": Waiting(0.1, 0.4),
        }
        | changes
    )


@contextmanager
def running(node: Node) -> Iterator[Node]:
    """A node that runs while the block lasts."""
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            node.run(stop)
        except BaseException as error:
            failed.append(error)
            node.ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert node.ready.wait(20)
        if failed:
            raise failed[0]
        yield node
    finally:
        stop.set()
        thread.join(30)
    if failed:
        raise failed[0]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits until a condition holds; fails where it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never so"
        time.sleep(0.02)
