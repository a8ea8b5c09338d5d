"""Public archives, fetched so that a broken connection costs nothing; `unpack` unpacks them.

    for archive, path in zip(OPENI, download(OPENI, output), strict=True):
        unpack(path, output / archive.folder)

What is written is patient data: files are readable by their owner alone (0600, folders 0700).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vkd_pyro.data.download.fetching import fetch, forget
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import full_disk, private_folder, sha256_of, written
from vkd_pyro.utils.locks import locked

OPENI_URL = "https://openi.nlm.nih.gov/imgs/collections"
SUMS = "SHA256SUMS"


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
        private_folder(output)
        with locked(output, "vkd download"):  # a file goes on where it was broken off, so its name is known
            return [_download(archive, output, url.rstrip("/"), progress, sha256) for archive in archives]


def _download(archive: Archive, output: Path, url: str, progress: bool, sha256: Mapping[str, str]) -> Path:
    path = output / archive.name
    partial = path.with_name(path.name + ".partial")
    sums = _read_sums(output / SUMS)
    expected = sha256.get(archive.name) or archive.sha256 or sums.get(archive.name)
    absent = not path.exists()
    if absent:
        fetch(f"{url}/{archive.name}", partial, archive.size, bool(expected), progress)
    file = partial if absent else path
    found = sha256_of(file)
    if expected and found != expected.lower():
        if absent:
            forget(partial)
        raise UserError(
            f"{path}: sha256 is {found}, expected {expected.lower()}; "
            + ("what came was removed: run again" if absent else "delete the file and run again")
            + f", or if the new file is the right one, correct the expected hash (given, or in {output / SUMS})"
        )
    if archive.size not in (None, size := file.stat().st_size):  # a file that was there already
        raise UserError(f"{path}: {size} bytes, expected {archive.size}; delete the file and run again")
    if sums.get(archive.name) != found:
        _write_sums(output / SUMS, sums | {archive.name: found})
    if absent:
        partial.rename(path)
    forget(partial)
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


def _read_sums(path: Path) -> dict[str, str]:
    """Name -> hash."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines]
    if None in found:
        raise UserError(f"{path}: line {found.index(None) + 1} is not as sha256sum prints it; correct or delete it")
    return {match[2]: match[1] for match in found if match}


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    with written(path) as unfinished:
        unfinished.write_text("".join(f"{value}  {name}\n" for name, value in sums.items()), encoding="utf-8")
