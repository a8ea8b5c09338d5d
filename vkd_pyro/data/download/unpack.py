"""Unpacking an archive so that a hostile one does nothing, and a killed process leaves whole files only."""

import filecmp
import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import check_space, full_disk, private_folder, remove_unfinished, scratch_folder

MAX_HEADER = 1 << 16
"""Bytes of headers per member of an archive. More than a name needs; little enough to hold in memory."""
MAX_PADDING = 1 << 24
"""Bytes of zeros after the last member."""


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
    with _damage(archive), full_disk(output):
        sizes = _check_archive(archive, max_bytes, max_members)
        private_folder(output)
        check_space(output, sum(sizes.values()))
        remove_unfinished(output)
        with scratch_folder(output / archive.name) as hidden:
            hidden.chmod(0o700)
            with tqdm(sizes, unit="file", desc=archive.name, disable=not progress) as names:
                staged = _stage(archive, hidden, names)
            _move(staged, output)
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
    """What is wrong with a member by itself; nothing but plain files and folders with harmless names is wanted."""
    parts = PurePosixPath(member.name).parts
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname!r}"
    if member.name.startswith("/"):
        return "has an absolute path"
    if "\\" in member.name or ":" in member.name or not member.name.isprintable():  # paths to other systems
        return "has a character in its name that may not be there"
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
    try:
        tarfile.data_filter(member, os.curdir)
    except tarfile.FilterError:
        return "is not a plain file"
    return "is not a plain file" if member.issparse() else None


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
        yield member


def _stage(archive: Path, hidden: Path, names: Iterable[PurePosixPath]) -> dict[PurePosixPath, Path]:
    """Unpacks files under numbers, so that nobody takes them for finished. Returns: name -> file."""
    staged: dict[PurePosixPath, Path] = {}

    def numbered(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        safe = tarfile.data_filter(member, folder)
        return safe.replace(name=str(len(staged)), mode=0o600, mtime=None, deep=False)  # type: ignore[arg-type]

    with tarfile.open(archive, "r:gz") as tar:
        files = (member for member in _members(tar) if member.isreg())
        for name, member in zip(names, files, strict=True):
            if name != PurePosixPath(member.name):
                raise tarfile.ReadError("changed while it was read")
            tar.extract(member, hidden, filter=numbered)
            staged[name] = hidden / str(len(staged))
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
        raise UserError(f"{archive}: damaged, or not a .tgz ({one_line(error)}); download it again") from error
