"""Outside test sets: VinDr-CXR, PadChest, BRAX, and CheXpert's test set with the masks of CheXlocalize."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vkd_pyro.data import rle
from vkd_pyro.data.corpora.brax import Brax
from vkd_pyro.data.corpora.chestxray14 import ChestXray14
from vkd_pyro.data.corpora.chexlocalize import CheXlocalize
from vkd_pyro.data.corpora.common.padchest_terms import labels_of_terms
from vkd_pyro.data.corpora.padchest import PadChest
from vkd_pyro.data.corpora.vindr_cxr import VinDrCXR
from vkd_pyro.data.doctor import examine
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.selection import BadImages, Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.synthetic.layouts.padchest import ODD, TABLE, VIEWS, terms_of
from vkd_pyro.synthetic.layouts.places import places
from vkd_pyro.synthetic.layouts.visits import VISIT_STREAM, report_labels, visits
from vkd_pyro.utils.errors import UserError

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

NUM_STUDIES, SIZE = 60, 64
READERS = {"vindr-cxr": VinDrCXR, "padchest": PadChest, "brax": Brax, "chexlocalize": CheXlocalize}
SPREADSHEET, MASKS = "master_spreadsheet_update.csv", "CheXlocalize/gt_segmentations_test.json"
BOXED = ("Cardiomegaly", "Edema", "Pneumothorax", "Pleural Effusion")
every_layout = pytest.mark.parametrize("layout", READERS)


@pytest.fixture(scope="session")
def outside(tmp_path_factory):
    """Layout -> (root, what `synthesize` says it wrote)."""
    folder = tmp_path_factory.mktemp("outside")
    names = (*READERS, "chestxray14")
    return {name: (folder / name, synthesize(name, folder / name, NUM_STUDIES, SIZE)) for name in names}


@pytest.fixture(scope="session")
def seen():
    """The studies as they were drawn."""
    return list(visits(SyntheticCorpus(NUM_STUDIES, SIZE), False))


@pytest.fixture
def copy(outside, tmp_path):
    return lambda layout: Path(shutil.copytree(outside[layout][0], tmp_path / layout))


def rows_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def change(path, function):
    """Rewrites a table: what the function returns, or has changed."""
    table = rows_of(path)
    changed = function(table)
    (table if changed is None else changed).to_csv(path, index=False)


def split_names(corpus):
    return Counter(study.split for study in corpus.studies())


# Every layout ---------------------------------------------------------------------------------------------------------


@every_layout
def test_studies_have_files_ids_and_labels_of_their_own(outside, layout):
    root, counts = outside[layout]
    corpus = READERS[layout](root)
    studies = corpus.studies()
    images = [image for study in studies for image in study.images]
    assert len(images) == len(set(images))
    assert all(image.is_file() for image in images)
    assert len({study.study_id for study in studies}) == len(studies)
    for study in studies:
        assert study.labels.shape == (len(corpus.findings),)
        assert study.labels.dtype == np.float32
        assert np.isnan(study.labels).all() or set(study.labels[~np.isnan(study.labels)]) <= {1, 0, -1, -2}
    if layout in ("vindr-cxr", "chexlocalize"):
        assert (len(images), len(studies)) == (counts["images"], counts["studies"])


@every_layout
def test_no_patient_is_in_two_splits(outside, layout):
    data = StudyData(Selection(READERS[layout](outside[layout][0])))
    found = [{s.patient_id for s in data.studies(split)} for split in ("validation", "test")]
    assert found[0]
    assert found[1]
    assert not found[0] & found[1]


@every_layout
def test_columns_in_another_order_and_further_ones_change_nothing(outside, copy, layout):
    root = copy(layout)
    for path in root.rglob("*.csv"):
        change(path, lambda table: table.insert(0, "further", "x"))
        rows_of(path)[[*reversed(rows_of(path).columns)]].to_csv(path, index=False)
    one, other = (READERS[layout](where).studies() for where in (root, outside[layout][0]))
    told = [
        [(s.study_id, s.patient_id, s.views, s.labels.tobytes(), s.split, s.sex) for s in each] for each in (one, other)
    ]
    assert told[0] == told[1]


@every_layout
def test_a_folder_without_tables_is_named(tmp_path, layout):
    with pytest.raises(UserError, match=f"{tmp_path}.* not found"):
        READERS[layout](tmp_path).studies()


@every_layout
def test_a_corpus_whose_images_are_missing_says_where_they_should_be(copy, layout):
    root = copy(layout)
    for path in [path for path in root.rglob("*") if path.suffix in (".png", ".jpg", ".dicom")]:
        path.unlink()
    with pytest.raises(UserError, match=r"none of the .* images is there; move them so that one is"):
        Selection(READERS[layout](root)).read()


@every_layout
def test_the_doctor_knows_it(outside, layout):
    diagnosis = examine(outside[layout][0], 2)
    assert diagnosis.corpus == layout
    assert diagnosis.can_train
    command = (
        "Evaluation would work: vkd evaluate RUN" if layout == "chexlocalize" else "Training would work: vkd train"
    )
    assert command in str(diagnosis)


# VinDr-CXR ------------------------------------------------------------------------------------------------------------


def by_file(studies):
    """Image -> its study."""
    return {study.study_id: study for study in studies}


@pytest.fixture(scope="session")
def of_vindr(seen):
    """VinDr-CXR's name of each image -> its visit."""
    return {np.random.default_rng([v.seed, v.index, VISIT_STREAM]).bytes(16).hex(): v for v in seen}


def test_vindr_labels_are_the_consensus_and_the_majority(outside, of_vindr):
    corpus = VinDrCXR(outside["vindr-cxr"][0])
    findings = [CHEXPERT_FINDINGS.index(name) for name in corpus.findings]
    opacity, own = corpus.findings.index("Lung Opacity"), corpus.findings.index("Consolidation")
    for name, study in by_file(corpus.studies()).items():
        expected = truth(of_vindr[name].facts)[findings]
        expected[opacity] = max(expected[opacity], expected[own])  # it is one
        expected[0] = 0 if expected[1:].any() else study.labels[0]  # what only a device changes has no name there
        assert study.labels.tolist() == expected.tolist()
        assert (study.split == "test") == (of_vindr[name].split == "test")


def test_vindr_readers_who_differ_may_be_left_to_the_policy(outside):
    majority, uncertain = (VinDrCXR(outside["vindr-cxr"][0], how).studies() for how in ("majority", "uncertain"))
    differ = Counter()
    for one, other in zip(majority, uncertain, strict=True):
        changed = one.labels != other.labels
        assert (other.labels[changed] == -1).all()
        assert (other.labels[~changed] != -1).all()
        differ[one.split] += int(changed.sum())
    assert differ["test"] == 0
    assert differ["train"] + differ["validation"] > 10
    with pytest.raises(UserError, match="disagreement: found 'any', expected majority or uncertain"):
        VinDrCXR(outside["vindr-cxr"][0], "any")


def test_vindr_monochrome1_images_are_read_like_the_others(outside, of_vindr):
    for name, study in by_file(VinDrCXR(outside["vindr-cxr"][0]).studies()).items():
        visit = of_vindr[name]
        expected = ImageTransform(SIZE)(visit.frontal).float()
        apart = (ImageTransform(SIZE)(study.images[0]).float() - expected).abs().mean()
        assert apart < (16 if visit.index % 3 == 1 else 2), visit.index  # narrow ones are squeezed, and widened again


def test_vindr_boxes_are_those_drawn_in_pixels_of_their_images(outside, of_vindr):
    corpus = VinDrCXR(outside["vindr-cxr"][0])
    studies = corpus.studies()
    images = [study.images[0] for study in studies]
    narrow = 0
    for study, regions in zip(studies, corpus.regions(images), strict=True):
        visit = of_vindr[study.study_id]
        boxes = {}
        for finding, box in places(visit.facts, SIZE):
            boxes.setdefault(finding.name, []).append(box)
        boxed = [name for name in BOXED if name in boxes]
        assert [name for name in BOXED if name in regions] == boxed
        for name in boxed:
            region = regions[name]
            assert region.height == SIZE
            narrow += region.width < SIZE
            if study.split == "test":
                found = np.array(region.boxes[0]) / (region.width, region.height, region.width, region.height)
                assert found == pytest.approx(np.array(boxes[name]).reshape(-1, 4), abs=1e-4)
            else:
                assert (len(region.boxes), region.votes) in ((2, 2), (3, 2))
    assert narrow


def test_vindr_needs_two_readers_of_three(copy):
    root = copy("vindr-cxr")
    corpus = VinDrCXR(root)
    train = [study for study in corpus.studies() if study.split == "train"]
    image = next(
        s.images[0] for s, r in zip(train, corpus.regions([s.images[0] for s in train]), strict=True) if "Edema" in r
    )

    def alone(table):
        mine = (table["image_id"] == image.stem) & (table["class_name"] == "Edema")
        return table[~mine | (table["rad_id"] == table[mine]["rad_id"].iloc[0])]

    change(root / "annotations" / "annotations_train.csv", alone)
    assert "Edema" not in corpus.regions([image])[0]


def test_vindr_tables_may_lie_with_the_images_and_one_part_is_enough(outside, copy):
    root = copy("vindr-cxr")
    shutil.rmtree(root / "train")
    for kind in ("image_labels", "annotations"):
        (root / "annotations" / f"{kind}_test.csv").rename(root / "test" / f"{kind}_test.csv")
    shutil.rmtree(root / "annotations")
    corpus = VinDrCXR(root)
    whole = [study for study in VinDrCXR(outside["vindr-cxr"][0]).studies() if study.split == "test"]
    assert [study.study_id for study in corpus.studies()] == [study.study_id for study in whole]
    assert any(corpus.regions([study.images[0] for study in corpus.studies()]))


@pytest.mark.parametrize(
    ("table", "column", "cell", "message"),
    [
        ("image_labels_train.csv", "Edema", "2", "expected 1, 0, -1 or blank"),
        ("image_labels_train.csv", "Edema", "", "row 3: expected labels 0 or 1"),
        ("image_labels_train.csv", "rad_id", None, "row 4: its image is labelled twice by one reader"),
        ("annotations_test.csv", "x_max", "0", "row 3: no box; expected x_min < x_max"),
        ("annotations_test.csv", "x_min", "a", "row 3: no box; expected x_min < x_max"),
        ("annotations_test.csv", "x_min", "1e9", "row 3: no box; expected x_min < x_max"),
    ],
)
def test_vindr_cells_that_cannot_be_are_named(copy, table, column, cell, message):
    root = copy("vindr-cxr")

    def damage(rows):
        if table.startswith("annotations"):
            rows["class_name"] = "Edema"
            for edge, value in {"x_min": "1", "y_min": "1", "x_max": "2", "y_max": "2"}.items():
                rows[edge] = value
        rows.loc[1, column] = rows.loc[0, column] if cell is None else cell

    change(root / "annotations" / table, damage)
    corpus = VinDrCXR(root)
    with pytest.raises(UserError, match=message):
        corpus.regions([study.images[0] for study in corpus.studies()])


def test_vindr_boxes_outside_the_image_and_of_other_files_are_refused(copy):
    root = copy("vindr-cxr")
    corpus = VinDrCXR(root)
    image = next(study.images[0] for study in corpus.studies() if study.split == "test")

    def outside_of_it(table):
        table.loc[0] = {"image_id": image.stem, "class_name": "Edema"} | dict.fromkeys(("x_min", "y_min"), "70")
        table.loc[0, ["x_max", "y_max"]] = "80"

    change(root / "annotations" / "annotations_test.csv", outside_of_it)
    with pytest.raises(UserError, match=r"a box of Edema lies outside its \d+ x 64 pixels"):
        corpus.regions([image])
    png = image.with_suffix(".png")
    image.unlink()
    png.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match="in pixels of the DICOM file, and this is none"):
        corpus.regions([png])


def test_vindr_images_with_other_than_three_readers_are_told(copy):
    root = copy("vindr-cxr")
    change(root / "annotations" / "image_labels_train.csv", lambda table: table[1:])
    corpus = VinDrCXR(root)
    corpus.studies()
    (doubt,) = corpus.doubts
    assert "1 images have other than 3 radiologists" in doubt


# PadChest -------------------------------------------------------------------------------------------------------------


def of_padchest(seen):
    """Study id -> its visit."""
    return {f"2168401113669640{10**12 + 7_919_933 * visit.index}": visit for visit in seen}


def test_padchest_labels_are_the_truth_but_where_reports_say_less(outside, seen):
    root, counts = outside["padchest"]
    corpus = PadChest(root, inverted="keep")
    studies = corpus.studies()
    assert len(studies) == counts["studies"] - counts["studies labelled exclude"]
    assert corpus.left_out["studies marked exclude"] == counts["studies labelled exclude"]
    assert not corpus.doubts
    for study in studies:
        visit = of_padchest(seen)[study.study_id]
        odd, true = ODD.get(visit.index % 24), truth(visit.facts)
        known = ~np.isnan(study.labels)
        if odd == "":
            assert not known.any()
        elif odd:
            assert set(study.labels[1:][known[1:]]) <= {1.0}
            assert (true[1:] == 1).tolist() == (study.labels[1:] == 1).tolist()
        else:
            assert (study.labels[known] == true[known]).all()
            assert known[[CHEXPERT_FINDINGS.index(name) for name in ("Cardiomegaly", "Fracture", "Edema")]].all()


@pytest.mark.parametrize(
    ("terms", "labels"),
    [
        (["normal"], {"No Finding": 1, "Pneumonia": 0}),
        (["normal", "pacemaker"], {"No Finding": 1, "Support Devices": 1, "Edema": 0}),
        (["scoliosis"], {"No Finding": None, "Pneumonia": 0}),
        (["pneumonia"], {"No Finding": 0, "Pneumonia": 1, "Lung Opacity": None, "Consolidation": 0}),
        (["costophrenic angle blunting"], {"Pleural Effusion": None, "Pleural Other": None, "No Finding": None}),
        (["hydropneumothorax"], {"Pleural Effusion": 1, "Pneumothorax": 1}),
        (["unchanged", "cardiomegaly"], {"Cardiomegaly": 1, "Edema": None, "No Finding": 0}),
        (["unchanged"], {"Cardiomegaly": None, "No Finding": None}),
        (["suboptimal study"], {"Cardiomegaly": None, "No Finding": None}),
        (["copd signs"], {"Cardiomegaly": 0, "Pneumonia": 0}),
        (["derrame pleural", "cardiomegalia"], dict.fromkeys(CHEXPERT_FINDINGS)),
        (["cardiomegaly", "escoliosis"], {"Cardiomegaly": 1, "Edema": 0}),
        ([], dict.fromkeys(CHEXPERT_FINDINGS)),
    ],
)
def test_padchest_terms(terms, labels):
    found = dict(zip(CHEXPERT_FINDINGS, labels_of_terms(terms).tolist(), strict=True))
    assert {name: None if math.isnan(found[name]) else found[name] for name in labels} == labels


def test_padchest_views_and_people(outside, seen):
    studies = {study.study_id: study for study in PadChest(outside["padchest"][0], inverted="keep").studies()}
    known = {"frontal": "frontal", "L": "lateral", "COSTAL": "unknown", "EXCLUDE": "unknown"}
    for name, study in studies.items():
        visit = of_padchest(seen)[name]
        assert study.views == tuple(known[view] for view in VIEWS[visit.index % len(VIEWS)])
        assert study.sex == {"woman": "female", "man": "male"}[visit.facts.anatomy.sex]
        assert study.age == visit.facts.anatomy.age


def test_padchest_takes_the_view_of_the_dicom_file_where_its_own_is_blank(copy):
    root = copy("padchest")
    change(root / TABLE, lambda table: table.assign(Projection=table["Projection"].where(table.index > 0, "")))
    assert PadChest(root, inverted="keep").studies()[0].views == ("frontal",)


def test_padchest_images_with_bone_dark_are_left_out(outside, seen):
    root, counts = outside["padchest"]
    corpus = PadChest(root)
    kept = {study.study_id for study in corpus.studies()}
    inverted = {name for name, visit in of_padchest(seen).items() if visit.index % 7 == 5}
    assert not kept & inverted
    assert 0 < corpus.left_out["images stored with bone dark (MONOCHROME1)"] <= counts["inverted images"]
    everything = {study.study_id: study for study in PadChest(root, inverted="keep").studies()}
    name = next(iter(inverted & set(everything)))
    expected = 255.0 - ImageTransform(SIZE)(of_padchest(seen)[name].frontal).float()
    assert (ImageTransform(SIZE)(everything[name].images[0]).float() - expected).abs().max() <= 1


def test_padchest_truncated_images_are_refused_in_a_line_and_may_be_skipped(outside):
    corpus = PadChest(outside["padchest"][0])
    transform = ImageTransform(SIZE)
    bad = []
    for image in [image for study in corpus.studies() for image in study.images]:
        try:
            transform(image)
        except UserError as error:
            bad.append(str(error))
    (line,) = bad
    assert "unreadable or truncated image" in line
    selection = Selection(corpus, SIZE, bad_images=BadImages("skip", 0.1))
    data = StudyData(selection)
    assert len(data.studies("train")) > 5
    assert len(data.unreadable) == 1


def test_padchest_labelled_by_physicians(outside, seen):
    corpus = PadChest(outside["padchest"][0], "physicians", "keep")
    found = {of_padchest(seen)[study.study_id].index % 3 for study in corpus.studies()}
    assert found == {0}
    assert corpus.left_out["studies not labelled by physicians"] > 10


def test_padchest_in_one_folder_and_gzipped(outside, copy):
    root = copy("padchest")
    for path in list((root / "images").rglob("*.png")):
        path.rename(root / path.name)
    rows_of(root / TABLE).to_csv(root / f"{TABLE}.gz", index=False)
    (root / TABLE).unlink()
    one, other = (PadChest(where).studies() for where in (root, outside["padchest"][0]))
    assert [[i.name for i in s.images] for s in one] == [[i.name for i in s.images] for s in other]


@pytest.mark.parametrize(
    "cell", ["normal", "['normal'", "__import__('os').getcwd()", "['a'] + ['b']", "[1]", "{'a': 1}"]
)
def test_padchest_labels_that_are_no_list_are_refused_and_never_run(copy, cell):
    root = copy("padchest")
    change(root / TABLE, lambda table: table.__setitem__("Labels", [cell, *table["Labels"][1:]]))
    with pytest.raises(UserError, match=r"row 2, 'Labels': not a list such as \['normal'\]"):
        PadChest(root).studies()


def test_padchest_images_of_a_study_that_say_different_things_are_unknown_there(copy, seen):
    root = copy("padchest")
    table = rows_of(root / TABLE)
    study = next(
        n
        for n, of in table.groupby("StudyID")
        if len(of) == 2 and "MONOCHROME1" not in set(of.iloc[:, 15]) and of["Labels"].iloc[0] == "['normal']"
    )
    table.loc[table.index[table["StudyID"] == study][1], "Labels"] = "['cardiomegaly']"
    table.to_csv(root / TABLE, index=False)
    corpus = PadChest(root, inverted="keep")
    (found,) = [each for each in corpus.studies() if each.study_id == study]
    labels = dict(zip(CHEXPERT_FINDINGS, found.labels, strict=True))
    assert math.isnan(labels["Cardiomegaly"])
    assert math.isnan(labels["No Finding"])
    assert labels["Edema"] == 0
    assert "labels on which images of a study differ" in corpus.doubts[0]


def test_padchest_studies_of_two_patients_and_two_tables_are_refused(copy):
    root = copy("padchest")
    change(root / TABLE, lambda table: table.__setitem__("StudyID", "1"))
    with pytest.raises(UserError, match="row 3: its study is another patient's, too"):
        PadChest(root).studies()
    shutil.copy(root / TABLE, root / TABLE.replace("01.02", "02.02"))
    with pytest.raises(UserError, match="2 tables are called"):
        PadChest(root).studies()


def test_padchest_rows_that_name_an_image_again_are_one(outside, copy):
    root = copy("padchest")
    change(root / TABLE, lambda table: pd.concat([table, table.iloc[:1]]))
    corpus = PadChest(root, inverted="keep")
    images = [[image.name for image in study.images] for study in corpus.studies()]
    before = PadChest(outside["padchest"][0], inverted="keep").studies()
    assert images == [[image.name for image in study.images] for study in before]
    assert corpus.left_out["rows that name an image again"] == 1
    assert corpus.doubts == []


def test_padchest_an_image_of_two_patients_is_refused(copy):
    root = copy("padchest")
    change(root / TABLE, lambda table: pd.concat([table, table.iloc[:1].assign(StudyID="7", PatientID="8")]))
    rows = len(rows_of(root / TABLE))
    with pytest.raises(UserError, match=rf"row {rows + 1}: its image is another study's, too; fetch the table again"):
        PadChest(root).studies()


def test_the_terms_that_are_drawn_begin_with_spaces_as_the_real_ones_do(seen):
    assert any(term.startswith(" ") for visit in seen for term in terms_of(visit))


# BRAX -----------------------------------------------------------------------------------------------------------------


def test_brax_labels_views_and_people(outside, seen):
    root, counts = outside["brax"]
    corpus = Brax(root)
    studies = corpus.studies()
    codes = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": -2.0}
    assert len(studies) == len(seen) == counts["studies"]
    for study, visit in zip(studies, seen, strict=True):
        assert study.labels.tolist() == [codes[value] for value in report_labels(visit.reading).values()]
        assert study.sex == {"woman": "female", "man": "male"}[visit.facts.anatomy.sex]
        assert study.age == min(visit.facts.anatomy.age // 5 * 5, 85)
    views = Counter(view for study in studies for view in study.views)
    assert views["frontal"] == counts["images marked AP"] + counts["images marked PA"]
    missing = corpus.left_out["images listed, but no file"]
    assert views["lateral"] == counts["images marked L"] + counts["images marked RL"] - missing
    odd = ("AP LLD", "RLO", "LT-DECUB", "without a view")
    assert views["unknown"] == sum(counts[f"images marked {name}"] for name in odd)
    assert missing == counts["listed images without file"] == 1
    assert corpus.left_out["rows that name an image again"] == counts["rows that name an image again"]


def test_brax_accession_numbers_are_of_a_patient(outside):
    studies = Brax(outside["brax"][0]).studies()
    table = rows_of(outside["brax"][0] / SPREADSHEET)
    assert table["AccessionNumber"].nunique() < len(studies)
    assert len({study.patient_id for study in studies}) == outside["brax"][1]["patients"]


@pytest.mark.parametrize("reader", [PadChest, Brax])
def test_all_may_be_for_testing(outside, reader):
    assert set(split_names(reader(outside[reader.name][0], all_test=True))) == {"test"}
    assert set(split_names(reader(outside[reader.name][0]))) == {"train", "validation", "test"}


def test_brax_takes_dicom_files_where_there_is_no_png(copy):
    root = copy("brax")
    png = sorted((root / "images").rglob("*.png"))[0]
    dicom = root / "Anonymized_DICOMs" / png.relative_to(root / "images").with_suffix(".dcm")
    dicom.parent.mkdir(parents=True)
    png.rename(dicom)
    assert dicom in [image for study in Brax(root).studies() for image in study.images]


def test_brax_of_the_first_release_has_another_name(outside, copy):
    root = copy("brax")
    (root / SPREADSHEET).rename(root / "master_spreadsheet.csv")
    assert len(Brax(root).studies()) == outside["brax"][1]["studies"]


@pytest.mark.parametrize(
    ("column", "row", "cell", "message"),
    [
        ("PatientID", 0, "", "row 2: its 'PatientID' is blank"),
        ("AccessionNumber", 1, "nan", "row 3: its 'AccessionNumber' is blank, or a word for none"),
        ("PngPath", 0, "images/a.gif", "row 2: 'PngPath' is not of the form"),
        ("PngPath", 0, "/etc/a.png", "row 2: 'PngPath' is not of the form"),
        ("Edema", 0, "maybe", "row 2, column 'Edema': expected 1, 0, -1 or blank"),
        ("PngPath", 5, None, "row 7: its image is another study's, too"),
    ],
)
def test_brax_cells_that_cannot_be_are_named(copy, column, row, cell, message):
    root = copy("brax")

    def damage(table):
        table.loc[row, column] = table.loc[0, column] if cell is None else cell

    change(root / SPREADSHEET, damage)
    with pytest.raises(UserError, match=message):
        Brax(root).studies()


def test_brax_rows_of_a_study_that_differ_are_unknown_there(copy):
    root = copy("brax")
    table = rows_of(root / SPREADSHEET)
    first = next(i for i in range(len(table) - 1) if table["AccessionNumber"][i] == table["AccessionNumber"][i + 1])
    table.loc[[first, first + 1], "Edema"] = ["1", "0"]
    table.to_csv(root / SPREADSHEET, index=False)
    corpus = Brax(root)
    labels = [study.labels[CHEXPERT_FINDINGS.index("Edema")] for study in corpus.studies()]
    assert np.isnan(labels).sum() == 1
    assert "1 labels on which rows of a study differ" in corpus.doubts[0]


# CheXlocalize ---------------------------------------------------------------------------------------------------------


def of_chexlocalize(seen):
    return {f"patient{64541 + visit.patient}/study{visit.order + 1}": visit for visit in seen}


def test_chexlocalize_labels_splits_and_views(outside, seen):
    root, counts = outside["chexlocalize"]
    studies = CheXlocalize(root).studies()
    for study in studies:
        visit = of_chexlocalize(seen)[study.study_id]
        assert study.labels.tolist() == truth(visit.facts).tolist()
        assert study.split == ("validation" if visit.patient % 3 == 1 else "test")
        assert study.views[0] == "frontal"
        assert study.sex == (
            "unknown" if study.split == "test" else {"woman": "female", "man": "male"}[visit.facts.anatomy.sex]
        )
    assert sum(study.views.count("lateral") for study in studies) == counts["lateral images"]


def test_chexlocalize_masks_are_those_drawn(outside, seen):
    corpus = CheXlocalize(outside["chexlocalize"][0])
    studies = corpus.studies()
    found = 0
    for study, regions in zip(studies, corpus.regions([study.images[0] for study in studies]), strict=True):
        visit = of_chexlocalize(seen)[study.study_id]
        drawn = {finding.name for finding in visit.facts.findings}
        assert set(regions) == drawn - {"Pneumonia", "Pleural Other", "Fracture"}
        for finding, corners in places(visit.facts, SIZE):
            if finding.name in regions:
                x, y = (corners.mean(axis=0) * SIZE).astype(int)
                assert regions[finding.name].resized(SIZE)[y, x]
                found += 1
    assert found >= outside["chexlocalize"][1]["masks"]
    laterals = [image for study in studies for image in study.images[1:]]
    assert corpus.regions(laterals) == [{} for _ in laterals]


def test_chexlocalize_by_study_and_in_the_folder_of_chexpert(outside, copy):
    root = copy("chexlocalize")
    table = rows_of(root / "CheXpert" / "test_labels.csv")
    table.insert(0, "Study", "CheXpert-v1.0/test/" + table.pop("Path").str.extract(r"test/(patient\d+/study\d+)")[0])
    table = table.rename(columns={"Lung Opacity": "Airspace Opacity"})
    table.drop_duplicates("Study").to_csv(root / "CheXpert" / "groundtruth.csv", index=False)
    for name in ("test_labels.csv", "val_labels.csv"):
        (root / "CheXpert" / name).unlink()
    corpus = CheXlocalize(root / "CheXpert")
    expected = {s.study_id: s for s in CheXlocalize(outside["chexlocalize"][0]).studies() if s.split == "test"}
    studies = corpus.studies()
    assert {study.study_id for study in studies} == set(expected)
    for study in studies:
        assert study.labels.tolist() == expected[study.study_id].labels.tolist()
        assert study.views == expected[study.study_id].views
    assert any(corpus.regions([study.images[0] for study in studies]))


def test_chexlocalize_labels_of_a_labeller_are_refused(copy):
    root = copy("chexlocalize")
    change(root / "CheXpert" / "test_labels.csv", lambda table: table.__setitem__("Edema", ["-1", *table["Edema"][1:]]))
    with pytest.raises(UserError, match="row 2: radiologists said 0 or 1 of all"):
        CheXlocalize(root).studies()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [SIZE, SIZE], "counts": "PVWX6"}, "its mask of Edema is none that COCO writes .runs of 6,560,960"),
        ({"size": [SIZE, SIZE], "counts": [1, 2]}, "runs of 3 pixels for 64 x 64"),
        ({"size": [SIZE, SIZE], "counts": [-1, SIZE * SIZE + 1]}, "runs of 4,096 pixels for 64 x 64"),
        ({"size": [SIZE], "counts": "1"}, "its mask of Edema is none that COCO writes"),
        ({"size": [SIZE, SIZE], "counts": {}}, "a mask's counts are neither text nor whole numbers"),
        ("1", "its mask of Edema is none that COCO writes"),
        (
            {"size": [SIZE, 2 * SIZE], "counts": [1, 2 * SIZE * SIZE - 1]},
            "64 x 64 pixels, and its mask of Edema 64 x 128",
        ),
    ],
)
def test_chexlocalize_masks_that_are_none_are_refused(copy, mask, message):
    root = copy("chexlocalize")
    masks = json.loads((root / MASKS).read_text())
    name = next(iter(masks))
    masks[name]["Edema"] = mask
    (root / MASKS).write_text(json.dumps(masks))
    image = root / "CheXpert" / "test" / Path(*name.split("_", 2)).with_suffix(".jpg")
    with pytest.raises(UserError, match=message):
        CheXlocalize(root).regions([image])


def test_chexlocalize_without_masks_is_read_and_says_where_they_are(copy):
    root = copy("chexlocalize")
    shutil.rmtree(root / "CheXlocalize")
    corpus = CheXlocalize(root)
    image = corpus.studies()[-1].images[0]
    with pytest.raises(UserError, match=r"CheXlocalize/gt_segmentations_.*\.json: not found; fetch the masks"):
        corpus.regions([image])


# ChestX-ray14 ---------------------------------------------------------------------------------------------------------


def test_chestxray14_boxes_are_those_written(outside):
    root, counts = outside["chestxray14"]
    corpus = ChestXray14(root, "own")
    images = [study.images[0] for study in corpus.studies()]
    regions = corpus.regions(images)
    boxes = [box for found in regions for region in found.values() for box in region.boxes[0]]
    assert len(boxes) == counts["boxes"]
    assert {(region.height, region.width) for found in regions for region in found.values()} == {(SIZE, SIZE)}
    shared = ChestXray14(root)
    assert {name for found in shared.regions(images) for name in found} <= set(shared.findings)
    assert any("Infiltration" in found for found in regions)


def test_chestxray14_boxes_of_the_copy_at_224_are_of_the_published_pixels(copy):
    root = copy("chestxray14")
    (root / "images-224").mkdir()
    for name in ("images_001", "images_002"):
        shutil.move(root / name / "images", root / "images-224" / name)
    corpus = ChestXray14(root)
    (size,) = {
        (region.height, region.width)
        for found in corpus.regions([study.images[0] for study in corpus.studies()])
        for region in found.values()
    }
    assert size == (1024, 1024)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("w", "0", "row 2: no box"),
        ("Bbox [x", "nan", "row 2: no box"),
        ("Finding Label", "Normal", "row 2, 'Finding Label': no finding of this corpus"),
        ("y", "1024", "a box lies outside its 64 x 64 pixels"),
    ],
)
def test_chestxray14_boxes_that_cannot_be_are_named(copy, column, cell, message):
    root = copy("chestxray14")
    path = root / "BBox_List_2017.csv"
    header, *lines = path.read_text().splitlines()
    lines = [line for line in lines if "Cardiomegaly" in line]
    cells = lines[0].split(",")
    cells[["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"].index(column)] = cell
    path.write_text("\n".join([header, ",".join(cells), *lines[1:]]) + "\n")
    corpus = ChestXray14(root)
    with pytest.raises(UserError, match=message):
        corpus.regions([study.images[0] for study in corpus.studies()])


def test_corpora_without_regions_have_none(outside):
    corpus = Brax(outside["brax"][0])
    images = [study.images[0] for study in corpus.studies()]
    assert corpus.regions(images) == [{} for _ in images]


def test_masks_are_written_as_they_are_read():
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 5), (40, 7)):
        mask = generator.random((height, width)) < 0.4
        assert np.array_equal(rle.decode(rle.encode(mask), height, width), mask)
