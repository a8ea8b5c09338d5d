"""Checks of tables and files: what is there, what is missing, what nothing leads to, what may not be read."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from vkd_pyro.data.corpora.common.tables import find_table, read_table
from vkd_pyro.data.doctor.diagnosis import Check, failure, some
from vkd_pyro.data.doctor.layouts import PEOPLE, PROJECTIONS, Kind, Table
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError

COMPARED, BEGINNING = 5000, 2**20
IMAGES, ARCHIVES = (".png", ".jpg", ".jpeg"), (".zip", ".tgz", ".tar.gz", ".tar")


def table_check(folders: Sequence[Path], table: Table) -> Check:
    """Checks that a table is in one of the folders and has its columns; a failure where training needs it."""
    name = table.names[0]
    places = ((folder, each) for folder in folders for each in table.names)
    path = next((found for folder, each in places if (found := find_table(folder, each))), None)
    if path is None and table.wanted_by:
        return Check(name, "ok", f"not there; wanted only for {table.wanted_by}")
    if path is None:
        return Check(name, "failure", f"not found in {folders[0]}", f"fetch it (or {name}.gz) into {folders[0]}")
    try:
        return Check(path.name, "ok", f"{len(read_table(path, table.columns)):,} rows")
    except UserError as error:
        broken = failure(path.name, error)
        # Those of the views and of the patients are read whenever they are there.
        optional = table.wanted_by and table not in (PROJECTIONS, PEOPLE)
        return Check(path.name, "warning", broken.found, broken.fix) if optional else broken


def archive_check(folder: Path, incomplete: bool) -> Check:
    """Names archives that are still packed; they matter where something is missing that may be in them."""
    packed = archives(folder) if folder.is_dir() else []
    if packed and incomplete:
        return Check("archives", "warning", f"{some(packed)}, and files are missing", how_to_unpack(packed))
    return Check("archives", "ok", f"{some(packed)}, no longer needed" if packed else "none left to unpack")


def count_check(studies: Sequence[Study]) -> Check:
    """Counts images, studies and patients; a failure where there is none."""
    counts = _counts(studies)
    found = ", ".join(f"{counts[name]:,} {name}" for name in ("images", "studies", "patients"))
    return Check("studies", "ok" if studies else "failure", found, "" if studies else "no image file was found")


def doubt_checks(corpus: Corpus) -> Iterator[Check]:
    """What may be wrong in the tables; training warns of it."""
    for doubt in corpus.doubts:
        found, _, fix = doubt.rpartition("; ")
        yield Check("cells", "warning", found, fix)
    if not corpus.doubts:
        yield Check("cells", "ok", "nothing strange in the tables")


def release_check(kind: Kind, studies: Sequence[Study]) -> Check:
    """Compares images, studies and patients with what the full release has."""
    counts = _counts(studies)
    fewer = [name for name, number in kind.published.items() if counts[name] < number]
    found = ", ".join(f"{counts[name]:,} of {number:,} {name}" for name, number in kind.published.items())
    fix = "part of the release: fetch the rest, unless this is what you want"
    return Check("full release", "warning" if fewer else "ok", found, fix if fewer else "")


def file_checks(kind: Kind, path: Path, corpus: Corpus, studies: Sequence[Study]) -> Iterator[Check]:
    """Checks rows without files, files without rows, and files that may not be read."""
    used = {os.fspath(image) for study in studies for image in study.images if isinstance(image, Path)}
    tops = sorted({os.path.dirname(name) for name in used}) if kind.name == "manifest" else [os.fspath(path)]
    closed: list[OSError] = []
    walks = (os.walk(top, onerror=closed.append, followlinks=True) for top in tops)
    files = {os.path.join(folder, name) for folder, _, names in chain.from_iterable(walks) for name in names}
    left_out = [f"{reason}: {count:,}" for reason, count in corpus.left_out.items() if count]
    fix = "fetch what is missing, or leave it: training does without"
    yield Check("left out", "warning" if left_out else "ok", "; ".join(left_out) or "nothing", fix if left_out else "")
    spare = {name for name in files if name.lower().endswith(IMAGES)} - used
    fix = "no row of the tables leads to them; training does not read them"
    yield Check("further images", "warning" if spare else "ok", f"{len(spare):,}", fix if spare else "")
    names = {study.study_id for study in studies}
    texts = [name for name in files if kind.name == "mimic-cxr" and os.path.basename(name).startswith("s5")]
    texts = [name for name in texts if name.endswith(".txt") and os.path.basename(name)[:-4] not in names]
    if texts:
        yield Check("further reports", "warning", f"{len(texts):,} without a study that has images", fix)
    refused = [name for name in sorted(files) if not os.access(name, os.R_OK)]
    yield _permission_check(refused, [str(error.filename) for error in closed], bool(used & set(refused)))


def copies_check(studies: Sequence[Study]) -> Check:
    """Whether a patient's image is another's, too, under another name: of images of a size, and of 5,000 at most."""
    sizes: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for study in studies:
        for image in study.images:
            if isinstance(image, Path) and os.path.isfile(image):
                sizes[image.stat().st_size].append((study.patient_id, image))
    contents: dict[tuple[int, str], list[tuple[str, Path]]] = defaultdict(list)
    alike = [(size, *pair) for size, pairs in sizes.items() if len(pairs) > 1 for pair in pairs]
    for size, patient, image in alike[:COMPARED]:
        if os.access(image, os.R_OK):
            with image.open("rb") as file:
                contents[size, hashlib.sha256(file.read(BEGINNING)).hexdigest()].append((patient, image))
    same = [pairs for pairs in contents.values() if len({patient for patient, _ in pairs}) > 1]
    if not same:
        return Check("copies", "ok", "no patient has another's image")
    found = (
        f"{sum(map(len, same)):,} images of several patients are {len(same):,}, as {same[0][0][1]} and {same[0][1][1]}"
    )
    return Check("copies", "warning", found, "leave one of each, or it may be in two splits; or all are empty")


def _permission_check(files: Sequence[str], folders: Sequence[str], used: bool) -> Check:
    if not files and not folders:
        return Check("permissions", "ok", "all files may be read")
    found = f"{len(files):,} files and {len(folders):,} folders may not be read: {some([*folders, *files])}"
    return Check("permissions", "failure" if used else "warning", found, "chmod -R u+rX, or ask their owner")


def _counts(studies: Sequence[Study]) -> dict[str, int]:
    patients = {study.patient_id for study in studies}
    images = sum(len(study.images) for study in studies)
    return {"images": images, "studies": len(studies), "patients": len(patients)}


def archives(folder: Path) -> list[str]:
    """The names of files that are still packed; the zip of MIMIC-CXR's reports is read as it is."""
    return [path.name for path in sorted(folder.iterdir()) if path.name.endswith(ARCHIVES) and path.is_file()]


def how_to_unpack(names: Sequence[str]) -> str:
    """The command that unpacks the first of these archives."""
    return f"unpack there: {'unzip' if names[0].endswith('.zip') else 'tar -xf'} {names[0]}"
