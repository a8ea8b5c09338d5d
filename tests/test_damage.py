"""Damaged corpora: read all the same, counted, or refused in one line that names a file; never anything else.

The damage is drawn from fixed seeds, so a failing case can be run again by its name.
"""

import gzip
import os
import random
import resource
import shutil
import signal
import traceback
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TinyCorpus
from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexpert import CheXpert
from vkd_pyro.data.corpora.manifest import Manifest
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.doctor import examine
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import Store, prepare
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import LARGEST_REPORT

SIZE = 16
ROUNDS = 300


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    for layout in ("mimic-cxr", "openi", "openi-kaggle", "chestxray14", "chexpert"):
        synthesize(layout, folder / layout, 12, SIZE)
    pack_reports(folder / "mimic-cxr", folder / "mimic-cxr-zip")
    write_manifest(folder / "chexpert", folder / "manifest")
    return folder


def pack_reports(root, packed):
    """The same corpus with its reports in their zip."""
    shutil.copytree(root, packed)
    with zipfile.ZipFile(packed / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(packed.rglob("s*.txt")):
            archive.write(path, path.relative_to(packed))
            path.unlink()


def write_manifest(chexpert, root):
    root.mkdir()
    studies = CheXpert(chexpert).studies()
    for number, study in enumerate(studies):
        shutil.copy(study.images[0], root / f"{number}.jpg")
        (root / f"{number}.txt").write_text("The heart is large.\n")
    rows = [(f"{n}.jpg", study.patient_id, f"{n}.txt", "AP", 1, 0) for n, study in enumerate(studies)]
    columns = ["image", "patient", "report", "view", "Edema", "Fracture"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "manifest.csv", index=False)


READERS = {
    "mimic-cxr": lambda root: MimicCXR(root, hand_labelled_test=True),
    "mimic-cxr-zip": lambda root: MimicCXR(root, labels="negbio"),
    "openi": OpenI,
    "openi-kaggle": OpenI,
    "chestxray14": lambda root: ChestXray14(root, "own"),
    "chexpert": CheXpert,
    "manifest": lambda root: Manifest(root / "manifest.csv"),
}


# The kinds of damage: (generator, bytes) -> bytes ---------------------------------------------------------------------


def cut(draw, content):
    return content[: draw.randrange(len(content) + 1)]


def flip_bits(draw, content):
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 3, 30))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def empty(draw, content):
    return b""


def another_type(draw, content):
    return draw.choice((b"%PDF-1.4\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"<html>\n", b"\0" * 99))


def insert(draw, content):
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice((b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"<", b"&", b";;")) + content[at:]


def drop_a_part(draw, content):
    one, other = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:one] + content[other:]


def repeat_a_line(draw, content):
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, draw.choice(lines)]) if lines else content


def swap_cells(draw, content):
    """Exchanges two cells, anywhere in a table."""
    lines = [line.split(b",") for line in content.split(b"\n")]
    one, other = (draw.choice(lines) for _ in range(2))
    i, j = draw.randrange(len(one)), draw.randrange(len(other))
    one[i], other[j] = other[j], one[i]
    return b"\n".join(b",".join(line) for line in lines)


def another_encoding(draw, content):
    return content.decode("latin-1").encode(draw.choice(("utf-16", "utf-32", "cp037")))


def long_cell(draw, content):
    return content.replace(b",", b"," + b"long" * 2000, 1)


def document_type(draw, content):
    return content.replace(b"<eCitation>", b'<!DOCTYPE eCitation SYSTEM "http://localhost/x.dtd"><eCitation>', 1)


def entity_bomb(draw, content):
    entities = b"".join(b'<!ENTITY e%d "%s">' % (n + 1, b"&e%d;" % n * 10) for n in range(9))
    bomb = b'<!DOCTYPE eCitation [<!ENTITY e0 "boom">' + entities + b"]><eCitation>"
    return content.replace(b"<eCitation>", bomb, 1).replace(b"</AbstractText>", b"&e9;</AbstractText>")


def outside_entity(draw, content):
    entity = b'<!DOCTYPE eCitation [<!ENTITY x SYSTEM "file:///etc/hostname">]><eCitation>'
    return content.replace(b"<eCitation>", entity, 1).replace(b"</AbstractText>", b"&x;</AbstractText>")


ANY = (cut, flip_bits, empty, another_type, insert, drop_a_part)
TEXT = (*ANY, another_encoding)
TABLE = (*TEXT, swap_cells, repeat_a_line, long_cell)
XML = (*TEXT, document_type, entity_bomb, outside_entity)
KINDS = {".csv": TABLE, ".txt": TEXT, ".xml": XML, ".jpg": ANY, ".png": ANY, ".zip": ANY}


def damage(draw, path):
    """Damages a file; of a gzipped one what is in it, or the packing."""
    packed = path.suffix == ".gz"
    content = path.read_bytes()
    harm = draw.choice(KINDS[path.with_suffix("").suffix if packed else path.suffix])
    if packed and draw.random() < 0.6:
        path.write_bytes(gzip.compress(harm(draw, gzip.decompress(content))))
    else:
        path.write_bytes(harm(draw, content))


def some_file(draw, root):
    """A file of the corpus: tables, reports and images are as likely as each other."""
    by_suffix = {}
    for path in sorted(path for path in root.rglob("*.*") if path.is_file() and path.stat().st_size):
        by_suffix.setdefault(path.suffix, []).append(path)
    return draw.choice(by_suffix[draw.choice(sorted(by_suffix))])


def outcome(corpus, root):
    """ "read" or "refused", and how many images cannot be read."""
    try:
        studies = Selection(corpus, SIZE, "all").read().studies
    except UserError as error:
        check_clear(error, root)
        return "refused", 0
    bad = 0
    for image in (image for study in studies for image in study.images):
        try:
            assert ImageTransform(SIZE)(image).shape == (1, SIZE, SIZE)
        except UserError as error:
            check_clear(error, image)
            bad += 1
    return "read", bad


def check_clear(error, path):
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


ALL = [(layout, ROUNDS // len(READERS) + 1) for layout in READERS]


@pytest.mark.filterwarnings("ignore:.*manifest.csv:UserWarning")  # of cells that are not understood
@pytest.mark.parametrize(("layout", "rounds"), [*ALL, pytest.param("manifest", 300, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_counted_or_refused(corpora, layout, rounds):
    root = corpora / layout
    whole = outcome(READERS[layout](root), root)
    assert whole == ("read", 0)
    outcomes = set()
    for number in range(rounds):
        draw = random.Random(f"{layout} {number}")
        path = some_file(draw, root)
        content = path.read_bytes()
        try:
            damage(draw, path)
            result, bad = outcome(READERS[layout](root), root)
            assert bad <= 1
            outcomes.add("bad image" if bad else result)
        except Exception as error:
            raise AssertionError(f"damage {number} to {path.name}: {type(error).__name__}") from error
        finally:
            path.write_bytes(content)
    assert outcomes == {"read", "refused", "bad image"}
    assert outcome(READERS[layout](root), root) == whole


@pytest.mark.parametrize("harm", [document_type, entity_bomb, outside_entity])
def test_xml_that_declares_anything_is_refused(corpora, tmp_path, harm):
    root = Path(shutil.copytree(corpora / "openi", tmp_path / "openi"))
    path = root / "ecgen-radiology" / "1.xml"
    path.write_bytes(harm(random.Random(0), path.read_bytes()))
    with pytest.raises(UserError, match=r"1\.xml: not readable as XML"):
        OpenI(root).studies()


@pytest.mark.parametrize("name", ["ecgen-radiology/1.xml", "indiana_projections.csv"])
def test_a_folder_in_the_place_of_a_file(corpora, tmp_path, name):
    root = Path(shutil.copytree(corpora / "openi", tmp_path / "openi"))
    (root / name).unlink()
    (root / name).mkdir()
    result, _ = outcome(OpenI(root), root)
    assert result == "refused"


# ------------------------------------------------------------------------------------- no plain files


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


REPORTS = {
    "mimic-cxr": "files/p1*/p*/s*.txt",
    "openi": "ecgen-radiology/1.xml",
    "manifest": "3.txt",
    "openi-kaggle": "indiana_reports.csv",
    "chestxray14": "Data_Entry_2017*.csv",
    "chexpert": "train.csv",
}


@pytest.mark.parametrize("harm", [pipe, device])
@pytest.mark.parametrize("layout", REPORTS)
def test_a_report_or_table_that_is_no_plain_file_is_refused(layout, harm, corpora, tmp_path):
    """It would be waited for, or has no end; `vkd doctor` says it too."""
    root = Path(shutil.copytree(corpora / layout, tmp_path / layout))
    for path in sorted(root.glob(REPORTS[layout])):
        harm(path)
    assert outcome(READERS[layout](root), root) == ("refused", 0)
    assert not examine(root, 1).can_train


def test_a_report_is_of_a_reports_size(corpora, tmp_path):
    root = Path(shutil.copytree(corpora / "manifest", tmp_path / "manifest"))
    (root / "3.txt").write_text("no " * LARGEST_REPORT)
    with pytest.raises(UserError, match=r"row 5: its report .*3\.txt is not a readable text file; correct the name"):
        READERS["manifest"](root).studies()


@pytest.mark.parametrize(
    "text", ["No effusion. Seen by Dr. Miller, see notes.txt", "Miller" * 2000 + ".txt", "\0Miller.txt"]
)
def test_no_report_is_printed_where_it_ends_in_txt(text, corpora, tmp_path):
    root = Path(shutil.copytree(corpora / "manifest", tmp_path / "manifest"))
    table = pd.read_csv(root / "manifest.csv")
    table.loc[3, "report"] = text
    table.to_csv(root / "manifest.csv", index=False)
    with pytest.raises(UserError, match=r"row 5: its report") as error:
        READERS["manifest"](root).studies()
    said = "".join(traceback.format_exception(error.value))
    assert "Miller" not in said


# -------------------------------------------------------------------------------------------- a store


def gone(draw, content):
    return None


STORE_HARMS = (cut, flip_bits, flip_bits, empty, another_type, insert, drop_a_part, another_encoding, gone)
LARGEST_PEAK = 1.5 * 2**30
"""Bytes of memory that this process may have had at most."""


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "store"
    prepare(Selection(TinyCorpus(8), SIZE), WordEncoder(64, 8), folder, progress=False)
    return folder


def content_of(folder):
    """All that a store says: studies, pixels, reports."""
    store = Store(folder)
    said = [
        (s.study_id, s.patient_id, s.split, s.labels.tolist(), [image.tobytes() for image in s.images])
        for s in store.studies
    ]
    reports = [report.tolist() for report in store.reports(WordEncoder(64, 8), range(len(said)))]
    return said, reports, store.left_out, store.bad


@pytest.mark.parametrize("rounds", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_a_damaged_store_is_refused_or_says_what_it_said(store, rounds, tmp_path):
    whole, refusals = content_of(store), 0
    files = sorted(path.name for path in store.iterdir() if path.name != ".lock")
    for number in range(rounds):
        draw = random.Random(f"store {number}")
        folder = shutil.copytree(store, tmp_path / str(number))
        path = folder / draw.choice(files)
        content = draw.choice(STORE_HARMS)(draw, path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        signal.alarm(10)
        try:
            found = content_of(folder)
        except UserError as error:
            check_clear(error, folder)
            refusals += 1
        else:
            assert found == whole, f"damage {number} to {path.name}"
        finally:
            signal.alarm(0)
        shutil.rmtree(folder)
    assert refusals > rounds / 2
    if rounds == 300:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < LARGEST_PEAK
