"""The commands that judge: `vkd evaluate` of runs and bundles, `vkd compare`."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_cli import CONFIG, refusal, vkd
from tests.test_evaluation import make_evaluation, make_full_evaluation
from tests.test_posthoc import Pairs
from vkd_pyro.artifacts.run import load_run
from vkd_pyro.cli.compare import short_names
from vkd_pyro.evaluation.comparison import by_finding, paired_difference
from vkd_pyro.evaluation.evaluate import evaluate_run
from vkd_pyro.evaluation.saved import load_evaluation, save_evaluation
from vkd_pyro.reporting.sections import plain
from vkd_pyro.reporting.write import _images_of, cases_of

PAIRS = CONFIG.replace(
    "tests.conftest.TinyCorpus", "tests.test_posthoc.Pairs\n      init_args: {num_studies: 80}"
).replace("max_epochs: 2", "max_epochs: 1")
QUICK = ("--num_samples", "5", "--resamples", "5")


def done(*arguments):
    code, out, err = vkd(*arguments)
    assert code == 0, err
    return out


def content(folder):
    """Every file of a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trained runs on the same studies, of which some have two images."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "pairs.yaml").write_text(PAIRS)
    for name, method in (("vkd", "VKD"), ("image_only", "ImageOnly")):
        done("train", "--config", folder / "pairs.yaml", "--run", folder / name, "--method", method)
    return folder


@pytest.fixture(scope="module")
def evaluated(runs):
    """The evaluation of the run, and its bundle as it was before."""
    before = content(runs / "vkd" / "bundle")
    options = ("--beside", runs / "image_only", "--cases", "2")
    out = done("evaluate", runs / "vkd", *QUICK, *options)
    return runs / "vkd" / "evaluation" / "test", before, out


# ---------------------------------------------------------------------------------------- evaluate


def test_evaluate_writes_numbers_figures_and_a_page(evaluated):
    folder, _, out = evaluated
    assert {path.name for path in folder.iterdir()} == {
        *("evaluation.json", "predictions.parquet", "figures", "index.html", "tables"),
        *("checklist.html", "checklist.json", "failures.csv"),
    }
    assert f"written: {folder}/index.html, evaluation.json, predictions.parquet, checklist.html, figures/" in out
    summary = json.loads((folder / "evaluation.json").read_text())
    assert f"micro {summary['averages']['micro']['estimate']:.3f} [" in out
    assert summary["how"]["level"] == "study"
    assert summary["how"]["bundle"] in (folder / "index.html").read_text()


def test_evaluate_writes_nothing_into_the_bundle(runs, evaluated):
    assert content(runs / "vkd" / "bundle") == evaluated[1]


def test_nobody_is_named_beyond_the_predictions(evaluated):
    folder, _, out = evaluated
    texts = [out, *(path.read_text() for path in folder.rglob("*") if path.suffix in (".html", ".json", ".svg"))]
    assert len(texts) > 8
    for study in Pairs(80).studies():
        for text in texts:
            assert study.patient_id not in text
            assert study.study_id not in text
    assert "radiologist" not in "".join(texts)


def test_figures_of_patients_are_on_the_page_alone(evaluated):
    folder, _, _ = evaluated
    page = (folder / "index.html").read_text()
    assert "Images of patients: handle this page as you handle those." in page
    assert not [path for path in (folder / "figures").iterdir() if "examples" in path.name]


def test_what_is_loaded_says_what_was_printed(runs, evaluated):
    folder, _, out = evaluated
    loaded = load_evaluation(folder)
    assert str(loaded).splitlines()[:12] == out.splitlines()[1:13]
    trained = load_run(runs / "vkd", allow=["tests"])
    assert loaded.how["bundle"] == trained.bundle.bundle_hash
    again, _ = evaluate_run(trained, "test", 5)
    np.testing.assert_array_equal(loaded.probabilities, again.probabilities)
    np.testing.assert_array_equal(
        loaded.calibrated, trained.bundle.calibration.study.recalibration(again.probabilities)
    )
    assert loaded.mismatch_score is not None
    assert np.isfinite(loaded.mismatch_score).all()


@pytest.mark.parametrize("name", ["vkd", "image_only"])
def test_a_bundle_says_of_images_what_its_run_does(name, runs, tmp_path):
    done("evaluate", runs / name, *QUICK, "--page", "false")
    bundle = runs / name / "bundle"
    before = content(bundle)
    config, page = runs / name / "config.yaml", ("--page", str(name == "vkd").lower())
    out = done("evaluate", bundle, "--config", config, "--output", tmp_path / "e", *QUICK, *page)
    assert content(bundle) == before
    assert "report AUC" not in out
    ours, theirs = (load_evaluation(folder) for folder in (tmp_path / "e", runs / name / "evaluation" / "test"))
    for column in ("labels", "probabilities", "calibrated", "low", "high", "latent_uncertainty", "ood"):
        np.testing.assert_allclose(getattr(ours, column), getattr(theirs, column), atol=1e-6, err_msg=column)
    for column in ("answers", "conformal", "study_ids", "patient_ids"):
        np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column), err_msg=column)
    assert np.isnan(ours.report_probabilities).all()
    assert ours.how == theirs.how
    if name == "vkd":
        text = (tmp_path / "e" / "index.html").read_text()
        assert 'id="reports"' not in text
        assert "z given the image" in text


@pytest.mark.parametrize("place", ["", "evaluation", "a/b"])
@pytest.mark.parametrize("option", ["--output", "--samples"])
def test_a_bundle_is_never_written_into(option, place, runs, tmp_path):
    bundle = runs / "vkd" / "bundle"
    before = content(bundle)
    (tmp_path / "link").symlink_to(bundle)
    for path in (bundle, tmp_path / "link"):
        message = refusal("evaluate", runs / "vkd", option, path / place)
        assert f"{option}: {path / place} is{' in' if place else ''} a bundle, which never changes" in message
    assert content(bundle) == before
    assert f"--output: {bundle / 'x'} is in a bundle" in refusal("compare", "a", "b", "--output", bundle / "x")


def test_a_bundle_wants_data_and_a_folder(runs, tmp_path):
    bundle = runs / "vkd" / "bundle"
    assert "a bundle names no data; give --config FILE" in refusal("evaluate", bundle, "--output", tmp_path / "e")
    message = refusal("evaluate", bundle, "--config", runs / "vkd" / "config.yaml")
    assert f"--output: not given, and {bundle} is a bundle, which never changes; name a folder" in message


@pytest.fixture(scope="module")
def by_image(runs):
    done("evaluate", runs / "vkd", *QUICK, "--level", "image", "--page", "false")
    return runs / "vkd" / "evaluation" / "test-image"


def test_images_are_evaluated_apart(by_image, evaluated):
    images, studies = (pd.read_parquet(f / "predictions.parquet") for f in (by_image, evaluated[0]))
    assert len(images) > len(studies) == images["study"].nunique()
    assert images.loc[images["study"].duplicated(), "image"].eq(1).all()
    columns = [name for name in images if name.startswith("image:")]
    means = images.groupby("study")[columns].mean().loc[studies["study"]]
    np.testing.assert_allclose(means, studies[columns], atol=1e-6)


@pytest.mark.parametrize("level", ["study", "image"])
def test_cases_show_the_rows_that_they_are_said_to_be(level, runs):
    trained = load_run(runs / "vkd", allow=["tests"])
    evaluation, rows = evaluate_run(trained, "test", 5, level)
    (second, *_) = np.flatnonzero(pd.Series(rows.study_ids).duplicated()) if level == "image" else (1,)
    chosen = [len(rows.study_ids) - 1, second, second - 1]  # apart, two images of one study
    pictures = _images_of(trained.data, evaluation, chosen)
    features = trained.method.model.image_encoder(pictures).detach()
    apart = evaluate_run(trained, "test", 5, "image")[1]
    shown = chosen if level == "image" else [list(apart.study_ids).index(rows.study_ids[row]) for row in chosen]
    np.testing.assert_allclose(features, apart.features[shown], atol=1e-5)
    images, overlays, captions = cases_of(trained.method, trained.data, evaluation, 4)
    assert images.shape[0] == overlays.shape[0] == len(captions) == 4
    assert all(re.fullmatch(r"\w+ Square: 0\.\d\d, label (present|absent|unknown)", text) for text in captions)


@pytest.mark.filterwarnings("default:fusion product")
def test_the_product_of_priors_is_an_evaluation_of_its_own(runs, evaluated):
    code, _, err = vkd("evaluate", runs / "vkd", *QUICK, "--fusion", "product", "--page", "false")
    assert code == 0
    assert "vkd: warning: fusion product: what was fitted on the validation split is of means over images" in err
    product, mean = (load_evaluation(runs / "vkd" / "evaluation" / name) for name in ("test-product", "test"))
    images = pd.Series([len(s.images) for s in Pairs(80).studies() if s.split == "test"])
    changed = np.abs(product.probabilities - mean.probabilities).max(axis=1) > 1e-7
    assert changed.tolist() == (images > 1).tolist()
    assert product.how["fusion"] == "product"
    assert "drop one" in refusal("evaluate", runs / "vkd", "--fusion", "product", "--level", "image")


def test_another_run_stands_beside_on_the_same_studies_alone(runs, evaluated):
    other = shutil.copytree(runs / "image_only", runs / "other") / "config.yaml"
    other.write_text(other.read_text().replace("num_studies: 80", "num_studies: 70"))
    message = refusal("evaluate", runs / "vkd", *QUICK, "--beside", runs / "other")
    assert f"--beside: {runs / 'other'} has other studies in its test split; name a run on the same" in message


# ----------------------------------------------------------------------------------------- compare


@pytest.fixture
def judged(tmp_path):
    """Three evaluated runs, the last two of which are better, and one that was not evaluated."""
    for seed, (name, signal) in enumerate({"base": 1.0, "better": 1.5, "better-1": 1.5}.items()):
        save_evaluation(make_evaluation(seed, signal), tmp_path / name / "evaluation" / "test")
    (tmp_path / "fresh").mkdir()
    return tmp_path


def evaluation_in(folder):
    return load_evaluation(folder / "evaluation" / "test")


def test_compare_prints_both_differences_to_the_first(judged):
    out = done("compare", judged / "base", judged / "better", "--resamples", "50")
    pair = [evaluation_in(judged / "better")], [evaluation_in(judged / "base")]
    macro, micro = (paired_difference(*pair, metric, 50) for metric in ("macro", "micro"))
    assert out.splitlines() == [
        "differences to base; test split, 200 patients; 95 % over patients",
        f"better: macro30 AUC {macro}; micro AUC {micro}",
    ]
    assert macro.low > 0


def test_runs_of_several_seeds_are_one_method(judged):
    seeds = f"{judged / 'better'},{judged / 'better-1'}"
    out = done("compare", judged / "base", seeds, "--resamples", "50")
    ours = [evaluation_in(judged / name) for name in ("better", "better-1")]
    expected = paired_difference(ours, [evaluation_in(judged / "base")], num_resamples=50)
    assert f"better,better-1: macro30 AUC {expected};" in out
    single = paired_difference(ours[:1], [evaluation_in(judged / "base")], num_resamples=50)
    assert expected.estimate != single.estimate


def test_comparison_json_has_averages_and_findings_and_forests(judged):
    names = ["base", "better", "better-1"]
    done("compare", *(judged / name for name in names), "--resamples", "50", "--output", judged / "c")
    found = json.loads((judged / "c" / "comparison.json").read_text())
    assert (found["to"], list(found["averages"]), list(found["findings"])) == (names[0], names[1:], names[1:])
    pair = [evaluation_in(judged / "better")], [evaluation_in(judged / "base")]
    assert found["averages"][names[1]]["macro30 AUC"] == plain(paired_difference(*pair, num_resamples=50))
    assert found["findings"][names[1]] == plain(by_finding(*pair, 50))
    forests = {"forest", "forest_findings_1", "forest_findings_2"}
    assert {path.stem for path in (judged / "c").glob("*.svg")} == forests
    assert {path.stem for path in (judged / "c").glob("*.png")} == forests
    assert {path.stat().st_mode & 0o077 for path in (judged / "c").rglob("*")} == {0}


def test_an_undefined_difference_is_null(judged):
    for name in ("base", "better"):
        evaluation = evaluation_in(judged / name)
        labels = evaluation.labels.copy()
        labels[:, 2] = 0
        evaluation = replace(evaluation, labels=labels)
        save_evaluation(evaluation, judged / name / "evaluation" / "test")
    done("compare", judged / "base", judged / "better", "--resamples", "5", "--output", judged / "c")
    found = json.loads((judged / "c" / "comparison.json").read_text(), parse_constant=pytest.fail)
    (findings,) = found["findings"].values()
    note = "0 patients with the finding, fewer than 5: no interval"
    assert findings["Pneumothorax"] == {"estimate": None, "low": None, "high": None, "note": note}


def test_a_folder_of_an_evaluation_says_its_own_split(judged):
    for seed, name in enumerate(("base", "better")):
        other = replace(make_evaluation(seed), how={"split": "validation", "level": "study"})
        save_evaluation(other, judged / name / "evaluation" / "validation")
    folders = [judged / name / "evaluation" / "validation" for name in ("base", "better")]
    assert "; validation split, " in done("compare", *folders, "--resamples", "5")
    runs = judged / "base", judged / "better"
    assert "; validation split, " in done("compare", *runs, "--split", "validation", "--resamples", "5")


def test_methods_are_named_by_what_tells_them_apart():
    assert short_names(["runs/a", "./runs/b"]) == ["a", "b"]
    assert short_names(["runs/a/x", "runs/b/x", "y"]) == ["a/x", "b/x", f"{Path.cwd().name}/y"]
    assert short_names(["runs/a,runs/b", "runs/c"]) == ["a,b", "c"]


def test_what_cannot_be_compared_is_one_line(judged):
    fresh = refusal("compare", judged / "base", judged / "fresh")
    assert f"{judged / 'fresh'}: not evaluated on its test split; run vkd evaluate {judged / 'fresh'}" in fresh
    assert "found one method, expected at least two" in refusal("compare", judged / "base")
    for again in (judged / "base", judged / "better" / ".." / "base", f"{judged / 'fresh'},{judged / 'base'}"):
        assert "base is given twice" in refusal("compare", judged / "base", judged / "better", again)
    split = judged / "base" / "evaluation" / "validation"
    save_evaluation(replace(make_evaluation(), how={"split": "validation", "level": "study"}), split)
    assert "another split, validation and test" in refusal("compare", judged / "better", split)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"findings": ("Oedema", "Fracture", "Pneumothorax")}, "compare: other findings (Edema, Oedema)"),
        ({"data": {"eval_policy": "another"}}, "compare: other evaluation policies"),
        ({"how": {"split": "test", "level": "image"}}, "compare: evaluations of another level, image and study"),
        ({"study_ids": tuple("x" * i for i in range(400))}, "compare: these evaluations are not of the same studies"),
    ],
)
def test_another_evaluation_is_refused_by_name_and_writes_nothing(change, found, judged):
    save_evaluation(make_full_evaluation(), judged / "a")
    save_evaluation(make_full_evaluation(**change), judged / "b")
    assert found in refusal("compare", judged / "a", judged / "b", "--output", judged / "c")
    assert not (judged / "c").exists()
