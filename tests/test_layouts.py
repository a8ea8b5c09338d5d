"""The layouts of the real corpora: what is on disk against what is published of them."""

import csv
import gzip
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd_pyro.data.corpora.openi import mesh_labels
from vkd_pyro.data.images.sizes import size_of
from vkd_pyro.synthetic import layouts
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth
from vkd_pyro.synthetic.layouts import LAYOUTS, synthesize
from vkd_pyro.synthetic.layouts.mimic_reports import BODIES
from vkd_pyro.synthetic.layouts.visits import visits
from vkd_pyro.utils.errors import UserError

NUM_STUDIES, IMAGE_SIZE = 60, 16

ODDITIES: dict[str, tuple[str, ...]] = {
    "mimic-cxr": (
        *BODIES,
        "validate studies",
        "test studies",
        "lateral images (LATERAL)",
        "lateral images (LL)",
        "images without a view",
        "studies of two frontal images",
        "studies without a frontal image",
        "studies without a label row",
        "studies with all labels blank",
        "studies without text",
        "study times without their leading zeros",
    ),
    "openi": (
        "lateral images",
        "listed images without file",
        "reports that list no image",
        "reports that list two frontal images",
        "reports that list a lateral image alone",
        "reports none of whose images has a file",
        "reports with empty findings alone",
        "reports with empty impression alone",
        "reports with both empty",
        "reports with XXXX",
        "reports coded normal",
        "reports without indexing",
    ),
    "openi-kaggle": (
        "listed images without file",
        "reports left out for want of an image",
        "reports with empty findings alone",
        "reports with both empty",
        "reports coded normal",
        "reports without indexing",
    ),
    "chestxray14": (
        "RGBA images",
        "L images",
        "boxes",
        "images with No Finding",
        "images with Effusion",
        "images with Infiltration",
        "images in train_val_list.txt",
        "images in test_list.txt",
    ),
    "chexpert": (
        "train studies",
        "valid studies",
        "lateral images",
        "images marked AP",
        "images marked PA",
        "images marked LL",
        "images marked RL",
        "images marked neither AP nor PA",
        "uncertain labels",
        "blank labels",
    ),
    "chexlocalize": ("val images", "test images", "lateral images", "masks"),
    "vindr-cxr": ("train images", "test images", "MONOCHROME1 images", "images that are not square", "boxes"),
    "padchest": (
        *(f"images marked {view}" for view in ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE")),
        *(f"studies labelled {name}" for name in ("exclude", "unchanged", "suboptimal study", "nothing")),
        "inverted images",
        "truncated images",
    ),
    "brax": (
        *(f"images marked {view}" for view in ("PA", "AP", "L", "RL", "AP LLD", "RLO", "LT-DECUB", "without a view")),
        "listed images without file",
        "rows that name an image again",
        "uncertain labels",
        "blank labels",
    ),
}

MIMIC_FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
VINDR_NAMES = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,Emphysema,"
    "Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,Pleural effusion,"
    "Pleural thickening,Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,"
    "Tuberculosis"
)
HEADERS: dict[str, dict[str, str]] = {
    "mimic-cxr": {
        "mimic-cxr-2.0.0-metadata.csv.gz": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,"
        "ViewPosition,Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,"
        "ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
        "mimic-cxr-2.0.0-split.csv.gz": "dicom_id,study_id,subject_id,split",
        "mimic-cxr-2.0.0-chexpert.csv.gz": f"subject_id,study_id,{MIMIC_FINDINGS}",
        "mimic-cxr-2.0.0-negbio.csv.gz": f"subject_id,study_id,{MIMIC_FINDINGS}",
        "mimic-cxr-2.1.0-test-set-labeled.csv": "study_id,"
        + MIMIC_FINDINGS.replace("Lung Opacity", "Airspace Opacity"),
        "cxr-study-list.csv.gz": "subject_id,study_id,path",
        "cxr-record-list.csv.gz": "subject_id,study_id,dicom_id,path",
        "patients.csv.gz": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    },
    "openi": {"indiana_projections.csv": "uid,filename,projection"},
    "openi-kaggle": {
        "indiana_projections.csv": "uid,filename,projection",
        "indiana_reports.csv": "uid,MeSH,Problems,image,indication,comparison,findings,impression",
    },
    "chestxray14": {
        "Data_Entry_2017_v2020.csv": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        "Data_Entry_2017.csv": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        "BBox_List_2017.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,",
    },
    "chexpert": dict.fromkeys(
        ("train.csv", "valid.csv"),
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices",
    ),
    "chexlocalize": {
        "CheXpert/test_labels.csv": "Path,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
        "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices",
        "CheXpert/val_labels.csv": "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,"
        "Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,"
        "Pleural Other,Fracture,Support Devices",
    },
    "vindr-cxr": {
        "annotations/annotations_train.csv": "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
        "annotations/annotations_test.csv": "image_id,class_name,x_min,y_min,x_max,y_max",
        "annotations/image_labels_train.csv": f"image_id,rad_id,{VINDR_NAMES},Other diseases,No finding",
        "annotations/image_labels_test.csv": f"image_id,{VINDR_NAMES},Other disease,No finding",
    },
    "padchest": {
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv": ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,"
        "PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,"
        "Manufacturer_DICOM,PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,PixelAspectRatio_DICOM,"
        "SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,"
        "XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,"
        "Report,MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS",
    },
    "brax": {
        "master_spreadsheet_update.csv": ",DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate,"
        "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Lesion,Lung Opacity,Edema,Consolidation,Pneumonia,"
        "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices,ViewPosition,Rows,Columns,"
        "Manufacturer",
    },
}

FILES: dict[str, str] = {
    "mimic-cxr": r"files/p(1\d)/p\1\d{6}/s5\d{7}(\.txt|/[0-9a-f]{8}(-[0-9a-f]{8}){4}\.jpg)",
    "openi": r"ecgen-radiology/\d+\.xml|CXR\d+(_\d+)?_IM-\d+-\d+(-\d+)?\.png",
    "openi-kaggle": r"images/images_normalized/\d+(_\d+)?_IM-\d+-\d+(-\d+)?\.dcm\.png",
    "chestxray14": r"images_00[12]/images/\d{8}_\d{3}\.png|(train_val|test)_list\.txt",
    "chexpert": r"(train|valid)/patient\d{5}/study\d+/view\d_(frontal|lateral)\.jpg",
    "chexlocalize": r"CheXpert/(val|test)/patient\d{5}/study\d+/view\d_(frontal|lateral)\.jpg"
    r"|CheXlocalize/gt_segmentations_(val|test)\.json",
    "vindr-cxr": r"(train|test)/[0-9a-f]{32}\.dicom",
    "padchest": r"images/(0|1|54)/\d+_\d\d-\d{3}-\d{3}\.png",
    "brax": r"images/id_[0-9a-f-]{44}/Study_[\d.]+/Series_[\d.]+/image-[\d-]+\.png",
}
"""Layout -> what every file but the tables is called."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, tuple[Path, dict[str, int]]]:
    """Layout -> its folder and what `synthesize` says of it."""
    folders = {layout: tmp_path_factory.mktemp("layouts") / layout for layout in LAYOUTS}
    return {layout: (root, synthesize(layout, root, NUM_STUDIES, IMAGE_SIZE)) for layout, root in folders.items()}


def content(root: Path) -> dict[str, bytes]:
    """Path below `root` -> bytes of each file."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def table_text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table_text(path).splitlines()))


# All layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_have_the_published_headers(written, layout):
    root, _ = written[layout]
    for name, header in HEADERS[layout].items():
        assert table_text(root / name).split("\n", 1)[0] == header
        widths = {len(row) for row in csv.reader(table_text(root / name).splitlines())}
        assert len(widths) == 1, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_named_as_published(written, layout):
    root, _ = written[layout]
    others = set(content(root)) - set(HEADERS[layout])
    assert [name for name in others if not re.fullmatch(FILES[layout], name)] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_are_those_on_disk(written, layout):
    root, counts = written[layout]
    images = [path for path in root.rglob("*") if path.suffix in (".jpg", ".png", ".dicom")]
    assert len(images) == counts["images"]
    modes, heights = Counter[str](), set()
    for path in images:
        heights.add(size_of(path)[0])
        if path.suffix != ".dicom":
            with Image.open(path) as image:
                modes[image.mode] += 1
    assert heights == {IMAGE_SIZE}
    assert modes["RGBA"] == counts.get("RGBA images", 0)
    assert set(modes) <= ({"I;16"} if layout == "padchest" else {"L", "RGBA"})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_oddity_occurs(written, tmp_path, layout, seed):
    counts = synthesize(layout, tmp_path / "out", NUM_STUDIES, IMAGE_SIZE, seed) if seed else written[layout][1]
    assert [name for name in ODDITIES[layout] if not counts.get(name)] == []
    assert set(layouts.LAYOUTS) == set(ODDITIES)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_arguments_same_bytes(tmp_path, layout):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        synthesize(layout, tmp_path / name, 12, IMAGE_SIZE, seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_study_is_a_corpus_too(tmp_path, layout):
    assert synthesize(layout, tmp_path / "one", 1, IMAGE_SIZE)["studies"] == 1


def test_large_images_are_enlarged(tmp_path):
    synthesize("chestxray14", tmp_path / "out", 1, 300)
    with Image.open(next((tmp_path / "out").rglob("*.png"))) as image:
        assert image.size == (300, 300)


def test_visits_are_those_of_the_synthetic_corpus():
    corpus = SyntheticCorpus(40, IMAGE_SIZE, seed=3)
    for visit in visits(corpus, progress=False):
        assert visit.facts == corpus.facts(visit.index)
        study = corpus.study(visit.index)
        assert np.array_equal(visit.frontal, study.images[0])
        assert "".join(study.report.values()) == (visit.report or "")
        assert (visit.order > 0) == (corpus._first_study(visit.index) < visit.index)


# Refusals -------------------------------------------------------------------------------------------------------------


def test_unknown_layout_is_told_the_known(tmp_path):
    with pytest.raises(UserError, match="mimic-cxr, openi, openi-kaggle, chestxray14, chexpert"):
        synthesize("mimic", tmp_path / "out")


@pytest.mark.parametrize("arguments", [{"num_studies": 0}, {"image_size": 4}])
def test_sizes_that_cannot_be(tmp_path, arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        synthesize("chexpert", tmp_path / "out", **arguments)


def test_used_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not an empty folder"):
        synthesize("chexpert", tmp_path, 1, IMAGE_SIZE)
    with pytest.raises(UserError, match="not an empty folder"):
        synthesize("chexpert", tmp_path / "mine.txt", 1, IMAGE_SIZE)
    assert content(tmp_path) == {"mine.txt": b"keep"}


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    synthesize("chexpert", tmp_path / "out", 1, IMAGE_SIZE)
    assert (tmp_path / "out" / "train.csv").is_file()


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(corpus, root, progress):
        (root / "half.csv").write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(layouts._WRITERS, "chexpert", fail)
    with pytest.raises(OSError, match="disk full"):
        synthesize("chexpert", tmp_path / "out", 1, IMAGE_SIZE)
    assert list(tmp_path.iterdir()) == []


# MIMIC-CXR ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mimic(written) -> tuple[Path, dict[str, int]]:
    return written["mimic-cxr"]


def test_mimic_tables_agree_with_the_files(mimic):
    root, counts = mimic
    metadata = table(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    paths = {f"files/p{r['subject_id'][:2]}/p{r['subject_id']}/s{r['study_id']}/{r['dicom_id']}.jpg" for r in metadata}
    assert paths == {name for name in content(root) if name.endswith(".jpg")}
    records = {r["path"] for r in table(root / "cxr-record-list.csv.gz")}
    assert records == {path.replace(".jpg", ".dcm") for path in paths}
    texts = {r["path"] for r in table(root / "cxr-study-list.csv.gz")}
    assert texts == {name for name in content(root) if name.endswith(".txt")}
    assert len(texts) == counts["studies"] == NUM_STUDIES
    assert {r["ViewPosition"] for r in metadata} == {"AP", "PA", "LATERAL", "LL", ""}
    assert all(re.fullmatch(r"\d{8}", r["StudyDate"]) for r in metadata)
    assert all(re.fullmatch(r"\d{1,6}\.\d{3}(0+2)?", r["StudyTime"]) for r in metadata)
    assert max(Counter(r["subject_id"] for r in table(root / "cxr-study-list.csv.gz")).values()) > 1


def test_mimic_patients_are_told_once_and_as_they_were_drawn(mimic):
    root, counts = mimic
    patients = table(root / "patients.csv.gz")
    assert len(patients) == counts["patients"]
    metadata = table(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    first = {}
    for row in metadata:
        first.setdefault(row["subject_id"], row["StudyDate"][:4])
    assert {row["subject_id"]: row["anchor_year"] for row in patients} == first
    drawn = {v.patient: v.facts.anatomy for v in visits(SyntheticCorpus(NUM_STUDIES, IMAGE_SIZE), False)}
    assert [(row["gender"], row["anchor_age"]) for row in patients] == [
        ({"woman": "F", "man": "M"}[body.sex], str(body.age)) for body in drawn.values()
    ]


def test_mimic_splits_are_by_patient(mimic):
    rows = table(mimic[0] / "mimic-cxr-2.0.0-split.csv.gz")
    assert {r["split"] for r in rows} == {"train", "validate", "test"}
    assert len({(r["subject_id"], r["split"]) for r in rows}) == len({r["subject_id"] for r in rows})


@pytest.mark.parametrize("labeller", ["chexpert", "negbio"])
def test_mimic_labels(mimic, labeller):
    root, counts = mimic
    rows = table(root / f"mimic-cxr-2.0.0-{labeller}.csv.gz")
    labels = [[row[name] for name in MIMIC_FINDINGS.split(",")] for row in rows]
    assert {value for row in labels for value in row} == {"1.0", "0.0", "-1.0", ""}
    assert len(rows) == len({row["study_id"] for row in rows}) == NUM_STUDIES - counts["studies without a label row"]
    assert sum(not any(row) for row in labels) == counts["studies with all labels blank"]
    abnormal = set(MIMIC_FINDINGS.split(",")) - {"No Finding", "Support Devices"}
    for row in rows:
        assert row["No Finding"] in ("", "1.0")
        assert not row["No Finding"] or not {row[name] for name in abnormal} & {"1.0", "-1.0"}


def test_mimic_test_set_is_the_test_split(mimic):
    root, counts = mimic
    rows = table(root / "mimic-cxr-2.1.0-test-set-labeled.csv")
    split = {r["study_id"] for r in table(root / "mimic-cxr-2.0.0-split.csv.gz") if r["split"] == "test"}
    assert {row["study_id"] for row in rows} == split
    assert len(rows) == counts["test studies"]
    assert {value for row in rows for name, value in row.items() if name != "study_id"} == {"0.0", "1.0"}


def test_mimic_reports_have_their_shape(mimic):
    for path in (mimic[0] / "files").rglob("*.txt"):
        text = path.read_text()
        assert text == "" or text.endswith("\n")
        for line in text.splitlines():
            assert len(line) <= 79
            assert line.startswith(" ")
            assert line.strip() or line == " "
            assert "FINAL REPORT" not in line or line == " " * 33 + "FINAL REPORT"


def test_mimic_reports_parse_as_the_publisher_does(mimic):
    root, counts = mimic
    texts = [path.read_text() for path in (root / "files").rglob("*.txt")]
    headers = Counter(header for text in texts for header in set(re.findall(r"\n ([A-Z ()/,-]+):\s", text)))
    assert set(headers) == {
        *("EXAMINATION", "INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION", "IMPRESSON", "CONCLUSION"),
        *("FINDINGS AND IMPRESSION", "CHEST, TWO VIEWS"),
    }
    assert headers["IMPRESSON"] == counts["reports with a misspelt header"]
    assert headers["CONCLUSION"] == counts["reports with a conclusion"]
    assert sum("\n FINDINGS: \n \n IMPRESSION:" in t for t in texts) == counts["reports with an empty findings section"]
    assert sum(t.startswith(" WET READ:") for t in texts) == counts["reports with a wet read"]
    assert sum(not t for t in texts) == counts["empty report files"]
    assert sum("___-year-old" in t for t in texts) == NUM_STUDIES - counts["studies without text"]
    assert not any(re.search(r"\d-year-old", t) for t in texts)
    addenda = [t for t in texts if t.startswith(" ADDENDUM:")]
    assert len(addenda) == counts["reports with an addendum"]
    for text in addenda:
        top, _, body = text.partition("\n " + "_" * 78 + "\n")
        assert "\n FINDINGS:  " in top
        assert "\n FINDINGS:  " in body


# Open-I ---------------------------------------------------------------------------------------------------------------


def test_openi_reports(written):
    root, counts = written["openi"]
    seen, listed = Counter[str](), []
    for path in (root / "ecgen-radiology").glob("*.xml"):
        report = ET.parse(path).getroot()
        assert report.tag == "eCitation"
        assert report.find("uId").get("id") == f"CXR{path.stem}"
        texts = {e.get("Label"): e.text or "" for e in report.iterfind("MedlineCitation/Article/Abstract/AbstractText")}
        assert list(texts) == ["COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION"]
        images = [e.get("id") for e in report.iterfind("parentImage")]
        assert all(image.startswith(f"CXR{path.stem}_") for image in images)
        listed += images
        seen["reports with both empty"] += not texts["FINDINGS"] and not texts["IMPRESSION"]
        seen["reports with empty findings alone"] += not texts["FINDINGS"] and bool(texts["IMPRESSION"])
        seen["reports that list no image"] += not images
        seen["reports without indexing"] += report.findtext("MeSH/major") == "No Indexing"
        seen["reports coded normal"] += report.findtext("MeSH/major") == "normal"
        seen["reports with XXXX"] += any("XXXX" in text for text in texts.values())
    assert dict(seen) == {name: counts[name] for name in seen}
    there = {path.stem for path in root.glob("*.png")}
    assert there < set(listed)
    assert len(set(listed) - there) == counts["listed images without file"]
    rows = table(root / "indiana_projections.csv")
    assert {f"CXR{row['filename'].removesuffix('.dcm.png')}" for row in rows} == set(listed)
    assert len(rows) == len(listed)
    assert {row["projection"] for row in rows} == {"Frontal", "Lateral"}


def test_openi_codes_are_the_facts(written):
    root, _ = written["openi"]
    reports = sorted((root / "ecgen-radiology").glob("*.xml"), key=lambda path: int(path.stem))
    for path, visit in zip(reports, visits(SyntheticCorpus(NUM_STUDIES, IMAGE_SIZE), False), strict=True):
        terms = [e.text or "" for e in ET.parse(path).getroot().iterfind("MeSH/major")]
        if terms == ["No Indexing"]:
            continue
        labels = mesh_labels(terms)
        assert np.array_equal(labels[1:], truth(visit.facts)[1:])
        assert labels[0] == (terms == ["normal"])
        assert labels[0] <= truth(visit.facts)[0]


def test_openi_kaggle(written):
    root, counts = written["openi-kaggle"]
    reports, projections = table(root / "indiana_reports.csv"), table(root / "indiana_projections.csv")
    assert len(reports) == counts["studies"] == NUM_STUDIES - counts["reports left out for want of an image"]
    assert {row["uid"] for row in projections} == {row["uid"] for row in reports}
    there = {path.name for path in (root / "images" / "images_normalized").iterdir()}
    assert there < {row["filename"] for row in projections}
    for row in reports:
        assert row["Problems"] == ";".join(term.split("/")[0] for term in row["MeSH"].split(";"))


# ChestX-ray14 and CheXpert --------------------------------------------------------------------------------------------


def test_chestxray14(written):
    root, _ = written["chestxray14"]
    new, old = (list(csv.reader(table_text(root / n).splitlines())) for n in list(HEADERS["chestxray14"])[:2])
    assert {len(row) for row in new} == {11}
    assert [row[:11] for row in old] == new
    assert {tuple(row[11:]) for row in old} == {("",)}
    images = {path.name for path in root.rglob("*.png")}
    assert {row[0] for row in new[1:]} == images
    names = {file: (root / file).read_text().splitlines() for file in ("train_val_list.txt", "test_list.txt")}
    assert sorted(name for listed in names.values() for name in listed) == sorted(images)
    patients = [{name[:8] for name in listed} for listed in names.values()]
    assert patients[0].isdisjoint(patients[1])
    for name, labels, follow_up, patient, *_ in new[1:]:
        assert name == f"{int(patient):08d}_{int(follow_up):03d}.png"
        assert set(labels.split("|")) <= {
            *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
            *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding"),
        }
        assert "No Finding" not in labels or labels == "No Finding"


def test_chestxray14_boxes(written):
    root, counts = written["chestxray14"]
    boxes = list(csv.reader((root / "BBox_List_2017.csv").read_text().splitlines()))[1:]
    assert len(boxes) == counts["boxes"]
    assert "Infiltrate" in {row[1] for row in boxes}
    assert "Infiltration" not in {row[1] for row in boxes}
    for row in boxes:
        x, y, width, height = map(float, row[2:6])
        assert 0 <= x < x + width <= IMAGE_SIZE
        assert 0 <= y < y + height <= IMAGE_SIZE
        assert row[6:] == ["", "", ""]


def test_chexpert(written):
    root, _ = written["chexpert"]
    patients = {}
    for split in ("train", "valid"):
        rows = table(root / f"{split}.csv")
        paths = {row["Path"] for row in rows}
        assert paths == {f"CheXpert-v1.0-small/{p.relative_to(root)}" for p in (root / split).rglob("*.jpg")}
        patients[split] = {path.split("/")[2] for path in paths}
        assert {row["Sex"] for row in rows} == {"Female", "Male"}
        for row in rows:
            assert row["Path"].endswith(f"_{row['Frontal/Lateral'].lower()}.jpg")
            assert (row["AP/PA"] == "") == (row["Frontal/Lateral"] == "Lateral")
        values = {value for row in rows for value in list(row.values())[5:]}
        assert values == ({"1.0", "0.0", "-1.0", ""} if split == "train" else {"1.0", "0.0"})
    assert patients["train"].isdisjoint(patients["valid"])
