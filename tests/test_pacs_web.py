"""DICOMweb: radiographs are found and fetched, answers are stored, and an archive cannot make the node do more."""

import io
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

from tests.pacs_trial import images, pacs_trial, running, settings, until, write_bundle
from vkd_pyro import load_bundle
from vkd_pyro.serving.pacs import node as node_module
from vkd_pyro.serving.pacs.intake import Intake
from vkd_pyro.serving.pacs.ledger import ON_DISK, Ledger
from vkd_pyro.serving.pacs.node import Node
from vkd_pyro.serving.pacs.polling import Poller
from vkd_pyro.serving.pacs.sending import NotTaken, Unreachable, WebSender
from vkd_pyro.serving.pacs.settings import Polling, Web
from vkd_pyro.serving.pacs.spool import SpoolFolder
from vkd_pyro.serving.pacs.web import FAILURES
from vkd_pyro.utils.errors import UserError

JSON, PARTS = "application/dicom+json", 'multipart/related; type="application/dicom"; boundary=part'
Reply = tuple[int, str, bytes]


class WebArchive:
    """A DICOMweb archive in this process.

    Attributes:
        instances: that it has.
        stored: documents that it was sent.
        asked: paths of all requests, in their order.
        replies: where set, what it says in place of what is true, by the method.
        authorization: of the last request.
    """

    def __init__(self) -> None:
        self.instances: list[pydicom.Dataset] = []
        self.stored: list[pydicom.Dataset] = []
        self.asked: list[str] = []
        self.replies: dict[str, Callable[[str], Reply | None]] = {}
        self.authorization = ""
        self.pages = True

    @property
    def web(self) -> Web:
        return Web(f"http://127.0.0.1:{self.port}/dicom-web", timeout_seconds=5)

    def get(self, path: str) -> Reply:
        where, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        if found := re.fullmatch(r"/dicom-web/studies/([\d.]+)/series/([\d.]+)/instances/([\d.]+)", where):
            (image,) = (one for one in self.instances if one.SOPInstanceUID == found[3])
            body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + pacs_trial.encoded(image) + b"\r\n--part--"
            return 200, PARTS, body
        if found := re.fullmatch(r"/dicom-web/studies/([\d.]+)/instances", where):
            items = [one for one in self.instances if found[1] == one.StudyInstanceUID]
        else:
            assert where == "/dicom-web/studies"
            chosen = {
                one.StudyInstanceUID: one for one in self.instances if one.Modality == query["ModalitiesInStudy"][0]
            }
            items = list(chosen.values())
            if self.pages:
                start, size = int(query["offset"][0]), int(query["limit"][0])
                items = items[start : start + size]
        return 200, JSON, json.dumps([self._item(one) for one in items]).encode()

    def _item(self, image: pydicom.Dataset) -> dict[str, object]:
        tags = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
        shown = pydicom.Dataset()
        for tag in (*tags, "BodyPartExamined"):
            if tag in image:
                shown[tag] = image[tag]
        item = shown.to_json_dict()
        number = sum(one.StudyInstanceUID == image.StudyInstanceUID for one in self.instances)
        return item | {"00201208": {"vr": "IS", "Value": [number]}}

    def post(self, body: bytes) -> Reply:
        for part in body.split(b"\r\n--")[1:-1]:
            self.stored.append(pydicom.dcmread(io.BytesIO(part.partition(b"\r\n\r\n")[2])))
        return 200, JSON, b"{}"


@pytest.fixture
def archive():
    made = WebArchive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self):
            self.answer(lambda: made.get(self.path))

        def do_POST(self):
            body = self.body()
            self.answer(lambda: made.post(body))

        def body(self):
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers["Content-Length"]))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            return found

        def answer(self, usual):
            made.asked.append(self.path)
            made.authorization = self.headers.get("Authorization", "")
            other = made.replies.get(self.command)
            status, kind, content = (other and other(self.path)) or usual()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if status == 302:
                self.send_header("Location", "/dicom-web/studies?elsewhere")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def intake(tmp_path):
    spool = SpoolFolder(tmp_path / "spool")
    ledger = Ledger(spool.folder / "ledger.sqlite")
    yield Intake(spool, ledger, ("frontal", "lateral"))
    ledger.close()


def fetched(archive: WebArchive) -> list[str]:
    return [path for path in archive.asked if "/series/" in path]


def test_new_radiographs_are_fetched_once(archive, intake):
    archive.instances = images("a", 2) + images("knee", 1, BodyPartExamined="KNEE") + images("b", 1, modality="CR")
    poller = Poller(Polling(archive.web), intake)
    assert poller.poll() == 3
    (knee,) = images("knee", 1)
    assert intake.ledger.of_study(knee.StudyInstanceUID) == {knee.SOPInstanceUID: "body part KNEE is not the chest"}
    assert not any(knee.SOPInstanceUID in path for path in fetched(archive))  # the archive's list said it
    first = images("a", 2)[0]
    assert intake.spool.instance(first.SOPInstanceUID).read_bytes() == pacs_trial.encoded(first)
    archive.asked.clear()
    assert poller.poll() == 0
    assert len(archive.asked) == 3  # a list of studies for each modality, and nothing else


def test_a_study_that_has_grown_is_fetched_with_what_was_deleted(archive, intake):
    archive.instances = images("a", 1)
    poller = Poller(Polling(archive.web), intake)
    assert poller.poll() == 1
    uid = archive.instances[0].SOPInstanceUID
    intake.spool.remove([uid], [])
    intake.ledger.deleted([uid])
    archive.instances = images("a", 2)
    assert poller.poll() == 2
    assert set(intake.ledger.of_study(archive.instances[0].StudyInstanceUID).values()) == {ON_DISK}


@pytest.mark.parametrize("pages", [True, False])
def test_lists_are_read_page_by_page(archive, intake, pages, monkeypatch):
    monkeypatch.setattr("vkd_pyro.serving.pacs.polling.PAGE", 2)
    archive.instances, archive.pages = [images(f"study-{place}", 1)[0] for place in range(5)], pages
    assert Poller(Polling(archive.web), intake).poll() == 5


def test_what_is_damaged_or_too_large_is_left_out_and_the_rest_is_fetched(archive, intake):
    whole, damaged, huge = images("a", 3)
    huge.PixelData = bytes(2 << 20)
    archive.instances = [damaged, huge, whole]

    def reply(path):
        return (200, PARTS, b"--part\r\n\r\nno DICOM at all\r\n--part--") if damaged.SOPInstanceUID in path else None

    archive.replies["GET"] = reply
    poller = Poller(Polling(archive.web, max_megabytes=1), intake)
    assert poller.poll() == 3
    said = intake.ledger.of_study(whole.StudyInstanceUID)
    assert said.pop(damaged.SOPInstanceUID).startswith("no DICOM image, or damaged")
    assert said == {huge.SOPInstanceUID: "larger than 1 MB", whole.SOPInstanceUID: ON_DISK}
    archive.asked.clear()
    assert poller.poll() == 0
    assert fetched(archive) == []


def test_what_cannot_be_fetched_now_is_fetched_later(archive, intake):
    archive.instances = images("a", 1)
    archive.replies["GET"] = lambda path: (503, "text/plain", b"later") if "/series/" in path else None
    poller = Poller(Polling(archive.web), intake)
    assert poller.poll() == 0
    archive.replies.clear()
    assert poller.poll() == 1


@pytest.mark.parametrize("uid", ["1.2/../../../instances", "x", ""])
def test_uids_of_a_list_that_are_none_are_passed_over(archive, intake, uid):
    archive.instances = images("a", 1)
    item = {"0020000D": {"vr": "UI", "Value": [uid]}}
    archive.replies["GET"] = lambda path: (200, JSON, json.dumps([item]).encode())
    assert Poller(Polling(archive.web), intake).poll() == 0
    assert all("?" in path and ".." not in path for path in archive.asked)


@pytest.mark.parametrize(
    "reply", [(500, "text/plain", b"no"), (200, JSON, b"no JSON"), (302, "text/plain", b""), (200, JSON, b"1" * 9999)]
)
def test_an_archive_that_does_not_answer_as_it_should_is_told_from_one_that_has_nothing(
    archive, intake, reply, monkeypatch
):
    monkeypatch.setattr("vkd_pyro.serving.pacs.web.MAX_LIST", 5000)
    archive.replies["GET"] = lambda path: reply
    with pytest.raises(FAILURES):
        Poller(Polling(archive.web), intake).poll()
    assert not any("elsewhere" in path for path in archive.asked)


def test_what_is_authorized_says_so(archive, intake, tmp_path):
    (tmp_path / "token").write_text("Bearer 3f1c\n")
    web = Web(archive.web.url, tmp_path / "token")
    Poller(Polling(web), intake).poll()
    assert archive.authorization == "Bearer 3f1c"
    (tmp_path / "token").write_text("two\nlines")
    with pytest.raises(UserError, match="token: expected one line"):
        Poller(Polling(web), intake).poll()


# -------------------------------------------------------------------------------------------- storing


@pytest.fixture
def documents(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{place}.dcm" for place in range(2)]
    for path, image in zip(paths, images("a", 2), strict=True):
        path.write_bytes(pacs_trial.encoded(image))
    return paths


def failures(*reasons: int) -> bytes:
    items = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


def test_documents_are_stored(archive, documents):
    WebSender(archive.web)(documents)
    assert list(map(pacs_trial.encoded, archive.stored)) == [path.read_bytes() for path in documents]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ((200, JSON, failures(0x0111)), None),
        ((409, JSON, failures(0x0111, 0x0111)), None),
        ((200, JSON, failures(0x0111, 0xA700)), NotTaken),
        ((409, JSON, failures(0xC000)), NotTaken),
        ((409, "text/plain", b"no"), NotTaken),
        ((400, JSON, b"{}"), NotTaken),
        ((503, "text/plain", b""), Unreachable),
        ((401, "text/plain", b""), Unreachable),
    ],
)
def test_what_the_archive_says_of_documents(archive, documents, reply, error):
    archive.replies["POST"] = lambda path: reply
    if error is None:
        WebSender(archive.web)(documents)
    else:
        with pytest.raises(error, match=r"status \d{3}|failure reason 0x\w{4}"):
            WebSender(archive.web)(documents)


def test_an_archive_that_is_not_there_is_unreachable(documents):
    with pytest.raises(Unreachable, match=r"no connection \(ConnectionError\)"):
        WebSender(Web("http://127.0.0.1:9/dicom-web", timeout_seconds=1))(documents)


def test_studies_of_a_web_archive_are_answered_into_it(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(node_module, "IDLE", 0.02)
    archive.instances = images("a", 2)
    given = settings(
        tmp_path, 1, receive=None, send_dicom=None, send_web=archive.web, poll=Polling(archive.web, seconds=0.1)
    )
    with running(Node(load_bundle(write_bundle(tmp_path / "bundle")), given)):
        until(lambda: archive.stored)
    (report,) = archive.stored
    assert (report.Modality, report.StudyInstanceUID) == ("SR", archive.instances[0].StudyInstanceUID)
