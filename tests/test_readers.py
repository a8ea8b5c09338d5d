"""The readers on synthetic corpora in the layouts of the real ones, and every oddity of those layouts."""

import gzip
import itertools
import math
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexpert import CheXpert
from vkd_pyro.data.corpora.common.patients import age_of, sex_of
from vkd_pyro.data.corpora.common.tables import read_labels, read_table
from vkd_pyro.data.corpora.manifest import Manifest
from vkd_pyro.data.corpora.mimic_cxr import PREFIX, MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.doctor import examine
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.labels.findings import CHESTXRAY14_FINDINGS, CHESTXRAY14_SHARED, CHEXPERT_FINDINGS
from vkd_pyro.data.labels.outside import read_outside_labels
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.reports import ReportText, split_sections
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study import Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts import mimic_cxr as mimic_layout
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.synthetic.layouts.mimic_reports import REMOVED, ROUND, SILENT
from vkd_pyro.synthetic.layouts.visits import report_labels, visits
from vkd_pyro.utils.errors import UserError

NUM_STUDIES, IMAGE_SIZE = 80, 32
READERS = {
    "mimic-cxr": MimicCXR,
    "openi": OpenI,
    "openi-kaggle": OpenI,
    "chestxray14": ChestXray14,
    "chexpert": CheXpert,
}
REAL_OPENI = Path(__file__).parent.parent.parent / "shared" / "openi"
METADATA, CHEXPERT_TABLE = "mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-chexpert.csv.gz"


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """Layout -> (root, what `synthesize` says it wrote)."""
    folder = tmp_path_factory.mktemp("trees")
    return {name: (folder / name, synthesize(name, folder / name, NUM_STUDIES, IMAGE_SIZE)) for name in READERS}


@pytest.fixture(scope="session")
def drawn():
    """The studies as they were drawn."""
    return list(visits(SyntheticCorpus(NUM_STUDIES, IMAGE_SIZE), False))


@pytest.fixture
def copy(trees, tmp_path):
    """Copies a tree to where it may be changed."""
    return lambda layout: Path(shutil.copytree(trees[layout][0], tmp_path / layout))


def rows_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def change(path, **columns):
    """Rewrites columns of a table: name -> a value, or a function of the old one."""
    table = rows_of(path)
    for name, value in columns.items():
        name = name.replace("_", " ") if name not in table else name
        table[name] = table[name].map(value) if callable(value) else value
    table.to_csv(path, index=False)


def gunzip(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def same(one, other):
    """Whether two lists of studies are the same but for the folder."""

    def told(studies):
        return [
            (
                *(s.study_id, s.patient_id, [i.name for i in s.images], s.views, s.report, s.labels.tobytes(), s.split),
                *(s.sex, str(s.age)),
            )
            for s in studies
        ]

    return told(one) == told(other)


def label(study, finding, findings=CHEXPERT_FINDINGS):
    return study.labels[findings.index(finding)]


def frontal(corpus, **options):
    return Selection(corpus, 8, **options).read()


# Every layout ---------------------------------------------------------------------------------------------------------

every_layout = pytest.mark.parametrize("layout", READERS)


@every_layout
def test_every_image_is_read_once(trees, layout):
    root, counts = trees[layout]
    corpus = READERS[layout](root)
    images = [image for study in corpus.studies() for image in study.images]
    assert len(images) == len(set(images)) == counts["images"]
    assert all(image.is_file() for image in images)
    assert corpus.left_out["images listed, but no file"] == counts.get("listed images without file", 0)


@every_layout
def test_studies_are_as_many_as_written(trees, layout):
    root, counts = trees[layout]
    corpus = READERS[layout](root)
    studies = corpus.studies()
    listed = counts.get("reports that list no image", 0), counts.get("reports none of whose images has a file", 0)
    assert len(studies) == len({study.study_id for study in studies}) == counts["studies"] - sum(listed)
    assert corpus.left_out["reports that list no image"] == listed[0]
    assert corpus.left_out["studies without an image file"] == listed[1]
    if "patients" in counts:
        assert len({study.patient_id for study in studies}) == counts["patients"]


@every_layout
def test_no_patient_is_in_two_splits(trees, layout):
    data = StudyData(Selection(READERS[layout](trees[layout][0])))
    patients = [{study.patient_id for study in data.studies(split)} for split in ("train", "validation", "test")]
    assert all(patients)
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(patients, 2))


@every_layout
def test_labels_are_float32_in_the_order_of_the_findings(trees, layout):
    corpus = READERS[layout](trees[layout][0])
    for study in corpus.studies():
        assert study.labels.shape == (len(corpus.findings),)
        assert study.labels.dtype == np.float32
        assert np.isnan(study.labels).all() or set(study.labels) <= {1, 0, -1, -2}


@every_layout
def test_further_columns_and_another_order_change_nothing(trees, copy, layout):
    root = copy(layout)
    for path in [*root.glob("*.csv"), *root.glob("*.csv.gz")]:
        table = rows_of(path)
        table = table[[*reversed(table.columns)]]
        table.insert(0, "further", "x")
        table.to_csv(path, index=False)
    assert same(READERS[layout](root).studies(), READERS[layout](trees[layout][0]).studies())


@every_layout
@pytest.mark.parametrize("mark", ["\ufeff", ""], ids=["with", "without"])
@pytest.mark.parametrize("newline", ["\r\n", "\n"], ids=["crlf", "lf"])
def test_a_byte_order_mark_and_line_ends_change_nothing(trees, copy, layout, mark, newline):
    root = copy(layout)
    for path in [*root.glob("*.csv"), *root.glob("*_list.txt")]:
        lines = path.read_text().splitlines()
        path.write_bytes((mark * path.name.endswith(".csv") + newline.join(lines) + newline).encode())
    assert same(READERS[layout](root).studies(), READERS[layout](trees[layout][0]).studies())


@every_layout
def test_a_missing_folder_is_named(tmp_path, layout):
    with pytest.raises(UserError, match="nowhere"):
        READERS[layout](tmp_path / "nowhere").studies()


# Sex and age ----------------------------------------------------------------------------------------------------------


def people(studies):
    """Sex and age of each study; an unknown age is None."""
    return [(study.sex, None if math.isnan(study.age) else study.age) for study in studies]


def drawn_people(drawn, shown):
    """The same as they were drawn, of those visits whose number is among these."""
    sexes = {"woman": "female", "man": "male"}
    return [(sexes[v.facts.anatomy.sex], v.facts.anatomy.age) for v in drawn if v.index in shown]


@pytest.mark.parametrize(
    ("cell", "age"),
    [
        *(("58", 58), ("058Y", 58), ("58.5", 58.5), (" 058y ", 58), ("006M", 0.5), ("000D", 0), ("0", 0)),
        *(("1461D", 4), ("120", 120), ("121", None), ("411", None), ("155Y", None), ("999", None), ("-1", None)),
        *(("", None), ("Y", None), ("58X", None), ("nan", None), ("inf", None), ("1e1", None), ("F", None)),
    ],
)
def test_an_age_is_in_years_or_unknown(cell, age):
    assert age_of(cell) == pytest.approx(math.nan if age is None else age, nan_ok=True)


def test_weeks_of_dicom_are_weeks():
    assert age_of("522W") == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize(
    ("cells", "sex"),
    [
        (("F", "f", "Female", "FEMALE", " female "), "female"),
        (("M", "m", "Male", "MALE", "male "), "male"),
        (("", "Unknown", "O", "1", "woman", "58"), "unknown"),
    ],
)
def test_a_sex_is_female_male_or_unknown(cells, sex):
    assert {sex_of(cell) for cell in cells} == {sex}


@pytest.mark.parametrize("layout", ["chestxray14", "chexpert"])
def test_sex_and_age_are_those_drawn(trees, drawn, layout):
    studies = READERS[layout](trees[layout][0]).studies()
    found, expected = Counter(people(studies)), Counter(drawn_people(drawn, range(NUM_STUDIES)))
    assert found == expected
    assert {sex for sex, _ in found} == {"female", "male"}


@pytest.mark.parametrize("layout", ["openi", "openi-kaggle"])
def test_openi_ships_neither_sex_nor_age(trees, layout):
    assert set(people(OpenI(trees[layout][0]).studies())) == {("unknown", None)}


@pytest.mark.parametrize(
    ("layout", "tables"),
    [
        ("chestxray14", {"Data_Entry_2017_v2020.csv": ["Patient Gender", "Patient Age"]}),
        ("chexpert", {"train.csv": ["Sex", "Age"], "valid.csv": ["Sex", "Age"]}),
        ("mimic-cxr", {METADATA: ["StudyDate"]}),
    ],
)
def test_tables_without_sex_and_age_are_read(trees, copy, layout, tables):
    root = copy(layout)
    (root / "patients.csv.gz").unlink(missing_ok=True)
    for name, columns in tables.items():
        rows_of(root / name).drop(columns=columns).to_csv(root / name, index=False)
    studies = READERS[layout](root).studies()
    assert set(people(studies)) == {("unknown", None)}
    assert [s.study_id for s in studies] == [s.study_id for s in READERS[layout](trees[layout][0]).studies()]


def test_impossible_ages_of_chestxray14_are_unknown_and_those_of_the_older_table_are_read(trees, copy):
    root = copy("chestxray14")
    (root / "Data_Entry_2017_v2020.csv").unlink()
    table = rows_of(root / "Data_Entry_2017.csv")
    ages = table["Patient Age"]
    table["Patient Age"] = [*("411", "155Y", ""), *(f"{int(age):03d}Y" for age in ages[3:])]
    table.loc[0, "Patient Gender"] = ""
    table.to_csv(root / "Data_Entry_2017.csv", index=False)
    studies = ChestXray14(root).studies()
    expected = people(ChestXray14(trees["chestxray14"][0]).studies())
    assert people(studies) == [("unknown", None), (expected[1][0], None), (expected[2][0], None), *expected[3:]]


def test_the_age_of_0_in_chexpert_is_unknown(copy):
    root = copy("chexpert")
    table = rows_of(root / "train.csv")
    table.loc[0, ["Sex", "Age"]] = ["Unknown", "0"]
    table.loc[1, "Age"] = "90"
    table.to_csv(root / "train.csv", index=False)
    (first, age), (_, second), *_ = people(CheXpert(root).studies())
    assert (first, age, second) == ("unknown", None, 90)


def test_sex_and_age_are_not_shown_with_a_study(trees):
    shown = repr(CheXpert(trees["chexpert"][0]).studies()[0])
    assert "sex" not in shown
    assert "age=" not in shown.replace("image=", "")


# MIMIC-CXR ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mimic(trees):
    return trees["mimic-cxr"][0], trees["mimic-cxr"][1], MimicCXR(trees["mimic-cxr"][0]).studies()


def test_mimic_splits_and_views_are_those_written(mimic):
    _, counts, studies = mimic
    splits = Counter(study.split for study in studies)
    assert splits == {
        "train": counts["train studies"],
        "validation": counts["validate studies"],
        "test": counts["test studies"],
    }
    views = Counter(view for study in studies for view in study.views)
    assert views["unknown"] == counts["images without a view"]
    assert views["lateral"] == counts["lateral images (LATERAL)"] + counts["lateral images (LL)"]
    assert sum("frontal" not in study.views for study in studies) == counts["studies without a frontal image"]
    assert sum(study.views.count("frontal") == 2 for study in studies) == counts["studies of two frontal images"]


def test_mimic_images_lie_where_their_ids_say(mimic):
    root, _, studies = mimic
    for study in studies:
        folder = root / "files" / f"p{study.patient_id[:2]}" / f"p{study.patient_id}" / study.study_id
        assert {image.parent for image in study.images} == {folder}


def test_mimic_labels_are_those_written(mimic, drawn):
    _, counts, studies = mimic
    codes = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": -2.0}
    unlabelled = blank = 0
    for study, visit in zip(studies, drawn, strict=True):
        if np.isnan(study.labels).any():
            unlabelled += 1
            assert np.isnan(study.labels).all()
            assert study.report == {}
        elif (study.labels == -2).all():
            blank += 1
        else:
            assert study.labels.tolist() == [codes[value] for value in report_labels(visit.reading).values()]
    assert unlabelled == counts["studies without a label row"]
    assert blank == counts["studies with all labels blank"]


def test_blank_rows_are_absent_or_unknown_by_policy(mimic):
    studies = [study for study in mimic[2] if np.isnan(study.labels).any() or (study.labels == -2).all()]
    labels, ids = np.stack([study.labels for study in studies]), [study.study_id for study in studies]
    never = np.isnan(labels).all(axis=1)
    assert 0 < never.sum() < len(studies)
    zeros = LabelPolicy(blank="zeros")(labels, CHEXPERT_FINDINGS, ids)
    assert np.isnan(zeros[never]).all()
    assert (zeros[~never] == 0).all()
    assert np.isnan(LabelPolicy(blank="ignore")(labels, CHEXPERT_FINDINGS, ids)).all()


def test_negbio_differs_only_where_chexpert_is_uncertain(mimic):
    root, _, studies = mimic
    changed = 0
    for one, other in zip(studies, MimicCXR(root, labels="negbio").studies(), strict=True):
        differ = np.flatnonzero(~np.isnan(one.labels) & (one.labels != other.labels))
        changed += len(differ)
        assert (one.labels[differ] == -1).all()
        assert (other.labels[differ] == 1).all()
    assert changed


def test_hand_labels_are_of_the_test_split_and_name_lung_opacity_otherwise(mimic, drawn):
    root, _, studies = mimic
    opaque = 0
    hand = MimicCXR(root, hand_labelled_test=True).studies()
    for one, other, visit in zip(studies, hand, drawn, strict=True):
        if one.split == "test":
            assert np.array_equal(other.labels, truth(visit.facts))
            opaque += label(other, "Lung Opacity") == 1
        else:
            assert np.array_equal(one.labels, other.labels, equal_nan=True)
    assert opaque


def test_test_studies_without_hand_labels_are_unlabelled(copy):
    root = copy("mimic-cxr")
    path = root / "mimic-cxr-2.1.0-test-set-labeled.csv"
    rows_of(path).iloc[1:].to_csv(path, index=False)
    first = rows_of(path.parent / "mimic-cxr-2.0.0-split.csv.gz").query("split == 'test'")["study_id"].iloc[0]
    (study,) = [s for s in MimicCXR(root, hand_labelled_test=True).studies() if s.study_id == f"s{first}"]
    assert np.isnan(study.labels).all()


def test_gunzipped_tables_are_the_same(copy, mimic):
    root = copy("mimic-cxr")
    for path in root.glob("*.csv.gz"):
        gunzip(path)
    assert same(MimicCXR(root).studies(), mimic[2])


def test_images_in_no_split_are_left_out_and_counted(copy, mimic):
    root = copy("mimic-cxr")
    path = root / "mimic-cxr-2.0.0-split.csv.gz"
    rows_of(path).iloc[5:].to_csv(path, index=False)
    corpus = MimicCXR(root)
    assert sum(len(s.images) for s in corpus.studies()) == mimic[1]["images"] - 5
    assert corpus.left_out["images in no split"] == 5


def test_images_without_a_file_are_left_out_and_counted(copy, mimic):
    root = copy("mimic-cxr")
    image = mimic[2][0].images[0]
    (root / image.relative_to(mimic[0])).unlink()
    corpus = MimicCXR(root)
    assert sum(len(s.images) for s in corpus.studies()) == mimic[1]["images"] - 1
    assert corpus.left_out["images listed, but no file"] == 1


@pytest.mark.parametrize("table", ["metadata", "split", "chexpert"])
def test_mimic_names_a_missing_table(copy, table):
    root = copy("mimic-cxr")
    (root / f"mimic-cxr-2.0.0-{table}.csv.gz").unlink()
    with pytest.raises(UserError, match=rf"mimic-cxr-2.0.0-{table}.csv: not found"):
        MimicCXR(root).studies()


def test_a_split_of_another_name_is_refused(copy):
    root = copy("mimic-cxr")
    change(root / "mimic-cxr-2.0.0-split.csv.gz", split=lambda name: name.replace("validate", "valid"))
    with pytest.raises(UserError, match=r"'split' is not of the form train\|validate\|test"):
        MimicCXR(root).studies()


# Patients of MIMIC-IV


def test_mimic_age_is_that_in_the_year_of_the_study(mimic, drawn):
    root, _, studies = mimic
    dates = dict(rows_of(root / METADATA)[["study_id", "StudyDate"]].to_numpy().tolist())
    patients = rows_of(root / "patients.csv.gz").set_index("subject_id")
    sexes = {"woman": "female", "man": "male"}
    assert [study.sex for study in studies] == [sexes[visit.facts.anatomy.sex] for visit in drawn]
    for study, visit in zip(studies, drawn, strict=True):
        since = int(dates[study.study_id[1:]][:4]) - int(patients["anchor_year"][study.patient_id])
        assert study.age == visit.facts.anatomy.age + since
        assert since == 0 or visit.order > 0


@pytest.mark.parametrize(
    ("anchor", "date", "age"),
    [
        ((60, 2150), "21530203", 63),
        ((60, 2150), "21480203", 58),
        ((89, 2150), "21530203", 92),
        ((91, 2150), "21500203", 91),
        ((91, 2150), "21580203", 91),
        ((91, 2150), "21490203", None),
        ((20, 2150), "21000203", None),
        ((20, 2150), "", None),
        ((20, 2150), "2150-02-03", None),
    ],
)
def test_ages_over_89_stay_91_and_say_nothing_of_earlier_years(copy, anchor, date, age):
    root = copy("mimic-cxr")
    change(root / METADATA, StudyDate=date)
    change(root / "patients.csv.gz", anchor_age=str(anchor[0]), anchor_year=str(anchor[1]))
    assert {found for _, found in people(MimicCXR(root).studies())} == {age}


def test_without_the_patients_of_mimic_iv_sex_and_age_are_unknown(copy, mimic):
    root = copy("mimic-cxr")
    path = root / "patients.csv.gz"
    rows_of(path).iloc[1:].to_csv(path, index=False)
    first = mimic[2][0].patient_id
    some = MimicCXR(root).studies()
    assert {s.sex == "unknown" and math.isnan(s.age) for s in some if s.patient_id == first} == {True}
    assert not any(s.sex == "unknown" or math.isnan(s.age) for s in some if s.patient_id != first)
    gunzip(path)
    assert same(MimicCXR(root).studies(), some)
    path.with_suffix("").unlink()
    assert set(people(MimicCXR(root).studies())) == {("unknown", None)}


@pytest.mark.parametrize("column", ["subject_id", "anchor_age", "anchor_year"])
def test_a_strange_patient_of_mimic_iv_is_refused_without_quoting_it(copy, column):
    root = copy("mimic-cxr")
    change(root / "patients.csv.gz", **{column: "secret"})
    with pytest.raises(UserError, match=rf"patients.csv.gz: row 2: '{column}' is not of the form") as error:
        MimicCXR(root).studies()
    assert "secret" not in str(error.value)


# Reports of MIMIC-CXR


@pytest.fixture(scope="session")
def said(drawn):
    """What is to be read of each study's report, from the study as it was drawn."""
    kinds = itertools.cycle(ROUND)
    return [expected_sections(mimic_layout._kind(visit, kinds), visit.sections) for visit in drawn]


def expected_sections(kind, sections):
    findings, impression = (
        " ".join(REMOVED.sub("___", sections.get(name, "")).split()) for name in ("FINDINGS", "IMPRESSION")
    )
    if kind in SILENT:
        return {}
    if kind == "reports that refer to another":
        return {"last_paragraph": "Please refer to the report of the CT of the same day for details."}
    if kind in ("reports with neither findings nor impression", "reports without any header"):
        return {"last_paragraph": f"{findings} {impression}"}
    if kind == "reports with findings and impression in one":
        return {"impression": f"{findings} {impression}"}
    absent = {
        "reports with an empty findings section": "findings",
        "reports with impression alone": "findings",
        "reports with findings alone": "impression",
    }
    both = {"findings": findings, "impression": impression}
    return {name: text for name, text in both.items() if name != absent.get(kind)}


def read_of(studies):
    names = ("findings", "impression", "last_paragraph")
    return [{name: study.report[name] for name in names if name in study.report} for study in studies]


def test_mimic_sections_are_what_was_said(mimic, said):
    assert read_of(mimic[2]) == said
    assert sum(not sections for sections in said) == mimic[1]["studies without text"]
    assert sum("last_paragraph" in sections for sections in said) >= 4
    texts = ReportText()([study.report for study in mimic[2]])
    addenda = [study.report.get("addendum") for study in mimic[2]]
    assert any(addenda)
    assert texts == [
        " ".join([*sections.values(), *([f"ADDENDUM: {addendum}"] if addendum else [])]) or None
        for sections, addendum in zip(said, addenda, strict=True)
    ]


def beside(root, place):
    return root, None


def below_its_own_folder(root, place):
    """`mimic-cxr-reports.zip`, unpacked in the folder of the images."""
    move_texts(root, root / "mimic-cxr-reports" / "files")
    return root, None


def elsewhere(root, place):
    move_texts(root, place / "files")
    return root, place


def elsewhere_without_files(root, place):
    move_texts(root, place)
    return root, place


def zipped(root, place, prefix="files/"):
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "files").rglob("*.txt")):
            archive.write(path, f"{prefix}{path.relative_to(root / 'files')}")
            path.unlink()
    return root, None


def zipped_below_a_folder(root, place):
    return zipped(root, place, "mimic-cxr-reports/files/")


def zipped_on_windows(root, place):
    """Some programs there write the names of an archive with backslashes."""
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((root / "files").rglob("*.txt")):
            name = zipfile.ZipInfo()
            name.filename = str(path.relative_to(root)).replace("/", "\\")
            archive.writestr(name, path.read_bytes())
            path.unlink()
    return root, None


def zip_elsewhere(root, place):
    zipped(root, place)
    place.mkdir()
    return root, shutil.move(root / "mimic-cxr-reports.zip", place / "reports.zip")


def move_texts(root, to):
    for path in sorted((root / "files").rglob("*.txt")):
        target = to / path.relative_to(root / "files")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


places = [beside, below_its_own_folder, elsewhere, elsewhere_without_files, zipped, zipped_below_a_folder]


@pytest.mark.parametrize("put", [*places, zip_elsewhere, zipped_on_windows])
def test_reports_are_the_same_wherever_they_lie(copy, mimic, tmp_path, put):
    root, reports = put(copy("mimic-cxr"), tmp_path / "reports")
    assert same(MimicCXR(root, reports).studies(), mimic[2])


@pytest.mark.parametrize("name", ["mimic_cxr_sectioned.csv", "mimic_cxr_sectioned.csv.gz", "elsewhere.csv"])
def test_reports_may_be_a_table_of_sections(copy, mimic, said, name):
    root = copy("mimic-cxr")
    for path in (root / "files").rglob("*.txt"):
        path.unlink()
    columns = ("impression", "findings", "last_paragraph", "comparison")
    # The publisher's code gives the last paragraph of reports that have findings, too.
    rows = [{"last_paragraph": "Not read." if "findings" in sections else ""} | sections for sections in said]
    table = pd.DataFrame(rows, columns=columns, dtype=str)
    table.insert(0, "study", [study.study_id for study in mimic[2]])
    table.to_csv(root / name, index=False)
    studies = MimicCXR(root, root / name if name == "elsewhere.csv" else None).studies()
    assert read_of(studies) == said


def test_no_report_anywhere_is_an_error_that_says_where_to_fetch_them(copy):
    root = copy("mimic-cxr")
    for path in (root / "files").rglob("*.txt"):
        path.unlink()
    with pytest.raises(UserError, match=r"no report found; fetch mimic-cxr-reports\.zip"):
        MimicCXR(root).studies()
    with pytest.raises(UserError, match=r"data\.selection\.corpus\.reports: nothing at"):
        MimicCXR(root, root / "nowhere").studies()


@pytest.mark.parametrize("name", [None, "files/p10/p10000000/s1.txt"], ids=["empty", "of other studies"])
def test_a_zip_without_a_report_of_the_corpus_is_told(copy, name):
    root = copy("mimic-cxr")
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as archive:
        if name:
            archive.writestr(name, " FINDINGS: No effusion.\n")
    corpus = MimicCXR(root)
    assert not any(study.report for study in corpus.studies())
    (doubt,) = corpus.doubts
    assert f"{root}: none of the {NUM_STUDIES} studies has a report there; fetch mimic-cxr-reports.zip" in doubt


@pytest.mark.parametrize("word", ["nan", "None", "NULL\n", " n/a "])
def test_a_text_that_says_that_there_is_none_is_none(copy, mimic, word):
    root = copy("mimic-cxr")
    silent, *others = (study for study in mimic[2] if study.report)
    (root / "files" / f"p{silent.patient_id[:2]}" / f"p{silent.patient_id}" / f"{silent.study_id}.txt").write_text(word)
    found = {study.study_id: study.report for study in MimicCXR(root).studies()}
    assert found[silent.study_id] == {}
    assert all(found[study.study_id] == study.report for study in others)


def sectioned(root, *rows):
    """Writes a table of sections in place of the texts, and reads it."""
    for path in (root / "files").rglob("*.txt"):
        path.unlink()
    columns = ("study", "impression", "findings", "last_paragraph", "comparison")
    pd.DataFrame(rows, columns=columns).to_csv(root / "mimic_cxr_sectioned.csv", index=False)
    corpus = MimicCXR(root)
    return corpus, {study.study_id: study.report for study in corpus.studies()}


def test_sections_that_say_nan_are_none(copy, mimic):
    one, other, last = (study.study_id for study in mimic[2][:3])
    _, found = sectioned(
        copy("mimic-cxr"),
        (one, "nan", "NaN", "None", "null"),
        (other, "No effusion.", "nan", "", "None"),
        (last, "nan", "nan", "Normal chest.", ""),
    )
    assert (found[one], found[other], found[last]) == (
        {},
        {"impression": "No effusion."},
        {"last_paragraph": "Normal chest."},
    )


def test_several_texts_of_a_study_are_told_and_none_is_read(copy, mimic):
    one, other = (study.study_id for study in mimic[2][:2])
    same_again = (one, "No effusion.", "", "", "")
    corpus, found = sectioned(
        copy("mimic-cxr"), same_again, same_again, (other, "Effusion.", "", "", ""), (other, "No effusion.", "", "", "")
    )
    assert (found[one], found[other]) == ({"impression": "No effusion."}, {})
    (doubt,) = corpus.doubts
    assert "mimic_cxr_sectioned.csv: 1 studies have several texts, and count as without a report" in doubt


def test_a_report_that_is_not_utf8_is_named(copy):
    root = copy("mimic-cxr")
    path = next(path for path in sorted((root / "files").rglob("*.txt")) if path.stat().st_size)
    path.write_bytes(b" FINDINGS: \xff\xfe")
    with pytest.raises(UserError, match=path.name):
        MimicCXR(root).studies()


def test_reports_may_be_left_out_on_purpose(mimic):
    root, _, studies = mimic
    without = MimicCXR(root, reports="none").studies()
    assert len(without) == len(studies)
    assert not any(study.report for study in without)


def test_studies_that_a_spreadsheet_made_decimals_of_are_refused(copy):
    root = copy("mimic-cxr")
    path = root / f"{PREFIX}-chexpert.csv.gz"
    table = pd.read_csv(path, dtype=str)
    table.assign(study_id=table["study_id"] + ".0").to_csv(path, index=False)
    with pytest.raises(UserError, match=r"chexpert.csv.gz: row 2: 'study_id' is not of the form"):
        MimicCXR(root).studies()


# Rows twice -----------------------------------------------------------------------------------------------------------

AGAIN = "rows that name an image again"


def repeat(path, row=0, number=1, **columns):
    """Adds a row of a table so often again, with these columns otherwise."""
    table = rows_of(path)
    pd.concat([table, *[table.iloc[[row]].assign(**columns)] * number]).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("layout", "tables", "again"),
    [
        ("mimic-cxr", (METADATA,), 2),
        ("mimic-cxr", (f"{PREFIX}-split.csv.gz",), 0),
        ("mimic-cxr", (METADATA, f"{PREFIX}-split.csv.gz"), 2),
        ("mimic-cxr", (CHEXPERT_TABLE,), 0),
        ("chexpert", ("train.csv",), 2),
        ("chexpert", ("train.csv", "valid.csv"), 4),
        ("openi-kaggle", ("indiana_projections.csv",), 2),
    ],
)
def test_a_row_that_is_there_again_changes_nothing(trees, copy, layout, tables, again):
    root = copy(layout)
    for table in tables:
        repeat(root / table, number=2)
    corpus = READERS[layout](root)
    assert same(corpus.studies(), READERS[layout](trees[layout][0]).studies())
    assert corpus.left_out[AGAIN] == again
    assert corpus.doubts == []


@pytest.mark.parametrize(
    ("layout", "table", "columns"),
    [
        ("mimic-cxr", METADATA, {"ViewPosition": ["AP", "LATERAL"]}),
        ("chexpert", "train.csv", {"Frontal/Lateral": ["Frontal", "Lateral"]}),
        ("openi-kaggle", "indiana_projections.csv", {"projection": ["Frontal", "Lateral"]}),
    ],
)
def test_an_image_of_two_views_is_of_none_and_told(trees, copy, layout, table, columns):
    root = copy(layout)
    ((column, views),) = columns.items()
    rows = rows_of(root / table)
    rows.loc[0, column] = views[0]
    rows.to_csv(root / table, index=False)
    before = [view for study in READERS[layout](root).studies() for view in study.views]
    repeat(root / table, **{column: views[1]})
    corpus = READERS[layout](root)
    after = [view for study in corpus.studies() for view in study.views]
    differ = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert differ == [("frontal", "unknown")]
    (doubt,) = corpus.doubts
    assert f"{table}: 1 images have several views, as that of row 2" in doubt


@pytest.mark.parametrize(
    ("layout", "table", "options"),
    [
        ("mimic-cxr", CHEXPERT_TABLE, {}),
        ("mimic-cxr", "mimic-cxr-2.1.0-test-set-labeled.csv", {"hand_labelled_test": True}),
        ("chexpert", "train.csv", {}),
    ],
)
def test_labels_on_which_rows_of_a_study_differ_are_unknown_and_told(trees, copy, layout, table, options):
    root = copy(layout)
    rows = rows_of(root / table)
    row = next(row for row in rows.index if rows.loc[row, "Edema"] in ("0.0", "0", "1.0", "1"))
    repeat(root / table, row, Edema="1.0" if rows.loc[row, "Edema"].startswith("0") else "0.0")
    corpus = READERS[layout](root, **options)
    before = READERS[layout](trees[layout][0], **options).studies()
    differ = [
        (study.study_id, name)
        for study, as_written in zip(corpus.studies(), before, strict=True)
        for name, one, other in zip(CHEXPERT_FINDINGS, study.labels, as_written.labels, strict=True)
        if not np.array_equal(one, other, equal_nan=True) and np.isnan(one)
    ]
    assert [name for _, name in differ] == ["Edema"]
    (doubt,) = corpus.doubts
    assert f"{table}: 1 labels on which rows of a study differ, and are taken as unknown" in doubt


def test_an_image_of_two_splits_is_refused(copy):
    root = copy("mimic-cxr")
    split = rows_of(root / f"{PREFIX}-split.csv.gz")["split"][0]
    repeat(root / f"{PREFIX}-split.csv.gz", split="test" if split == "train" else "train")
    with pytest.raises(UserError, match="has images of several splits or patients"):
        MimicCXR(root).studies()


# Views ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "views"),
    [
        ({}, {"frontal"}),
        ({"unknown_views": "keep"}, {"frontal", "unknown"}),
        ({"views": "lateral"}, {"lateral"}),
        ({"views": "lateral", "unknown_views": "keep"}, {"lateral", "unknown"}),
        ({"views": "all"}, {"frontal", "lateral"}),
        ({"views": "all", "unknown_views": "keep"}, {"frontal", "lateral", "unknown"}),
    ],
)
def test_chosen_views_are_all_that_is_read(mimic, options, views):
    root, counts, studies = mimic
    selected = frontal(MimicCXR(root), **options)
    expected = Counter(view for study in studies for view in study.views if view in views)
    assert Counter(view for study in selected.studies for view in study.views) == expected
    left_out = sum(count for reason, count in selected.left_out.items() if reason.startswith("images of"))
    assert left_out == counts["images"] - sum(expected.values())
    left_out = selected.left_out["studies without a chosen view"]
    assert left_out == len(studies) - len(selected.studies) == sum(views.isdisjoint(study.views) for study in studies)


def test_no_frontal_view_at_all_is_an_error(copy):
    root = copy("mimic-cxr")
    change(root / METADATA, ViewPosition="")
    with pytest.raises(UserError, match="122 images of unknown view"):
        frontal(MimicCXR(root))
    assert len(frontal(MimicCXR(root), unknown_views="keep").studies) == NUM_STUDIES


# Sections -------------------------------------------------------------------------------------------------------------

SECTIONS = {
    "findings and impression": (
        " FINDINGS:  The heart is\n large.\n \n IMPRESSION:  Cardiomegaly.\n",
        {"findings": "The heart is large.", "impression": "Cardiomegaly."},
    ),
    "a header on a line of its own": (
        " FINDINGS: \n \n Clear.\n \n IMPRESSION: \n \n Normal.\n",
        {"findings": "Clear.", "impression": "Normal."},
    ),
    "other sections are kept apart": (
        " INDICATION:  Cough.\n \n COMPARISON:  ___.\n \n IMPRESSION:  Normal.\n",
        {"indication": "Cough.", "comparison": "___.", "impression": "Normal."},
    ),
    "a conclusion is an impression": (" CONCLUSION:  Normal.\n", {"impression": "Normal."}),
    "findings and impression in one": (" FINDINGS AND IMPRESSION:  Normal.\n", {"impression": "Normal."}),
    "the same with a stroke": (" FINDINGS/IMPRESSION:  Normal.\n", {"impression": "Normal."}),
    "chest, two views": (
        " CHEST, TWO VIEWS:  Clear.\n \n IMPRESSION:  Normal.\n",
        {"findings": "Clear.", "impression": "Normal."},
    ),
    "what was imaged": (" PA AND LATERAL VIEWS OF THE CHEST:  Clear.\n", {"findings": "Clear."}),
    "what was asked for is not what was found": (
        " EXAMINATION:  Chest.\n \n CHEST EXAMINATION:  Two views.\n \n IMPRESSION:  Normal.\n",
        {"examination": "Chest.", "chest examination": "Two views.", "impression": "Normal."},
    ),
    "impresson": (" IMPRESSON:  Normal.\n", {"impression": "Normal."}),
    "impresion": (" IMPRESION:  Normal.\n", {"impression": "Normal."}),
    "imperssion": (" IMPERSSION:  Normal.\n", {"impression": "Normal."}),
    "finding": (" FINDING:  Normal.\n", {"findings": "Normal."}),
    "findigns": (" FINDIGNS:  Normal.\n", {"findings": "Normal."}),
    "an empty section is dropped": (" FINDINGS:  \n \n IMPRESSION:  Normal.\n", {"impression": "Normal."}),
    "an empty section right above another": (" FINDINGS:\n IMPRESSION:  Normal.\n", {"impression": "Normal."}),
    "the last section of a name wins": (
        " ADDENDUM:  Telephoned.\n \n FINDINGS:  Film lost.\n \n "
        + "_" * 78
        + "\n FINAL REPORT\n \n FINDINGS:  Clear.\n \n IMPRESSION:  Normal.\n",
        {"addendum": "Telephoned.", "findings": "Clear.", "impression": "Normal."},
    ),
    "an empty last section hides no other": (
        " IMPRESSION:  Normal.\n \n IMPRESSION:  \n",
        {"impression": "Normal."},
    ),
    "a wet read is no impression": (
        " WET READ: ___ ___ 8:35 PM\n \n Lines as before.\n \n IMPRESSION:  Normal.\n",
        {"wet read": "___ ___ 8:35 PM\n\nLines as before.", "impression": "Normal."},
    ),
    "the last paragraph counts where there is neither": (
        " INDICATION:  Cough.\n \n The heart is large.\n \n The lungs\n are clear.\n",
        {"indication": "Cough. The heart is large. The lungs are clear.", "last_paragraph": "The lungs are clear."},
    ),
    "the last paragraph without any header": (
        " FINAL REPORT\n \n A man with cough.\n \n The lungs are clear.\n",
        {"last_paragraph": "The lungs are clear."},
    ),
    "only a header line": (" " * 33 + "FINAL REPORT\n", {}),
    "nothing": ("", {}),
    "blank lines": (" \n \n", {}),
    "small letters are no header": (" Findings:  clear.\n", {"last_paragraph": "Findings: clear."}),
    "a header begins its line": (" The FINDINGS:  clear.\n", {"last_paragraph": "The FINDINGS: clear."}),
    "one space stands before a header": ("FINDINGS:  clear.\n", {"last_paragraph": "FINDINGS: clear."}),
}


@pytest.mark.parametrize(("text", "sections"), SECTIONS.values(), ids=SECTIONS)
def test_sections(text, sections):
    assert split_sections(text) == sections


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({"findings": "F.", "impression": "I.", "comparison": "C."}, "F. I."),
        ({"impression": "I.", "last_paragraph": "L."}, "I."),
        ({"findings": "F."}, "F."),
        ({"comparison": "C.", "last_paragraph": "L."}, "L."),
        ({"report": "R."}, "R."),
        ({"comparison": "C."}, None),
        ({"findings": ""}, None),
        ({}, None),
    ],
)
def test_the_text_falls_back_section_by_section(report, text):
    assert ReportText()([report, {"findings": "Other."}]) == [text, "Other."]


def test_sections_are_joined_in_the_order_that_is_asked_for():
    report = {"findings": "F.", "impression": "I.", "indication": "N."}
    assert ReportText(("impression", "indication"))([report]) == ["I. N."]


def test_sections_that_no_report_has_are_an_error_that_names_the_others():
    with pytest.raises(UserError, match=r"no report has 'conclusion'; found findings, impression"):
        ReportText(("conclusion",))([{"findings": "secret"}, {"impression": "secret"}, {}])
    assert ReportText(("conclusion",))([{}, {}]) == [None, None]


# Open-I ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["openi", "openi-kaggle"])
def test_openi_sections_views_and_codes_are_those_written(trees, layout):
    root, counts = trees[layout]
    studies = OpenI(root).studies()
    assert sum(study.views.count("lateral") for study in studies) == counts["lateral images"]
    assert not any("unknown" in study.views for study in studies)
    assert all(set(study.report) <= {"indication", "comparison", "findings", "impression"} for study in studies)
    assert all(text == " ".join(text.split()) != "" for study in studies for text in study.report.values())
    unindexed = sum(np.isnan(study.labels).all() for study in studies)
    assert 0 < unindexed <= counts["reports without indexing"]
    assert not any((study.labels[~np.isnan(study.labels)] < 0).any() for study in studies)


def test_both_layouts_of_openi_give_the_same(trees):
    assert [
        (study.study_id, [image.stem.removeprefix("CXR").split(".")[0] for image in study.images], study.views)
        for study in OpenI(trees["openi-kaggle"][0]).studies()
    ] == [
        (study.study_id, sorted(image.stem.removeprefix("CXR") for image in study.images), study.views)
        for study in OpenI(trees["openi"][0]).studies()
    ]


def test_openi_prefers_no_image_for_its_panel_url(trees, copy):
    root = copy("openi")
    for path in (root / "ecgen-radiology").glob("*.xml"):
        path.write_text(path.read_text().replace("/storage/radiology/extract/", "/etc/"))
    assert same(OpenI(root).studies(), OpenI(trees["openi"][0]).studies())


def test_openi_passes_over_what_macos_writes_beside_a_file(trees, copy):
    root = copy("openi")
    for path in list((root / "ecgen-radiology").glob("*.xml")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert same(OpenI(root).studies(), OpenI(trees["openi"][0]).studies())


def test_openi_reads_the_whole_text_of_a_section(trees, copy):
    root = copy("openi")
    for path in (root / "ecgen-radiology").glob("*.xml"):
        path.write_text(re.sub(r'(Label="FINDINGS">)(\w+ )', r"\1<b><i>\2</i></b>", path.read_text()))
    assert same(OpenI(root).studies(), OpenI(trees["openi"][0]).studies())


def test_openi_sections_that_say_nan_are_none(copy):
    root = copy("openi")
    for path in (root / "ecgen-radiology").glob("*.xml"):
        path.write_text(re.sub(r'(Label="(?:FINDINGS|IMPRESSION)">)[^<]*', r"\1nan", path.read_text()))
    assert not any({"findings", "impression"} & set(study.report) for study in OpenI(root).studies())


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null"])
def test_cells_of_kaggle_that_say_nan_are_blank(copy, word):
    blank = copy("openi-kaggle")
    table = rows_of(blank / "indiana_reports.csv")
    table.loc[:4, ["findings", "MeSH"]] = ""
    table.to_csv(blank / "indiana_reports.csv", index=False)
    filled = shutil.copytree(blank, blank.with_name("filled"))
    change(filled / "indiana_reports.csv", **dict.fromkeys(table, lambda cell: cell or word))
    studies = OpenI(filled).studies()
    assert same(studies, OpenI(blank).studies())
    assert np.isnan(studies[0].labels).all()
    assert any(study.report for study in studies)


real_openi = pytest.mark.skipif(not REAL_OPENI.is_dir(), reason="Open-I is not at ../shared/openi")


@real_openi
def test_real_openi_is_the_same_in_both_layouts(tmp_path):
    (tmp_path / "images" / "images_normalized").mkdir(parents=True)
    for image in (REAL_OPENI / "images").glob("*.jpg"):
        name = f"{image.stem.removeprefix('CXR')}.dcm.png"
        (tmp_path / "images" / "images_normalized" / name).symlink_to(image.resolve())
    for table in ("indiana_reports.csv", "indiana_projections.csv"):
        shutil.copy(REAL_OPENI / table, tmp_path / table)
    one, other = ({s.study_id: s for s in frontal(OpenI(root)).studies} for root in (REAL_OPENI, tmp_path))
    shared = one.keys() & other.keys()
    assert (len(one), len(other), len(shared)) == (2957, 2957, 2957)
    for name in shared:
        stems = [{image.name.removeprefix("CXR").split(".")[0] for image in s[name].images} for s in (one, other)]
        assert stems[0] == stems[1]
        assert (one[name].views, one[name].split) == (other[name].views, other[name].split)
        # Kaggle's table lost two indications to a spreadsheet, which took them for formulas.
        assert all(one[name].report.get(key) == other[name].report.get(key) for key in ("findings", "impression"))
        assert np.array_equal(one[name].labels, other[name].labels, equal_nan=True)


# ChestX-ray14 ---------------------------------------------------------------------------------------------------------


def test_chestxray14_labels_are_those_written(trees):
    root, counts = trees["chestxray14"]
    corpus = ChestXray14(root, vocabulary="own")
    studies = corpus.studies()
    assert corpus.findings == CHESTXRAY14_FINDINGS
    sums = dict(zip(corpus.findings, np.sum([study.labels for study in studies], axis=0), strict=True))
    assert sums == {name: counts.get(f"images with {name}", 0) for name in corpus.findings}
    assert sum(not study.labels.any() for study in studies) == counts["images with No Finding"]
    assert set(np.unique([study.labels for study in studies])) == {0, 1}


def test_chestxray14_shares_seven_findings_with_chexpert(trees):
    root, counts = trees["chestxray14"]
    corpus = ChestXray14(root)
    assert corpus.findings == tuple(finding for finding in CHEXPERT_FINDINGS if finding in CHESTXRAY14_SHARED)
    assert len(corpus.findings) == 7
    effusions = sum(label(study, "Pleural Effusion", corpus.findings) for study in corpus.studies())
    assert effusions == counts["images with Effusion"]


def test_wider_maps_are_added_in_canonical_order_and_a_lesion_is_mass_or_nodule(trees, copy):
    root = copy("chestxray14")
    path = root / "Data_Entry_2017_v2020.csv"
    table = rows_of(path)
    table.loc[:3, "Finding Labels"] = ["Mass|Nodule", "Mass", "Nodule", "No Finding"]
    table.to_csv(path, index=False)
    corpus = ChestXray14(root, wider=("Pleural Other", "Lung Lesion"))
    wanted = {*CHESTXRAY14_SHARED, "Pleural Other", "Lung Lesion"}
    assert corpus.findings == tuple(finding for finding in CHEXPERT_FINDINGS if finding in wanted)
    assert [label(study, "Lung Lesion", corpus.findings) for study in corpus.studies()[:4]] == [1, 1, 1, 0]
    with pytest.raises(UserError, match="no such map 'Fracture'"):
        ChestXray14(root, wider=("Fracture",))


def test_the_official_lists_are_the_splits(trees):
    root, counts = trees["chestxray14"]
    tested = set((root / "test_list.txt").read_text().split())
    studies = ChestXray14(root).studies()
    assert {f"{study.study_id}.png" for study in studies if study.split == "test"} == tested
    assert len(tested) == counts["images in test_list.txt"]
    assert {study.split for study in studies} == {"train", "validation", "test"}


def test_images_in_neither_list_are_left_out_and_counted(copy):
    root = copy("chestxray14")
    names = (root / "train_val_list.txt").read_text().split()
    (root / "train_val_list.txt").write_text("\n".join(names[3:]))
    corpus = ChestXray14(root)
    assert len(corpus.studies()) == NUM_STUDIES - 3
    assert corpus.left_out["images in neither train_val_list.txt nor test_list.txt"] == 3


@pytest.mark.parametrize("name", ["train_val_list.txt", "test_list.txt"])
def test_a_missing_list_is_named(copy, name):
    root = copy("chestxray14")
    (root / name).unlink()
    with pytest.raises(UserError, match=name):
        ChestXray14(root).studies()


def test_the_header_has_brackets_that_are_not_quoted(trees):
    path = trees["chestxray14"][0] / "Data_Entry_2017_v2020.csv"
    assert (
        path.read_text()
        .splitlines()[0]
        .endswith("View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
    )
    assert len(read_table(path, ("Patient ID",)).columns) == 11


def test_the_older_table_with_its_empty_column_gives_the_same(trees, copy):
    root = copy("chestxray14")
    (root / "Data_Entry_2017_v2020.csv").unlink()
    assert len(read_table(root / "Data_Entry_2017.csv", ()).columns) == 12
    assert same(ChestXray14(root).studies(), ChestXray14(trees["chestxray14"][0]).studies())


def test_images_may_lie_in_one_folder(trees, copy):
    root = copy("chestxray14")
    (root / "images").mkdir()
    for image in sorted(root.glob("images_0*/images/*.png")):
        image.rename(root / "images" / image.name)
    assert same(ChestXray14(root).studies(), ChestXray14(trees["chestxray14"][0]).studies())


def mode(path):
    with Image.open(path) as image:
        return image.mode


def test_images_of_four_channels_are_read(trees):
    studies = ChestXray14(trees["chestxray14"][0]).studies()
    images = [study.images[0] for study in studies if mode(study.images[0]) == "RGBA"]
    assert len(images) == trees["chestxray14"][1]["RGBA images"]
    assert all(ImageTransform(IMAGE_SIZE)(image).float().std() > 0 for image in images)


def test_a_finding_that_is_none_is_refused_without_quoting_it(copy):
    root = copy("chestxray14")
    change(root / "Data_Entry_2017_v2020.csv", Finding_Labels=lambda cell: cell.replace("Effusion", "John Doe"))
    with pytest.raises(UserError, match="'Finding Labels': 1 unknown") as error:
        ChestXray14(root).studies()
    assert "Doe" not in str(error.value)


# CheXpert -------------------------------------------------------------------------------------------------------------


def test_chexpert_labels_views_and_splits_are_those_written(trees, drawn):
    root, counts = trees["chexpert"]
    studies = CheXpert(root).studies()
    assert Counter(study.split for study in studies)["test"] == counts["valid studies"]
    assert Counter(view for study in studies for view in study.views) == {
        "frontal": counts["frontal images"],
        "lateral": counts["lateral images"],
    }
    trained = np.stack([study.labels for study in studies if study.split != "test"])
    assert ((trained == -1).sum(), (trained == -2).sum()) == (counts["uncertain labels"], counts["blank labels"])
    true = [truth(visit.facts) for visit in drawn if visit.split == "validation"]
    assert np.array_equal([study.labels for study in studies if study.split == "test"], true)


def test_a_frontal_image_marked_ll_or_rl_is_what_its_own_column_says(trees):
    root, counts = trees["chexpert"]
    table = rows_of(root / "train.csv")
    mistaken = set(table[table["AP/PA"].isin(["LL", "RL"])]["Path"].str.removeprefix("CheXpert-v1.0-small/"))
    assert len(mistaken) <= counts["images marked LL"] + counts["images marked RL"]
    views = {
        str(image.relative_to(root)): view
        for study in CheXpert(root).studies()
        for image, view in zip(study.images, study.views, strict=True)
    }
    assert {views[path] for path in mistaken} == {"frontal"}


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0 batch 1 (validate & csv)/", "", "/data/a/b/"])
def test_the_first_component_of_a_path_does_not_matter(trees, copy, prefix):
    root = copy("chexpert")
    for name in ("train.csv", "valid.csv"):
        change(root / name, Path=lambda path: path.replace("CheXpert-v1.0-small/", prefix))
    assert same(CheXpert(root).studies(), CheXpert(trees["chexpert"][0]).studies())


def test_a_path_of_another_form_is_refused(copy):
    root = copy("chexpert")
    change(root / "train.csv", Path=lambda path: path.replace("train/", "training/"))
    with pytest.raises(UserError, match="row 2: 'Path' is not of the form"):
        CheXpert(root).studies()


@pytest.mark.parametrize("name", ["train.csv", "valid.csv"])
def test_chexpert_names_a_missing_table(copy, name):
    root = copy("chexpert")
    (root / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: not found"):
        CheXpert(root).studies()


def test_chexpert_as_its_archives_unpack(trees, copy):
    root = copy("chexpert")
    whole = CheXpert(trees["chexpert"][0]).studies()
    tables, *batches = (root / f"CheXpert-v1.0 batch {n}" for n in ("1 (validate & csv)", "2 (train 1)", "3 (train 2)"))
    tables.mkdir()
    for name in ("train.csv", "valid.csv", "valid"):
        (root / name).rename(tables / name)
    for number, patient in enumerate(sorted((root / "train").iterdir())):
        batches[number % 2].mkdir(exist_ok=True)
        patient.rename(batches[number % 2] / patient.name)
    (root / "train").rmdir()
    corpus = CheXpert(root)
    studies = corpus.studies()
    assert corpus.left_out["images listed, but no file"] == 0
    assert [study.study_id for study in studies] == [study.study_id for study in whole]
    assert [study.split for study in studies] == [study.split for study in whole]
    assert [len(study.images) for study in studies] == [len(study.images) for study in whole]
    assert {image.relative_to(root).parts[0] for study in studies for image in study.images} == {
        folder.name for folder in (tables, *batches)
    }
    diagnosis = examine(root, 1)
    assert diagnosis.corpus == "chexpert"
    assert diagnosis.can_train
    shutil.rmtree(batches[0])
    assert 0 < len(CheXpert(root).studies()) < len(whole)


def test_chestxray14_at_224_pixels_as_kaggle_has_it(trees, copy):
    root = copy("chestxray14")
    whole = ChestXray14(trees["chestxray14"][0]).studies()
    folder = root / "images-224" / "images-224"
    folder.mkdir(parents=True)
    for path in [*root.glob("images*/**/*.png")]:
        path.rename(folder / path.name)
    for name in ("train_val_list", "test_list"):
        (root / f"{name}.txt").rename(root / f"{name}_NIH.txt")
    (root / "Data_Entry_2017_v2020.csv").unlink()
    studies = ChestXray14(root).studies()
    assert [(study.study_id, study.split) for study in studies] == [(study.study_id, study.split) for study in whole]
    assert {image.parent for study in studies for image in study.images} == {folder}
    assert examine(root, 1).can_train
    for path in folder.iterdir():
        path.rename(path.with_suffix(".JPG"))
    assert len(ChestXray14(root).studies()) == len(whole)


@pytest.mark.parametrize("suffix", [".dcm", ".png", ".jpeg"])
def test_mimic_with_images_of_another_suffix(mimic, copy, suffix):
    root = copy("mimic-cxr")
    for path in [*root.rglob("*.jpg")]:
        path.rename(path.with_suffix(suffix))
    studies = MimicCXR(root).studies()
    assert [study.study_id for study in studies] == [study.study_id for study in mimic[2]]
    assert {image.suffix for study in studies for image in study.images} == {suffix}


@pytest.mark.parametrize(
    ("layout", "folder", "expected"),
    [
        ("chexpert", "train", r"one is (train|valid)/patient\.\.\./study1/"),
        ("chestxray14", "images*", "one is images/00000001_000.png"),
        ("mimic-cxr", "files", "one is files/p10/p10000032/s50414267/"),
    ],
)
def test_where_no_image_is_found_it_says_where_they_go(copy, layout, folder, expected):
    root = copy(layout)
    for path in [*root.glob(folder), *root.glob("valid/")]:
        shutil.rmtree(path)
    corpus = READERS[layout](root) if layout != "mimic-cxr" else MimicCXR(root, reports="none")
    with pytest.raises(
        UserError, match=f"no study is left .*none of the .* images is there; move them so that {expected}"
    ):
        frontal(corpus)


def test_a_table_of_sections_may_number_studies_without_their_letter(mimic, copy):
    root = copy("mimic-cxr")
    rows = [(study.study_id, "Edema.") for study in mimic[2]]
    for letter in ("s", ""):
        table = pd.DataFrame({"study": [letter + name[1:] for name, _ in rows], "impression": "Edema."})
        table = table.assign(findings="", last_paragraph="", comparison="")
        table.to_csv(root / "mimic_cxr_sectioned.csv", index=False)
        assert {tuple(s.report.items()) for s in MimicCXR(root).studies()} == {(("impression", "Edema."),)}
    table.assign(study="5.04E+07").to_csv(root / "mimic_cxr_sectioned.csv", index=False)
    with pytest.raises(UserError, match="row 2: 'study' is not of the form"):
        MimicCXR(root).studies()


@pytest.mark.parametrize("table", [METADATA, "mimic-cxr-2.0.0-split.csv.gz"])
def test_numbers_of_mimic_that_became_floats_are_refused(copy, table):
    root = copy("mimic-cxr")
    change(root / table, subject_id=lambda cell: f"{cell}.0")
    with pytest.raises(UserError, match="row 2: 'subject_id' is not of the form"):
        MimicCXR(root).studies()


def test_patients_of_chestxray14_are_whole_numbers(trees, copy):
    root = copy("chestxray14")
    change(root / "Data_Entry_2017_v2020.csv", **{"Patient ID": lambda cell: cell.zfill(8)})
    whole = ChestXray14(trees["chestxray14"][0]).studies()
    assert [s.patient_id for s in ChestXray14(root).studies()] == [s.patient_id for s in whole]
    change(root / "Data_Entry_2017_v2020.csv", **{"Patient ID": lambda cell: f"{cell}.0"})
    with pytest.raises(UserError, match="row 2: 'Patient ID' is not of the form"):
        ChestXray14(root).studies()


# Manifest -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest of these columns and its images, and reads it."""

    def write(text, images=("a.png", "b.png", "c.png", "sub/d.png")):
        for name in images:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
        (tmp_path / "manifest.csv").write_text(text)
        return Manifest(tmp_path / "manifest.csv")

    return write


def test_a_manifest_with_every_column(manifest):
    corpus = manifest(
        "image,report,patient,view,split,study,Edema,Fracture\n"
        'a.png,"Heart is large,\n""very"" large.",p1,AP,train,s1,1,\n'
        'b.png,"Heart is large,\n""very"" large.",p1,lateral,train,s1,1,\n'
        "c.png,,p2,,val,s2,-1,0\n"
        "sub/d.png,Clear.,p3,PA,TEST,s3,0.0,-1.0\n"
        "none.png,,p4,PA,test,s4,0,0\n"
    )
    studies = corpus.studies()
    assert corpus.findings == ("Edema", "Fracture")
    assert [study.study_id for study in studies] == ["s1", "s2", "s3"]
    assert [study.patient_id for study in studies] == ["p1", "p2", "p3"]
    assert [[image.name for image in study.images] for study in studies] == [["a.png", "b.png"], ["c.png"], ["d.png"]]
    assert [study.views for study in studies] == [("frontal", "lateral"), ("unknown",), ("frontal",)]
    assert [study.split for study in studies] == ["train", "validation", "test"]
    assert [study.report for study in studies] == [
        {"report": 'Heart is large, "very" large.'},
        {},
        {"report": "Clear."},
    ]
    assert [study.labels.tolist() for study in studies] == [[1, -2], [-1, 0], [0, -1]]
    assert corpus.left_out["images listed, but no file"] == 1


def test_a_manifest_with_the_least(manifest):
    corpus = manifest("Edema,patient,image\n1,p1,a.png\n,p1,b.png\n")
    studies = corpus.studies()
    assert [study.study_id for study in studies] == ["a.png", "b.png"]
    assert {study.views for study in studies} == {("unknown",)}
    assert [study.report for study in studies] == [{}, {}]
    assert len({study.split for study in studies}) == 1


def test_the_name_of_a_manifest_decides_its_splits(tmp_path, manifest):
    names = [f"{number}.png" for number in range(40)]
    path = manifest("image,patient,Edema\n" + "".join(f"{name},{name},0\n" for name in names), names).path
    one, other = ([study.split for study in Manifest(path, name).studies()] for name in ("one", "other"))
    assert set(one) == {"train", "validation", "test"}
    assert one != other
    assert one == [study.split for study in Manifest(path, "one").studies()]


def test_a_manifest_tells_sex_and_age(manifest):
    corpus = manifest(
        "image,patient,sex,age,study,Edema\n"
        "a.png,p1,F,58,s1,1\nb.png,p1,female,058Y,s1,1\nc.png,p2,MALE,,s2,0\nsub/d.png,p3,unknown,0.5,s3,0\n"
    )
    assert corpus.findings == ("Edema",)
    assert people(corpus.studies()) == [("female", 58), ("male", None), ("unknown", 0.5)]


@pytest.mark.parametrize("column", ["sex", "age"])
def test_a_manifest_may_tell_one_of_them_alone(manifest, column):
    corpus = manifest(f"image,patient,{column}\na.png,p1,{'m' if column == 'sex' else '7'}\n")
    assert corpus.findings == CHEXPERT_FINDINGS
    assert people(corpus.studies()) == [("male", None) if column == "sex" else ("unknown", 7)]


@pytest.mark.parametrize("absent", ["report", "view", "split", "study"])
def test_each_optional_column_may_be_left_out(manifest, absent):
    columns = {"report": "Clear.", "view": "AP", "split": "train", "study": "s1"}
    kept = [name for name in columns if name != absent]
    text = ",".join(["image", "patient", "Edema", *kept]) + "\n"
    (study,) = manifest(text + ",".join(["a.png", "p1", "1", *(columns[name] for name in kept)]) + "\n").studies()
    assert study.report == ({} if absent == "report" else {"report": "Clear."})
    assert study.views == (("unknown",) if absent == "view" else ("frontal",))
    assert study.study_id == ("a.png" if absent == "study" else "s1")
    assert study.split in ("train", "validation", "test")


def test_a_report_may_be_a_text_file(tmp_path, manifest):
    (tmp_path / "one.txt").write_text("The heart\nis large.\n")
    (study,) = manifest("image,patient,report,Edema\na.png,p1,one.txt,0\n").studies()
    assert study.report == {"report": "The heart is large."}


@pytest.mark.parametrize("content", [None, b"caf\xe9", b"\xff\xfea"])
def test_a_text_file_that_cannot_be_read_is_named(tmp_path, manifest, content):
    if content is not None:
        (tmp_path / "one.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"row 2: its report .*one\.txt is not a readable text file; correct the name"):
        manifest("image,patient,report,Edema\na.png,p1,one.txt,0\n").studies()


MANIFESTS = {
    "another patient": ("image,patient,study,Edema\na.png,p1,s1,0\nb.png,p2,s1,0\n", "row 2: rows of its study differ"),
    "another label": ("image,patient,study,Edema\na.png,p1,s1,0\nb.png,p1,s1,1\n", "row 2: rows of its study differ"),
    "another report": (
        "image,patient,study,report,Edema\na.png,p1,s1,x,0\nb.png,p1,s1,y,0\n",
        "row 2: rows of its study differ",
    ),
    "another split": (
        "image,patient,study,split,Edema\na.png,p1,s1,train,0\nb.png,p1,s1,test,0\n",
        "row 2: rows of its study differ",
    ),
    "another sex": (
        "image,patient,study,sex,Edema\na.png,p1,s1,F,0\nb.png,p1,s1,,0\n",
        "row 2: rows of its study differ",
    ),
    "another age": (
        "image,patient,study,age,Edema\na.png,p1,s1,58,0\nb.png,p1,s1,59,0\n",
        "row 2: rows of its study differ",
    ),
    "no patient": ("image,Edema\na.png,0\n", "column 'patient' not found"),
    "a nameless column": ("image,patient,,Edema\na.png,p1,0,0\n", "a column without a name"),
    "a column twice": ("image,patient,Edema,Edema\na.png,p1,0,0\n", "1 of its columns stand there twice"),
    "a blank image": ("image,patient,Edema\na.png,p1,0\n,p1,0\n", "row 3 names no image"),
    "a blank study": ("image,patient,study,Edema\na.png,p1,,0\n", "'study' is blank"),
    "a strange split": ("image,patient,split,Edema\na.png,p1,train,0\nb.png,p1,dev,0\n", "row 3, column 'split'"),
    "a strange label": ("image,patient,Edema\na.png,p1,0\nb.png,p1,yes\n", "row 3, column 'Edema': expected 1, 0"),
    "no name of a file": ("image,patient,report,Edema\na.png,p1,a\0.txt,0\n", "is not a readable text file"),
    "no row": ("image,patient,Edema\n", "no row below its header"),
    "an image twice": ("image,patient,Edema\na.png,p1,0\na.png,p1,0\n", "row 3: its image is in an earlier row too"),
}


@pytest.mark.parametrize(("text", "message"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_wrong_is_refused(manifest, text, message):
    with pytest.raises(UserError, match=message) as error:
        manifest(text).studies()
    assert "manifest.csv" in str(error.value)


def test_a_manifest_without_findings_has_those_of_chexpert_unlabelled(manifest):
    corpus = manifest("image,patient,report\na.png,p1,No effusion.\n")
    assert corpus.findings == CHEXPERT_FINDINGS
    (study,) = corpus.studies()
    assert np.isnan(study.labels).all()
    assert study.report == {"report": "No effusion."}


def test_spaces_around_a_patient_do_not_make_another(manifest):
    studies = manifest("image,patient,Edema\na.png,p1,0\nb.png,p1 ,0\n").studies()
    assert {study.patient_id for study in studies} == {"p1"}


def test_texts_in_the_place_of_images_are_no_files(manifest):
    corpus = manifest("image,patient,Edema\n" + "long " * 200 + ",p1,0\na.png,p1,0\n")
    assert len(corpus.studies()) == 1
    assert corpus.left_out["images listed, but no file"] == 1


# Policies -------------------------------------------------------------------------------------------------------------

CODES = np.array([[1, 0, -1, -2, np.nan]], np.float32).T


def apply(policy, codes=CODES, names=None):
    return policy(codes, ("Edema",), names or [str(i) for i in range(len(codes))])[:, 0]


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ({}, [1, 0, np.nan, 0, np.nan]),
        ({"uncertain": "ignore"}, [1, 0, np.nan, 0, np.nan]),
        ({"uncertain": "zeros"}, [1, 0, 0, 0, np.nan]),
        ({"uncertain": "ones"}, [1, 0, 1, 0, np.nan]),
        ({"uncertain": "keep"}, [1, 0, -1, 0, np.nan]),
        ({"uncertain": "soft", "soft_range": (0.7, 0.7)}, [1, 0, np.float32(0.7), 0, np.nan]),
        ({"blank": "ignore"}, [1, 0, np.nan, np.nan, np.nan]),
        ({"blank_by_finding": {"Edema": "ignore"}}, [1, 0, np.nan, np.nan, np.nan]),
        ({"uncertain_by_finding": {"Edema": "ones"}}, [1, 0, 1, 0, np.nan]),
    ],
)
def test_a_policy_makes_targets_of_codes(options, targets):
    codes = CODES.copy()
    found = apply(LabelPolicy(**options), codes)
    assert np.array_equal(found, targets, equal_nan=True)
    assert found.dtype == np.float32
    assert np.array_equal(codes, CODES, equal_nan=True)


def test_exceptions_are_of_their_finding_alone():
    policy = LabelPolicy("zeros", uncertain_by_finding={"Edema": "ones"}, blank_by_finding={"Edema": "ignore"})
    codes = np.array([[-1, -1], [-2, -2]], np.float32)
    found = policy(codes, ("Fracture", "Edema"), ["a", "b"])
    assert np.array_equal(found, [[0, 1], [0, np.nan]], equal_nan=True)
    assert policy.takes("ones")
    assert policy.takes("zeros")
    assert not policy.takes("soft")


def test_soft_targets_are_uniform_and_depend_on_study_and_finding_alone():
    policy = LabelPolicy(uncertain="soft", soft_range=(0.2, 0.6))
    names = [f"s{number}" for number in range(4000)]
    codes = np.full((len(names), 2), -1, np.float32)
    found = policy(codes, ("Edema", "Fracture"), names)
    assert found.min() >= 0.2
    assert found.max() <= 0.6
    shares = np.histogram(found, bins=8, range=(0.2, 0.6))[0] / found.size
    assert np.abs(shares - 1 / 8).max() < 0.02
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.05
    again = LabelPolicy("soft", soft_range=(0.2, 0.6))(codes[:10, ::-1], ("Fracture", "Edema"), names[:10])
    assert np.array_equal(again[:, ::-1], found[:10])


@pytest.mark.parametrize("soft_range", [(0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_a_soft_range_out_of_order_is_refused(soft_range):
    with pytest.raises(UserError, match="expected 0 <= a <= b <= 1"):
        LabelPolicy(soft_range=soft_range)


@pytest.mark.parametrize("name", ["uncertain", "blank"])
def test_an_exception_for_no_finding_is_refused(name):
    with pytest.raises(UserError, match=f"{name}_by_finding: no finding 'Oedema'; expected among Edema"):
        apply(LabelPolicy(**{f"{name}_by_finding": {"Oedema": "zeros" if name == "blank" else "ones"}}))


# Labels from outside --------------------------------------------------------------------------------------------------


def study(name, report=None):
    labels = np.full(2, np.nan, np.float32)
    return Study(name, name, (np.zeros((8, 8), np.uint8),), ("frontal",), report or {}, labels, "train")


STUDIES = [
    study("a", {"findings": "Heart  is large.", "impression": "Edema."}),
    study("b", {"impression": "Normal."}),
    study("c"),
]


def outside(tmp_path, text, findings=("Edema", "Fracture")):
    (tmp_path / "labels.csv").write_text(text)
    return [row.tolist() for row in read_outside_labels(tmp_path / "labels.csv", STUDIES, findings)]


@pytest.mark.parametrize("column", ["study_id", "study", "id"])
def test_outside_labels_by_the_study(tmp_path, column):
    found = outside(tmp_path, f"Fracture,{column},further,Edema\n0,b,x,1\n-1,a,x,\n")
    assert np.array_equal(found, [[-2, -1], [1, 0], [np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize("column", ["Reports", "Report Impression", "report"])
def test_outside_labels_by_the_text(tmp_path, column):
    found = outside(tmp_path, f'{column},Edema,Fracture\n"heart is large.\n Edema.",1.0,0.0\nNORMAL.,,-1.0\n"",1,1\n')
    assert np.array_equal(found, [[1, 0], [-2, -1], [np.nan, np.nan]], equal_nan=True)


def test_outside_labels_of_the_impression_alone(tmp_path):
    found = outside(tmp_path, "Report Impression,Edema,Fracture\nEdema.,1,\n")
    assert np.array_equal(found, [[1, -2], [np.nan] * 2, [np.nan] * 2], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,Edema,Fracture\nx,1,0\ny,1,0\n", "none of its 2 rows is of one of the 3 studies, by 'study_id'"),
        ("Reports,Edema,Fracture\nOther.,1,0\n", "none of its 1 rows"),
        ("name,Edema,Fracture\na,1,0\n", "no column that names the study"),
        ("study_id,Edema\na,1\n", "column 'Fracture' not found"),
        ("study_id,Edema,Fracture\na,1,2\n", "row 2, column 'Fracture'"),
        (
            "study_id,Edema,Fracture\na,1,0\nb,0,0\na,0,0\n",
            "row 4: its study is in an earlier row too, with other labels",
        ),
        ("study_id,Edema,Fracture\na,1,0\nB,0,0\n", "1 studies are spelled in another way than in the corpus"),
        ("study_id,Edema,Fracture\na,1,0\n5.00123E+11,0,0\n", "column 'study_id' has numbers such as 5.001E"),
    ],
)
def test_outside_labels_that_are_wrong_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        outside(tmp_path, text)


def test_a_file_of_labels_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.selection\.labels: no file at .*nowhere\.csv"):
        read_outside_labels(tmp_path / "nowhere.csv", STUDIES, ("Edema",))


def test_labels_of_a_file_replace_those_of_the_corpus(mimic, tmp_path):
    table = pd.DataFrame({"study_id": [mimic[2][0].study_id], **{name: ["1"] for name in CHEXPERT_FINDINGS}})
    table.to_csv(tmp_path / "labels.csv", index=False)
    studies = frontal(MimicCXR(mimic[0]), labels=tmp_path / "labels.csv").studies
    assert (studies[0].labels == 1).all()
    assert all(np.isnan(study.labels).all() for study in studies[1:])


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_is_text_and_nothing_else(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffa,b,c\n007,NA,\n"x, y","1\n2",é\n'.encode())
    assert read_table(tmp_path / "t.csv", ("a",)).to_numpy().tolist() == [["007", "NA", ""], ["x, y", "1\n2", "é"]]


TABLES = {
    "a short row": (b"a,b\n1,2\n1\n", r"row 3 has 1 cells, expected 2"),
    "a long row": (b"a,b\n1,2\n1,2,3\n", r"row 3 has 3 cells, expected 2"),
    "a wrong row that is not UTF-8": (b"a,b\n1,2\n\xff\n", r"row 3 has 1 cells, expected 2"),
    "a cell that is not UTF-8": (b"a,b\n1,\xff\n", r"not text in UTF-8"),
    "nothing": (b"", "not readable as CSV"),
    "a header alone": (b"a,b\n", "no row below its header"),
    "no such column": (b"a,c\n1,2\n", "column 'b' not found among the 2 of its first line; expected a, b"),
    "a column twice": (b"a,b,a\n1,2,3\n", "1 of its columns stand there twice"),
}


@pytest.mark.parametrize(("content", "message"), TABLES.values(), ids=TABLES)
def test_a_table_that_is_wrong_is_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_table(tmp_path / "t.csv", ("a", "b"))
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}: ")


@pytest.mark.parametrize("length", [0, 5, 30, -20, -1])
def test_a_table_whose_download_broke_off_is_named(tmp_path, length):
    content = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(500)))
    (tmp_path / "t.csv.gz").write_bytes(content[:length])
    with pytest.raises(UserError, match=r"t\.csv\.gz: not readable as CSV"):
        read_table(tmp_path / "t.csv.gz", ("a", "b"))


def test_a_table_that_is_no_gzip_is_named(tmp_path):
    (tmp_path / "t.csv.gz").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"t\.csv\.gz: not readable as CSV"):
        read_table(tmp_path / "t.csv.gz", ("a", "b"))


@pytest.mark.parametrize("cell", ["2", "yes", "nan", "1.5"])
def test_a_label_that_is_none_is_named_and_not_quoted(tmp_path, cell):
    (tmp_path / "t.csv").write_text(f"a,b\n1,0\n 1.0 ,-1.0\n0,{cell}\n")
    table = read_table(tmp_path / "t.csv", ("a", "b"))
    with pytest.raises(UserError, match="row 4, column 'b': expected 1, 0, -1 or blank"):
        read_labels(tmp_path / "t.csv", table, ("a", "b"))
    assert read_labels(tmp_path / "t.csv", table[:2], ("b", "a")).tolist() == [[0, 1], [-1, 1]]


@pytest.mark.parametrize("options", [{"uncertain": "one"}, {"blank_by_finding": {"Edema": "ones"}}])
def test_a_policy_of_an_unknown_choice_is_refused(options):
    with pytest.raises(UserError, match=r"found 'ones?', expected one of ignore, zeros"):
        LabelPolicy(**options)
