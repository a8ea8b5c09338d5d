"""A file of a server, fetched so that a broken connection costs nothing: the next try goes on where it broke off.

The beginning of a file, `NAME.partial`, goes on only with the rest of the same version of it, which is noted beside it.
"""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from tqdm import tqdm

from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import check_space, private, write_json

TRIES = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
LEAST = 64 * 1024
"""Bytes that must come in so many seconds (`WINDOW`), else a connection counts as broken: 1 KiB a second."""
WINDOW = 64.0
LONGEST = 48 * 3600.0
"""Seconds that a file may take, all tries together."""
LARGEST = 100 * 10**9
"""Bytes that a file may have where nothing says how many it should have."""
BACKOFF = 1.0
"""Seconds before the second try; twice as long before each that follows."""
CHUNK = 1 << 18


class _Broken(Exception):
    """What another try may mend."""


class _Changed(_Broken):
    """The server's file is not the one that the partial file is the beginning of."""


def fetch(url: str, partial: Path, expected: int | None, has_hash: bool, progress: bool) -> None:
    """Fetches a file, in a few tries; `partial` is the whole of it afterwards.

    Args:
        url: of the file.
        partial: where it is written; what is there of the same version is gone on with.
        expected: its size in bytes, or None.
        has_hash: whether its hash will be checked; else the server must say how long it is.
        progress: shows a bar on standard error.

    Raises:
        UserError: the server does not have it, or sends something else, or the connection broke in every try.
    """
    latest = time.monotonic() + LONGEST
    for attempt in range(TRIES):
        try:
            return _try_to_fetch(url, partial, expected, has_hash, progress, latest)
        except _Broken as error:
            broken = error
        if isinstance(broken, _Changed):
            forget(partial)
        if attempt + 1 < TRIES:
            time.sleep(BACKOFF * 2**attempt)
    kept = partial.stat().st_size if partial.exists() else 0
    raise UserError(
        f"{url}: could not be fetched in {TRIES} tries ({broken}); check the connection and run again"
        + (f"; the {kept} bytes that came are kept" if kept and _read_version(partial, url) else "")
    )


def _try_to_fetch(url: str, partial: Path, expected: int | None, has_hash: bool, progress: bool, latest: float) -> None:
    """Goes on with `partial` if the server still has the same file and can send a part of it; else starts again."""
    known = _read_version(partial, url)
    offset = partial.stat().st_size if known and partial.exists() else 0
    if known and offset == known.size:
        return
    with _request(url, offset, known) as response:
        if response.status == 206:
            version = _check_continuation(response, url, offset, known)
        else:
            offset, version = 0, _Version(url, _validator(response), response.length)
            _check_response(response, url, expected, has_hash)
            forget(partial)  # before the new version is noted: they must never belong to different files
            write_json(partial.with_name(partial.name + ".json"), asdict(version))
        size = expected if version.size is None else version.size
        if (largest := LARGEST if size is None else size) > LARGEST:
            raise UserError(f"{url}: {size:,} bytes, more than the {LARGEST:,} allowed; check the url")
        check_space(partial.parent, (size or 0) - offset)
        bar = tqdm(total=size, initial=offset, unit="B", unit_scale=True, desc=partial.stem, disable=not progress)
        with bar, open(partial, "r+b" if offset else "wb", opener=private) as file:
            file.seek(offset)
            for chunk in _chunks(response, latest):
                file.write(chunk)
                if file.tell() > largest:
                    forget(partial)
                    raise UserError(f"{url}: goes on after {largest:,} bytes, where it should end; check the url")
                bar.update(len(chunk))
    if size not in (None, found := partial.stat().st_size):
        raise _Broken(f"{found} of {size} bytes came")


def _request(url: str, offset: int, known: "_Version | None") -> Any:
    headers = {"User-Agent": "vkd_pyro"}
    if offset and known:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known.validator}
    try:
        return build_opener(_Redirects, _Plain, _Secure).open(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            raise _Changed("it has no more bytes than came") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Broken(f"the server answers {error.code}") from error
        hint = "no such file there" if error.code in (404, 410) else "the file cannot be had like this"
        raise UserError(f"{url}: {hint} (the server answers {error.code}); check the url") from error
    except (OSError, HTTPException) as error:
        raise _Broken(f"no connection: {one_line(error)}") from error


class _Hasty(HTTPConnection):
    """A connection that is ended where the head of an answer is not whole in time, also if some of it comes."""

    def getresponse(self) -> HTTPResponse:
        late, connection = threading.Event(), self.sock

        def end() -> None:
            late.set()
            with suppress(OSError):  # it has just ended by itself
                connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(WINDOW, end)
        timer.start()
        try:
            response = super().getresponse()
        finally:
            timer.cancel()
        if late.is_set():  # then it was only cut short
            response.close()
            raise HTTPException(f"no whole answer in {WINDOW:g} seconds")
        return response


class _HastyAndSecure(_Hasty, HTTPSConnection):
    """The same with TLS."""


class _Plain(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Hasty, req)


class _Secure(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_HastyAndSecure, req, context=ssl.create_default_context())


class _Redirects(HTTPRedirectHandler):
    """Follows redirects over http and https, but not from https to http."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != req.type:
            fp.close()
            raise UserError(f"{req.full_url}: the server redirects to {newurl!r}, which is less safe; give another url")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _chunks(response: Any, latest: float) -> Iterator[bytes]:
    """What a response holds; its errors are those of the connection, apart from those of the disk.

    What comes is taken at once, and not when a chunk is full: a server that sends a byte now and then is given up.
    """
    since, came = time.monotonic(), 0
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
            came += len(chunk)
            now = time.monotonic()
            if now > latest:
                raise UserError(f"{response.url}: not whole after {LONGEST / 3600:g} hours; run again to go on with it")
            if now - since > WINDOW:
                if came < LEAST:
                    raise _Broken(f"{came} bytes came in {now - since:.0f} seconds")
                since, came = now, 0
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke: {one_line(error)}") from error


def _check_response(response: Any, url: str, expected: int | None, has_hash: bool) -> None:
    if response.status != 200:
        raise UserError(f"{url}: the server answers {response.status}, expected 200; check the url")
    if response.headers.get_content_type() == "text/html":
        raise UserError(f"{url}: the server sent a web page, expected an archive; open it in a browser to see why")
    if response.length is None:
        if expected is None and not has_hash and not response.chunked:  # then a cut would look like an end
            raise UserError(f"{url}: the server does not say how long the file is; give the sha256 expected")
    elif expected not in (None, response.length):
        raise UserError(f"{url}: {response.length} bytes on the server, expected {expected}; check the url")


@dataclass(frozen=True)
class _Version:
    """Which file of a server it is: `validator` is a strong ETag, else the time it was modified, else empty."""

    url: str
    validator: str
    size: int | None


def _validator(response: Any) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _check_continuation(response: Any, url: str, offset: int, known: _Version | None) -> _Version:
    """Servers exist that ignore If-Range: what they send must be the rest of the same file by its own account."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not known or not found or int(found[1]) != offset:
        raise _Changed("the server sent another part than was asked for")
    if found[2] not in ("*", str(known.size)) or _validator(response) not in ("", known.validator):
        raise _Changed("the file changed on the server")
    return known


def _read_version(partial: Path, url: str) -> _Version | None:
    """None where there is nothing to go on with."""
    try:
        version = _Version(**json.loads(partial.with_name(partial.name + ".json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # a kill while it was written: start again
        return None
    return None if version.url != url or not version.validator else version


def forget(partial: Path) -> None:
    """Removes the beginning of a file, and what is noted of its version."""
    partial.unlink(missing_ok=True)
    partial.with_name(partial.name + ".json").unlink(missing_ok=True)
