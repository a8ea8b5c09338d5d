"""Studies: splits, labels, the Open-I reader, transforms, batches."""

import dataclasses
import io
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from tests.conftest import TinyCorpus, study_data
from vkd_pyro.data.batch import Example, collate
from vkd_pyro.data.corpora.openi import MESH_TO_FINDING, OpenI, mesh_labels
from vkd_pyro.data.images import image_transform
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.loading.dataset import ShuffledSampler, StudyDataset, derive_seed
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.task import Task
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.utils.errors import UserError

REAL_OPENI = Path(__file__).parents[2] / "shared" / "openi"
real_openi = pytest.mark.skipif(not REAL_OPENI.is_dir(), reason="needs Open-I in ../shared/openi")


# ------------------------------------------------------------------------------------------ splits


@pytest.mark.parametrize(
    ("patient", "split"),
    [
        ("1", "train"),  # sha256("openi:1") = 48928ea8..., and 0x48928ea8 / 2^32 = 0.283
        ("7", "validation"),  # c82c...: 0.782
        ("2", "test"),  # da5b...: 0.853
    ],
)
def test_the_split_of_a_patient_is_that_of_the_sha256_of_its_name(patient, split):
    assert split_of("openi", patient) == split


def test_splits_are_70_10_20():
    counts = Counter(split_of("anywhere", str(patient)) for patient in range(10_000))
    assert counts["train"] == pytest.approx(7000, abs=150)
    assert counts["validation"] == pytest.approx(1000, abs=100)
    assert counts["test"] == pytest.approx(2000, abs=130)


def test_corpora_are_split_independently():
    same = sum(split_of("one", str(patient)) == split_of("other", str(patient)) for patient in range(10_000))
    assert same == pytest.approx(10_000 * (0.7**2 + 0.1**2 + 0.2**2), abs=150)


def test_a_derived_seed_is_the_first_63_bits_of_a_sha256():
    assert derive_seed(0, "order", 0) == 0x10308CD238FF6A91 >> 1  # sha256("0:order:0") = 10308cd238ff6a91...
    assert derive_seed(0, "order", 0) != derive_seed(0, "order", 1)


# ------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("term", "findings"),
    [
        ("normal", {"No Finding"}),
        ("Opacity/lung/base/left", {"Lung Opacity"}),
        ("Opacity/ribs/left", set()),
        ("Airspace Disease/lung/lingula", {"Lung Opacity"}),
        ("Infiltrate/lung/upper lobe/right", {"Lung Opacity"}),
        ("Markings/lung/interstitial/diffuse", {"Lung Opacity"}),
        ("Markings/bronchovascular", set()),
        ("Density/lung/lingula", {"Lung Opacity"}),
        ("Density/ribs/left", set()),
        ("Density/retrocardiac", {"Lung Opacity"}),
        ("Cardiomegaly/mild", {"Cardiomegaly"}),
        ("Cardiac Shadow/enlarged", {"Cardiomegaly"}),
        ("Cardiac Shadow/borderline", set()),
        ("Mediastinum/enlarged", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/anterior/prominent", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/shift", set()),
        ("Nodule/lung/hilum/right", {"Lung Lesion"}),
        ("Nodule/breast/left", set()),
        ("Mass/lung/upper lobe/left", {"Lung Lesion"}),
        ("Mass/mediastinum/anterior", set()),
        ("Pulmonary Edema/interstitial", {"Edema"}),
        ("Pulmonary Congestion", {"Edema"}),
        ("Heart Failure", {"Edema"}),
        ("Consolidation/lung/middle lobe/right", {"Consolidation"}),
        ("Pneumonia", {"Pneumonia"}),
        ("Pneumonia/upper lobe/left", {"Pneumonia"}),
        ("Pneumonectomy/left", set()),
        ("Pneumoperitoneum", set()),
        ("Pulmonary Atelectasis/base/bilateral", {"Atelectasis"}),
        ("Pneumothorax/right", {"Pneumothorax"}),
        ("Hydropneumothorax/left", {"Pneumothorax", "Pleural Effusion"}),
        ("Pleural Effusion/bilateral/small", {"Pleural Effusion"}),
        ("Hemothorax", {"Pleural Effusion"}),
        ("Thickening/pleura/apex", {"Pleural Other"}),
        ("Cicatrix/pleura/apex/left", {"Pleural Other"}),
        ("Cicatrix/lung/apex/left", set()),
        ("Costophrenic Angle/blunted", set()),
        ("Pleura/blunted/mild", set()),
        ("Fractures, Bone/ribs/left/healed", {"Fracture"}),
        ("Catheters, Indwelling/right", {"Support Devices"}),
        ("Implanted Medical Device/left", {"Support Devices"}),
        ("Medical Device", {"Support Devices"}),
        ("Tube, Inserted/trachea", {"Support Devices"}),
        ("Stents/coronary vessels", {"Support Devices"}),
        ("Surgical Instruments/abdomen", set()),
        ("Calcified Granuloma/lung/hilum/right", set()),
        (" OPACITY/lung ", {"Lung Opacity"}),
    ],
)
def test_a_mesh_term_means_these_findings(term, findings):
    labels = mesh_labels([term])
    assert {finding for finding, label in zip(CHEXPERT_FINDINGS, labels, strict=True) if label == 1} == findings
    assert ((labels == 0) | (labels == 1)).all()


def test_terms_add_up():
    together = mesh_labels(["Cardiomegaly", "Spine/degenerative", "Stents", "Pneumonia"])
    assert np.array_equal(
        together, mesh_labels(["Cardiomegaly"]) + mesh_labels(["Stents"]) + mesh_labels(["Pneumonia"])
    )


@pytest.mark.parametrize("terms", [["No Indexing"], [], ["", " "]])
def test_a_report_that_was_not_coded_has_no_known_label(terms):
    labels = mesh_labels(terms)
    assert labels.dtype == np.float32
    assert np.isnan(labels).all()


def test_every_mesh_pattern_names_a_finding_of_chexpert():
    assert set(MESH_TO_FINDING.values()) == set(CHEXPERT_FINDINGS)


# ------------------------------------------------------------------------------------------ Open-I

REPORTS = {
    "1": ("Cardiomegaly;Opacity/lung/base/left", "Large heart.  Opacity\nat the left base.", "Cardiomegaly."),
    "2": ("No Indexing", "", "No acute disease."),
    "3": ("normal", "Clear lungs.", ""),
    "4": ("normal", "Clear lungs.", "Normal."),
    "5": ("normal", "", ""),
    "10": ("normal", "", ""),
}
VIEWS = {
    "CXR1_IM-0001-3001": "Lateral",
    "CXR1_IM-0001-4001": "Frontal",
    "CXR2_IM-0652-1001": "Frontal",
    "CXR4_IM-2050-2001": "Lateral",
    "CXR5_IM-2117-1003002": "Frontal",
    "CXR10_IM-0002-1001": "Frontal",
    "CXR10_IM-0002-2001": "Frontal",
}
WITHOUT_FILE = "CXR5_IM-2117-1003002"


def write_projections(root):
    rows = [
        {"uid": image.split("_")[0][3:], "filename": f"{image[3:]}.dcm.png", "projection": view}
        for image, view in VIEWS.items()
    ]
    pd.DataFrame(rows).to_csv(root / "indiana_projections.csv", index=False)


def write_images(folder, name):
    folder.mkdir(parents=True)
    for image in VIEWS:
        if image != WITHOUT_FILE:
            Image.new("L", (8, 8)).save(folder / name(image))


def write_original(root, suffix="png"):
    (root / "ecgen-radiology").mkdir(parents=True)
    for uid, (mesh, findings, impression) in REPORTS.items():
        majors = "".join(f"<major>{term}</major>" for term in mesh.split(";"))
        images = "".join(f'<parentImage id="{image}"/>' for image in VIEWS if image.startswith(f"CXR{uid}_"))
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(
            f'<eCitation><uId id="CXR{uid}"/><Abstract><AbstractText Label="FINDINGS">{findings}</AbstractText>'
            f'<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract>'
            f"<MeSH>{majors}<automatic>heart</automatic></MeSH>{images}</eCitation>"
        )
    write_images(root / "NLMCXR_png", lambda image: f"{image}.{suffix}")
    write_projections(root)
    return root


def write_kaggle(root):
    write_images(root / "images" / "images_normalized", lambda image: f"{image[3:]}.dcm.png")
    rows = [{"uid": uid, "MeSH": m, "findings": f, "impression": i} for uid, (m, f, i) in REPORTS.items()]
    pd.DataFrame(rows).to_csv(root / "indiana_reports.csv", index=False)
    write_projections(root)
    return root


LAYOUTS = {
    "original": write_original,
    "original_jpg": lambda root: write_original(root, "jpg"),
    "kaggle": write_kaggle,
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def image_ids(study):
    return [f"CXR{image.name.split('.')[0].removeprefix('CXR')}" for image in study.images]


@layouts
def test_openi_gives_the_same_studies_in_every_layout(layout, tmp_path):
    studies = OpenI(layout(tmp_path)).studies()
    assert [study.study_id for study in studies] == ["CXR1", "CXR2", "CXR4", "CXR10"]
    assert [study.patient_id for study in studies] == ["1", "2", "4", "10"]
    assert [image_ids(study) for study in studies] == [
        ["CXR1_IM-0001-3001", "CXR1_IM-0001-4001"],
        ["CXR2_IM-0652-1001"],
        ["CXR4_IM-2050-2001"],
        ["CXR10_IM-0002-1001", "CXR10_IM-0002-2001"],
    ]
    assert [study.views for study in studies] == [("lateral", "frontal"), ("frontal",), ("lateral",), ("frontal",) * 2]
    assert studies[0].report == {"findings": "Large heart. Opacity at the left base.", "impression": "Cardiomegaly."}
    assert studies[1].report == {"impression": "No acute disease."}
    assert studies[3].report == {}
    present = [f for f, label in zip(CHEXPERT_FINDINGS, studies[0].labels, strict=True) if label]
    assert present == ["Cardiomegaly", "Lung Opacity"]
    assert np.isnan(studies[1].labels).all()
    assert [study.split for study in studies] == [split_of("openi", uid) for uid in ("1", "2", "4", "10")]


@layouts
def test_openi_counts_what_it_leaves_out(layout, tmp_path):
    corpus = OpenI(layout(tmp_path))
    corpus.studies()
    expected = {"reports that list no image": 1, "images listed, but no file": 1, "studies without an image file": 1}
    assert +corpus.left_out == expected
    corpus.studies()
    assert +corpus.left_out == expected


@layouts
def test_without_the_file_of_views_all_are_unknown(layout, tmp_path):
    root = layout(tmp_path)
    with_file = OpenI(root).studies()
    (root / "indiana_projections.csv").unlink()
    without_file = OpenI(root).studies()
    assert [image_ids(study) for study in with_file] == [image_ids(study) for study in without_file]
    assert {view for study in without_file for view in study.views} == {"unknown"}


@pytest.mark.parametrize("listed", ["CXR1_1_IM-0001-4001", "CXR1_IM-0001-4001"])
def test_the_number_between_uid_and_image_does_not_matter(listed, tmp_path):
    root = write_original(tmp_path)
    file = root / "NLMCXR_png" / "CXR1_IM-0001-4001.png"
    file.rename(file.with_name(f"{listed}.png"))
    (study, *_) = OpenI(root).studies()
    assert [(image.stem, view) for image, view in zip(study.images, study.views, strict=True)] == [
        ("CXR1_IM-0001-3001", "lateral"),
        (listed, "frontal"),
    ]


def test_a_report_with_a_document_type_is_refused(tmp_path):
    root = write_original(tmp_path)
    path = root / "ecgen-radiology" / "1.xml"
    path.write_text("<!DOCTYPE e [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>" + path.read_text())
    with pytest.raises(UserError, match=r"1.xml: not readable as XML \(DTDForbidden"):
        OpenI(root).studies()


def test_openi_names_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"no folder at .*nowhere; expected an Open-I download"):
        OpenI(tmp_path / "nowhere").studies()


def test_openi_says_what_an_empty_folder_lacks(tmp_path):
    with pytest.raises(UserError, match=r"neither ecgen-radiology/\*.xml nor indiana_reports.csv found"):
        OpenI(tmp_path).studies()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<eCitation><uId id='CXR1'/>", "1.xml: not readable as XML"),
        ("", "1.xml: not readable as XML"),
        ("<html><uId id='CXR1'/></html>", "1.xml: not an Open-I report; .* found <html>"),
        ("<eCitation/>", "1.xml: not an Open-I report"),
        ("<eCitation><uId id='1'/></eCitation>", "1.xml: not an Open-I report"),
    ],
)
def test_openi_names_a_report_that_is_none(text, found, tmp_path):
    root = write_original(tmp_path)
    (root / "ecgen-radiology" / "1.xml").write_text(text)
    with pytest.raises(UserError, match=found):
        OpenI(root).studies()


@pytest.mark.parametrize(
    ("table", "column"), [("indiana_reports.csv", "MeSH"), ("indiana_projections.csv", "projection")]
)
def test_openi_names_a_column_that_is_missing(table, column, tmp_path):
    root = write_kaggle(tmp_path)
    pd.read_csv(root / table).drop(columns=column).to_csv(root / table, index=False)
    with pytest.raises(UserError, match=f"{table}: column '{column}' not found among the . of its first line"):
        OpenI(root).studies()


@pytest.mark.parametrize("content", [b"", b'uid,MeSH\n"1,2', b"\xff\xfe\xfa,x\n"])
def test_openi_names_a_table_that_is_none(content, tmp_path):
    root = write_kaggle(tmp_path)
    (root / "indiana_reports.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"indiana_reports.csv: "):
        OpenI(root).studies()


def test_openi_names_a_uid_that_is_no_number(tmp_path):
    root = write_kaggle(tmp_path)
    table = pd.read_csv(root / "indiana_reports.csv", dtype=str)
    table.assign(uid="first").to_csv(root / "indiana_reports.csv", index=False)
    with pytest.raises(UserError, match=r"indiana_reports.csv: row 2: 'uid' is not of the form"):
        OpenI(root).studies()


@layouts
def test_openi_says_how_images_should_be_named(layout, tmp_path):
    root = layout(tmp_path)
    for image in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
        image.unlink()
    with pytest.raises(UserError, match=r"among 6 reports and 0 images; expected images named CXR1_1_IM-0001-4001.png"):
        OpenI(root).studies()


@real_openi
def test_real_openi_has_2957_frontal_studies_of_which_65_are_not_indexed():
    studies = Selection(OpenI(REAL_OPENI), 8).read().studies
    assert len(studies) == 2957
    assert sum(np.isnan(study.labels).all() for study in studies) == 65
    assert not any(np.isnan(study.labels).any() and not np.isnan(study.labels).all() for study in studies)


@real_openi
def test_no_patient_of_real_openi_is_in_two_splits():
    data = StudyData(Selection(OpenI(REAL_OPENI)))
    patients = [study.patient_id for split in ("train", "validation", "test") for study in data.studies(split)]
    assert len(patients) == len(set(patients)) == 2957


@real_openi
def test_every_mesh_pattern_occurs_in_real_openi():
    table = pd.read_csv(REAL_OPENI / "indiana_reports.csv", dtype=str)
    terms = {term.strip().lower() for terms in table["MeSH"] for term in terms.split(";")}
    unused = [pattern for pattern in MESH_TO_FINDING if not any(re.match(pattern, term) for term in terms)]
    assert unused == []


# ------------------------------------------------------------------------------------------ images

GRAY = np.add.outer(np.arange(24), 8 * np.arange(20)).astype(np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def palette_image():
    image = Image.fromarray(GRAY[:, ::-1]).convert("P")
    image.putpalette([value for gray in range(256) for value in (gray, gray, gray)])
    return image


def test_an_image_becomes_a_square_of_bytes():
    pixels = ImageTransform(16)(GRAY)
    assert (pixels.shape, pixels.dtype) == ((1, 16, 16), torch.uint8)


def test_an_image_of_the_right_size_is_left_as_it_is():
    square = GRAY[:20, :20]
    assert np.array_equal(ImageTransform(20)(square)[0].numpy(), square)


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(GRAY)),
        encoded(Image.fromarray(np.stack([GRAY] * 3, -1))),
        encoded(Image.fromarray(np.stack([GRAY, GRAY, GRAY, GRAY // 2], -1))),
        encoded(Image.fromarray(np.stack([GRAY, GRAY // 2], -1))),
        encoded(Image.fromarray(GRAY.astype(np.uint16) * 257)),
    ],
    ids=["gray", "RGB", "RGBA", "LA", "16bit"],
)
def test_png_files_of_all_kinds_give_the_same_gray(content, tmp_path):
    (tmp_path / "image.png").write_bytes(content)
    assert torch.equal(ImageTransform(16)(tmp_path / "image.png"), ImageTransform(16)(GRAY))


@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": bytes(range(256))}])
def test_a_palette_is_looked_up(options, tmp_path):
    palette_image().save(tmp_path / "image.png", **options)
    expected = np.asarray(palette_image().convert("RGB"))[..., 0]
    assert torch.equal(ImageTransform(16)(tmp_path / "image.png"), ImageTransform(16)(expected))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "image.png")
    assert ImageTransform(8)(tmp_path / "image.png").unique().tolist() == [128]


def test_a_jpeg_is_read_nearly_as_it_was(tmp_path):
    (tmp_path / "image.jpg").write_bytes(encoded(Image.fromarray(GRAY), "JPEG", quality=100))
    difference = ImageTransform(16)(tmp_path / "image.jpg").int() - ImageTransform(16)(GRAY).int()
    assert difference.abs().max() <= 3


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("shape", [(64, 48), (5, 7)])
def test_a_constant_image_stays_constant(value, shape):
    assert ImageTransform(16)(np.full(shape, value, np.uint8)).unique().tolist() == [value]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_cut_anywhere_is_a_user_error_that_names_the_file(form, tmp_path):
    whole = encoded(Image.fromarray(GRAY), form)
    for length in range(0, len(whole) - 30, 7):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.png: (unreadable or )?truncated image") as error:
            ImageTransform(16)(tmp_path / "cut.png")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(Image.fromarray(GRAY), "BMP")])
def test_a_file_of_another_type_is_a_user_error(content, tmp_path):
    (tmp_path / "text.png").write_bytes(content)
    with pytest.raises(UserError, match=r"text.png: unreadable or truncated image \(not a PNG or JPEG\)"):
        ImageTransform(16)(tmp_path / "text.png")


def test_a_missing_image_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"absent.png: no such image file"):
        ImageTransform(16)(tmp_path / "absent.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UserError, match="unreadable or truncated image"):
        ImageTransform(16)(tmp_path)


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    Image.fromarray(GRAY).save(tmp_path / "image.png")
    monkeypatch.setattr(image_transform, "MAX_PIXELS", GRAY.size - 1)
    with pytest.raises(UserError, match=r"image.png: 20 x 24 pixels, more than the limit of 479"):
        ImageTransform(16)(tmp_path / "image.png")
    monkeypatch.setattr(image_transform, "MAX_PIXELS", GRAY.size)
    assert ImageTransform(16)(tmp_path / "image.png").shape == (1, 16, 16)


# ------------------------------------------------------------------------------------ augmentation

PICTURE = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(0))


def test_augmentation_is_a_function_of_image_and_seed():
    augment = Augmentation()
    first = augment(PICTURE, 5)
    torch.manual_seed(99)
    assert torch.equal(augment(PICTURE, 5), first)
    assert torch.equal(Augmentation()(PICTURE, 5), first)
    assert not torch.equal(augment(PICTURE, 6), first)


def test_augmentation_leaves_the_global_random_numbers_alone():
    before = torch.random.get_rng_state()
    Augmentation()(PICTURE, 5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_augmentation_changes_the_image_within_its_range():
    extreme = (PICTURE > 0.5).float()
    for seed in range(20):
        changed = Augmentation(contrast=0.9)(extreme, seed)
        assert not torch.equal(changed, extreme)
        assert 0 <= changed.min() <= changed.max() <= 1


def test_augmentation_by_nothing_changes_nothing():
    assert torch.allclose(Augmentation(0.0, 0.0, 0.0, 0.0)(PICTURE, 3), PICTURE, atol=1e-6)


def augmented(degrees=0.0, right=0.0, down=0.0, scale=1.0, brightness=1.0, contrast=1.0, picture=PICTURE):
    parameters = torch.tensor([[degrees, right, down, scale, brightness, contrast]])
    return Augmentation().apply(picture[None], parameters)[0]


@pytest.mark.parametrize("quarters", range(-3, 4))
def test_a_rotation_is_clockwise(quarters):
    assert torch.allclose(augmented(degrees=90 * quarters), torch.rot90(PICTURE, -quarters, (1, 2)), atol=1e-5)


def test_a_shift_is_to_the_right_and_down_and_brings_in_black():
    expected = torch.zeros_like(PICTURE)
    expected[:, 3:, :-2] = PICTURE[:, :-3, 2:]
    assert torch.allclose(augmented(right=-2 / 24, down=3 / 24), expected, atol=1e-5)


def test_half_the_size_is_the_mean_of_four_pixels_within_black():
    expected = torch.zeros_like(PICTURE)
    expected[:, 6:18, 6:18] = torch.nn.functional.avg_pool2d(PICTURE, 2)
    assert torch.allclose(augmented(scale=0.5), expected, atol=1e-5)


def test_brightness_multiplies_and_contrast_stretches_about_the_mean():
    assert torch.allclose(augmented(brightness=1.5), (1.5 * PICTURE).clamp(max=1), atol=1e-5)
    mean = PICTURE.mean()
    assert torch.allclose(augmented(contrast=0.0), mean.expand_as(PICTURE), atol=1e-5)
    assert torch.allclose(augmented(contrast=1.8), (mean + 1.8 * (PICTURE - mean)).clamp(0, 1), atol=1e-5)


def test_augmentation_is_torchvisions():
    augment = Augmentation(degrees=180.0, shift=0.5, scale=0.9, contrast=1.0)
    for seed in range(50):
        degrees, right, down, scale, brightness, contrast = augment.parameters(seed).tolist()
        shift = [24 * right, 24 * down]
        moved = tv.affine(PICTURE, degrees, shift, scale, [0.0, 0.0], tv.InterpolationMode.BILINEAR)
        expected = tv.adjust_contrast(tv.adjust_brightness(moved, brightness), contrast)
        assert torch.allclose(augment(PICTURE, seed), expected, atol=1e-4)


def test_parameters_of_an_augmentation_fill_their_ranges():
    parameters = torch.stack([Augmentation(8.0, 0.05, 0.2, 0.4).parameters(seed) for seed in range(2000)])
    middle = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    share = (parameters - middle) / torch.tensor([8.0, 0.05, 0.05, 0.2, 0.4, 0.4])
    assert share.abs().max() <= 1 + 1e-5
    assert torch.allclose(share.mean(0), torch.zeros(6), atol=5 / math.sqrt(3 * 2000))
    assert torch.allclose(share.std(0), torch.full((6,), 1 / math.sqrt(3)), atol=0.03)
    assert (torch.corrcoef(share.T) - torch.eye(6)).abs().max() < 0.1


def test_augmentation_never_flips():
    """Left of the middle stays left, above stays above."""
    corner = torch.zeros(1, 24, 24)
    corner[:, 4:8, 4:8] = 1
    for seed in range(200):
        changed = Augmentation(contrast=0.0)(corner, seed)
        assert changed[:, :12, :12].sum() > 0.9 * changed.sum() > 0


@pytest.mark.parametrize("size", [8, 33, 224])
def test_an_augmented_image_is_the_same_in_any_batch(size):
    augment = Augmentation()
    images = torch.rand(5, 1, size, size, generator=torch.Generator().manual_seed(size))
    together = augment.apply(images, torch.stack([augment.parameters(seed) for seed in range(5)]))
    assert torch.equal(together, torch.stack([augment(image, seed) for seed, image in enumerate(images)]))


def test_several_images_of_one_seed_are_changed_alike():
    images = torch.stack([PICTURE, PICTURE.flip(1)])
    assert torch.equal(Augmentation()(images, 4), torch.stack([Augmentation()(image, 4) for image in images]))


@pytest.mark.parametrize(("name", "value"), [("degrees", 181.0), ("shift", -0.1), ("scale", 1.0), ("contrast", 1.5)])
def test_an_augmentation_out_of_range_is_refused(name, value):
    with pytest.raises(UserError, match=rf"data.loading.augmentation.{name}: found {value:g}, expected 0 to "):
        Augmentation(**{name: value})


# ----------------------------------------------------------------------------------------- batches


def example(report, labels=(1.0, 0.0), name="s", has_report=True):
    return Example(torch.rand(1, 4, 4), torch.tensor(report), has_report, torch.tensor(labels), name)


def test_reports_are_padded_to_the_longest_of_the_batch():
    batch = collate([example([5, 6, 7]), example([8])])
    assert batch.report.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.report_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.report.dtype == torch.int64


def test_embeddings_are_padded_and_become_float32():
    long, short = torch.rand(3, 2).half(), torch.rand(1, 2).half()
    examples = [dataclasses.replace(example([0]), report=report) for report in (short, long)]
    batch = collate(examples)
    assert (batch.report.shape, batch.report.dtype) == ((2, 3, 2), torch.float32)
    assert torch.equal(batch.report[1], long.float())
    assert torch.equal(batch.report[0], torch.cat([short.float(), torch.zeros(2, 2)]))


def test_unknown_labels_are_masked_and_zero():
    batch = collate([example([0], (float("nan"), 1.0)), example([0], (0.0, float("nan")))])
    assert batch.labels.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert batch.known.tolist() == [[False, True], [True, False]]


def test_a_batch_says_which_studies_have_a_report():
    batch = collate([example([0], name="a", has_report=False), example([0, 4], name="b")])
    assert batch.has_report.tolist() == [False, True]
    assert batch.study_ids == ("a", "b")
    assert len(batch) == 2


def test_a_slice_of_a_batch_is_the_batch_of_the_slice():
    batch = collate([example([0, 1], (float(n), 0.0), str(n)) for n in range(2)] + [example([3], name="2")])
    part = batch[1:]
    assert part.study_ids == ("1", "2")
    assert len(part) == 2
    for field in ("images", "report", "report_mask", "has_report", "labels", "known"):
        assert torch.equal(getattr(part, field), getattr(batch, field)[1:])


def test_a_batch_moves_as_a_whole():
    moved = collate([example([0, 1])]).to("meta")
    for field in ("images", "report", "report_mask", "has_report", "labels", "known"):
        assert getattr(moved, field).device.type == "meta"
    assert moved.study_ids == ("s",)


def test_without_reports_only_the_reports_are_gone():
    batch = collate([example([0, 1]), example([2])])
    blind = batch.without_reports()
    assert blind.has_report.tolist() == [False, False]
    assert batch.has_report.tolist() == [True, True]
    assert blind.images is batch.images
    assert blind.labels is batch.labels


# ----------------------------------------------------------------------------------------- loading


class ListedCorpus(Corpus):
    """The studies it is given."""

    name = "listed"
    findings = ("A", "B")

    def __init__(self, studies):
        self.listed = studies

    def studies(self):
        return self.listed


def study(name, split="train", num_images=1, report="clear", patient=None):
    generator = np.random.default_rng(len(name))
    images = tuple(generator.integers(0, 255, (8, 8), dtype=np.uint8) for _ in range(num_images))
    labels = np.array([1, np.nan], np.float32)
    return Study(name, patient or name, images, ("frontal",) * num_images, {"report": report or ""}, labels, split)


def dataset_of(*studies, augmentation=None, seed=0, cache=True):
    targets = np.stack([study.labels for study in studies])
    has_report = [True] * len(studies)
    reports = [torch.zeros(1)] * len(studies)
    return StudyDataset(studies, targets, reports, has_report, ImageTransform(8), augmentation, seed, cache)


def corpus_of(*train, validation=("v",), test=("t",)):
    others = [study(name, "validation") for name in validation] + [study(name, "test") for name in test]
    return ListedCorpus([*train, *others])


def test_a_study_with_two_images_has_two_rows():
    data = StudyData(
        Selection(corpus_of(study("a", num_images=2), study("b")), image_size=8), loading=Loading(batch_size=3)
    )
    batch = next(iter(data.train_loader(None, seed=0)))
    assert sorted(batch.study_ids) == ["a", "a", "b"]
    rows = [i for i, name in enumerate(batch.study_ids) if name == "a"]
    assert not torch.equal(batch.images[rows[0]], batch.images[rows[1]])
    assert torch.equal(batch.report[rows[0]], batch.report[rows[1]])


def test_evaluation_is_in_order_and_not_augmented():
    studies = [study(name, "test") for name in ("t1", "t02", "t003")]
    corpus = ListedCorpus([study("a"), study("v", "validation"), *studies])
    data = StudyData(Selection(corpus, image_size=8), loading=Loading(batch_size=2, augmentation=Augmentation()))
    batches = list(data.evaluation_loader("test", None))
    assert [batch.study_ids for batch in batches] == [("t1", "t02"), ("t003",)]
    pixels = torch.cat([batch.images for batch in batches])
    assert torch.equal(pixels, torch.stack([torch.from_numpy(s.images[0])[None] for s in studies]).float() / 255)


def test_training_images_are_augmented_anew_in_every_epoch():
    dataset = dataset_of(study("a"), augmentation=Augmentation(), seed=1)
    first, second = dataset[0, 0].image, dataset[1, 0].image
    assert not torch.equal(first, second)
    assert torch.equal(dataset[0, 0].image, first)
    assert torch.equal(dataset[-1, 0].image * 255, torch.from_numpy(study("a").images[0])[None].float())


def test_two_images_of_a_study_are_augmented_differently():
    same = np.arange(64, dtype=np.uint8).reshape(8, 8)
    twice = dataclasses.replace(study("a"), images=(same, same), views=("frontal",) * 2)
    dataset = dataset_of(twice, augmentation=Augmentation())
    assert not torch.equal(dataset[0, 0].image, dataset[0, 1].image)


def test_a_cached_image_is_read_once(monkeypatch):
    readings = []
    monkeypatch.setattr(ImageTransform, "__call__", lambda self, image: readings.append(1) or torch.zeros(1, 8, 8))
    for cache, expected in ((True, 1), (False, 3)):
        readings.clear()
        dataset = dataset_of(study("a"), cache=cache)
        for epoch in range(3):
            assert dataset[epoch, 0].image.shape == (1, 8, 8)
        assert len(readings) == expected


def test_the_order_is_a_function_of_seed_and_epoch():
    sampler, same = ShuffledSampler(50, seed=3), ShuffledSampler(50, seed=3)
    first = list(sampler)
    assert list(same) == first
    assert sorted(row for _, row in first) == list(range(50))
    assert {epoch for epoch, _ in first} == {0}
    sampler.set_epoch(1)
    assert [row for _, row in sampler] != [row for _, row in first]
    assert list(ShuffledSampler(50, seed=4)) != first


def test_an_incomplete_training_batch_is_dropped():
    data = StudyData(Selection(corpus_of(*map(study, "abcde")), image_size=8), loading=Loading(batch_size=2))
    assert [len(batch) for batch in data.train_loader(None, seed=0)] == [2, 2]


def test_absent_reports_keep_one_token():
    data = StudyData(
        Selection(corpus_of(study("a", report=None), study("b", report="clear")), image_size=8),
        loading=Loading(batch_size=2),
    )
    batch = next(iter(data.train_loader(WordEncoder(width=8), seed=0)))
    absent = batch.study_ids.index("a")
    assert batch.has_report[absent].item() is False
    assert batch.report_mask[absent].tolist() == [True, False]
    assert batch.report_mask[1 - absent].tolist() == [True, True]


def test_worker_processes_give_the_same_batches():
    corpora = [corpus_of(*map(study, "abcd")) for _ in range(2)]
    loaders = [
        StudyData(
            Selection(corpus, image_size=8), loading=Loading(batch_size=2, augmentation=Augmentation(), num_workers=n)
        ).train_loader(None, 0)
        for n, corpus in enumerate(corpora)
    ]
    for alone, by_worker in zip(*loaders, strict=True):
        assert torch.equal(alone.images, by_worker.images)
        assert alone.study_ids == by_worker.study_ids


def test_labels_are_those_of_the_studies():
    data = StudyData(Selection(corpus_of(study("a"), study("b")), image_size=8))
    assert np.array_equal(data.targets("train"), [[1, np.nan]] * 2, equal_nan=True)
    assert data.findings == ("A", "B")


def test_a_patient_in_two_splits_is_refused():
    corpus = corpus_of(study("a", patient="p"), validation=("p",))
    with pytest.raises(UserError, match="listed: 1 patients are in both train and validation; split by patient"):
        StudyData(Selection(corpus)).studies("train")


def test_a_patient_may_have_several_studies_of_one_split():
    data = StudyData(Selection(corpus_of(study("a", patient="p"), study("b", patient="p"))))
    assert [s.study_id for s in data.studies("train")] == ["a", "b"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_empty_split_is_refused(split):
    with pytest.raises(UserError, match=f"listed: the {split} split is empty"):
        StudyData(Selection(corpus_of(study("a"), **{split: ()}))).studies(split)


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="listed: 'valid' is no split; expected train, validation or test"):
        StudyData(Selection(ListedCorpus([study("a", "valid")]))).studies("train")


def test_a_batch_larger_than_the_training_set_is_refused():
    data = StudyData(Selection(corpus_of(study("a")), image_size=8), loading=Loading(batch_size=2))
    with pytest.raises(UserError, match=r"data.loading.batch_size: 2 is more than the 1 training images; set it lower"):
        data.train_loader(None, seed=0)


@pytest.mark.parametrize("size", [0, 2049, 100_000])
def test_an_image_size_is_of_an_image(size):
    expected = rf"data.selection.image_size: found {size}, expected pixels, 1 to 2048$"
    with pytest.raises(UserError, match=expected):
        Selection(corpus_of(study("a")), image_size=size)


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"num_workers": -1}])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(UserError, match=r"data\.\w+\.(batch_size|num_workers): found (0|-1), expected at least [01]"):
        study_data(corpus_of(study("a")), **sizes)


def test_max_train_studies_shortens_training_alone():
    whole, few = StudyData(Selection(TinyCorpus())), StudyData(Selection(TinyCorpus()), task=Task(max_train_studies=5))
    assert [s.study_id for s in few.studies("train")] == [s.study_id for s in whole.studies("train")][:5]
    for split in ("validation", "test"):
        assert len(few.studies(split)) == len(whole.studies(split)) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ()}, "study study-0000 has 0 images and 1 views"),
        ({"study_id": "study-0001"}, "two studies have the same study_id"),
    ],
)
def test_studies_that_cannot_be_evaluated_are_refused(changes, message):
    class Odd(TinyCorpus):
        def studies(self):
            first, *others = super().studies()
            return [dataclasses.replace(first, **changes), *others]

    with pytest.raises(UserError, match=message):
        StudyData(Selection(Odd(), image_size=32)).studies("train")


def test_a_study_shows_neither_report_nor_patient():
    study = TinyCorpus().studies()[0]
    assert "study-0000" in repr(study)
    assert study.patient_id not in repr(study)
    assert "radiologist" not in repr(study)
