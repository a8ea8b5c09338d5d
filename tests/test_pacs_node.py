"""The DICOM node at work: real associations on loopback, an archive that is down, kills, and nothing told."""

import logging
import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE

from tests.pacs_trial import (
    Archive,
    images,
    pacs_trial,
    running,
    send,
    settings,
    until,
    write_bundle,
)
from vkd_pyro import load_bundle
from vkd_pyro.serving.pacs import node as node_module
from vkd_pyro.serving.pacs.identifiers import in_logs, report_uid
from vkd_pyro.serving.pacs.ledger import Ledger
from vkd_pyro.serving.pacs.node import Node
from vkd_pyro.serving.pacs.settings import Receiving, Spool
from vkd_pyro.utils.errors import UserError


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("pacs") / "bundle")


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(node_module, "IDLE", 0.02)


@pytest.fixture
def archive():
    with Archive() as made:
        yield made


def files_in(folder: Path) -> list[Path]:
    """The files of a spool's folders; os.walk goes on where one is removed meanwhile, rglob stops."""
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names if Path(place) != folder]


def rows(folder: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(folder / "spool" / "ledger.sqlite")) as connection:
        return connection.execute(query).fetchall()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_studies_come_in_and_answers_go_out(bundle, archive, tmp_path):
    with running(Node(bundle, settings(tmp_path, archive.port))) as node:
        assert send(node.port, [*images("a", 2), *images("bb", 1)]) == [0, 0, 0]
        until(lambda: len(archive.reports()) == 2 and not files_in(tmp_path / "spool"))
        assert rows(tmp_path, "SELECT DISTINCT state FROM studies") == [("answered",)]
        (report,) = archive.reports("a")
        uids = [image.SOPInstanceUID for image in images("a", 2)]
        assert report.SOPInstanceUID == report_uid(bundle.bundle_hash, pacs_trial.uid_of("a"), uids)
        assert {each.StudyInstanceUID for each in archive.documents.values()} == {
            pacs_trial.uid_of(name) for name in ("a", "bb")
        }
        # Sent again after the answer: kept for a moment, and not answered again.
        assert send(node.port, images("a", 2)) == [0, 0]
        until(lambda: not files_in(tmp_path / "spool"))
        assert len(archive.reports("a")) == 1
        # One more: another report, of all that are there.
        assert send(node.port, images("a", 3)) == [0, 0, 0]
        until(lambda: len(archive.reports("a")) == 2)
    assert set(archive.received.values()) == {1}


def test_it_answers_the_question_whether_it_is_there(bundle, tmp_path):
    entity = AE("SENDER")
    entity.add_requested_context("1.2.840.10008.1.1")
    with running(Node(bundle, settings(tmp_path, 4242))) as node:
        association = entity.associate("127.0.0.1", node.port, ae_title="VKD")
        assert association.send_c_echo().Status == 0
        association.release()


def test_who_may_not_send_is_rejected(bundle, tmp_path):
    given = settings(tmp_path, 4242, receive=Receiving(port=0, calling_ae_titles=["FRIEND"]))
    with running(Node(bundle, given)) as node:
        assert send(node.port, images("a", 1), calling="STRANGER") == [None]
        assert send(node.port, images("a", 1), calling="FRIEND", called="OTHER") == [None]
        assert files_in(tmp_path / "spool") == []
        assert send(node.port, images("a", 1), calling="FRIEND") == [0]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_instances_are_refused_with_the_status_that_says_why(bundle, tmp_path, monkeypatch):
    given = settings(tmp_path, 4242, receive=Receiving(port=0, max_megabytes=1))
    with running(Node(bundle, given)) as node:
        (whole,) = images("a", 1)
        (huge,) = images("b", 1, PixelData=bytes(3 << 20))
        (path,) = images("c", 1, StudyInstanceUID="../../etc/passwd")
        (other,) = images("d", 1)
        other.SOPClassUID = pydicom.uid.CTImageStorage
        (knee,) = images("e", 1, BodyPartExamined="KNEE")
        assert send(node.port, [huge, path, knee, whole]) == [0xA700, 0xC000, 0, 0]
        assert send(node.port, [other]) == [None]  # the class is not accepted
        assert len(files_in(tmp_path / "spool")) == 1
        assert rows(tmp_path, "SELECT left_out FROM instances WHERE left_out != ''") == [
            ("body part KNEE is not the chest",)
        ]
        monkeypatch.setattr(
            "vkd_pyro.serving.pacs.spool.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full"))
        )
        assert send(node.port, images("f", 1)) == [0xA700]


def test_a_unit_that_is_too_long_ends_the_connection_before_it_is_read(bundle, tmp_path):
    with running(Node(bundle, settings(tmp_path, 4242))) as node:
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.settimeout(10)
            connection.sendall(b"\x04\0" + (0xFFFFFFF0).to_bytes(4, "big") + bytes(100))
            assert connection.recv(100) == b""
        assert send(node.port, images("a", 1)) == [0]


def test_an_archive_that_is_down_gets_its_answers_when_it_is_up(bundle, tmp_path):
    port = free_port()
    with running(Node(bundle, settings(tmp_path, port))) as node:
        assert send(node.port, [*images("a", 1), *images("bb", 1)]) == [0, 0]
        until(lambda: rows(tmp_path, "SELECT COUNT(*) FROM answers WHERE attempts >= 2") == [(2,)])
        assert rows(tmp_path, "SELECT DISTINCT problem FROM answers") == [("no connection",)]
    with Archive(port) as archive, running(Node(bundle, settings(tmp_path, port))):
        until(lambda: len(archive.reports()) == 2)
        until(lambda: not files_in(tmp_path / "spool"))


def test_an_archive_that_refuses_is_asked_again_and_a_duplicate_is_there(bundle, archive, tmp_path):
    archive.status = 0xA700
    with running(Node(bundle, settings(tmp_path, archive.port))) as node:
        send(node.port, images("a", 1))
        until(lambda: sum(archive.received.values()) >= 2)
        assert rows(tmp_path, "SELECT problem FROM answers") == [("status 0xA700",)]
        archive.status = 0x0111  # it has an instance of this UID
        until(lambda: rows(tmp_path, "SELECT state FROM answers") == [("sent",)])
        assert len(archive.received) == 1


def test_what_is_kept_for_some_hours_stays(bundle, archive, tmp_path):
    given = settings(tmp_path, archive.port, spool=Spool(tmp_path / "spool", keep_hours=1))
    with running(Node(bundle, given)) as node:
        send(node.port, images("a", 1))
        until(lambda: rows(tmp_path, "SELECT state FROM answers") == [("sent",)])
        time.sleep(0.3)
        assert len(files_in(tmp_path / "spool")) == 2
    for path in (tmp_path / "spool").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_study_that_fails_keeps_the_node_from_nothing(bundle, archive, tmp_path, monkeypatch):
    answer = node_module.Answerer.answer

    def fails(self, study):
        if study.uid == pacs_trial.uid_of("a") and study.attempts < 2:
            raise MemoryError
        return answer(self, study)

    monkeypatch.setattr(node_module.Answerer, "answer", fails)
    with running(Node(bundle, settings(tmp_path, archive.port))) as node:
        send(node.port, [*images("a", 1), *images("bb", 1)])
        until(lambda: len(archive.reports()) == 2)


def test_an_answer_whose_files_are_gone_is_made_anew(bundle, tmp_path):
    port = free_port()
    with running(Node(bundle, settings(tmp_path, port))) as node:
        send(node.port, images("a", 1))
        until(lambda: rows(tmp_path, "SELECT state FROM answers") == [("waiting",)])
    shutil.rmtree(tmp_path / "spool" / "answers")
    with Archive(port) as archive, running(Node(bundle, settings(tmp_path, port))):
        until(lambda: rows(tmp_path, "SELECT state FROM answers") == [("cleared",)])
        assert len(archive.reports("a")) == 1


def test_one_spool_has_one_node_and_a_port_one_listener(bundle, tmp_path):
    with running(Node(bundle, settings(tmp_path, 4242))) as node:
        with (
            pytest.raises(UserError, match="another vkd pacs is writing"),
            running(Node(bundle, settings(tmp_path, 4242))),
        ):
            pass
        taken = settings(tmp_path / "other", 4242, receive=Receiving(port=node.port))
        (tmp_path / "other").mkdir()
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{node.port}"), running(Node(bundle, taken)):
            pass


def test_nothing_of_a_patient_is_logged_at_any_level(bundle, archive, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    tags = ("PatientName", "PatientID", "PatientAddress", "InstitutionName", "AccessionNumber", "StudyDescription")
    canaries = {tag: f"CANARY{place}" for place, tag in enumerate(tags)}
    found = images("CANARY-study", 2, **canaries)
    found += images("CANARY-knee", 1, BodyPartExamined="KNEE", **canaries)
    damaged = images("CANARY-damaged", 1, **canaries)
    damaged[0].PixelData = b"CANARY" * 9
    with running(Node(bundle, settings(tmp_path, archive.port))) as node:
        send(node.port, [*found, *damaged], calling="CANARY-SENDER")
        until(lambda: len(archive.reports()) == 1)
        until(lambda: rows(tmp_path, "SELECT COUNT(*) FROM studies WHERE state = 'unreadable'") == [(1,)])
    assert in_logs(pacs_trial.uid_of("CANARY-study")) in caplog.text
    assert "body part KNEE is not the chest" in caplog.text
    assert "CANARY" not in caplog.text
    assert pacs_trial.uid_of("CANARY-study") not in caplog.text
    ledger = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("ledger*"))
    assert b"CANARY" not in ledger
    (report,) = archive.reports()
    assert {tag: report.get(tag) for tag in tags} == canaries | {"PatientAddress": None, "InstitutionName": None}


# ----------------------------------------------------------------------------------------------- kills


class Killed(BaseException):
    """Stands for a SIGKILL: nothing after it is done."""


@pytest.mark.parametrize(
    ("of", "name", "before"),
    [
        (Ledger, "take", True),
        (Ledger, "take", False),
        (Ledger, "answered", True),
        (Ledger, "answered", False),
        (Ledger, "sent", True),
        (Ledger, "sent", False),
        (Ledger, "deleted", True),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_killed_between_two_steps_it_goes_on(bundle, archive, tmp_path, monkeypatch, of, name, before):
    step, killed = getattr(of, name), threading.Event()

    def dies(self, *arguments, **options):
        if killed.is_set():
            return step(self, *arguments, **options)
        if not before:
            step(self, *arguments, **options)
        killed.set()
        raise Killed

    given = settings(tmp_path, archive.port)
    with monkeypatch.context() as patch:
        patch.setattr(of, name, dies)
        with running(Node(bundle, given)) as node:
            statuses = send(node.port, images("a", 1))
            until(killed.is_set)
    if name == "take":
        assert statuses != [0]  # not acknowledged, so it is sent again
    with running(Node(bundle, given)) as node:
        if name == "take":
            assert send(node.port, images("a", 1)) == [0]
        until(lambda: rows(tmp_path, "SELECT state FROM answers") == [("sent",)])
        until(lambda: not files_in(tmp_path / "spool"))
    assert len(archive.reports("a")) == 1
    assert len(archive.received) == 1
    assert archive.received.total() == (2 if (name, before) == ("sent", True) else 1)


class Sender(threading.Thread):
    """Sends studies one after the other, each instance again until it is acknowledged, as an archive does."""

    def __init__(self, port: int, studies: list[str], every: float) -> None:
        super().__init__()
        self.port, self.studies, self.every = port, studies, every
        self.attempts = 0

    def run(self) -> None:
        """Sends all."""
        for study in self.studies:
            left = images(study, 2)
            while left:
                self.attempts += 1
                statuses = send(self.port, left)
                left = [image for image, status in zip(left, statuses, strict=True) if status != 0]
                time.sleep(0.05)
            time.sleep(self.every)


@pytest.mark.slow
def test_killed_at_20_random_moments_each_study_is_answered_once(bundle_folder, archive, tmp_path):
    kills, port, chance = 20, free_port(), random.Random(20)
    log, studies = tmp_path / "log", [f"study-{number}" for number in range(2 * kills)]
    command = [sys.executable, "-m", "tests.pacs_forks", bundle_folder, tmp_path, archive.port, port, log]
    root = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=environment
    ) as forks:

        def tell(word: str = "") -> None:
            if word:
                print(word, file=forks.stdin, flush=True)
            assert forks.stdout.readline()

        tell()
        sender = Sender(port, studies, every=0.7)
        sender.start()
        for _ in range(kills):
            tell("start")
            time.sleep(chance.uniform(0.3, 3.0))
            tell("kill")
        tell("start")
        until(lambda: len({report.StudyInstanceUID for report in archive.reports()}) == len(studies), 60)
        sender.join()
        until(lambda: not files_in(tmp_path / "spool"))
        forks.stdin.close()
        assert forks.wait(30) == 0
    assert log.read_text().count("so far") == kills + 1
    assert rows(tmp_path, "SELECT state, COUNT(*) FROM studies GROUP BY state") == [("answered", len(studies))]
    assert len(archive.documents) == len(studies)  # one report of one UID each, though it may have come twice
    assert set(archive.received.values()) <= {1, 2}
    for study in studies:
        (report,) = archive.reports(study)
        references = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        found = {each.ReferencedSOPInstanceUID for each in references.ReferencedSOPSequence}
        assert found == {image.SOPInstanceUID for image in images(study, 2)}
