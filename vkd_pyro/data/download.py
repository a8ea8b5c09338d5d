"""Public archives: fetched so that a broken connection costs nothing, unpacked so that a hostile archive does nothing.

    for archive, path in zip(OPENI, download(OPENI, output), strict=True):
        unpack(path, output / archive.folder)

What is written is patient data: files are readable by their owner alone (0600, folders 0700).
"""

import errno
import filecmp
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from vkd_pyro.errors import UserError

OPENI_URL = "https://openi.nlm.nih.gov/imgs/collections"
SUMS = "SHA256SUMS"
TRIES = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
BACKOFF = 1.0
"""Seconds before the second try; twice as long before each that follows."""
CHUNK = 1 << 18
MAX_HEADER = 1 << 16
"""Bytes of headers per member of an archive. More than a name needs; little enough to hold in memory."""
MAX_PADDING = 1 << 24
"""Bytes of zeros after the last member."""


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
    with _full_disk(output):
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
    found = _sha256(file)
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
            _write_private(partial.with_name(partial.name + ".json"), json.dumps(asdict(version)))
        size = archive.size if version.size is None else version.size
        _check_space(partial.parent, (size or 0) - offset)
        bar = tqdm(total=size, initial=offset, unit="B", unit_scale=True, desc=archive.name, disable=not progress)
        with bar, open(partial, "r+b" if offset else "wb", opener=_private) as file:
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
        raise _Broken(f"no connection: {_one_line(error)}") from error


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
        raise _Broken(f"the connection broke: {_one_line(error)}") from error


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
    unfinished = path.with_name(path.name + ".unfinished")
    _write_private(unfinished, "".join(f"{value}  {name}\n" for name, value in sums.items()))
    unfinished.replace(path)


# ------------------------------------------------------------------------------------------ unpack


def unpack(
    archive: Path, output: Path, max_bytes: int = 100 * 10**9, max_members: int = 100_000, progress: bool = True
) -> int:
    """Unpacks a .tgz of plain files; empty folders, owners, times and modes are not taken over.

    The whole archive is checked before anything is written. Files are then unpacked under numbers in a hidden
    folder and moved to their names when all are there: whoever is killed leaves whole files only, and running
    again gives the same.

    Args:
        archive: the .tgz.
        output: the folder, made if need be.
        max_bytes: how large all files may be together.
        max_members: how many files and folders there may be.
        progress: shows a bar on standard error.

    Returns: number of files.

    Raises:
        UserError: a damaged archive; a member that is not a plain file or folder, is set-user-id, leaves the
            folder, or stands in another's way; more than the limits; a file in `output` that differs; a full disk.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; download it first")
    with _damage(archive), _full_disk(output):
        sizes = _check_archive(archive, max_bytes, max_members)
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_space(output, sum(sizes.values()))
        hidden = output / f".{archive.name}.unfinished"
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(mode=0o700)
        try:
            with tqdm(sizes, unit="file", desc=archive.name, disable=not progress) as names:
                staged = _stage(archive, hidden, names)
            _move(staged, output)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return len(sizes)


class _HeaderStream(gzip.GzipFile):
    """An archive of which tarfile reads the headers only; no header may fill the memory."""

    last: bytes = b""
    allowed: int = MAX_HEADER

    def read(self, size: int | None = -1) -> bytes:
        """Raises `UserError` when a member has too much of a header."""
        if size is None or not 0 <= size <= self.allowed:
            raise UserError(f"{self.name}: has a header of more than {MAX_HEADER} bytes; do not trust this archive")
        self.allowed -= size
        self.last = super().read(size)
        return self.last


def _check_archive(archive: Path, max_bytes: int, max_members: int) -> dict[PurePosixPath, int]:
    """Name of each file -> its size. Reads everything, writes nothing."""
    files: dict[PurePosixPath, int] = {}
    folders: set[PurePosixPath] = set()
    total = 0
    with _HeaderStream(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for number, member in enumerate(_members(tar), start=1):
            stream.allowed = MAX_HEADER
            fault = _fault(member)
            name = PurePosixPath(member.name)
            total += member.size
            if total > max_bytes:
                fault = fault or f"brings the files to {total} bytes, more than the {max_bytes} allowed"
            if number > max_members:
                fault = fault or f"is one more than the {max_members} members allowed"
            if name in files or (member.isreg() and name in folders) or not files.keys().isdisjoint(name.parents):
                fault = fault or "stands where another member is"
            if fault:
                raise UserError(f"{archive}: member {member.name!r} {fault}; nothing was unpacked")
            folders.update((name, *name.parents) if member.isdir() else name.parents)
            if member.isreg():
                files[name] = member.size
        # tarfile takes a broken header for the end; the true end is zeros, and a checksum that reading them checks
        if (stream.last + gzip.GzipFile.read(stream, MAX_PADDING)).strip(b"\0") or gzip.GzipFile.read(stream, 1):
            raise UserError(f"{archive}: damaged, or not an archive, from byte {tar.offset} on; download it again")
    return files


def _fault(member: tarfile.TarInfo) -> str | None:
    """What is wrong with a member by itself."""
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname!r}"
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
        return "is not a plain file"
    if member.name.startswith("/"):
        return "has an absolute path"
    if "\\" in member.name or ":" in member.name or not member.name.isprintable():  # paths to other systems
        return "has a character in its name that may not be there"
    parts = PurePosixPath(member.name).parts
    if ".." in parts:
        return "leaves the folder"
    if len(os.fsencode(member.name)) > 1000 or any(len(os.fsencode(part)) > 255 for part in parts):
        return "has too long a name"
    if not parts and member.isreg():
        return "has no name"
    if member.size < 0 or (member.isdir() and member.size):
        return f"has a size of {member.size} bytes"
    if member.isreg() and member.mode & 0o6000:
        return f"is set-user-id or set-group-id (mode {member.mode:o})"
    return None


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
        yield member


def _stage(archive: Path, hidden: Path, names: Iterable[PurePosixPath]) -> dict[PurePosixPath, Path]:
    """Unpacks files under numbers, so that nobody takes them for finished. Returns: name -> file."""
    staged = {}
    with tarfile.open(archive, "r:gz") as tar:
        files = (member for member in _members(tar) if member.isreg())
        for number, (name, member) in enumerate(zip(names, files, strict=True)):
            source = tar.extractfile(member)
            if source is None or name != PurePosixPath(member.name):
                raise tarfile.ReadError("changed while it was read")
            staged[name] = hidden / str(number)
            with source, open(staged[name], "xb", opener=_private) as target:
                shutil.copyfileobj(source, target)
    return staged


def _move(staged: Mapping[PurePosixPath, Path], output: Path) -> None:
    """Moves files to their names; nothing that is there already is replaced by something else."""
    folders = sorted({output / parent for name in staged for parent in name.parents if parent.parts})
    for folder in folders:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError(f"{folder}: not a folder, but the archive has files in it; move it away and run again")
    for name, file in staged.items():
        path = output / name
        if path.is_symlink() or (path.exists() and not (path.is_file() and filecmp.cmp(file, path, shallow=False))):
            raise UserError(f"{path}: there already, and not what the archive holds; move it away and run again")
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
    for name, file in staged.items():
        file.replace(output / name)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """Names the archive where the libraries say only what is wrong with it."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: damaged, or not a .tgz ({_one_line(error)}); download it again") from error


# ------------------------------------------------------------------------------------------- files


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{folder}: the disk is full; make room and run again") from error
        raise


def _check_space(folder: Path, needed: int) -> None:
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(f"{folder}: {free} bytes free on the disk, {needed} needed; make room and run again")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_private(path: Path, text: str) -> None:
    with open(path, "w", opener=_private) as file:
        file.write(text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
