"""Downloads against a server on loopback that fails in every way; archives that try to get out."""

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import Request

import pytest

from vkd_pyro.data.download import archives as download_module
from vkd_pyro.data.download import fetching
from vkd_pyro.data.download.archives import OPENI, SUMS, Archive, download
from vkd_pyro.data.download.fetching import TRIES
from vkd_pyro.data.download.unpack import MAX_PADDING, unpack
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.locks import locked

CONTENT = bytes(range(256)) * 4096 + b"the end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "reports.tgz"
ARCHIVE = Archive(NAME)


class Site(HTTPServer):
    """One file on loopback, and how its server behaves.

    Attributes:
        cuts: for each of the next requests, after how many bytes of its answer the connection ends.
        length: what the server announces: "true", "none", "chunked", or a number of bytes that is wrong.
        seen: the Range and If-Range headers of each request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.content, self.etag, self.modified = CONTENT, '"one"', None
        self.ranges, self.if_range, self.length, self.status, self.type = True, True, "true", 200, "application/gzip"
        self.location, self.content_range, self.cuts, self.seen = None, None, [], []

    def handle_error(self, request, client_address):
        """Nothing: clients that give up are among what is tested."""


class Handler(BaseHTTPRequestHandler):
    """Says what the site says; one request a connection."""

    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self):
        """Sends the file, a part of it, or less."""
        site, start = self.server, 0
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        site.seen.append((asked, condition))
        self.close_connection = True
        status = site.status if len(site.seen) < 20 else 410  # bounded, whatever the client does
        if status == 200 and asked and site.ranges and (condition in (site.etag, site.modified) or not site.if_range):
            status, start = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 416 if start >= len(site.content) else 206
        body = site.content[start:] if status < 300 else b""
        self.send_response(status)
        for name, value in (("ETag", site.etag), ("Last-Modified", site.modified), ("Location", site.location)):
            if value:
                self.send_header(name, value)
        if status == 206:
            true = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
            self.send_header("Content-Range", site.content_range or true)
        self.send_header("Content-Type", site.type)
        self.send_body(body, site.cuts.pop(0) if site.cuts else None)

    def send_body(self, body, cut):
        length = self.server.length
        if length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif length != "none":
            self.send_header("Content-Length", str(len(body) if length == "true" else length))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *arguments):
        """Nothing."""


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "BACKOFF", 0.0)
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def output(tmp_path):
    return tmp_path / "openi"


def get(site, output, archive=ARCHIVE, **arguments):
    (path,) = download([archive], output, site.url, **({"progress": False} | arguments))
    assert path == output / archive.name
    return path


def fail(match, site, output, archive=ARCHIVE, **arguments):
    with pytest.raises(UserError, match=match) as raised:
        get(site, output, archive, **arguments)
    assert "\n" not in str(raised.value)
    assert not (output / archive.name).exists()


def break_off(site, output, after=1000):
    """Leaves `after` bytes of the file in `output`, as a kill would."""
    site.cuts = [after] + [0] * (TRIES - 1)
    fail(f"{after} of {len(CONTENT)} bytes came.*the {after} bytes that came are kept", site, output)
    assert (output / f"{NAME}.partial").read_bytes() == CONTENT[:after]
    site.cuts = []
    site.seen.clear()


# ---------------------------------------------------------------------------------------- download


def test_a_file_comes_whole_and_private(site, output):
    path = get(site, output)
    assert path.read_bytes() == CONTENT
    assert sorted(os.listdir(output)) == [".lock", SUMS, NAME]
    assert (output / SUMS).read_text() == f"{SHA256}  {NAME}\n"
    assert stat.S_IMODE(output.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in output.iterdir()} == {0o600}


def test_a_second_download_into_the_same_folder_is_refused(site, output):
    output.mkdir()
    with locked(output, "vkd download"):
        fail("openi: another vkd download is writing to it; wait until it has ended, or stop it", site, output)
    assert site.seen == []


def test_what_stands_in_the_place_of_a_partial_file_is_not_followed(site, output, tmp_path):
    output.mkdir()
    (tmp_path / "precious").write_text("mine")
    (output / f"{NAME}.partial").symlink_to(tmp_path / "precious")
    get(site, output)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_complete_file_is_not_fetched_again(site, output):
    get(site, output)
    get(site, output)
    assert site.seen == [(None, None)]


def test_a_file_put_there_by_hand_is_taken_and_recorded(site, output):
    output.mkdir()
    (output / NAME).write_bytes(CONTENT)
    get(site, output, sha256={NAME: SHA256.upper()})
    assert site.seen == []
    assert SHA256 in (output / SUMS).read_text()


def test_several_files_and_a_bar(site, output, capsys):
    paths = download((Archive("a.tgz"), Archive("b.tgz")), output, site.url + "/")
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert (output / SUMS).read_text() == f"{SHA256}  a.tgz\n{SHA256}  b.tgz\n"
    assert "b.tgz: 100%" in capsys.readouterr().err


def test_a_broken_connection_goes_on_within_a_run(site, output):
    site.cuts = [300_000, 500_000]
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [(None, None), ("bytes=300000-", '"one"'), ("bytes=800000-", '"one"')]


@pytest.mark.parametrize(("etag", "validator"), [('"one"', '"one"'), ('W/"weak"', "yesterday"), (None, "yesterday")])
def test_a_later_run_asks_for_the_rest(site, output, etag, validator):
    site.etag, site.modified = etag, "yesterday"
    break_off(site, output)
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [("bytes=1000-", validator)]
    assert sorted(os.listdir(output)) == [".lock", SUMS, NAME]


def test_a_server_without_ranges_starts_again(site, output):
    site.ranges = False
    site.cuts = [1000]
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [(None, None), ("bytes=1000-", '"one"')]


def test_without_a_validator_nothing_is_glued(site, output):
    site.etag = 'W/"weak"'
    site.cuts = [1000]
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [(None, None)] * 2


@pytest.mark.parametrize("honest", [True, False])
def test_a_changed_file_is_not_glued(site, output, honest):
    break_off(site, output)
    site.content, site.etag, site.if_range = CONTENT[::-1], '"two"', honest
    assert get(site, output).read_bytes() == CONTENT[::-1]
    assert site.seen == [("bytes=1000-", '"one"')] + ([] if honest else [(None, None)])


def test_a_kill_between_two_versions(site, output, monkeypatch):
    break_off(site, output)
    site.content, site.etag = CONTENT[::-1], '"two"'
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "check_space", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get(site, output)
    assert get(site, output).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("said", ["bytes 999-9999/1048583", "bytes 1000-1048582/5", "bytes */1048583", "bytes 1000-"])
def test_a_part_that_was_not_asked_for_is_not_glued(site, output, said):
    break_off(site, output)
    site.content_range = said
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [("bytes=1000-", '"one"'), (None, None)]


def test_a_file_that_became_shorter_starts_again(site, output):
    break_off(site, output)
    site.content = CONTENT[:500]
    assert get(site, output).read_bytes() == CONTENT[:500]
    assert site.seen == [("bytes=1000-", '"one"'), (None, None)]


def test_another_url_does_not_go_on(site, output):
    break_off(site, output)
    assert download([ARCHIVE], output, site.url + "/mirror", False)[0].read_bytes() == CONTENT
    assert site.seen == [(None, None)]


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}'])
def test_a_partial_file_of_unknown_origin_starts_again(site, output, note):
    output.mkdir()
    (output / f"{NAME}.partial").write_bytes(b"x" * 1000)
    (output / f"{NAME}.partial.json").write_text(note)
    assert get(site, output).read_bytes() == CONTENT
    assert site.seen == [(None, None)]


def test_a_kill_before_the_renaming(site, output, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(download_module, "sha256_of", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get(site, output)
    assert get(site, output).read_bytes() == CONTENT
    assert len(site.seen) == 1


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (204, 1), (500, TRIES), (429, TRIES)])
def test_a_server_that_refuses(site, output, status, requests):
    site.status = status
    fail(f"the server answers {status}", site, output)
    assert len(site.seen) == requests


def test_no_connection(site, output):
    site.shutdown()
    site.server_close()
    fail("no connection: .*refused", site, output)


def test_a_server_that_falls_silent(site, output, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.05)
    monkeypatch.setattr(fetching, "TRIES", 2)
    monkeypatch.setattr(Handler, "send_body", lambda handler, body, cut: threading.Event().wait(0.3))
    fail("2 tries .*timed out", site, output)


class Clock:
    """Time that passes when it is asked for."""

    def __init__(self, step):
        self.step, self.now = step, 0.0

    def monotonic(self):
        self.now += self.step
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(site, output, monkeypatch):
    monkeypatch.setattr(fetching, "time", Clock(step=30.0))
    monkeypatch.setattr(fetching, "CHUNK", 1)
    fail(
        rf"could not be fetched in {TRIES} tries \(\d bytes came in \d\d seconds\); .* bytes that came are kept",
        site,
        output,
    )


def test_an_answer_whose_head_never_ends_is_given_up(site, output, monkeypatch):
    over = threading.Event()

    def send_half_a_header(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Endless: a")
        over.wait(10)

    monkeypatch.setattr(Handler, "do_GET", send_half_a_header)
    monkeypatch.setattr(fetching, "WINDOW", 0.05)
    monkeypatch.setattr(fetching, "TRIES", 1)
    threading.Timer(1.0, over.set).start()
    fail("could not be fetched in 1 tries", site, output)
    assert not over.is_set()


def test_a_file_that_takes_too_long_is_given_up_and_gone_on_with(site, output, monkeypatch):
    monkeypatch.setattr(fetching, "time", Clock(step=3600.0))
    monkeypatch.setattr(fetching, "LEAST", 0)
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    fail("not whole after 48 hours; run again to go on with it", site, output)
    kept = (output / f"{NAME}.partial").stat().st_size
    assert 0 < kept < len(CONTENT)
    monkeypatch.undo()
    get(site, output)
    assert site.seen[-1] == (f"bytes={kept}-", '"one"')


@pytest.mark.parametrize("length", ["none", "chunked"])
def test_a_body_without_end_is_given_up(site, output, monkeypatch, length):
    site.length = length
    monkeypatch.setattr(fetching, "LARGEST", 100_000)
    fail("goes on after 100,000 bytes, where it should end", site, output, sha256={NAME: SHA256})
    assert not (output / f"{NAME}.partial").exists()


def test_a_file_that_is_announced_too_large_is_not_fetched(site, output, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", 100_000)
    fail(f"{len(CONTENT):,} bytes, more than the 100,000 allowed", site, output)


def test_more_than_a_file_should_have_is_not_taken(site, output):
    site.length = "none"
    fail("goes on after 10 bytes, where it should end", site, output, Archive(NAME, size=10))


def test_a_wrong_length(site, output):
    site.length = len(CONTENT) + 1
    site.ranges = False
    fail(f"{len(CONTENT)} of {len(CONTENT) + 1} bytes came", site, output)


def test_a_length_that_is_not_said(site, output):
    site.length = "none"
    fail("does not say how long", site, output)
    site.cuts = [1000]
    fail("sha256 is", site, output, sha256={NAME: SHA256})
    assert get(site, output, sha256={NAME: SHA256}).read_bytes() == CONTENT


def test_chunks_say_where_they_end(site, output):
    site.length, site.cuts = "chunked", [1000]
    assert get(site, output).read_bytes() == CONTENT


def test_a_known_size(site, output):
    fail(f"{len(CONTENT)} bytes on the server, expected 5", site, output, Archive(NAME, size=5))
    get(site, output, Archive(NAME, size=len(CONTENT)))
    with pytest.raises(UserError, match=f"{len(CONTENT)} bytes, expected 5; delete"):
        get(site, output, Archive(NAME, size=5))


@pytest.mark.parametrize("known", [{"sha256": {NAME: "0" * 64}}, {"archive": Archive(NAME, sha256="0" * 64)}])
def test_a_wrong_hash(site, output, known):
    fail(f"sha256 is {SHA256}, expected 0000", site, output, **known)
    assert os.listdir(output) == [".lock"]
    get(site, output)
    with pytest.raises(UserError, match="delete the file"):
        get(site, output, **known)


def test_the_recorded_hash_is_checked_later(site, output):
    path = get(site, output)
    path.write_bytes(b"changed")
    with pytest.raises(UserError, match=r"sha256 is .* delete the file.*SHA256SUMS"):
        get(site, output)
    path.unlink()
    site.content = CONTENT[:-1]
    fail(f"expected {SHA256}; what came was removed", site, output)
    (output / SUMS).write_text("nonsense\n")
    fail("line 1 is not as sha256sum", site, output)


def test_a_web_page_is_not_an_archive(site, output):
    site.type = "text/html; charset=utf-8"
    fail("sent a web page", site, output)


def test_redirects(site, output):
    site.status, site.location = 302, "file:///etc/passwd"
    fail("the server answers 302", site, output)
    site.location = "ftp://127.0.0.1/a.tgz"
    fail("redirects to 'ftp:", site, output)
    site.location = site.url
    fail("the server answers 302", site, output)  # round and round
    secure = Request("https://127.0.0.1/a.tgz")
    redirects = fetching._Redirects()
    with pytest.raises(UserError, match="less safe"):
        redirects.redirect_request(secure, io.BytesIO(), 302, "", {}, "http://127.0.0.1/a.tgz")
    assert redirects.redirect_request(secure, io.BytesIO(), 302, "", {}, "https://127.0.0.1/b").type == "https"


def test_a_full_disk(site, output, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 7, 3))
        fail(f"3 bytes free on the disk, {len(CONTENT)} needed", site, output)
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    monkeypatch.setattr(fetching, "private", lambda path, flags: os.open("/dev/full", os.O_WRONLY))
    fail("the disk is full", site, output)


@pytest.mark.parametrize(
    "url", ["file:///etc", "ftp://a/b", "openi", "http://", "http://[", "http://a:b", "http://a b", "http://a/?b", ""]
)
def test_other_urls_are_refused(tmp_path, url):
    with pytest.raises(UserError, match="http and https only"):
        download(OPENI, tmp_path / "none", url)
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked_before_anything_is_done(site, output):
    fail("expected one of reports.tgz", site, output, sha256={"other.tgz": SHA256})
    fail("64 hexadecimal digits", site, output, sha256={NAME: "abc"})
    with pytest.raises(UserError, match="without a folder"):
        download([Archive("../a.tgz")], output, site.url)
    assert not output.exists()
    assert site.seen == []


# ------------------------------------------------------------------------------------------ unpack

FILES = {"ecgen-radiology/1.xml": b"<eCitation/>", "ecgen-radiology/2.xml": b"", "./readme.txt": b"r" * 70_000}


def member(name, data=b"bad", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def folder(name, **fields):
    return member(name, b"", type=tarfile.DIRTYPE, **fields)


def write(path, *members, files=FILES):
    """A .tgz of harmless files, and of what is given."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for info, data in [member(name, data) for name, data in files.items()] + list(members):
            tar.addfile(info, io.BytesIO(data))
    return path


def declares(info):
    """A .tgz whose only member is a header: the file that it declares is not there."""
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT))


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


UNPACKED = {str(Path(name)): data for name, data in FILES.items()}


def test_unpacks(tmp_path):
    archive = write(tmp_path / "a.tgz", folder("./"), folder("empty/", mode=0o2755), member("long" * 60, mode=0o777))
    for _ in range(2):  # again gives the same
        assert unpack(archive, tmp_path / "deep" / "out", progress=False) == 4
        assert tree(tmp_path / "deep" / "out") == UNPACKED | {"long" * 60: b"bad"}
    modes = {p.is_dir(): stat.S_IMODE(p.stat().st_mode) for p in [*(tmp_path / "deep").rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


def test_unpacks_beside_other_files(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology" / "9.xml").write_bytes(b"mine")
    archive = write(tmp_path / "a.tgz")
    unpack(archive, tmp_path)
    assert tree(tmp_path) == UNPACKED | {"ecgen-radiology/9.xml": b"mine", "a.tgz": archive.read_bytes()}


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([member("/etc/evil")], "'/etc/evil' has an absolute path"),
        ([member("../evil")], "'../evil' leaves the folder"),
        ([member("a/../../evil")], "'a/../../evil' leaves the folder"),
        ([folder("../evil")], "'../evil' leaves the folder"),
        ([member("..\\evil")], r"'..\\\\evil' has a character"),
        ([member("C:evil")], "'C:evil' has a character"),
        ([member("e\x1b[2Jvil\n")], r"'e\\x1b\[2Jvil\\n' has a character"),
        ([member("a" * 300)], "has too long a name"),
        ([member("evil", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "'evil' is a link to '/etc/passwd'"),
        ([member("evil", b"", type=tarfile.LNKTYPE, linkname="readme.txt")], "'evil' is a link to 'readme.txt'"),
        (
            [member("d", b"", type=tarfile.SYMTYPE, linkname="/tmp"), member("d/evil")],
            "'d' is a link to '/tmp'",
        ),
        ([member("evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "'evil' is not a plain file"),
        ([member("evil", b"", type=tarfile.BLKTYPE)], "'evil' is not a plain file"),
        ([member("evil", b"", type=tarfile.FIFOTYPE)], "'evil' is not a plain file"),
        ([member("evil", b"", type=b"Z")], "'evil' is not a plain file"),
        ([member("evil", mode=0o4755)], "'evil' is set-user-id"),
        ([member("readme.txt/evil")], "'readme.txt/evil' stands where another member is"),
        ([member("ecgen-radiology")], "'ecgen-radiology' stands where another member is"),
        ([folder("readme.txt")], "'readme.txt' stands where another member is"),
        ([member("readme.txt")], "'readme.txt' stands where another member is"),
        ([member("big", b"b" * 5000)], "'big' brings the files to 75012 bytes, more than the 75000 allowed"),
        ([folder(f"d{n}") for n in range(8)], "'d7' is one more than the 10 members allowed"),
        ([member("n" * 70_000)], "header of more than"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path, members, fault):
    archive = write(tmp_path / "a.tgz", *members)
    with pytest.raises(UserError, match=fault) as raised:
        unpack(archive, tmp_path / "out", max_bytes=75_000, max_members=10, progress=False)
    assert str(archive) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == ["a.tgz"]


@pytest.mark.parametrize(
    ("info", "fault"),
    [
        (member("bomb", size=200 * 10**9)[0], "'bomb' brings the files to 200000000000 bytes"),
        (member("bomb", size=-512)[0], "'bomb' has a size of -512"),
        (member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2**40)[0], "header of more than"),
        (member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=-(2**40))[0], "header of more than"),
        (member("pax", type=tarfile.XHDTYPE, size=2**40)[0], "header of more than"),
        (member("short", size=10**6)[0], "damaged"),
    ],
)
def test_a_bomb_is_refused_by_what_it_declares(tmp_path, info, fault):
    (tmp_path / "a.tgz").write_bytes(declares(info))
    with pytest.raises(UserError, match=fault):
        unpack(tmp_path / "a.tgz", tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_many_long_headers_are_refused(tmp_path):
    header = member("././@LongLink", b"n" * 512, type=tarfile.GNUTYPE_LONGNAME)
    (tmp_path / "a.tgz").write_bytes(gzip.compress((header[0].tobuf() + header[1]) * 5000))
    with pytest.raises(UserError, match="header of more than"):
        unpack(tmp_path / "a.tgz", tmp_path / "out", progress=False)


def test_a_sparse_file_is_refused(tmp_path):
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,3", "GNU.sparse.size": "9" * 9}
    with tarfile.open(tmp_path / "a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info, data = member("evil", pax_headers=pax)
        tar.addfile(info, io.BytesIO(data))
    with pytest.raises(UserError, match="'evil' is not a plain file"):
        unpack(tmp_path / "a.tgz", tmp_path / "out", progress=False)


def harm(data, place):
    """Changes 300 bytes of a tar, given as a .tgz."""
    data = bytearray(gzip.decompress(data))
    data[place : place + 300] = b"\xff" * 300
    return gzip.compress(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"<html>not found</html>",
        lambda data: gzip.compress(b"not a tar" * 1000),
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],  # the checksum
        lambda data: harm(data, 0),
        lambda data: harm(data, 1024),  # the header of the second member
        lambda data: gzip.compress(gzip.decompress(data) + b"more"),
        lambda data: gzip.compress(gzip.decompress(data) + bytes(MAX_PADDING + 1)),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path, damage):
    archive = write(tmp_path / "a.tgz")
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(UserError, match=r"a\.tgz: damaged"):
        unpack(archive, tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_a_damaged_last_header_is_not_the_end(tmp_path):
    archive = write(tmp_path / "a.tgz", files={"1.xml": b"x", "2.xml": b""})
    archive.write_bytes(harm(archive.read_bytes(), 1024))
    with pytest.raises(UserError, match="damaged, or not an archive, from byte 1024 on"):
        unpack(archive, tmp_path / "out", progress=False)


def test_no_archive(tmp_path):
    with pytest.raises(UserError, match="download it first"):
        unpack(tmp_path / "a.tgz", tmp_path, progress=False)


def blocks(out):
    """Each puts something else where the archive's files go."""
    (out / "elsewhere").mkdir(parents=True)
    yield lambda: (out / "ecgen-radiology").write_bytes(b"a file where a folder should be")
    yield lambda: (out / "ecgen-radiology").symlink_to(out / "elsewhere")
    yield lambda: (out / "readme.txt").mkdir()
    yield lambda: (out / "readme.txt").write_bytes(b"mine")
    yield lambda: (out / "readme.txt").symlink_to(out / "elsewhere" / "evil")


@pytest.mark.parametrize("number", range(5))
def test_nothing_that_is_there_is_replaced(tmp_path, number):
    archive, out = write(tmp_path / "a.tgz"), tmp_path / "out"
    list(blocks(out))[number]()
    before = sorted(out.rglob("*")), tree(out)
    with pytest.raises(UserError, match="move it away and run again"):
        unpack(archive, out, progress=False)
    assert (sorted(out.rglob("*")), tree(out)) == before


@pytest.mark.parametrize("step", ["_stage", "_move"])
def test_a_kill_leaves_whole_files_only(tmp_path, monkeypatch, step):
    archive, out = write(tmp_path / "a.tgz"), tmp_path / "out"
    count, replace, copy = [], Path.replace, tarfile.copyfileobj

    def interrupted(do):
        def called(*arguments, **options):
            count.append(1)
            if len(count) == 2:
                raise KeyboardInterrupt
            return do(*arguments, **options)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # a kill does not clean up
        if step == "_stage":
            patch.setattr(tarfile, "copyfileobj", interrupted(copy))
        else:
            patch.setattr(Path, "replace", interrupted(replace))
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, out, progress=False)
    left = {
        name: data
        for name, data in tree(out).items()
        if not name.endswith(".unfinished") and ".unfinished/" not in name
    }
    assert left.items() <= UNPACKED.items()
    assert not list(out.rglob("ecgen-radiology/*.xml")) or step == "_move"
    assert unpack(archive, out, progress=False) == 3
    assert tree(out) == UNPACKED


def test_no_room_to_unpack(tmp_path, monkeypatch):
    archive = write(tmp_path / "a.tgz")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 7, 3))
    with pytest.raises(UserError, match="3 bytes free on the disk, 70012 needed"):
        unpack(archive, tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == {}


def test_from_the_server_to_the_folders_that_the_reader_reads(site, output, tmp_path):
    site.content = write(tmp_path / "a.tgz").read_bytes()
    for archive, path in zip(OPENI, download(OPENI, output, site.url, progress=False), strict=True):
        assert unpack(path, output / archive.folder, progress=False) == 3
    assert UNPACKED.items() <= tree(output).items()
    assert UNPACKED.items() <= tree(output / "images").items()
