"""Public archives, fetched so that a broken connection costs nothing; `unpack` unpacks them.

    for archive, path in zip(OPENI, download(OPENI, output), strict=True):
        unpack(path, output / archive.folder)

What is written is patient data: files are readable by their owner alone (0600, folders 0700).
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import check_space, full_disk, private, sha256_of, write_json, written

OPENI_URL = "https://openi.nlm.nih.gov/imgs/collections"
SUMS = "SHA256SUMS"
TRIES = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
BACKOFF = 1.0
"""Seconds before the second try; twice as long before each that follows."""
CHUNK = 1 << 18


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        name: of the file, below the base URL and in the output folder.
        size: in bytes; where None, what the server announces (Content-Length) is checked.
        sha256: in hexadecimal; where None, that of the first download is kept in SHA256SUMS and checked from then on.
        folder: where it is unpacked, below the output folder.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    folder: str = ""


OPENI: tuple[Archive, ...] = (Archive("NLMCXR_reports.tgz"), Archive("NLMCXR_png.tgz", folder="images"))
"""Reports hold a folder `ecgen-radiology`, images are flat. Neither sizes nor hashes are published."""


# ---------------------------------------------------------------------------------------- download


def download(
    archives: Iterable[Archive],
    output: Path,
    url: str = OPENI_URL,
    progress: bool = True,
    sha256: Mapping[str, str] = {},
) -> list[Path]:
    """Downloads archives into a folder; run again, it goes on where it was broken off.

    What is there already is not fetched again, only checked. An unfinished file is called `NAME.partial`.

    Args:
        archives: what to download.
        output: the folder, made if need be; `SHA256SUMS` in it says what came (`sha256sum -c` reads it).
        url: the folder that the archives are in, http or https.
        progress: shows a bar on standard error.
        sha256: name of an archive -> the hash expected; it goes before `Archive.sha256` and `SHA256SUMS`.

    Returns: the files, in the order of `archives`.

    Raises:
        UserError: another kind of URL, no connection, no such file, a wrong size or hash, or a full disk.
    """
    archives = list(archives)
    _check_url(url)
    _check_hashes(archives, sha256)
    with full_disk(output):
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [_download(archive, output, url.rstrip("/"), progress, sha256) for archive in archives]


def _download(archive: Archive, output: Path, url: str, progress: bool, sha256: Mapping[str, str]) -> Path:
    path = output / archive.name
    partial = path.with_name(path.name + ".partial")
    sums = _read_sums(output / SUMS)
    expected = sha256.get(archive.name) or archive.sha256 or sums.get(archive.name)
    fetch = not path.exists()
    if fetch:
        _fetch(f"{url}/{archive.name}", partial, archive, bool(expected), progress)
    file = partial if fetch else path
    found = sha256_of(file)
    if expected and found != expected.lower():
        if fetch:
            _forget(partial)
        raise UserError(
            f"{path}: sha256 is {found}, expected {expected.lower()}; "
            + ("what came was removed: run again" if fetch else "delete the file and run again")
            + f", or if the new file is the right one, correct the expected hash (given, or in {output / SUMS})"
        )
    if archive.size not in (None, size := file.stat().st_size):  # a file that was there already
        raise UserError(f"{path}: {size} bytes, expected {archive.size}; delete the file and run again")
    if sums.get(archive.name) != found:
        _write_sums(output / SUMS, sums | {archive.name: found})
    if fetch:
        partial.rename(path)
    _forget(partial)
    return path


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        plain = parts.hostname and parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        plain = False
    if not plain or parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", url):
        raise UserError(f"url: found {url!r}, expected one such as {OPENI_URL}; http and https only")


def _check_hashes(archives: list[Archive], sha256: Mapping[str, str]) -> None:
    names = [archive.name for archive in archives]
    if strange := [name for name in names if name != Path(name).name]:
        raise UserError(f"archives: found the name {strange[0]!r}, expected that of a file, without a folder")
    if unknown := [name for name in sha256 if name not in names]:
        raise UserError(f"sha256: found {unknown[0]!r}, expected one of {', '.join(names)}")
    for name, value in sha256.items():
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            raise UserError(f"sha256: found {value!r} for {name}, expected 64 hexadecimal digits, as sha256sum prints")


class _Broken(Exception):
    """What another try may mend."""


class _Changed(_Broken):
    """The server's file is not the one that the partial file is the beginning of."""


def _fetch(url: str, partial: Path, archive: Archive, has_hash: bool, progress: bool) -> None:
    """Tries a few times; `partial` is the whole file afterwards."""
    for attempt in range(TRIES):
        try:
            return _try_to_fetch(url, partial, archive, has_hash, progress)
        except _Broken as error:
            broken = error
        if isinstance(broken, _Changed):
            _forget(partial)
        if attempt + 1 < TRIES:
            time.sleep(BACKOFF * 2**attempt)
    kept = partial.stat().st_size if partial.exists() else 0
    raise UserError(
        f"{url}: could not be fetched in {TRIES} tries ({broken}); check the connection and run again"
        + (f"; the {kept} bytes that came are kept" if kept and _read_version(partial, url) else "")
    )


def _try_to_fetch(url: str, partial: Path, archive: Archive, has_hash: bool, progress: bool) -> None:
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
            _check_response(response, url, archive, has_hash)
            _forget(partial)  # before the new version is noted: they must never belong to different files
            write_json(partial.with_name(partial.name + ".json"), asdict(version))
        size = archive.size if version.size is None else version.size
        check_space(partial.parent, (size or 0) - offset)
        bar = tqdm(total=size, initial=offset, unit="B", unit_scale=True, desc=archive.name, disable=not progress)
        with bar, open(partial, "r+b" if offset else "wb", opener=private) as file:
            file.seek(offset)
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
    if size not in (None, found := partial.stat().st_size):
        raise _Broken(f"{found} of {size} bytes came")


def _request(url: str, offset: int, known: "_Version | None") -> Any:
    headers = {"User-Agent": "vkd_pyro"}
    if offset and known:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known.validator}
    try:
        return build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)
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


class _Redirects(HTTPRedirectHandler):
    """Follows redirects over http and https, but not from https to http."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != req.type:
            fp.close()
            raise UserError(f"{req.full_url}: the server redirects to {newurl!r}, which is less safe; give another url")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _chunks(response: Any) -> Iterator[bytes]:
    """What a response holds; its errors are those of the connection, apart from those of the disk."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke: {one_line(error)}") from error


def _check_response(response: Any, url: str, archive: Archive, has_hash: bool) -> None:
    if response.status != 200:
        raise UserError(f"{url}: the server answers {response.status}, expected 200; check the url")
    if response.headers.get_content_type() == "text/html":
        raise UserError(f"{url}: the server sent a web page, expected an archive; open it in a browser to see why")
    if response.length is None:
        if archive.size is None and not has_hash and not response.chunked:  # then a cut would look like an end
            raise UserError(f"{url}: the server does not say how long the file is; give the sha256 expected")
    elif archive.size not in (None, response.length):
        raise UserError(f"{url}: {response.length} bytes on the server, expected {archive.size}; check the url")


# The beginning of a file goes on only with the rest of the same version of it, which is noted beside it.


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
        version = _Version(**json.loads(partial.with_name(partial.name + ".json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # a kill while it was written: start again
        return None
    return None if version.url != url or not version.validator else version


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_name(partial.name + ".json").unlink(missing_ok=True)


def _read_sums(path: Path) -> dict[str, str]:
    """Name -> hash."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines]
    if None in found:
        raise UserError(f"{path}: line {found.index(None) + 1} is not as sha256sum prints it; correct or delete it")
    return {match[2]: match[1] for match in found if match}


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    with written(path) as unfinished:
        unfinished.write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))
