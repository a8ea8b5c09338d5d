"""Which corpus a folder is, and everything that is checked of it, in order."""

import os
from collections.abc import Iterator
from pathlib import Path

from vkd_pyro.data.corpora.manifest import REQUIRED
from vkd_pyro.data.doctor.diagnosis import Check, Diagnosis, failure, some
from vkd_pyro.data.doctor.files import (
    archive_check,
    archives,
    copies_check,
    count_check,
    doubt_checks,
    file_checks,
    how_to_unpack,
    release_check,
    table_check,
)
from vkd_pyro.data.doctor.layouts import KINDS, STORE, Kind, kind_of
from vkd_pyro.data.doctor.training import content_checks, disk_check, training_checks
from vkd_pyro.data.store import Store
from vkd_pyro.data.store.layout import PLAN
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError


def examine(folder: Path, num_images: int = 50, progress: bool = False) -> Diagnosis:
    """Looks at a folder of data (or the CSV file of a manifest) as `vkd train` would, and at what it would not tell.

    Args:
        folder: as it would be given to a reader, or a prepared store.
        num_images: how many images are opened, evenly spaced.
        progress: show a progress bar.
    """
    folder = Path(folder)
    if not os.path.exists(folder):
        return Diagnosis(folder, None, (Check("corpus", "failure", "no such folder", "check the path"),))
    if not os.access(folder, os.R_OK | os.X_OK if folder.is_dir() else os.R_OK):
        fix = f"chmod -R u+rX {folder}, or ask its owner"
        return Diagnosis(folder, None, (Check("permissions", "failure", "may not be read", fix),))
    if (folder / PLAN).is_file():
        return Diagnosis(folder, STORE, tuple(_store_checks(folder, num_images, progress)))
    kind = kind_of(folder)
    if kind is None:
        return Diagnosis(folder, None, (_unknown(folder),))
    return Diagnosis(folder, kind.name, tuple(_corpus_checks(kind, folder, num_images, progress)))


def _unknown(folder: Path) -> Check:
    found = "none that is known; looked for " + ", ".join(mark for kind in KINDS for mark in kind.marks[:1])
    found += f", {PLAN}, and a single CSV file with {', '.join(REQUIRED)}"
    if folder.is_file():
        return Check("corpus", "failure", found, "give a folder, or the CSV file of a manifest")
    for near in _near(folder):
        if (near / PLAN).is_file() or kind_of(near):
            name = kind.name if (kind := kind_of(near)) else STORE
            return Check("corpus", "failure", f"none here, but {near} looks like {name}", f"vkd doctor {near}")
    if packed := archives(folder):
        return Check("corpus", "failure", f"nothing unpacked, but {some(packed)}", how_to_unpack(packed))
    fix = "point at the folder with the tables as downloaded" if any(folder.iterdir()) else "the folder is empty"
    return Check("corpus", "failure", found, f"{fix}; vkd download and vkd synthesize make one")


def _near(folder: Path) -> Iterator[Path]:
    """The folder above, those below, and where a mirror of PhysioNet ends."""
    yield folder.absolute().parent
    yield from (path for path in sorted(folder.iterdir()) if path.is_dir())
    yield from sorted(folder.glob("physionet.org/files/*/*/"))


def _corpus_checks(kind: Kind, folder: Path, num_images: int, progress: bool) -> Iterator[Check]:
    path = kind.place(folder)
    yield Check("corpus", "ok", f"{kind.name}, read by {kind.class_path}")
    folders = [folder, *sorted(folder.glob(kind.folders))] if kind.folders else [folder]
    tables = [table_check(folders, table) for table in kind.tables]
    yield from tables
    try:
        corpus = _AlreadyRead(reader := kind.reader(path), reader.findings, reader.studies())
    except UserError as error:
        yield archive_check(folder, True)
        if not any(check.verdict == "failure" for check in tables):  # else it says the same again
            yield failure("studies", error)
        return
    studies = corpus.studies()
    missing = corpus.left_out["images listed, but no file"]
    yield archive_check(path.parent if path.is_file() else folder, missing > 0 or not studies)
    yield count_check(studies)
    yield from doubt_checks(reader)
    if kind.published:
        yield release_check(kind, studies)
    if kind.name in ("manifest", "brax"):
        yield copies_check(studies)
    yield from file_checks(kind, path, corpus, studies)
    yield from content_checks(kind.has_reports, corpus, studies)
    yield from training_checks(corpus, num_images, progress, trains=kind.trains)
    yield disk_check(folder, studies)


def _store_checks(folder: Path, num_images: int, progress: bool) -> Iterator[Check]:
    yield Check("corpus", "ok", "a prepared store")
    try:
        store = Store(folder)
        wanted = store.made_from["corpus"]["class"], store.made_from["views"], store.made_from["image transform"]
    except UserError as error:
        yield failure("studies", error)
        return
    except (KeyError, TypeError, AttributeError):
        yield Check("studies", "failure", f"{PLAN} does not say what it is made from", "prepare the store again")
        return
    yield Check("made from", "ok", f"{wanted[0]}, views {wanted[1]}, {wanted[2]}")
    try:
        store.check_contents(progress)
        yield Check("contents", "ok", "every file is as it was written")
    except UserError as error:
        yield failure("contents", error)
        return
    yield count_check(store.studies)
    # Its views are chosen already, and the names of its findings are known to the corpus it was made from alone.
    findings = tuple(str(number) for number in range(len(store.studies[0].labels) if store.studies else 1))
    yield from training_checks(_AlreadyRead(store, findings, store.studies), num_images, progress, views="all")


class _AlreadyRead(Corpus):
    """A corpus whose studies are in memory, so that checks that read it do so for nothing."""

    def __init__(self, source: Corpus | Store, findings: tuple[str, ...], studies: list[Study]) -> None:
        self.name, self.findings = getattr(source, "name", STORE), findings
        self.found, self.left_out = studies, source.left_out

    def studies(self) -> list[Study]:
        """The same each time."""
        return self.found
