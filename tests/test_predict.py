"""`vkd predict` and `predict_files`: which files are meant, what is said of each, and what is written."""

import hashlib
import io
import json
import os
import shutil
import stat
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from tests.conftest import TinyCorpus
from tests.test_cli import refusal, vkd
from tests.test_commands import write_dicom
from vkd_pyro import VKD, StudyData, __version__, load_bundle
from vkd_pyro.artifacts.bundle import Bundle, save_bundle
from vkd_pyro.cli.predict import _lines
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.model import ImageClassifier
from vkd_pyro.prediction import Predicted, Unread, find_images, overlays, predict_files, studies_of
from vkd_pyro.prediction.overlays import Overlays
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.prediction.tables import nested, rows
from vkd_pyro.training.posthoc import calibrate
from vkd_pyro.utils.errors import UserError

FEW = UncertaintySources(num_samples=20)
DATA = StudyData(Selection(TinyCorpus(300), image_size=32), loading=Loading(batch_size=64))
PALE = np.linspace(200, 255, 1024).reshape(32, 32).astype(np.uint8)
"""Unlike any image of the corpus, though not flat."""


def trained(seed: int) -> VKD:
    """A model of a few steps, whose probabilities are of some use, in eval mode."""
    torch.manual_seed(seed)
    vkd = VKD(DATA.findings, ConvEncoder((8, 16)), WordEncoder(32, 8, 16), latent_dim=4)
    studies = DATA.studies("train")
    images = torch.tensor(np.stack([study.images[0] for study in studies]))[:, None].float() / 255
    labels = torch.tensor(np.stack([study.labels for study in studies]))
    optimizer = torch.optim.Adam(vkd.model.parameters(), 1e-2)
    for _ in range(15):
        features = vkd.model.image_encoder(images)
        p = vkd.model.likelihood.probabilities(vkd.model.prior(features).rsample(), features)
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), labels).backward()
        optimizer.step()
    return vkd.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Bundles: two of networks trained apart, one without a calibration, one of an image-only model."""
    root, networks = tmp_path_factory.mktemp("bundles"), [trained(0), trained(1)]
    torch.manual_seed(0)
    plain = ImageOnly(DATA.findings, ConvEncoder((8, 16)))
    rows = {"a": networks[0], "b": networks[1], "old": networks[0], "plain": plain}
    for name, network in rows.items():
        calibration = None if name == "old" else calibrate(network, DATA)
        model, views = network.model, {"views": "frontal"}
        save_bundle(root / name, model, DATA.findings, DATA.transform, "", views, calibration)
    return {name: root / name for name in rows}


@pytest.fixture
def bundle(folders) -> Bundle:
    return load_bundle(folders["a"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Seven X-rays, of all kinds of file, and what is passed over."""
    root = tmp_path_factory.mktemp("xrays")
    (root / "deep" / "er").mkdir(parents=True)
    pixels = [study.images[0] for study in DATA.studies("test")]
    for name, image in zip(("a.png", "b.JPG", "c.jpeg", "deep/d.PNG", "deep/er/a.png"), pixels, strict=False):
        Image.fromarray(image).resize((40, 36)).save(root / name)
    write_dicom(root / "e.dcm", Modality="DX", ViewPosition="PA")
    write_dicom(root / "deep" / "1.2.840.1", Modality="DX")
    (root / "deep" / ".hidden.png").write_text("not an image")
    shutil.copy(root / "deep" / "1.2.840.1", root / "DICOMDIR")  # has the magic, and no image
    return root


IMAGES = ["a.png", "b.JPG", "c.jpeg", "deep/1.2.840.1", "deep/d.PNG", "deep/er/a.png", "e.dcm"]


def predicted(*arguments, **options) -> list[Predicted]:
    """Of files that can all be read."""
    found = list(predict_files(*arguments, **options))
    assert all(isinstance(each, Predicted) for each in found)
    return found


def arrays(said: list[Predicted]) -> dict[str, np.ndarray]:
    """All that is said of them, by name."""
    return {
        name: np.stack([getattr(each, name) for each in said])
        for name in vars(said[0])
        if name not in ("image", "images")
    }


def same(one: list[Predicted], other: list[Predicted]) -> None:
    for name, array in arrays(one).items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(arrays(other)[name], array, rtol=1e-4, atol=1e-5)
        else:
            assert np.array_equal(arrays(other)[name], array), name


# --------------------------------------------------------------------------------------- which files


def test_a_folder_is_searched_for_images_by_name_and_by_content(folder):
    assert [str(path.relative_to(folder)) for path in find_images([folder])] == IMAGES


def test_images_of_a_folder_are_known_by_their_content_whatever_their_name(folder, tmp_path):
    names = ["x.DICOM", "x.dc3", "x.ima", "x.IMG", "x.abc", "IM000001", "CR.1.2.840.113", "x.JPE", "a.jfif", "noname"]
    for name in names:
        shutil.copy(folder / ("e.dcm" if name[0] in "xIC" and "JPE" not in name else "b.JPG"), tmp_path / name)
    headless = (folder / "e.dcm").read_bytes()
    (tmp_path / "without_preamble.dicom2").write_bytes(headless[headless.index(b"\x08\0\x16\0") :])
    assert [path.name for path in find_images([tmp_path])] == sorted([*names, "without_preamble.dicom2"])


def test_files_of_a_folder_that_are_no_image_are_counted_and_named_escaped(folder, tmp_path):
    shutil.copy(folder / "a.png", tmp_path)
    (tmp_path / "deep").mkdir()
    names = ["README", "a\x1b[2J.txt", "deep/12.5", "page.html", "x.ima"]
    for name in names:
        (tmp_path / name).write_text("not an image")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.warns(UserWarning, match="left out") as warned:
        assert [path.name for path in find_images([tmp_path])] == ["a.png"]
    said = f"{tmp_path}: 7 files are no PNG, JPEG or DICOM, and left out: README, a\\x1b[2J.txt, deep/12.5 and 4 more"
    assert [str(warning.message) for warning in warned] == [said]


def test_what_says_that_it_is_an_image_is_told_of_where_it_is_none(folders, folder, tmp_path):
    shutil.copy(folder / "a.png", tmp_path)
    (tmp_path / "login.dicom").write_text("<html>")
    Image.new("L", (9, 9)).save(tmp_path / "x.tiff")
    (tmp_path / "notes").write_text("not an image")
    with warnings.catch_warnings(action="default"):
        code, _, err = vkd("predict", folders["a"], tmp_path, "--num_samples", "2", "--format", "csv")
    first, *others = err.splitlines()
    assert code == 2
    assert first == f"vkd: warning: {tmp_path}: 1 file is no PNG, JPEG or DICOM, and left out: notes"
    assert [line.split(": ")[1] for line in others] == [f"{tmp_path}/login.dicom", f"{tmp_path}/x.tiff"]


def test_an_empty_name_is_not_the_folder_that_one_is_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="images: found an empty name"):
        find_images([""])


def test_a_pipe_and_a_device_are_a_line_each(bundle, folder, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    images = [tmp_path / "pipe.png", folder / "a.png", tmp_path / "zero.dcm"]
    pipe, said, zero = predict_files(bundle, images, FEW)
    assert isinstance(said, Predicted)
    problem = "unreadable or truncated image (no regular file); expected a PNG, JPEG or DICOM file"
    assert (pipe.problem, zero.problem) == (problem, problem)


def test_a_pattern_is_expanded_and_a_file_is_taken_as_named(folder, tmp_path):
    assert [path.name for path in find_images([f"{folder}/*.[pj]*"])] == ["a.png", "c.jpeg"]
    assert [path.parent.name for path in find_images([f"{folder}/**/a.png"])] == [folder.name, "er"]
    assert find_images([tmp_path / "notes.txt", "no/such.png"]) == [tmp_path / "notes.txt", Path("no/such.png")]
    odd = tmp_path / "x[1].png"
    shutil.copy(folder / "a.png", odd)
    assert find_images([odd]) == [odd]


def test_an_image_that_is_meant_twice_is_found_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_images(["e.dcm", folder, "*.dcm", "./deep/../a.png"])[:2] == [Path("e.dcm"), folder / "a.png"]
    assert len(find_images(["e.dcm", folder, "*.dcm", "./deep/../a.png"])) == len(IMAGES)


def test_an_input_without_an_image_is_refused(folder, tmp_path):
    for given in (tmp_path, f"{folder}/*.tif"):
        with pytest.raises(UserError, match=r"no image found; expected a PNG, JPEG or DICOM file, a folder of them"):
            find_images([folder, given])


# ------------------------------------------------------------------------------ what is said of each


def test_what_is_said_is_what_the_model_and_its_calibration_say(bundle, folder):
    images = [folder / "a.png", folder / "e.dcm"]
    said = arrays(predicted(bundle, images, UncertaintySources(seed=3), level=0.8))
    pixels = torch.stack([bundle.transform(image) for image in images]).float() / 255
    prediction = predict(bundle.model, pixels, bundle.findings, seed=3)
    expected = prediction.summary(0.8)
    for name, array in vars(expected).items():
        np.testing.assert_allclose(said[name], array, rtol=1e-6)
    calibration = bundle.calibration
    p, _, high = (calibration.image.recalibration(getattr(expected, n)) for n in ("probabilities", "low", "high"))
    np.testing.assert_allclose(said["calibrated"], p)
    np.testing.assert_allclose(said["calibrated_high"], high)
    points, draws = calibration.image.operating_points, calibration.image.recalibration(prediction.samples[0])
    share = (draws >= points.thresholds).mean(axis=0)
    agreeing = np.where(p >= points.thresholds, share, 1 - share)
    sure = np.where(p >= points.thresholds, "yes", "no")
    assert np.array_equal(said["answers"], np.where(agreeing < 2 / 3, "refer", sure))
    np.testing.assert_array_equal(said["thresholds"], [calibration.image.operating_points.thresholds] * len(images))
    assert np.array_equal(said["conformal"], calibration.image.conformal.answers(p))
    assert (said["low"] <= said["high"]).all()


def test_a_study_is_the_mean_of_its_images_by_the_fit_to_studies(bundle, folder):
    files = (folder / "a.png", folder / "b.JPG")
    study, alone = predict_files(bundle, [files, files[0]], UncertaintySources(seed=3))
    each = predicted(bundle, files, UncertaintySources(seed=3))
    assert (study.unit, alone.unit, study.images, study.image) == ("study", "image", files, files[0])
    assert study.image_sha256 == "+".join(one.image_sha256 for one in each)
    np.testing.assert_allclose(study.probabilities, np.mean([one.probabilities for one in each], axis=0), rtol=1e-5)
    np.testing.assert_allclose(study.calibrated, bundle.calibration.study.recalibration(study.probabilities))
    assert np.array_equal(study.conformal, bundle.calibration.study.conformal.answers(study.calibrated))
    np.testing.assert_allclose(alone.probabilities, each[0].probabilities, rtol=1e-5)
    assert study.ood_p == pytest.approx(min(1, 2 * min(one.ood_p for one in each)))
    assert study.ood == pytest.approx(max(one.ood for one in each), rel=1e-4)


def test_a_study_with_a_damaged_image_is_judged_by_the_others(bundle, folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad, study, alone = predict_files(bundle, [(tmp_path / "bad.png", folder / "a.png"), folder / "b.JPG"], FEW)
    assert isinstance(bad, Unread)
    assert (study.images, study.unit, alone.unit) == ((folder / "a.png",), "study", "image")
    assert [type(one) for one in predict_files(bundle, [(tmp_path / "bad.png",)], FEW)] == [Unread]


def test_images_of_a_study_are_known_by_header_folder_or_table(tmp_path):
    (tmp_path / "x").mkdir()
    ids = enumerate(("1.2", "1.3", "1.2"))
    one, other, third = (write_dicom(tmp_path / f"{n}.dcm", StudyInstanceUID=uid) for n, uid in ids)
    plain, inner = tmp_path / "p.png", tmp_path / "x" / "q.png"
    files = [one, plain, other, third, inner]
    assert studies_of(files) == [(one, third), plain, (other,), inner]
    assert studies_of(files, "none") == files
    assert studies_of(files, "folder") == [(one, plain, other, third), (inner,)]
    table = tmp_path / "studies.csv"
    table.write_text("image,study\n0.dcm,a\np.png,\n1.dcm,b\n2.dcm,b\nx/q.png,a\n", encoding="utf-8")
    assert studies_of(files, str(table)) == [(one, inner), plain, (other, third)]
    with pytest.raises(UserError, match=r"studies\.csv: has no row for .*z\.png; add one"):
        studies_of([tmp_path / "z.png"], str(table))
    with pytest.raises(UserError, match=r"--group: found patient, expected auto, none, folder, or a CSV file"):
        studies_of(files, "patient")
    with pytest.raises(UserError, match=r"--group folder: 33 images of one study, such as .* at most 32"):
        studies_of([tmp_path / f"{n}.png" for n in range(33)], "folder")


def test_what_was_used_is_in_the_output(folders, folder, tmp_path):
    table = tmp_path / "studies.csv"
    rows = "".join(f"{folder / name},{study}\n" for name, study in (("a.png", "s"), ("b.JPG", "s"), ("e.dcm", "")))
    table.write_text("image,study\n" + rows, encoding="utf-8")
    files = [folder / name for name in ("a.png", "b.JPG", "e.dcm")]
    code, out, _ = vkd("predict", folders["a"], *files, "--format", "csv", "--group", table, "--num_samples", "5")
    found = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert found[["images", "unit"]].drop_duplicates().to_numpy().tolist() == [[2, "study"], [1, "image"]]


def test_ood_is_measured_as_after_training(bundle, tmp_path):
    """The p-values of the validation images themselves lie as the quantiles that were kept of them."""
    studies = DATA.studies("validation")
    for number, study in enumerate(studies):
        Image.fromarray(study.images[0]).save(tmp_path / f"{number:03d}.png")
    said = arrays(predicted(bundle, find_images([tmp_path])))
    reference = bundle.calibration.reference
    assert reference.held_out_scores.size == len(studies)
    at_least = (said["ood"] >= said["ood"][:, None]).sum(axis=1)
    assert np.abs(reference.held_out_scores.count(said["ood"]) - at_least).max() <= 6  # quantiles of 5 images
    assert said["ood_p"].min() > 0


def test_an_image_unlike_those_known_is_flagged(bundle, tmp_path):
    Image.fromarray(PALE).save(tmp_path / "pale.png")
    (said,) = predicted(bundle, [tmp_path / "pale.png"])
    known = bundle.calibration.reference.held_out_scores.size
    assert (said.flagged, said.ood_p) == (True, pytest.approx(1 / (1 + known)))
    assert said.ood > 1


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_the_batch_size_changes_nothing(bundle, folder, batch_size):
    images = find_images([folder])
    whole = predicted(bundle, images, FEW)
    assert [each.image for each in whole] == images
    same(predicted(bundle, images, FEW, batch_size), whole)
    same(predicted(bundle, images[::-1], FEW, batch_size)[::-1], whole)


def test_files_are_read_no_further_than_needed(bundle, folder):
    asked = []

    def endless():
        while True:
            asked.append(folder / "a.png")
            yield asked[-1]

    said = predict_files(bundle, endless(), FEW, batch_size=2)
    assert isinstance(next(said), Predicted)
    assert len(asked) <= 3 * 2 + 1
    said.close()


def test_a_study_without_an_image_is_refused_and_one_name_is_no_list(bundle, folder):
    with pytest.raises(UserError, match=r"images: found a study without an image, \(\); leave it out"):
        list(predict_files(bundle, [(), (folder / "a.png",)], FEW))
    with pytest.raises(UserError, match=r"images: found one name, 'a\.png', expected several"):
        predict_files(bundle, "a.png", FEW)


@pytest.mark.parametrize("seed", [2**64, -(2**63), 1.5, None])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(UserError, match=r"seed: found .*, expected a whole number from -2\*\*62 to 2\*\*62"):
        UncertaintySources(seed=seed)


def test_dropout_and_augmentation_widen_the_interval_and_leave_the_calibrated_alone(bundle, folder):
    images = find_images([folder])
    plain = arrays(predicted(bundle, images, FEW))
    more = arrays(predicted(bundle, images, UncertaintySources(20, num_masks=5, num_augmentations=2)))
    assert np.isnan(plain["epistemic"]).all()
    assert (more["epistemic"] > 0).all()
    for name in ("calibrated", "conformal", "ood", "ood_p", "flagged"):
        assert np.array_equal(more[name], plain[name]), name
    assert (more["high"] - more["low"]).mean() > 2 * (plain["high"] - plain["low"]).mean()
    assert (more["answers"] == "refer").sum() > (plain["answers"] == "refer").sum()
    np.testing.assert_allclose(more["total"], more["aleatoric"] + more["latent"] + more["epistemic"], atol=1e-5)


def test_an_ensemble_is_the_mean_and_is_not_calibrated(folders, folder):
    members, images = [load_bundle(folders[name]) for name in "ab"], [folder / "a.png"]
    (said,) = predicted(members, images, FEW)
    alone = [predicted(member, images, FEW)[0].probabilities for member in members]
    np.testing.assert_allclose(said.probabilities, np.mean(alone, axis=0), rtol=1e-5)
    assert (said.epistemic > 0).all()
    assert np.isnan([*said.calibrated, *said.calibrated_low, said.ood, said.ood_p]).all()
    assert (set(said.answers), set(said.conformal), said.flagged) == ({"unknown"}, {"unknown"}, None)


def test_a_bundle_without_a_calibration_gives_probabilities_only(folders, folder):
    old, new = (predicted(load_bundle(folders[name]), [folder / "a.png"], FEW)[0] for name in ("old", "a"))
    assert np.array_equal(old.probabilities, new.probabilities)
    assert np.isnan(old.calibrated).all()
    assert not np.isnan(new.calibrated).all()
    assert (set(old.answers), old.flagged) == ({"unknown"}, None)


def test_a_finding_that_could_not_be_calibrated_is_unknown_there(bundle, folder):
    recalibration = bundle.calibration.image.recalibration
    recalibration.not_fitted["Lower Square"] = "no label is known"
    (said,) = predicted(bundle, [folder / "a.png"], FEW)
    assert np.isnan(said.calibrated).tolist() == [False, True, False]
    assert np.isnan(said.calibrated_high).tolist() == [False, True, False]


def test_a_model_without_z_has_no_interval_and_yet_an_answer(folders, folder):
    bundle = load_bundle(folders["plain"])
    assert isinstance(bundle.model, ImageClassifier)
    (said,) = predicted(bundle, [folder / "a.png"])
    assert np.isnan([*said.low, *said.high, *said.calibrated_low, *said.latent]).all()
    assert set(said.answers) <= {"yes", "no"}
    assert not np.isnan([*said.total, said.ood]).any()


def test_a_bad_file_is_told_and_the_rest_goes_on(bundle, folder, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    whole = (folder / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    write_dicom(tmp_path / "knee.dcm", Modality="DX", BodyPartExamined="KNEE")
    bad = [tmp_path / name for name in ("text.png", "cut.png", "knee.dcm", "absent.png")]
    images = [bad[0], folder / "a.png", *bad[1:], folder / "b.JPG"]
    said = list(predict_files(bundle, images, FEW, batch_size=3))
    assert [each.image for each in said] == images
    problems = [each.problem for each in said if isinstance(each, Unread)]
    found = ["not a PNG or JPEG", "truncated image", "body part KNEE is not the chest", "no such image file"]
    assert all(words in problem for words, problem in zip(found, problems, strict=True))
    assert not any(str(tmp_path) in problem or "\n" in problem for problem in problems)
    same([each for each in said if isinstance(each, Predicted)], predicted(bundle, images[1::4], FEW))


def test_a_header_that_does_not_fit_is_a_warning_where_wanted(bundle, tmp_path):
    lateral = write_dicom(tmp_path / "lateral.dcm", Modality="DX", ViewPosition="LL")
    (refused,) = predict_files(bundle, [lateral])
    assert "view position LL is lateral, not frontal; to predict all the same, --on_mismatch warn" in refused.problem
    with pytest.warns(UserWarning, match=r"lateral\.dcm: view position LL is lateral, not frontal"):
        (said,) = predict_files(bundle, [lateral], on_mismatch="warn")
    assert isinstance(said, Predicted)


@pytest.mark.parametrize("pixels", [PALE * 0, PALE * 0 + 255, PALE // 8 * 8], ids=["black", "white", "few"])
def test_a_picture_of_hardly_any_gray_levels_is_a_problem_or_where_wanted_a_warning(pixels, bundle, tmp_path):
    flat = tmp_path / "flat.png"
    Image.fromarray(pixels).save(flat)
    (refused,) = predict_files(bundle, [flat])
    assert refused == Unread(
        flat, "hardly any gray levels, nothing is to be seen in it; to predict all the same, --on_mismatch warn"
    )
    with pytest.warns(UserWarning, match=r"flat\.png: hardly any gray levels"):
        (said,) = predict_files(bundle, [flat], on_mismatch="warn")
    assert isinstance(said, Predicted)


def test_bundles_that_do_not_go_together_are_refused(bundle, folders):
    other = load_bundle(folders["b"])
    with pytest.raises(UserError, match=r"ensemble: findings of bundle 2 are \('x',\), of the first \('Upper Square'"):
        predict_files([bundle, Bundle(other.model, ("x",), other.transform, "")], [])
    with pytest.raises(UserError, match=r"transform of bundle 2 are ImageTransform\(size=16, "):
        predict_files([bundle, Bundle(other.model, other.findings, type(other.transform)(16), "")], [])
    with pytest.raises(UserError, match="the same network is in it twice"):
        predict_files([bundle, other, bundle], [])
    with pytest.raises(UserError, match="bundles: found none"):
        predict_files([], [])
    with pytest.raises(UserError, match="batch_size: found 0, expected at least 1"):
        predict_files(bundle, [], batch_size=0)
    assert list(predict_files(bundle, [])) == []


# ------------------------------------------------------------------------------------------- vkd predict


def done(*arguments) -> str:
    """Standard output of a prediction in which all goes well."""
    code, out, err = vkd("predict", *arguments, "--num_samples", "20", "--device", "cpu")
    assert (code, err) == (0, "")
    return out


def flat(objects: list[dict]) -> pd.DataFrame:
    """The rows that the objects of a JSON file are."""
    rows = [
        {**each, "finding": finding, **cells} for each in objects for finding, cells in each.pop("findings").items()
    ]
    return pd.DataFrame(rows)


def test_csv_json_and_parquet_say_the_same(folders, folder, tmp_path):
    for suffix in ("csv", "json", "parquet"):
        assert "7 images" in done(folders["a"], folder, "--output", tmp_path / "new" / f"p.{suffix}")
    table = pd.read_csv(tmp_path / "new" / "p.csv")
    assert table.shape == (len(IMAGES) * 3, 29)
    columns = pd.read_parquet(tmp_path / "new" / "p.parquet")
    from_json = flat(json.loads((tmp_path / "new" / "p.json").read_text()))[list(table)]
    for other in (columns, from_json):
        pd.testing.assert_frame_equal(other, table, check_dtype=False, check_exact=True)
    assert columns["flagged"].dtype == bool
    images = find_images([folder])
    exact = arrays(predicted(load_bundle(folders["a"]), images, FEW))
    np.testing.assert_allclose(table["calibrated"], exact["calibrated"].ravel(), rtol=1e-5)
    assert table["answer"].tolist() == exact["answers"].ravel().tolist()
    assert table["image"].tolist() == np.repeat([str(image) for image in images], 3).tolist()
    assert table["uncertainty_epistemic"].isna().all()


def test_what_is_printed_as_csv_or_json_is_what_is_written(folders, folder, tmp_path):
    for form in ("csv", "json"):
        done(folders["a"], folder / "a.png", "--output", tmp_path / f"p.{form}")
        assert done(folders["a"], folder / "a.png", "--format", form) == (tmp_path / f"p.{form}").read_text()


def test_a_parquet_file_is_written_while_it_is_made(folders, folder, tmp_path, monkeypatch):
    done(folders["a"], folder, "--output", tmp_path / "whole.parquet")
    monkeypatch.setattr("vkd_pyro.prediction.tables.ROW_GROUP", 6)
    done(folders["a"], folder, "--output", tmp_path / "parts.parquet")
    assert parquet.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 4
    whole, parts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(parts, whole)


def test_a_name_that_is_no_utf8_is_written_escaped(folders, folder, tmp_path):
    strange = tmp_path / os.fsdecode(b"x\xff.png")
    shutil.copy(folder / "a.png", strange)
    for suffix in ("csv", "json", "parquet"):
        done(folders["a"], strange, "--output", tmp_path / f"p.{suffix}")
    assert set(pd.read_csv(tmp_path / "p.csv")["image"]) == {f"{tmp_path}/x\\udcff.png"}
    assert f"{tmp_path}/x\\udcff.png" in done(folders["a"], strange)


def test_each_row_says_what_made_it(folders, folder):
    (said,) = json.loads(done(folders["a"], folder / "e.dcm", "--seed", "5", "--level", "0.9", "--format", "json"))
    assert said["image_sha256"] == hashlib.sha256((folder / "e.dcm").read_bytes()).hexdigest()
    assert said["bundle_sha256"] == json.loads((folders["a"] / "config.json").read_text())["config_sha256"]
    assert (said["version"], said["num_samples"], said["seed"], said["level"]) == (__version__, 20, 5, 0.9)
    assert list(said["findings"]) == list(TinyCorpus.findings)


def test_the_rows_of_an_ensemble_name_all_bundles_and_leave_blank_what_is_unknown(folders, folder, tmp_path):
    options = ["--ensemble", folders["b"], "--output", tmp_path / "p.parquet", "--num_samples", "5"]
    code, out, err = vkd("predict", folders["a"], folder / "a.png", *options)
    assert (code, out) == (0, f"written: {tmp_path}/p.parquet: 1 images\n")
    assert err == (
        "vkd: note: no calibration, so no answers and no out-of-distribution score: "
        "no bundle's calibration holds for the mean of several\n"
    )
    table = pd.read_parquet(tmp_path / "p.parquet")
    hashes = [load_bundle(folders[name]).bundle_hash for name in "ab"]
    assert table["bundle_sha256"].tolist() == ["+".join(hashes)] * 3
    assert table[["calibrated", "ood", "flagged"]].isna().all(axis=None)
    assert not table[["probability", "low", "high", "uncertainty_epistemic"]].isna().any(axis=None)


def test_good_and_bad_files_of_a_folder(folders, folder, tmp_path):
    bad = shutil.copytree(folder, tmp_path / "xrays")
    (bad / "broken, too.png").write_text("not an image")
    code, out, err = vkd("predict", folders["a"], bad, "--num_samples", "20", "--output", tmp_path / "p.csv")
    assert code == 2
    problem = "unreadable or truncated image (not a PNG or JPEG); expected a whole PNG, JPEG or DICOM file"
    assert err == f"vkd: {bad}/broken, too.png: {problem}\n"
    assert out.splitlines()[-1] == f"not read: {tmp_path}/p.csv.problems.csv: 1 images"
    listed = pd.read_csv(tmp_path / "p.csv.problems.csv")
    assert listed.to_numpy().tolist() == [[f"{bad}/broken, too.png", problem]]
    done(folders["a"], folder, "--output", tmp_path / "good.csv")
    assert not (tmp_path / "good.csv.problems.csv").exists()
    table, good = (pd.read_csv(tmp_path / name).drop(columns="image") for name in ("p.csv", "good.csv"))
    pd.testing.assert_frame_equal(table, good, rtol=1e-4)
    for name in ("p.csv", "p.csv.problems.csv", "good.csv"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_nothing_is_written_where_nothing_was_read_or_something_failed(folders, folder, tmp_path, monkeypatch):
    out = tmp_path / "p.csv"
    code, _, err = vkd("predict", folders["a"], tmp_path / "absent.png", "--output", out)
    assert (code, err.splitlines()[-1]) == (2, f"vkd: {out}: not written, since none of the images could be read")
    assert "expected between 0 and 1" in refusal("predict", folders["a"], folder, "--output", out, "--level", "2")
    assert "the model has no dropout" in refusal("predict", folders["plain"], folder, "--num_masks", "2")

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("vkd_pyro.prediction.tables.rows", fail)
    assert "no space left" in refusal("predict", folders["a"], folder, "--output", out, "--num_samples", "5")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_written_over(folders, folder, tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    (tmp_path / "q.json.problems.csv").write_text("mine")
    for name in ("p.csv", "q.json"):
        assert "exists already; choose another file" in refusal(
            "predict", folders["a"], folder, "--output", tmp_path / name
        )
    assert (tmp_path / "p.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--output", "p.xlsx"], "p.xlsx: found the suffix '.xlsx', expected one of .csv, .json, .parquet"),
        (
            ["--output", "p.csv", "--format", "csv"],
            "--format is of what is printed, and --output prints",
        ),
        (["--overlay_findings", "Upper Square"], "give --overlay FOLDER"),
        (["--overlay", "o", "--overlay_findings", "Uper Square"], "(did you mean Upper Square?); expected of Upper"),
        (["--num_masks", "-1"], "num_masks: found -1, expected a whole number, from 0 to"),
        (["--ensemble", "nowhere"], "nowhere: not a bundle"),
    ],
)
def test_a_mistake_is_one_line(folders, folder, options, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found in refusal("predict", folders["a"], folder / "a.png", *options)
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_for_reading(folders, folder, tmp_path):
    Image.fromarray(PALE).save(tmp_path / "pale.png")
    lines = done(folders["a"], folder / "a.png", tmp_path / "pale.png").splitlines()
    assert lines[0].split() == [
        "finding",
        "probability",
        "95",
        "%",
        "interval",
        "raw",
        "uncertainty",
        "from",
        "z",
        "threshold",
        "answer",
    ]
    assert [lines[1], lines[5]] == [str(folder / "a.png"), str(tmp_path / "pale.png")]
    (said,) = predicted(load_bundle(folders["a"]), [folder / "a.png"], FEW)
    cells = {line[:14].strip(): line[14:].split() for line in lines[2:5]}
    assert set(cells) == set(TinyCorpus.findings)
    for k, finding in enumerate(said.findings):
        interval = f"{said.calibrated_low[k]:.3f}-{said.calibrated_high[k]:.3f}"
        shown = [f"{said.calibrated[k]:.3f}", interval, f"{said.probabilities[k]:.3f}"]
        threshold = "-" if np.isnan(said.thresholds[k]) else f"{said.thresholds[k]:.6g}"
        assert (cells[finding][:3], cells[finding][5:7]) == (shown, [threshold, said.answers[k]])
        why = f" ({said.undefined[k]})" if said.answers[k] == "unknown" else ""
        assert " ".join(cells[finding][6:]) == f"{said.answers[k]}{why}"
    order = [float(values[0]) for values in cells.values()]
    assert order == sorted(order, reverse=True)
    assert lines[9].startswith("  unlike the images the model learned from: p = 0.0")
    legend = ["probability", "interval", "raw", "from z", "threshold", "answer"]
    assert [line[:12].strip() for line in lines[-6:]] == legend


def test_every_table_says_the_threshold_and_the_answer_follows_from_it(folders, folder, tmp_path):
    images = [folder / "a.png", folder / "b.JPG", folder / "e.dcm"]
    done(folders["a"], *images, "--output", tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv")
    listed = json.loads(done(folders["a"], *images, "--format", "json"))
    cells = pd.DataFrame([cell for one in listed for cell in one["findings"].values()])
    points = load_bundle(folders["a"]).calibration.image.operating_points
    np.testing.assert_allclose(table["threshold"], np.tile(points.thresholds, len(images)), rtol=1e-5)
    np.testing.assert_array_equal(cells["threshold"].astype(float), table["threshold"])
    answered = table[table["answer"].isin(["yes", "no"])]
    words = np.where(answered["calibrated"] >= answered["threshold"], "yes", "no")
    assert len(answered) > 0
    assert answered["answer"].tolist() == words.tolist()


def test_what_has_no_threshold_and_no_set_says_why_in_every_table(bundle, folder):
    few = StudyData(Selection(TinyCorpus(60), image_size=32), loading=Loading(batch_size=8))
    bundle = replace(bundle, calibration=calibrate(bundle.method, few))
    (said,) = predicted(bundle, [folder / "a.png"], FEW)
    fit = bundle.calibration.image
    (row, *_), finding = rows(said, {}), said.findings[0]
    why = (
        f"no threshold: {fit.operating_points.undefined[finding]}; no conformal set: {fit.conformal.undefined[finding]}"
    )
    assert (row["threshold"], row["answer"], row["conformal"], row["undefined"]) == (None, "unknown", "unknown", why)
    assert nested(said, {})["findings"][finding]["undefined"] == why
    (line,) = (line for line in _lines(said) if line.startswith(f"  {finding}"))
    assert line.endswith(f"  -  unknown ({why})")


def test_the_table_of_a_bundle_without_a_calibration_says_so(folders, folder):
    code, out, err = vkd("predict", folders["old"], folder / "a.png")
    assert (code, err) == (
        0,
        "vkd: note: no calibration, so no answers and no out-of-distribution score: the bundle has none\n",
    )
    rows = out.splitlines()[2:5]
    assert all("*" in row and row.endswith("unknown (no calibration)") for row in rows)
    assert "probability * not recalibrated" in out


def test_overlays_are_pictures_of_the_findings_wanted(folders, folder, tmp_path):
    images, named = [folder / "a.png", folder / "deep" / "er" / "a.png", folder / "e.dcm"], ["Rare Square"]
    out = done(folders["a"], *images, "--overlay", tmp_path / "named", "--overlay_findings", *named)
    assert f"pictures: {tmp_path}/named: 3" in out
    pictures = sorted((tmp_path / "named").iterdir())
    expected = sorted(hashlib.sha256(image.read_bytes()).hexdigest()[:8] for image in images)
    assert sorted(picture.name.split("-")[1] for picture in pictures) == expected
    assert all(picture.name.endswith("-Rare_Square.png") for picture in pictures)
    with Image.open(pictures[0]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 36 * 13  # an image of 40 by 36 pixels is enlarged, with text around it
        assert np.asarray(picture).std() > 0
    assert stat.S_IMODE((tmp_path / "named").stat().st_mode) == 0o700


def test_an_overlay_says_finding_probability_answer_and_resolution(bundle, folder, tmp_path, monkeypatch):
    said = []
    drawn = overlays.labelled_overlay
    monkeypatch.setattr(overlays, "labelled_overlay", lambda *given: said.append(given[2:]) or drawn(*given))
    finding = bundle.findings[0]
    files = (folder / "a.png", folder / "b.JPG")
    alone, study = predict_files(bundle, [files[0], files], FEW)
    threshold = [f" (threshold {one.thresholds[0]:.6g})" for one in (alone, study)]
    for one in (alone, study, replace(alone, calibrated=np.full(3, np.nan), thresholds=np.full(3, np.nan))):
        Overlays(tmp_path / "o", [bundle, bundle], [finding]).write(one)
    p = f"p = {study.calibrated[0]:.3f} of the study"
    assert said == [
        (finding, f"p = {alone.calibrated[0]:.3f}: {alone.answers[0]}{threshold[0]}", "8 x 8 cells"),
        *[(finding, f"{p}: {study.answers[0]}{threshold[1]}", "8 x 8 cells")] * 2,
        (finding, f"p = {alone.probabilities[0]:.3f}, not recalibrated: {alone.answers[0]}", "8 x 8 cells"),
    ]


def test_overlays_are_by_default_of_the_findings_answered_yes(folders, folder, tmp_path):
    done(folders["a"], folder, "--overlay", tmp_path / "yes", "--output", tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv").query("answer == 'yes'")
    names = {f"{row.image_sha256[:8]}-{row.finding.replace(' ', '_')}.png" for row in table.itertuples()}
    assert len(names) > 0
    assert {path.name.split("-", 1)[1] for path in (tmp_path / "yes").iterdir()} == names


def test_an_ensemble_without_answers_shows_the_most_probable_finding(folders, folder, tmp_path):
    options = ["--ensemble", folders["b"], "--overlay", tmp_path / "o", "--num_samples", "5", "--format", "csv"]
    code, out, _ = vkd("predict", folders["a"], folder / "b.JPG", *options)
    assert (code, len(list((tmp_path / "o").iterdir()))) == (0, 1)
    assert out.startswith("image,image_sha256,images,unit,finding,probability")


def test_standard_input_is_left_alone(folders, folder, monkeypatch):
    class Untouched:
        def __getattr__(self, name):
            raise AssertionError(f"standard input: {name}")

    monkeypatch.setattr(sys, "stdin", Untouched())
    assert done(folders["a"], folder / "a.png").startswith("  finding")
