"""Whether heat maps point at regions: runs, geometry, pointing game, intersection over union, their page."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import refusal, vkd
from tests.test_tables import evaluation_of as make_evaluation
from tests.test_training import make_vkd
from vkd_pyro import metrics
from vkd_pyro.cli.evaluate import write_numbers
from vkd_pyro.data import rle
from vkd_pyro.data.corpora.vindr_cxr import VinDrCXR
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.regions import Region
from vkd_pyro.evaluation import heatmaps as scoring
from vkd_pyro.evaluation.heatmaps import MapScores, has_regions, score_maps
from vkd_pyro.evaluation.tables import localization
from vkd_pyro.metrics import THRESHOLDS
from vkd_pyro.reporting import write
from vkd_pyro.reporting.html import render
from vkd_pyro.reporting.sections import Assessment, Extras, page_of
from vkd_pyro.reporting.write import save_all
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.errors import UserError

# Runs -----------------------------------------------------------------------------------------------------------------

CROSS = np.array([[0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]], bool)
"""Down its columns: 0 1 0, 1 1 1, 0 1 0, 0 0 0."""


def test_runs_go_down_the_columns():
    assert np.array_equal(rle.decode([1, 1, 1, 3, 1, 1, 4], 3, 4), CROSS)


def test_runs_as_text_by_hand():
    """1 1 1, then 3 - 1 = 2, 1 - 1 = 0, 1 - 3 = -2, 4 - 1 = 3; -2 is 30 in five bits, and "N" is character 48 + 30."""
    assert rle.encode(CROSS) == "11120N3"
    assert rle.lengths_of("11120N3") == [1, 1, 1, 3, 1, 1, 4]
    assert np.array_equal(rle.decode("11120N3", 3, 4), CROSS)


@pytest.mark.parametrize(
    ("text", "height", "width"),
    [("PVWX6", 2320, 2828), ("nefl3", 2022, 2021)],  # empty masks of the sample that CheXlocalize publishes
)
def test_published_runs_of_an_empty_mask(text, height, width):
    assert rle.lengths_of(text) == [height * width]
    assert rle.encode(np.zeros((height, width), bool)) == text


def test_a_mask_that_begins_inside():
    mask = np.array([[True, False], [True, True]])
    assert rle.lengths_of(rle.encode(mask)) == [0, 2, 1, 1]
    assert np.array_equal(rle.decode(rle.encode(mask), 2, 2), mask)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("1112", "runs are not those of 3 x 4 pixels"),
        ([13, -1], "runs are not those"),
        ([], "runs are not those"),
        ("P", "end within a number"),
        ("1 ", "characters that are none of COCO's"),
        ("P" * 40, "characters that are none of COCO's"),
        ([1.0, 11.0], "neither text nor whole numbers"),
        (None, "neither text nor whole numbers"),
    ],
)
def test_runs_that_are_none_are_refused(counts, message):
    with pytest.raises(UserError, match=message):
        rle.decode(counts, 3, 4)


def test_a_mask_that_would_fill_the_memory_is_refused_before_it_is_made():
    with pytest.raises(UserError, match="a mask of 1000000 x 1000000 pixels"):
        rle.decode([10**12], 10**6, 10**6)


# Geometry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 120), (300, 100)])
def test_a_box_goes_where_the_image_goes(height, width):
    """A bright rectangle, read and resized as the model reads it, is where the region says."""
    left, top, right, bottom = width // 4, height // 10, width // 2, height // 2
    pixels = np.zeros((height, width), np.uint8)
    pixels[top:bottom, left:right] = 255
    seen = ImageTransform(20)(pixels)[0].numpy() > 127
    box = Region(height, width, (((left, top, right, bottom),),))
    mask = Region(height, width, counts=rle.encode(pixels > 0))
    assert np.array_equal(box.resized(20), mask.resized(20))
    assert np.array_equal(box.resized(20), seen)
    assert seen.sum() == pytest.approx(400 / 4 * 0.4, abs=5)


def test_halves_of_a_picture_that_is_not_square():
    left, top = Region(10, 40, (((0, 0, 20, 10),),)), Region(10, 40, (((0, 0, 40, 5),),))
    expected = np.zeros((4, 4), bool)
    expected[:, :2] = True
    assert np.array_equal(left.resized(4), expected)
    assert np.array_equal(top.resized(4), expected.T)


def test_a_small_region_keeps_the_pixel_that_it_covers_most():
    box = Region(100, 100, (((52, 11, 55, 14),),))
    mask = np.zeros((100, 100), bool)
    mask[11:14, 52:55] = True
    for region in (box, Region(100, 100, counts=rle.encode(mask))):
        assert np.argwhere(region.resized(10)).tolist() == [[1, 5]]


def test_boxes_that_reach_over_the_edge_end_there():
    assert Region(10, 10, (((5, 5, 30, 30),),)).resized(2).tolist() == [[False, False], [False, True]]


def test_readers_vote_place_by_place():
    readers = (((0, 0, 10, 5),), ((0, 0, 5, 10),), ((0, 0, 2, 2), (8, 8, 10, 10)))
    both = Region(10, 10, readers, votes=2).resized(10)
    assert both[:5, :5].all()
    assert both.sum() == 25
    assert not Region(10, 10, readers[:2], votes=3).resized(10).any()


def test_an_empty_region_is_empty():
    assert not Region(4, 4, counts=[16]).resized(2).any()
    assert not Region(4, 4).resized(2).any()


# Metrics --------------------------------------------------------------------------------------------------------------


def test_the_pointing_game_by_hand():
    peak = np.zeros((3, 4, 4))
    peak[0, 1, 2] = peak[1, 3, 3] = 1
    region = np.zeros((3, 4, 4), bool)
    region[:, :2] = True
    assert metrics.pointing_game(peak, region).tolist() == [1, 0, 0]  # the third map is empty
    assert np.isnan(metrics.pointing_game(peak, np.zeros_like(region))).all()


def test_several_largest_values_share_a_hit():
    maps, region = np.zeros((1, 2, 2)), np.array([[[True, False], [False, False]]])
    maps[0, 0] = 1
    assert metrics.pointing_game(maps, region) == [0.5]


def test_intersection_over_union_by_hand():
    maps = np.array([[[1.0, 0.6], [0.3, 0.0]]])
    region = np.array([[[True, False], [True, False]]])
    found = metrics.intersection_over_union(maps, region, [0.2, 0.5, 0.9])
    assert found[0] == pytest.approx([2 / 3, 1 / 3, 1 / 2])
    assert metrics.intersection_over_union(np.zeros_like(maps), region, [0.5]) == [[0]]
    assert np.isnan(metrics.intersection_over_union(maps, np.zeros_like(region), [0.5])).all()
    assert metrics.intersection_over_union(region.astype(float), region, [0.5]) == [[1]]
    with pytest.raises(ValueError, match=r"expected \[N, H, W\] of both"):
        metrics.intersection_over_union(maps, region[0])


@pytest.mark.parametrize(("height", "width"), [(3, 3), (8, 8), (5, 9)])
def test_the_centre_map_falls_from_the_centre_to_the_corners(height, width):
    found = metrics.centre_map(height, width)
    assert found.max() == 1
    assert found[height // 2, width // 2] == 1
    assert found.min() == found[0, 0] == pytest.approx(found[-1, -1])
    assert 0 < found.min() < 0.5


def test_the_best_threshold_is_that_of_the_largest_mean():
    assert metrics.best_threshold([[0.1, 0.4, 0.3], [0.3, 0.2, 0.5]], [0.2, 0.5, 0.8]) == 0.8
    assert metrics.best_threshold([[0.4, 0.4]], [0.2, 0.5]) == 0.2


def test_a_random_place_hits_as_often_as_the_region_is_large():
    generator = np.random.default_rng(0)
    region = np.zeros((4000, 8, 8), bool)
    region[:, :2, :4] = True
    found = metrics.pointing_game(generator.random(region.shape), region)
    assert found.mean() == pytest.approx(region.mean(), abs=0.02)


def test_intervals_count_patients_and_are_undefined_below_five():
    hits = np.array([1.0, 0, 1, 1] * 20)
    one_each, of_four = (metrics.hit_rate(hits, np.arange(80) // images) for images in (1, 4))
    assert one_each.estimate == of_four.estimate == 0.75
    assert (one_each.low, one_each.high) == pytest.approx((0.6448, 0.8316), abs=1e-3)  # Wilson's of 60 of 80
    assert one_each.note == ""
    assert of_four.note == "fewer than 30 patients with a region"
    few = metrics.hit_rate(hits, np.arange(80) // 20)
    assert few.estimate == 0.75
    assert np.isnan([few.low, few.high]).all()
    assert few.note == "4 patients with a region, fewer than 5: no interval"
    overlap = metrics.mean_overlap(hits / 2, np.arange(80) // 2, 500)
    assert overlap.estimate == pytest.approx(0.375)
    assert overlap.low < 0.375 < overlap.high
    assert metrics.mean_overlap(hits / 2, np.arange(80) // 20).note.startswith("4 patients")
    nothing = metrics.mean_overlap([], [])
    assert np.isnan(nothing.estimate)
    assert nothing.note == "0 patients with a region, fewer than 5: no interval"


# Tables and page ------------------------------------------------------------------------------------------------------


def scores(number=40, quality=0.9, seed=0):
    """Maps of two findings: of the first as good as asked, of the second in three patients only."""
    generator = np.random.default_rng(seed)
    finding = np.array([0] * number + [2] * 3)
    hits = (generator.random(len(finding)) < quality).astype(float)
    overlaps = np.tile(np.where(np.abs(THRESHOLDS - 0.3) < 0.01, 0.6, 0.2), (len(finding), 1))
    return MapScores(
        findings=("Edema", "Fracture", "Pneumothorax"),
        finding=finding,
        patients=np.array([f"p{i}" for i in range(len(finding))]),
        hits=hits,
        centre_hits=np.zeros(len(finding)),
        overlaps=overlaps,
        centre_overlaps=overlaps / 2,
        areas=np.full(len(finding), 0.1),
        empty=hits == 2,
        size=32,
        cells=(8, 8),
    )


def some_evaluation():
    generator = np.random.default_rng(0)
    y = (generator.random((60, 2)) < 0.4).astype(float)
    blank = dict.fromkeys(("joint_log_prob", "marginal_log_prob", "answer_information"), np.full(60, np.nan))
    return make_evaluation(np.clip(0.4 * y + generator.random((60, 2)) / 2, 0.01, 0.99), y, **blank)


def test_a_row_a_finding_that_was_drawn():
    found = localization(scores(), None, 50)
    assert found.table.index.tolist() == ["Edema", "Pneumothorax"]
    edema, pneumothorax = (found.table.loc[name] for name in found.table.index)
    assert (edema["images"], edema["patients"]) == (40, 40)
    assert edema["hit rate"].low > edema["hit rate at random"] == pytest.approx(0.1)
    assert (edema["threshold"], edema["threshold from"]) == (0.5, "half of the largest value")
    assert edema["mIoU"].estimate == pytest.approx(0.2)
    assert edema["mIoU of the centre"] == pytest.approx(0.3)
    assert np.isnan(pneumothorax["hit rate"].low)
    assert "3 patients with a region" in pneumothorax["hit rate"].note


def test_the_threshold_is_chosen_on_validation_where_there_are_enough_patients():
    found = localization(scores(), scores(10, seed=1), 50).table
    assert found["threshold"].tolist() == [pytest.approx(0.3), 0.5]
    assert found["threshold from"].tolist() == ["validation", "half of the largest value"]
    assert found["mIoU"]["Edema"].estimate == pytest.approx(0.6)


def alone(*arguments):
    """The page with the part of heat maps only: the others take seconds to be drawn."""
    page = page_of(*arguments)
    return replace(page, sections=[part for part in page.sections if part.name == "heatmaps"])


def test_the_page_and_the_json_have_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "page_of", alone)
    found = localization(scores(), scores(10, seed=1), 50)
    evaluation = some_evaluation()
    extras = Extras("mine", localization=found)
    page = alone(evaluation, Assessment.of(evaluation, 20), extras)
    assert "A square to the right" in page.sections[0].figures[0].caption
    text = render(page)
    assert "Heat maps" in text
    rate = found.table["hit rate"]["Edema"]
    assert f"[{rate.low:.3f}, {rate.high:.3f}]" in text
    save_all(evaluation, tmp_path / "e", extras, 20)
    written = json.loads((tmp_path / "e" / "evaluation.json").read_text())["heatmaps"]
    assert written["table"]["Edema"]["hit rate"]["low"] == rate.low
    assert written["table"]["Pneumothorax"]["hit rate"]["low"] is None
    assert written["table"]["Pneumothorax"]["hit rate"]["note"].startswith("3 patients")
    assert written["curves"]["Edema"] == pytest.approx(found.curves["Edema"])
    assert written["size"] == 32
    assert "p0" not in json.dumps(written)
    assert (tmp_path / "e" / "tables" / "heatmaps_pointing_game.csv").is_file()
    assert (tmp_path / "e" / "figures" / "hit_rates_and_chance.png").is_file()
    write_numbers(evaluation, tmp_path / "n", found)
    assert json.loads((tmp_path / "n" / "evaluation.json").read_text())["heatmaps"] == written


def test_a_page_without_regions_has_no_such_part():
    evaluation = some_evaluation()
    names = [part.name for part in page_of(evaluation, Assessment.of(evaluation, 20), Extras("mine")).sections]
    assert "heatmaps" not in names


# A model and its corpus -----------------------------------------------------------------------------------------------


class DrawnCorpus(TinyCorpus):
    """The same as files, twice as wide; the upper square is boxed in every study of the test split that has it."""

    def __init__(self, folder, num_studies=40):
        super().__init__(num_studies)
        self.folder = folder

    def _study(self, number):
        study = super()._study(number)
        path = self.folder / f"{study.study_id}.png"
        if not path.is_file():
            Image.fromarray(study.images[0]).resize((64, 32), Image.Resampling.NEAREST).save(path)
        return type(study)(**{**vars(study), "images": (path,)})

    def regions(self, images):
        studies = {study.images[0]: study for study in self.studies()}
        box = ((4.0, 2.0, 24.0, 12.0),)
        drawn = [studies[image].split == "test" and studies[image].labels[0] == 1 for image in images]
        return [
            {"Upper Square": Region(32, 64, (box,)), "Other": Region(32, 64, (box,))} if one else {} for one in drawn
        ]


@pytest.fixture
def drawn(tmp_path):
    return study_data(DrawnCorpus(tmp_path), image_size=32, batch_size=8)


def test_maps_are_scored_at_the_models_images(drawn, monkeypatch):
    """A map that is where the box is in the resized image hits it, and has its area."""
    asked = []

    def perfect(model, images, finding, num_samples, seed, layer):
        asked.append((tuple(images.shape), tuple(finding), num_samples, seed))
        maps = np.zeros((1, len(finding), 32, 32))
        maps[:, :, 2:12, 2:12] = 1
        return torch.from_numpy(maps)

    monkeypatch.setattr(scoring, "grad_cam", perfect)
    found = score_maps(make_vkd(), drawn, "test", 3, 7)
    studies = [study for study in drawn.studies("test") if study.labels[0] == 1]
    assert found.patients.tolist() == [study.patient_id for study in studies]
    assert asked == [((1, 1, 32, 32), (0,), 3, 7)] * len(studies)
    assert (found.hits == 1).all()
    assert (found.overlaps == 1).all()
    assert found.areas == pytest.approx(100 / 1024)
    assert (found.centre_hits == 0).all()
    assert not found.empty.any()
    assert found.size == 32


def test_grad_cam_of_a_model_is_scored(drawn):
    method = make_vkd()
    found = score_maps(method, drawn, "test", 2)
    assert len(found.hits) == len(found.overlaps) > 3
    assert ((found.hits >= 0) & (found.hits <= 1)).all()
    assert not method.training
    again = score_maps(method, drawn, "test", 2)
    assert np.array_equal(found.overlaps, again.overlaps)


def test_what_was_not_drawn_is_told(drawn):
    assert has_regions(drawn, "test", ("Upper Square",))
    assert not has_regions(drawn, "validation", ("Upper Square",))
    assert not has_regions(drawn, "test", ("Lower Square",))
    with pytest.raises(UserError, match="--heatmaps: tiny has no boxes or masks of the findings"):
        score_maps(make_vkd(), drawn, "validation")


def test_images_that_are_no_files_are_refused():
    data = study_data(TinyCorpus(), image_size=32, batch_size=8)
    with pytest.raises(UserError, match="--heatmaps: these images are no files, as in a store"):
        score_maps(make_vkd(), data, "test")


# The command ----------------------------------------------------------------------------------------------------------

CONFIG = """
data:
  selection:
    corpus:
      class_path: vkd_pyro.data.corpora.vindr_cxr.VinDrCXR
      init_args: {{root: {root}}}
    image_size: 32
  loading:
    batch_size: 8
method:
  class_path: vkd_pyro.methods.ImageOnly
  init_args:
    image_encoder:
      class_path: vkd_pyro.encoders.image.ConvEncoder
      init_args: {{channels: [8, 16]}}
training:
  max_epochs: 1
  accelerator: cpu
"""


@pytest.fixture(scope="module")
def of_vindr(tmp_path_factory):
    pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    folder = tmp_path_factory.mktemp("heatmaps")
    for layout in ("vindr-cxr", "chexlocalize"):
        synthesize(layout, folder / layout, 60, 32)
    (folder / "vindr.yaml").write_text(CONFIG.format(root=folder / "vindr-cxr"))
    code, _, err = vkd("train", "--config", folder / "vindr.yaml", "--run", folder / "run")
    assert code == 0, err
    return folder


@pytest.mark.filterwarnings("ignore:never (known|positive|absent) in training")
def test_evaluate_scores_heat_maps_against_boxes(of_vindr, monkeypatch):
    monkeypatch.setattr(write, "page_of", alone)
    code, out, err = vkd("evaluate", of_vindr / "run", "--heatmaps", "--resamples", "20")
    assert code == 0, err
    found = json.loads((of_vindr / "run" / "evaluation" / "test" / "evaluation.json").read_text())["heatmaps"]
    assert "heat maps: hit rate, that of the centre, mIoU" in out
    corpus = VinDrCXR(of_vindr / "vindr-cxr")
    images = [study.images[0] for study in corpus.studies() if study.split == "test"]
    drawn = [name for regions in corpus.regions(images) for name in regions]
    assert {name: row["images"] for name, row in found["table"].items()} == Counter(drawn)
    assert all(row["threshold"] == 0.5 for row in found["table"].values())  # validation has too few patients
    assert "Heat maps" in (of_vindr / "run" / "evaluation" / "test" / "index.html").read_text()


@pytest.mark.filterwarnings("ignore:never (known|positive|absent) in training")
def test_evaluate_scores_heat_maps_of_another_corpus_with_thresholds_of_its_validation(of_vindr):
    other = ("--data.selection.corpus", "CheXlocalize", "--data.selection.corpus.root", of_vindr / "chexlocalize")
    arguments = ("--heatmaps", "--page", "false", "--output", of_vindr / "out")
    code, _, err = vkd("evaluate", of_vindr / "run" / "bundle", *other, *arguments)
    assert code == 0, err
    table = json.loads((of_vindr / "out" / "evaluation.json").read_text())["heatmaps"]["table"]
    sources = {name: row["threshold from"] for name, row in table.items()}
    assert sources["Pleural Effusion"] == "validation"
    assert set(sources) <= set(VinDrCXR.findings)


def test_evaluate_refuses_heat_maps_where_nothing_was_drawn(of_vindr, tmp_path):
    synthesize("brax", tmp_path / "brax", 20, 32)
    other = ("--data.selection.corpus", "Brax", "--data.selection.corpus.root", tmp_path / "brax")
    said = refusal("evaluate", of_vindr / "run", *other, "--heatmaps", "--data.selection.corpus.all_test", "true")
    assert "--heatmaps: brax has no boxes or masks of the findings of this model in its test split" in said
