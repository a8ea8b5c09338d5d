"""The page of an evaluation: what it has of each kind of model and data, and that it names nobody."""

import html
import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from tests.test_evaluation import make_evaluation, make_full_evaluation
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.explanations.mismatch import Mismatch
from vkd_pyro.metrics import Interval
from vkd_pyro.posthoc.recalibration import Identity, Isotonic, Temperature
from vkd_pyro.reporting.html import render
from vkd_pyro.reporting.maps import LatentMaps, maps_of, shown_finding
from vkd_pyro.reporting.sections import Assessment, Extras, figures_of, page_of, plain
from vkd_pyro.reporting.write import save_all

NAN = float("nan")
RESAMPLES = 20


def no_positives() -> Evaluation:
    e = make_full_evaluation()
    e.labels[e.labels == 1] = 0
    return e


def no_labels() -> Evaluation:
    e = make_full_evaluation()
    e.labels[:] = NAN
    return e


def without(*names: str) -> Evaluation:
    e = make_full_evaluation()
    return replace(e, **{name: np.full_like(getattr(e, name), NAN) for name in names})


def old_bundle() -> Evaluation:
    e = without("calibrated", "ood")
    how = {name: value for name, value in e.how.items() if name != "calibration"}
    return replace(e, how=how, answers=np.full((400, 3), "unknown"), conformal=np.full((400, 3), "unknown"))


def image_only() -> Evaluation:
    e = without("low", "high", "report_probabilities", "kl_per_study")
    return replace(e, latent_uncertainty=np.full_like(e.low, NAN), latent_use=LatentUse())


def one_class() -> Evaluation:
    e = make_full_evaluation()
    e.labels[:, 2] = 0
    return e


KINDS = {
    "all": make_full_evaluation,
    "old bundle": old_bundle,
    "image only": image_only,
    "no report": lambda: without("report_probabilities", "kl_per_study"),
    "one class": one_class,
    "folds": lambda: replace(make_full_evaluation(), models=np.arange(400) % 2, data={"corpus": "tiny", "folds": 2}),
    "no positives": no_positives,
    "no labels": no_labels,
    "hardly anything": lambda: replace(make_evaluation(size=2), how={}, data={}, subgroups={}, latent_use=LatentUse()),
}
EVERY = [
    "summary",
    "findings",
    "curves",
    "calibration",
    "uncertainty",
    "decisions",
    "clinical",
    "subgroups",
    "failures",
    "ood",
    "latent",
]
EVERY += ["reports", "card"]
LACKING = {
    "old bundle": ["decisions", "ood"],
    "image only": ["latent", "reports"],
    "no report": ["reports"],
    "folds": ["curves", "decisions"],
    "no positives": ["curves", "failures"],
    "no labels": ["curves", "clinical", "failures"],
    "hardly anything": ["failures", "decisions", "subgroups", "ood", "latent", "reports"],
}


@cache
def assessed(kind: str) -> tuple[Evaluation, Assessment, str]:
    """An evaluation of a kind, its tables, and the text of its page."""
    evaluation = KINDS[kind]()
    rows = range(len(evaluation.study_ids))
    studies, patients = (tuple(f"name-of-{n}-{i // n}" for i in rows) for n in (1, 2))
    evaluation = replace(evaluation, study_ids=studies, patient_ids=patients)
    tables = Assessment.of(evaluation, RESAMPLES)
    return evaluation, tables, render(page_of(evaluation, tables, Extras(name="a model")))


def words(page: str) -> str:
    """What a reader sees of a page, without figures."""
    text = re.sub(r"(?s)<svg.*?</svg>|<style.*?</style>", " ", page)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def told(evaluation: Evaluation) -> str:
    """The facts and notes of a page of such an evaluation, not drawn."""
    page = page_of(evaluation, assessed("all")[1], Extras())
    facts = page.evaluated.facts() | {k: v for each in page.sections for k, v in each.facts.items()}
    return "\n".join([*(f"{k} {v}" for k, v in facts.items()), *(n for each in page.sections for n in each.notes)])


def section(page: str, name: str) -> str:
    """The words of one section."""
    return words(re.search(rf'(?s)<section id="{name}".*?</section>', page)[0])


# ------------------------------------------------------------------------------------ what there is


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_the_sections_that_something_is_known_of(kind):
    page = assessed(kind)[2]
    expected = [name for name in EVERY if name not in LACKING.get(kind, [])]
    assert re.findall(r'<section id="(\w+)"', page) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_undefined_is_said_in_words(kind):
    page = assessed(kind)[2]
    assert not re.search(r"\b(nan|None|inf)\b", words(page), re.IGNORECASE)
    assert not re.search(r">\s*-?(nan|inf)\s*<", page, re.IGNORECASE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_strict_json(kind):
    evaluation, tables, _ = assessed(kind)
    text = json.dumps(evaluation.summary() | tables.summary(), allow_nan=False)
    found = json.loads(text)
    assert found["averages"].keys() == {"macro", "macro30", "micro", "weighted"}
    assert list(found["ranking"]) == list(evaluation.findings)
    assert (found["decisions"] is None) == ("decisions" in LACKING.get(kind, []))
    assert found["findings"].keys() == found["ranking"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_named(kind):
    evaluation, tables, page = assessed(kind)
    assert "name-of-" in evaluation.study_ids[0]
    assert "name-of-" not in page + json.dumps(evaluation.summary() | tables.summary())


# -------------------------------------------------------------------------------- what is said of it


def test_the_head_says_what_was_evaluated():
    page = words(assessed("all")[2])
    for fact in ("tiny, test split", "patients 200", "studies 400", "images 500", "known labels 1,155", "bundle abc"):
        assert fact in page, fact
    assert "label policy, evaluation uncertain ignore, blank zeros" in page
    assert "samples of z an image 100" in page
    assert "samples of z an image 0" in words(assessed("image only")[2])
    assert "bundle 2 models" in words(assessed("folds")[2])


def test_z_of_a_single_draw_is_still_z():
    e = without("low", "high")
    evaluation = replace(e, how=e.how | {"num_samples": 1})
    assert "samples of z an image 1\n" in told(evaluation)


def test_the_summary_shows_the_averages_by_name():
    evaluation, tables, page = assessed("all")
    text = section(page, "summary")
    for name, interval in tables.averages.items():
        assert f"{name} {interval:.3f}" in text
        assert f"{evaluation.averages()['report'][name]:.3f}" in text
    assert "mean of the 3 findings whose AUC is defined" in text
    assert "mean of the 2 findings whose AUC is defined" in section(assessed("one class")[2], "summary")
    assert "the report" not in section(assessed("no report")[2], "summary")


def test_an_undefined_finding_says_why_and_has_no_curve():
    page = assessed("one class")[2]
    assert "undefined: no study is positive" in section(page, "findings")
    curves = re.search(r'(?s)<section id="curves".*?</section>', page)[0]
    assert "Fracture" in curves
    assert "Pneumothorax" not in curves


def test_what_no_label_defines_is_told_apart_from_what_no_line_fits():
    assert "separates" not in section(assessed("all")[2], "calibration")
    text = section(assessed("one class")[2], "calibration")
    assert "one class, one probability, or classes that the probability separates" in text
    assert "no label is known" not in text
    assert "no label is known" in section(assessed("no labels")[2], "calibration")


@pytest.mark.parametrize(("kind", "said"), [("all", "Recalibrated by Platt"), ("folds", "for each model apart")])
def test_the_recalibration_is_named(kind, said):
    assert said in section(assessed(kind)[2], "calibration")
    assert "ecalibrated" not in section(assessed("old bundle")[2], "calibration")


@pytest.mark.parametrize("kind", [Identity, Temperature, Isotonic])
def test_any_recalibration_can_be_shown(kind):
    evaluation = make_full_evaluation(recalibration=kind)
    assert f"Recalibrated by {kind.__name__}, fitted to studies of the validation split." in told(evaluation)


@pytest.mark.parametrize("changed", [{"fusion": "product"}])
def test_a_calibration_of_something_else_says_so(changed):
    evaluation = make_full_evaluation()
    other = replace(evaluation, how=evaluation.how | changed)
    said = "It was fitted to the mean over the images of a study, which is not what is evaluated here."
    for each, there in ((evaluation, False), (other, True)):
        assert (said in told(each)) == there


def test_the_decisions_are_those_of_the_tables():
    _, tables, page = assessed("all")
    text = section(page, "decisions")
    assert "found on the validation split by BySensitivity (at least 0.8)" in text
    for finding, row in tables.decisions.drop(columns="undefined").iterrows():
        assert f"{finding} {' '.join(f'{value:.3f}' for value in row)}" in text
    for finding, row in tables.conformal.iterrows():
        assert f"{finding} {' '.join(f'{value:.3f}' for value in row)}" in text
    assert "covered in at least 80% of its studies" in text


def test_ood_is_counted_where_it_is_known():
    ood = np.full(400, NAN)
    ood[:10] = [0.01, 0.05, *[0.5] * 8]
    assert "flagged as unlike the training images 20.0%" in told(make_full_evaluation(ood=ood))


def test_how_several_images_are_judged_is_said():
    said = "is flagged by the one furthest from the training images"
    assert said in section(assessed("all")[2], "ood")  # 500 images of 400 studies
    single = make_full_evaluation(data={"corpus": "tiny", "splits": {"test": {"images": 400}}})
    assert said not in told(single)


def test_the_excess_is_named_where_it_was_asked_for():
    assert "mismatch_score" not in section(assessed("all")[2], "reports")


def test_uncertainty_without_a_label_is_undefined():
    text = section(assessed("no labels")[2], "uncertainty")
    assert "most uncertain fifth undefined (no label is known, or all uncertainties are equal)" in text
    shares = assessed("all")[1].selective
    text = section(assessed("all")[2], "uncertainty")
    assert f"most uncertain fifth {shares.uncertain_error:.1%} wrong answers, the rest {shares.other_error:.1%}" in text
    assert "the part that z carries" in text
    assert "the part that z carries" not in section(assessed("image only")[2], "uncertainty")


def test_subgroups_are_those_of_the_tables():
    _, tables, page = assessed("all")
    text = section(page, "subgroups")
    assert tables.subgroups.index.tolist() == ["sex: female", "sex: male"]
    for name, row in tables.subgroups.iterrows():
        assert f"{name} {row['studies']} {row['patients']} {row['positive']} {row['micro AUC']:.3f}" in text


def test_a_warning_stands_at_the_top():
    evaluation = make_full_evaluation()
    ignored = replace(evaluation, latent_use=replace(evaluation.latent_use, z_change=0.0))
    assert page_of(ignored, assessed("all")[1], Extras()).warnings == [ignored.latent_use.warning]
    assert 'class="warning"' not in assessed("all")[2]


def test_extras_are_shown_as_far_as_there_are_any():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(30, 2))
    extras = Extras(
        name="a model",
        training=pd.DataFrame({"epoch": [0, 1], "val/nll": [0.6, 0.5]}),
        maps=(LatentMaps("Map of z (t-SNE)", {"z given the image": (points, np.repeat("absent", 30))}, "Means."),),
        mismatch=Mismatch(("a", "b"), np.array([1.0, 2.0]), np.array([[3.0, 0.0, 4.0], [5.0, 6.0, 7.0]])),
        cases=(generator.random((2, 8, 8)), generator.random((2, 8, 8, 3)), ["Edema: 0.91", "Edema: 0.52"]),
        card="# Findings\n\nTrained on something.\n",
        command="vkd evaluate runs/mine",
    )
    page = page_of(*assessed("all")[:2], extras)
    text = render(page)
    assert re.findall(r'<section id="(\w+)"', text) == [*EVERY[:-1], "cases", "training", "card"]
    assert "AUROC of that KL, reports beside other images 0.833" in section(text, "reports")  # 10 pairs of 12
    assert "the column mismatch_score of predictions.parquet" in section(text, "reports")
    assert "Trained on something." in section(text, "card")
    assert "command vkd evaluate runs/mine" in words(text)
    names = [name for name, _ in figures_of(page)]
    assert len(names) == len(set(names)) == 9
    assert "map_of_z_t_sne" in names
    assert "examples" not in names, "a patient's picture is in the page alone"


def test_findings_of_any_name():
    name = "Ödem & <b> $x$"
    evaluation = replace(make_evaluation(), findings=(name, "Fracture", "Pneumothorax"))
    text = render(page_of(evaluation, Assessment.of(evaluation, 2), Extras()))
    assert name in section(text, "findings")


def test_many_findings():
    few, number = make_evaluation(), len(CHEXPERT_FINDINGS)
    wide = {name: np.tile(v, (1, 5))[:, :number] for name, v in vars(few).items() if np.ndim(v) == 2}
    evaluation = replace(few, **wide, findings=tuple(CHEXPERT_FINDINGS))
    tables = Assessment.of(evaluation, 2)
    page = page_of(evaluation, tables, Extras())
    assert [row[0] for row in page.sections[1].tables[0].rows] == list(CHEXPERT_FINDINGS)
    assert tables.summary()["ranking"].keys() == set(CHEXPERT_FINDINGS)


# ------------------------------------------------------------------------------------------- files


def test_everything_is_written_and_only_its_owner_may_read_it(tmp_path):
    evaluation = assessed("one class")[0]
    tables = save_all(evaluation, tmp_path / "e", Extras(), RESAMPLES)
    folder = tmp_path / "e"
    assert {path.name for path in folder.iterdir()} == {
        *("evaluation.json", "predictions.parquet", "index.html", "figures"),
        *("checklist.html", "checklist.json", "failures.csv", "tables"),
    }
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads((folder / "evaluation.json").read_text(), parse_constant=refuse)
    assert summary == json.loads(json.dumps(evaluation.summary() | tables.summary()))
    interval = summary["averages"]["micro"]
    assert list(interval.values()) == [tables.averages["micro"].estimate, interval["low"], interval["high"]]
    assert summary["ranking"]["Pneumothorax"]["AUC"] == {"estimate": None, "low": None, "high": None}
    for path in (folder / "figures").glob("*.svg"):
        assert "name-of-" not in path.read_text()


def test_plain_is_what_json_holds():
    table = pd.DataFrame({"a": [1, 2], "b": [NAN, 0.5]}, index=["x", "y"])
    assert plain(table)["x"]["b"] is None
    assert plain({"i": Interval(1.0, NAN, NAN)}) == {"i": {"estimate": 1.0, "low": None, "high": None}}
    assert plain(np.array([[1.0, NAN]])) == [[1.0, None]]
    assert type(plain(np.int64(3))) is int
    assert plain(None) is None


def test_the_finding_that_is_shown_has_most_positives():
    evaluation = make_full_evaluation(findings=("No Finding", "Fracture", "Pneumothorax"))
    evaluation.labels[:, 0] = 1
    expected = int(np.nansum(evaluation.labels[:, 1:], axis=0).argmax()) + 1
    assert shown_finding(evaluation) == expected
    alone = replace(evaluation, findings=("No Finding",), labels=evaluation.labels[:, :1])
    assert shown_finding(alone) == 0


def test_maps_of_z_are_coloured_by_label_and_by_what_reports_say():
    evaluation = make_full_evaluation(size=36)
    said = ["Small left pleural effusion.", "Large right pleural effusion.", "Clear lungs."]
    z = {"z given the image": np.random.default_rng(0).normal(size=(36, 3))}
    label, side, severity = maps_of(evaluation, z, said * 12)
    assert [of.title for of in (side, severity)] == ["Map of z (t-SNE) by side", "Map of z (t-SNE) by severity"]
    assert side.caption == "The same points, coloured by the side of Pleural Effusion that their reports say."
    (places, words), (same, sides), (_, severities) = (of.maps["z given the image"] for of in (label, side, severity))
    assert set(words.tolist()) <= {"present", "absent", "unknown"}
    assert np.array_equal(places, same)
    assert sides.tolist() == ["left", "right", "absent"] * 12
    assert severities.tolist() == ["mild", "severe", "absent"] * 12


def test_without_reports_there_is_one_map_of_z_and_without_z_none():
    evaluation = make_full_evaluation(size=36)
    z = {"z given the image": np.zeros((36, 3)) + np.arange(36)[:, None]}
    assert [of.title for of in maps_of(evaluation, z, [None] * 36)] == ["Map of z (t-SNE)"]
    assert maps_of(evaluation, {"z given the image": np.full((36, 3), np.nan)}) == ()
