"""The doctor: what it says of whole corpora and of broken ones, and that it is right about whether training works."""

import gzip
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexpert import CheXpert
from vkd_pyro.data.corpora.manifest import Manifest
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.doctor import Check, Diagnosis, examine
from vkd_pyro.data.doctor.training import SIZE
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import prepare
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.errors import UserError

READERS = {
    "mimic-cxr": MimicCXR,
    "openi": OpenI,
    "openi-kaggle": OpenI,
    "chestxray14": ChestXray14,
    "chexpert": CheXpert,
    "manifest": lambda root: Manifest(root / "manifest.csv"),
}
every_layout = pytest.mark.parametrize("layout", READERS)
PREFIX = "mimic-cxr-2.0.0"


@pytest.fixture(scope="session")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    for name in READERS:
        if name != "manifest":
            synthesize(name, folder / name, 60, 16)
    write_manifest(folder / "manifest", CheXpert(folder / "chexpert").studies())
    return folder


def write_manifest(root, studies):
    root.mkdir()
    rows = []
    for study in studies:
        name = f"{study.study_id.replace('/', '-')}.jpg"
        shutil.copy(study.images[0], root / name)
        labels = dict(zip(CHEXPERT_FINDINGS, np.maximum(study.labels, -1).astype(int), strict=True))
        rows.append({"image": name, "patient": study.patient_id, "view": "AP", "split": study.split} | labels)
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)


@pytest.fixture
def copy(healthy, tmp_path):
    return lambda layout: Path(shutil.copytree(healthy / layout, tmp_path / "copy" / layout))


def trains(corpus):
    """Whether training gets to its first step, and through all of its images."""
    try:
        data = StudyData(Selection(corpus))
        studies = [study for split in ("train", "validation", "test") for study in data.studies(split)]
        for study in studies:
            for image in study.images:
                ImageTransform(SIZE)(image)
    except UserError:
        return False
    return True


def check_of(diagnosis, name):
    (check,) = [check for check in diagnosis.checks if check.name == name]
    return check


def rows_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


# Whole corpora --------------------------------------------------------------------------------------------------------


@every_layout
def test_a_whole_corpus_can_be_trained_on(healthy, layout):
    diagnosis = examine(healthy / layout)
    assert diagnosis.corpus == layout
    assert diagnosis.can_train
    assert trains(READERS[layout](healthy / layout))
    # The small copies are parts of a release; Open-I lists images that it lacks; the manifest has no reports.
    allowed = {"full release", {"openi": "left out", "manifest": "reports"}.get(layout.split("-")[0], "")}
    assert {check.name for check in diagnosis.checks if check.verdict == "warning"} <= allowed
    assert all(check.fix for check in diagnosis.checks if check.verdict != "ok")
    assert check_of(diagnosis, "image files").found == "50 opened, all readable"


@every_layout
def test_the_last_line_says_how_to_train(healthy, layout):
    reader = type(READERS[layout](healthy / layout))
    path = healthy / layout / "manifest.csv" if layout == "manifest" else healthy / layout
    *_, last = str(examine(healthy / layout, 1)).splitlines()
    assert last.startswith("Training would work: ")
    assert f"--data.selection.corpus {reader.__module__}.{reader.__name__} " in last
    assert last.endswith(f"--data.selection.corpus.init_args.{'path' if layout == 'manifest' else 'root'} {path}")


@every_layout
def test_counts_are_those_of_the_reader(healthy, layout):
    studies = READERS[layout](healthy / layout).studies()
    images = sum(len(study.images) for study in studies)
    patients = len({study.patient_id for study in studies})
    found = check_of(examine(healthy / layout, 1), "studies").found
    assert found == f"{images} images, {len(studies)} studies, {patients} patients"


def test_a_part_of_a_release_is_a_warning(healthy):
    check = check_of(examine(healthy / "mimic-cxr", 1), "full release")
    assert check.verdict == "warning"
    assert check.found.endswith("60 of 227,835 studies")


def test_a_manifest_may_be_given_as_its_file(healthy):
    diagnosis = examine(healthy / "manifest" / "manifest.csv")
    assert diagnosis.corpus == "manifest"
    assert diagnosis.can_train


def test_the_same_images_are_opened_each_time(healthy):
    assert str(examine(healthy / "openi", 7)) == str(examine(healthy / "openi", 7))
    assert check_of(examine(healthy / "openi", 7), "image files").found == "7 opened, all readable"


def test_a_prepared_store(healthy, tmp_path):
    selection = Selection(CheXpert(healthy / "chexpert"), 16)
    prepare(selection, WordEncoder(), tmp_path / "store", progress=False)
    diagnosis = examine(tmp_path / "store")
    assert diagnosis.corpus == "store"
    assert diagnosis.can_train
    assert f"--data.loading.store {tmp_path / 'store'}" in str(diagnosis).splitlines()[-1]
    assert "vkd_pyro.data.corpora.chexpert.CheXpert" in check_of(diagnosis, "made from").found
    (tmp_path / "store" / "store.json").unlink()
    diagnosis = examine(tmp_path / "store")
    assert not diagnosis.can_train
    assert "not complete" in check_of(diagnosis, "studies").found


# Broken ones ----------------------------------------------------------------------------------------------------------


def delete(name):
    return lambda root: (root / name).unlink()


def rename_column(name, old):
    def change(root):
        rows_of(root / name).rename(columns={old: "another"}).to_csv(root / name, index=False)

    return change


def truncate(name):
    def change(root):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])

    return change


def write(name, content):
    return lambda root: (root / name).write_bytes(content)


def set_cells(name, column, value):
    def change(root):
        table = rows_of(root / name)
        table[column] = table[column].map(value) if callable(value) else value
        table.to_csv(root / name, index=False)

    return change


def remove_images(root):
    for image in [*root.rglob("*.jpg"), *root.rglob("*.png")]:
        image.unlink()


def blank_images(root):
    for image in [*root.rglob("*.jpg"), *root.rglob("*.png")]:
        image.write_bytes(image.read_bytes()[:40])


def split_a_patient(root):
    """Of MIMIC-CXR: one patient's studies go to two splits."""
    table = rows_of(root / f"{PREFIX}-split.csv.gz")
    studies = table.groupby("subject_id")["study_id"].unique()
    first, *_ = next(ids for ids in studies if len(ids) > 1)
    old = table.loc[table["study_id"] == first, "split"].iloc[0]
    table.loc[table["study_id"] == first, "split"] = "test" if old == "train" else "train"
    table.to_csv(root / f"{PREFIX}-split.csv.gz", index=False)


def split_a_patient_of_the_lists(root):
    names = (root / "test_list.txt").read_text().split()
    first = next(name for name in names if any(n != name and n[:8] == name[:8] for n in names))
    (root / "test_list.txt").write_text("\n".join(name for name in names if name != first))
    with (root / "train_val_list.txt").open("a") as file:
        file.write(f"{first}\n")


def without_reports(root):
    for path in root.rglob("*.txt"):
        path.unlink()


FAILURES = {
    "mimic-cxr metadata missing": ("mimic-cxr", delete(f"{PREFIX}-metadata.csv.gz"), f"{PREFIX}-metadata.csv"),
    "mimic-cxr split missing": ("mimic-cxr", delete(f"{PREFIX}-split.csv.gz"), f"{PREFIX}-split.csv"),
    "mimic-cxr labels missing": ("mimic-cxr", delete(f"{PREFIX}-chexpert.csv.gz"), f"{PREFIX}-chexpert.csv"),
    "openi-kaggle reports missing": ("openi-kaggle", delete("indiana_reports.csv"), "indiana_reports.csv"),
    "chestxray14 list missing": ("chestxray14", delete("test_list.txt"), "studies"),
    "chexpert valid missing": ("chexpert", delete("valid.csv"), "valid.csv"),
    "chexpert train missing": ("chexpert", delete("train.csv"), "train.csv"),
    "mimic-cxr column": (
        "mimic-cxr",
        rename_column(f"{PREFIX}-metadata.csv.gz", "ViewPosition"),
        f"{PREFIX}-metadata.csv.gz",
    ),
    "mimic-cxr finding": (
        "mimic-cxr",
        rename_column(f"{PREFIX}-chexpert.csv.gz", "Edema"),
        f"{PREFIX}-chexpert.csv.gz",
    ),
    "openi column": ("openi", rename_column("indiana_projections.csv", "filename"), "indiana_projections.csv"),
    "openi-kaggle column": ("openi-kaggle", rename_column("indiana_reports.csv", "MeSH"), "indiana_reports.csv"),
    "chestxray14 column": (
        "chestxray14",
        rename_column("Data_Entry_2017_v2020.csv", "Finding Labels"),
        "Data_Entry_2017_v2020.csv",
    ),
    "chexpert column": ("chexpert", rename_column("valid.csv", "Edema"), "valid.csv"),
    "mimic-cxr gz broke off": ("mimic-cxr", truncate(f"{PREFIX}-split.csv.gz"), f"{PREFIX}-split.csv.gz"),
    "openi xml broke off": ("openi", truncate("ecgen-radiology/7.xml"), "studies"),
    "chexpert empty": ("chexpert", write("train.csv", b""), "train.csv"),
    "chestxray14 binary": (
        "chestxray14",
        write("Data_Entry_2017_v2020.csv", b"\xff\x00" * 99),
        "Data_Entry_2017_v2020.csv",
    ),
    "manifest cell": ("manifest", set_cells("manifest.csv", "Edema", "maybe"), "studies"),
    "manifest blank patient": ("manifest", set_cells("manifest.csv", "patient", ""), "studies"),
    "mimic-cxr shifted": ("mimic-cxr", set_cells(f"{PREFIX}-metadata.csv.gz", "study_id", "x"), "studies"),
    "mimic-cxr without reports": ("mimic-cxr", without_reports, "studies"),
    "mimic-cxr patient in two splits": ("mimic-cxr", split_a_patient, "splits"),
    "chestxray14 patient in two splits": ("chestxray14", split_a_patient_of_the_lists, "splits"),
    "manifest patients in two splits": ("manifest", set_cells("manifest.csv", "patient", "one"), "splits"),
    "mimic-cxr no test": ("mimic-cxr", set_cells(f"{PREFIX}-split.csv.gz", "split", "train"), "splits"),
    "manifest no test": ("manifest", set_cells("manifest.csv", "split", "train"), "splits"),
    "mimic-cxr no frontal": ("mimic-cxr", set_cells(f"{PREFIX}-metadata.csv.gz", "ViewPosition", "LL"), "views"),
    "openi no frontal": ("openi", set_cells("indiana_projections.csv", "projection", "Lateral"), "views"),
    "mimic-cxr no images": ("mimic-cxr", remove_images, "studies"),
    "openi no images": ("openi", remove_images, "studies"),
    "chestxray14 no images": ("chestxray14", remove_images, "studies"),
    "chexpert no images": ("chexpert", remove_images, "studies"),
    "manifest no images": ("manifest", remove_images, "studies"),
    "mimic-cxr corrupt images": ("mimic-cxr", blank_images, "image files"),
    "openi-kaggle corrupt images": ("openi-kaggle", blank_images, "image files"),
    "chestxray14 corrupt images": ("chestxray14", blank_images, "image files"),
    "chexpert corrupt images": ("chexpert", blank_images, "image files"),
}


@pytest.mark.parametrize(("layout", "damage", "name"), FAILURES.values(), ids=FAILURES)
def test_what_stops_training_is_a_failure_with_a_fix(copy, layout, damage, name):
    root = copy(layout)
    damage(root)
    diagnosis = examine(root, 10)
    assert diagnosis.corpus == layout
    assert not diagnosis.can_train
    assert not trains(READERS[layout](root))
    check = check_of(diagnosis, name)
    assert check.verdict == "failure"
    assert check.fix
    *_, last = str(diagnosis).splitlines()
    assert last.startswith("Training would fail: ")


VIEWS_UNKNOWN = {
    "openi-kaggle": delete("indiana_projections.csv"),
    "openi": delete("indiana_projections.csv"),
    "manifest": set_cells("manifest.csv", "view", ""),
}


@pytest.mark.parametrize(("layout", "damage"), VIEWS_UNKNOWN.items())
def test_where_no_view_is_known_the_setting_is_named(copy, layout, damage):
    root = copy(layout)
    damage(root)
    diagnosis = examine(root, 10)
    check = check_of(diagnosis, "views")
    assert (check.verdict, diagnosis.can_train) == ("warning", True)
    assert "--data.selection.unknown_views keep" in check.fix
    assert StudyData(Selection(READERS[layout](root), unknown_views="keep")).studies("train")
    with pytest.raises(UserError, match=r"see data.selection.views and unknown_views"):
        StudyData(Selection(READERS[layout](root))).studies("train")


WARNINGS = {
    "mimic-cxr other labels missing": ("mimic-cxr", delete(f"{PREFIX}-negbio.csv.gz"), f"{PREFIX}-negbio.csv", "ok"),
    "mimic-cxr other labels broken": (
        "mimic-cxr",
        truncate(f"{PREFIX}-negbio.csv.gz"),
        f"{PREFIX}-negbio.csv.gz",
        "warning",
    ),
    "chestxray14 newer table missing": (
        "chestxray14",
        delete("Data_Entry_2017_v2020.csv"),
        "Data_Entry_2017.csv",
        "ok",
    ),
    "mimic-cxr images in no split": (
        "mimic-cxr",
        lambda root: rows_of(p := root / f"{PREFIX}-split.csv.gz").iloc[4:].to_csv(p, index=False),
        "left out",
        "warning",
    ),
    "mimic-cxr report without images": (
        "mimic-cxr",
        lambda root: (root / "files" / "p10" / "s59999999.txt").write_text(" IMPRESSION:  x\n"),
        "further reports",
        "warning",
    ),
    "chexpert images without a row": (
        "chexpert",
        lambda root: Image.new("L", (8, 8)).save(root / "train" / "more.jpg"),
        "further images",
        "warning",
    ),
    "manifest without positives": (
        "manifest",
        lambda root: [set_cells("manifest.csv", name, "0")(root) for name in CHEXPERT_FINDINGS],
        "labels",
        "warning",
    ),
}


@pytest.mark.parametrize(("layout", "damage", "name", "verdict"), WARNINGS.values(), ids=WARNINGS)
def test_what_does_not_stop_training_is_none(copy, layout, damage, name, verdict):
    root = copy(layout)
    damage(root)
    diagnosis = examine(root, 5)
    assert diagnosis.can_train
    assert trains(READERS[layout](root))
    assert check_of(diagnosis, name).verdict == verdict


def test_corrupt_images_are_counted_and_the_first_are_named(copy):
    root = copy("chestxray14")
    images = sorted(image for study in ChestXray14(root).studies() for image in study.images)
    for image in images[:5]:
        image.write_bytes(b"none")
    check = check_of(examine(root, 100), "image files")
    assert check.found.startswith("5 of 60 opened are unreadable: ")
    assert sum(str(image) in check.found for image in images[:5]) == 3
    assert "bad_images" in check.fix


@pytest.mark.parametrize(("number", "verdict"), [(0, "ok"), (2, "warning"), (5, "failure")])
def test_pictures_with_hardly_any_gray_levels_are_counted_and_named(number, verdict, copy):
    root = copy("chestxray14")
    images = sorted(image for study in ChestXray14(root).studies() for image in study.images)
    for place, image in enumerate(images[:number]):
        dark = Image.open(image).convert("L").point(lambda gray: gray // 16)
        (dark if place % 2 else Image.new("L", dark.size)).save(image)
    diagnosis = examine(root, 100)
    check = check_of(diagnosis, "image files")
    assert (check.verdict, diagnosis.can_train) == (verdict, number < 5)
    if number:
        assert check.found.startswith(f"{number} of 60 opened have hardly any gray levels, fewer than 32: {images[0]}")


@every_layout
@pytest.mark.parametrize("form", ["zip", "tgz"])
def test_archives_left_packed_are_named(copy, layout, form):
    root = copy(layout)
    name = root / f"images.{form}"
    images = [*root.rglob("*.jpg"), *root.rglob("*.png")]
    if form == "zip":
        with zipfile.ZipFile(name, "w") as archive:
            archive.write(images[0], "x")
    else:
        with tarfile.open(name, "w:gz") as archive:
            archive.add(images[0], "x")
    if layout.startswith("openi"):  # a file is missing of these, so that the archive may hold it
        assert check_of(examine(root, 1), "archives").verdict == "warning"
    else:
        assert check_of(examine(root, 1), "archives").verdict == "ok"
    remove_images(root)
    diagnosis = examine(root, 1)
    check = check_of(diagnosis, "archives")
    assert check.verdict == "warning"
    assert f"images.{form}" in check.found
    assert f"{'unzip' if form == 'zip' else 'tar'}" in check.fix
    assert not diagnosis.can_train


# Other folders --------------------------------------------------------------------------------------------------------


@every_layout
def test_one_level_above_is_said(copy, layout):
    root = copy(layout)
    diagnosis = examine(root.parent)
    assert diagnosis.corpus is None
    assert not diagnosis.can_train
    (check,) = diagnosis.checks
    assert check.found == f"none here, but {root} looks like {layout}"
    assert check.fix == f"vkd doctor {root}"


@pytest.mark.parametrize(
    ("layout", "below"), [("mimic-cxr", "files"), ("openi", "ecgen-radiology"), ("chexpert", "valid")]
)
def test_one_level_below_is_said(healthy, layout, below):
    (check,) = examine(healthy / layout / below).checks
    assert check.fix == f"vkd doctor {healthy / layout}"


def test_a_mirror_of_physionet_is_found(copy, tmp_path):
    place = tmp_path / "mirror" / "physionet.org" / "files" / "mimic-cxr-jpg"
    place.mkdir(parents=True)
    copy("mimic-cxr").rename(place / "2.1.0")
    (check,) = examine(tmp_path / "mirror").checks
    assert check.fix == f"vkd doctor {place / '2.1.0'}"


@pytest.mark.parametrize(
    ("names", "found", "fix"),
    [
        ((), "looked for mimic-cxr-2", "the folder is empty"),
        (("photo.png",), "looked for mimic-cxr-2", "point at the folder with the tables"),
        (("NLMCXR_png.tgz", "NLMCXR_reports.tgz"), "nothing unpacked, but NLMCXR_png.tgz", "tar -xf NLMCXR_png.tgz"),
        (("other.csv",), "none that is known", "point at the folder"),
    ],
)
def test_a_folder_that_is_none(tmp_path, names, found, fix):
    folder = tmp_path / "above" / "folder"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"\xff")
    diagnosis = examine(folder)
    (check,) = diagnosis.checks
    assert diagnosis.corpus is None
    assert not diagnosis.can_train
    assert found in check.found
    assert fix in check.fix


def test_a_folder_that_is_not_there(tmp_path):
    diagnosis = examine(tmp_path / "nowhere")
    assert not diagnosis.can_train
    assert "no such folder" in str(diagnosis)


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "archive.bin").write_bytes(b"x")
    (check,) = examine(tmp_path / "archive.bin").checks
    assert "give a folder" in check.fix


def test_files_that_may_not_be_read_are_named(copy, monkeypatch):
    root = copy("chexpert")
    image = CheXpert(root).studies()[0].images[0]
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, *rest: os.fspath(path) != str(image) and real(path, *rest))
    check = check_of(examine(root, 1), "permissions")
    assert check.verdict == "failure"
    assert str(image) in check.found
    assert "chmod" in check.fix
    monkeypatch.setattr(os, "access", lambda path, *rest: False)
    (check,) = examine(root, 1).checks
    assert check.name == "permissions"


def test_a_full_disk_is_a_warning(healthy, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    diagnosis = examine(healthy / "chexpert", 1)
    assert check_of(diagnosis, "disk").verdict == "warning"
    assert diagnosis.can_train


def test_a_gunzipped_corpus_is_whole(copy):
    root = copy("mimic-cxr")
    for path in root.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert examine(root, 1).can_train


def test_a_diagnosis_is_a_line_a_check():
    checks = (Check("a", "ok", "fine"), Check("longer", "warning", "less"), Check("b", "failure", "none", "mend it"))
    assert str(Diagnosis(Path("x"), "openi", checks)).splitlines() == [
        "x",
        "ok       a       fine",
        "warning  longer  less",
        "failure  b       none",
        "                 -> mend it",
        "Training would fail: 1 to mend.",
    ]


def test_no_text_of_a_report_and_no_patient_is_shown(healthy):
    shown = str(examine(healthy / "mimic-cxr"))
    for study in MimicCXR(healthy / "mimic-cxr").studies():
        assert study.patient_id not in shown
        assert not any(text in shown for text in study.report.values() if len(text) > 20)
