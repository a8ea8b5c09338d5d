"""A bundle fitted to a site: maps after maps, what is chosen, what stays, what is refused; drift of later months."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import chi2_contingency

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import refusal, vkd
from tests.test_predict import DATA, trained
from vkd_pyro.artifacts.bundle import load_bundle, save_bundle
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.evaluation.site import _Said, recalibrate, site_data
from vkd_pyro.metrics.drift import drift, holm
from vkd_pyro.posthoc import Identity, Isotonic, Platt, Temperature
from vkd_pyro.posthoc.lines import Lines
from vkd_pyro.posthoc.recalibration import Recalibration
from vkd_pyro.posthoc.site import Adaptation, choose, folds_of
from vkd_pyro.posthoc.usual import UsualProbabilities
from vkd_pyro.prediction.monitoring import monitor
from vkd_pyro.training.posthoc import calibrate
from vkd_pyro.utils.errors import UserError

NAMES = ["a", "b"]
P = np.array([[0.2, 0.9], [0.5, 0.01], [0.7, 0.4]])


# ------------------------------------------------------------------------------------ a map after a map


def lines(not_fitted=None):
    return Lines(NAMES, np.array([0.5, 2.0]), np.array([1.0, -1.0]), not_fitted or {})


@pytest.mark.parametrize(
    "first",
    [
        Identity(NAMES, {}),
        Temperature(NAMES, {}, 2.0),
        Platt(NAMES, {}, [2.0, 0.5], [0.3, -0.2]),
        Platt(NAMES, {"b": "few"}, [2.0, 1.0], [0.3, 0.0]),
    ],
)
def test_lines_after_lines_are_lines(first):
    np.testing.assert_allclose(first.then(lines())(P), lines()(first(P)), rtol=1e-9)


def test_lines_after_knots_are_exact_at_the_knots():
    first = Isotonic(NAMES, {}, [[0.0, 0.5, 1.0], [0.1, 0.9]], [[0.1, 0.3, 0.8], [0.2, 0.7]])
    at = np.array([[0.5, 0.1], [1.0, 0.9]])
    np.testing.assert_allclose(first.then(lines())(at), lines()(first(at)), rtol=1e-9)


def test_lines_after_a_map_that_is_none():
    first = Isotonic(NAMES, {"a": "few"}, [[0.0, 1.0], [0.1, 0.9]], [[0.0, 1.0], [0.2, 0.7]])
    np.testing.assert_allclose(first.then(lines())(P)[:, 0], lines()(P)[:, 0], atol=2e-3)


def test_a_finding_that_the_site_cannot_fit_keeps_its_map():
    none = Lines(NAMES, np.array([1.0, 2.0]), np.array([0.0, -1.0]), {"a": "few at the site"})
    first = Platt(NAMES, {"a": "few before"}, [1.0, 0.5], [0.0, 0.1])
    assert first.then(none).not_fitted == {"a": "few before"}
    np.testing.assert_allclose(first.then(none)(P)[:, 0], P[:, 0])
    assert Platt(NAMES, {}, [3.0, 1.0], [0.5, 0.0]).then(none).slopes == [3.0, 2.0]


def test_a_map_that_cannot_be_followed_says_so():
    class Own(Recalibration):
        fit = recalibrate = None

    Own.__abstractmethods__ = frozenset()
    with pytest.raises(UserError, match="Own cannot be followed by lines; train with Temperature"):
        Own(NAMES, {}).then(lines())


# -------------------------------------------------------------------------------------- what is fitted


def drawn(number=4000, slope=1.0, shift=0.0, seed=0):
    """Probabilities [N, 2] and labels of which sigmoid(slope logit(p) + shift) is the truth."""
    generator = np.random.default_rng(seed)
    p = expit(generator.normal(-1, 1.5, (number, 2)))
    return p, (generator.random(p.shape) < expit(slope * logit(p) + shift)).astype(float)


def test_a_fit_finds_the_truth_where_labels_are_many():
    p, y = drawn(20_000, slope=0.6, shift=0.8)
    found = Adaptation("platt", 1.0).fit(p, y, NAMES)
    np.testing.assert_allclose(found.slopes, 0.6, atol=0.04)
    np.testing.assert_allclose(found.intercepts, 0.8, atol=0.06)


@pytest.mark.parametrize("kind", ["prevalence", "platt"])
def test_a_fit_is_where_the_posterior_is_flat(kind):
    p, y = drawn(300, shift=1.0)
    found, weight = Adaptation(kind, 4.0).fit(p, y, NAMES), 4.0
    a, b = found.slopes, found.intercepts
    error = expit(a * logit(p) + b) - y
    np.testing.assert_allclose(error.sum(0) + weight * b, 0, atol=1e-5)
    if kind == "platt":
        np.testing.assert_allclose((error * logit(p)).sum(0) + weight * (a - 1), 0, atol=1e-5)


def test_a_heavy_prior_leaves_things_as_they_were():
    p, y = drawn(300, shift=2.0)
    found = Adaptation("platt", 1e9).fit(p, y, NAMES)
    np.testing.assert_allclose([*found.slopes, *found.intercepts], [1, 1, 0, 0], atol=1e-5)


def test_few_positives_are_left_as_they_were():
    p, y = drawn(300)
    y[:, 1] = 0
    y[:3, 1] = 1
    found = Adaptation("platt", 1.0).fit(p, y, NAMES)
    assert found.not_fitted == {"b": "positives known: 3, negatives: 297; at least 5 of each are needed"}
    assert (found.slopes[1], found.intercepts[1]) == (1, 0)


@pytest.mark.parametrize(
    ("slope", "shift", "number", "kinds"),
    [
        (1.0, 1.2, 1000, {"prevalence", "platt"}),
        (0.5, 0.0, 1000, {"temperature", "platt"}),
        (0.4, 1.5, 1000, {"platt"}),
    ],
)
def test_what_is_chosen_is_what_has_changed(slope, shift, number, kinds):
    p, y = drawn(number, slope, shift)
    assert choose(p, y, np.arange(number), NAMES).kind in kinds


def test_folds_keep_patients_together_and_hold_each_out_once():
    patients = np.array([f"p{number // 3}" for number in range(60)])
    held_out = np.array(list(folds_of(patients)))
    assert (held_out.sum(0) == 1).all()
    assert all(len({tuple(held_out[:, n]) for n in np.flatnonzero(patients == p)}) == 1 for p in patients)


# ------------------------------------------------------------------------------------------- a bundle


class Site(TinyCorpus):
    """Other patients; the first finding is seen in nearly all of them, whatever the image shows."""

    name = "site"

    def __init__(self, num_studies: int = 300, first: int = 0) -> None:
        super().__init__(num_studies)
        self.first = first

    def _study(self, number):
        number += self.first
        study = super()._study(number + 5000)
        labels = study.labels.copy()
        labels[0] = max(labels[0], float(np.random.default_rng(number).random() < 0.8))
        for name, value in (("labels", labels), ("study_id", f"site-{number}"), ("patient_id", f"one-{number}")):
            object.__setattr__(study, name, value)
        return study


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "bundle"
    method = trained(0)
    calibration = calibrate(method, DATA)
    save_bundle(folder, method.image_model, DATA.findings, DATA.transform, "# A card\n", {}, calibration)
    return folder


@pytest.fixture(scope="module")
def site(bundle):
    path = bundle.parent / "site.yaml"
    path.write_text(
        "data:\n  selection:\n    corpus:\n      class_path: tests.test_site.Site\n"
        "      init_args: {num_studies: 300}\n    image_size: 32\n"
    )
    return path


@pytest.fixture(scope="module")
def fitted(bundle, site):
    folder = bundle.parent / "fitted"
    code, out, err = vkd("recalibrate", bundle, "--config", site, "--output", folder, "--resamples", "100")
    assert code == 0, err
    return folder, out


def test_the_weights_stay_to_the_byte(bundle, fitted):
    old, new = load_bundle(bundle), load_bundle(fitted[0])
    assert new.weights_hash == old.weights_hash
    assert new.bundle_hash != old.bundle_hash
    hashes = [hashlib.sha256((f / "weights.safetensors").read_bytes()).hexdigest() for f in (bundle, fitted[0])]
    assert hashes[0] == hashes[1] == old.weights_hash


def test_a_new_prevalence_is_learned(bundle, fitted):
    """On studies of the site that were not fitted to."""
    data = study_data(Site(400, first=400), image_size=32)
    said = {}
    for folder in (bundle, fitted[0]):
        loaded = load_bundle(folder)
        e = evaluate(loaded.method, data, "train", 20, calibration=loaded.calibration)
        said[folder] = abs(e.calibrated[:, 0].mean() - e.labels[:, 0].mean())
    assert said[fitted[0]] < said[bundle] / 4


def test_what_it_is_worth_is_said_and_kept(fitted):
    folder, out = fitted
    assert "on patients not fitted to" in out
    assert "log loss" in out
    config = json.loads((folder / "config.json").read_text())
    record = config["data"]["recalibrated"]
    assert record["counts"] == {"studies": 300, "patients": 300, "images": 300}
    loss = next(c for c in record["changes"] if c["measure"] == "log loss")
    assert loss["difference"]["high"] < 0
    card = (folder / "README.md").read_text()
    assert card.startswith("# A card")
    assert "| log loss |" in card
    assert "Fitted to 300 studies" in card
    assert not any(name in (folder / "config.json").read_text() for name in ("one-1", "site-1"))


def test_a_change_is_of_the_studies_and_findings_of_which_both_say_something():
    """The old bundle has no threshold for the second finding: its sensitivity, 0 there, is in neither number."""
    labels = np.ones((4, 2))
    before = _Said(labels, labels, np.array([[1, np.nan], [1, np.nan], [0, np.nan], [1, np.nan]]), labels, labels)
    after = _Said(labels, labels, np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]]), labels, labels)
    counts = np.ones((1, 4), np.int64)
    assert after.sensitivity()(counts) == 0.5
    assert [one.sensitivity()(counts).item() for one in (before.beside(after), after.beside(before))] == [0.75, 1.0]


def test_of_a_finding_without_a_threshold_none_is_said_to_be_moved(fitted):
    folder, out = fitted
    points = load_bundle(folder).calibration.study.operating_points.points
    for point in points:
        assert (f"threshold of {point.finding}: none, as before (" in out) == (point.threshold is None)
    assert any(point.threshold is None for point in points) or "none, as before" not in out


def test_predictions_say_on_whom(fitted, tmp_path):
    from PIL import Image

    Image.fromarray(TinyCorpus(1).studies()[0].images[0]).save(tmp_path / "x.png")
    code, out, err = vkd("predict", fitted[0], tmp_path / "x.png", "--num_samples", "5")
    assert code == 0, err
    assert "recalibrated on 300 studies of the site" in out


def test_the_images_of_the_site_are_usual_there(bundle, fitted):
    """A share of 5 % or so of what it was fitted to, whatever it was before."""
    loaded = load_bundle(fitted[0])
    assert loaded.calibration.reference.held_out_scores.size == 300
    np.testing.assert_allclose(
        loaded.calibration.reference.features.mean, load_bundle(bundle).calibration.reference.features.mean
    )


@pytest.mark.parametrize(
    ("number", "wrong"),
    [(90, r"found 90 labelled studies of the site, expected at least 100: of fewer, what is fitted is worse")],
)
def test_too_few_are_refused(bundle, tmp_path, number, wrong):
    data = site_data(study_data(Site(number), image_size=32))
    with pytest.raises(UserError, match=wrong):
        recalibrate(load_bundle(bundle), data, ("train", "validation", "test"))


def test_few_patients_and_no_finding_are_refused(bundle):
    class Same(Site):
        def _study(self, number):
            study = super()._study(number)
            object.__setattr__(study, "patient_id", f"p{number % 3}")
            object.__setattr__(study, "split", "test")
            return study

    class Blank(Site):
        def _study(self, number):
            study = super()._study(number)
            object.__setattr__(study, "labels", np.zeros(3, np.float32))
            return study

    for corpus, wrong in ((Same(120), "found 3 patients"), (Blank(120), "no finding has 5 studies with it")):
        data = site_data(study_data(corpus, image_size=32))
        splits = tuple(data.summary()["splits"])
        with pytest.raises(UserError, match=wrong):
            recalibrate(load_bundle(bundle), data, splits)


def test_mistakes_are_said_before_anything_is_read(bundle, site, tmp_path):
    assert "no data of the site" in refusal("recalibrate", bundle, "--output", tmp_path / "new")
    assert "not a bundle" in refusal("recalibrate", tmp_path, "--config", site, "--output", tmp_path / "new")
    assert "exists already" in refusal("recalibrate", bundle, "--config", site, "--output", bundle)
    inside = refusal("recalibrate", bundle, "--config", site, "--output", bundle / "new")
    assert "is in a bundle" in inside
    assert not (tmp_path / "new").exists()


# -------------------------------------------------------------------------------------------- drift


def test_the_stability_index_by_hand():
    found = drift([50, 50], [20, 80])
    before, now = np.array([50.5, 50.5]) / 101, np.array([20.5, 80.5]) / 101
    assert found.psi == pytest.approx(((now - before) * np.log(now / before)).sum())
    assert found.by_chance == pytest.approx(1 / 100 + 1 / 100)
    assert found.p == pytest.approx(chi2_contingency([[50, 50], [20, 80]], correction=False).pvalue)


def test_small_bins_are_joined():
    assert drift([50, 1, 1, 48], [50, 0, 2, 48]).bins == 2
    assert np.isnan(drift([3, 3], [3, 3]).psi)
    assert np.isnan(drift([0, 0], [30, 30]).p)


def test_the_index_by_chance_is_its_mean_where_nothing_changes():
    generator = np.random.default_rng(0)
    found = [drift(generator.multinomial(400, [0.1] * 10), generator.multinomial(300, [0.1] * 10)) for _ in range(400)]
    assert np.mean([one.psi for one in found]) == pytest.approx(np.mean([one.by_chance for one in found]), rel=0.1)
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=0.025)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, np.nan, 0.03, 0.005]), [0.03, 0.06, np.nan, 0.06, 0.02])


def predictions(path, bundle, number=300, shift=0.0, flagged=0.05, seed=0, unit="study", other=None):
    """A table as `vkd predict --output` writes it, of probabilities spread as the reference is, shifted in logits."""
    loaded, generator = load_bundle(bundle), np.random.default_rng(seed)
    fit = loaded.calibration.of(unit)
    rows = []
    for n in range(number):
        far = bool(generator.random() < flagged)
        for k, finding in enumerate(loaded.findings):
            usual = fit.usual.quantiles[k]
            p = float(np.interp(generator.random() * usual.size, usual.at_least[::-1], usual.values[::-1]))
            p = float(expit(logit(np.clip(p, 1e-6, 1 - 1e-6)) + shift))
            row = {"image": f"{n}.png", "unit": unit, "finding": finding, "calibrated": p, "answer": "no"}
            rows.append(row | {"flagged": far, "bundle_sha256": other or loaded.bundle_hash})
    table = pd.DataFrame(rows)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        objects = [
            {
                name: of[name].iloc[0].item() if name == "flagged" else of[name].iloc[0]
                for name in ("image", "unit", "flagged", "bundle_sha256")
            }
            | {"findings": of.set_index("finding")[["calibrated", "answer"]].to_dict("index")}
            for _, of in table.groupby("image", sort=False)
        ]
        path.write_text(json.dumps(objects))
    return path


def watched(bundle, *paths):
    loaded = load_bundle(bundle)
    return monitor(loaded.calibration, loaded.bundle_hash, paths)


def test_what_is_usual_is_no_drift(bundle, tmp_path):
    paths = [predictions(tmp_path / f"2026-{month:02d}.csv", bundle, seed=month) for month in range(1, 9)]
    months = watched(bundle, *paths)
    assert [month.name for month in months] == [f"2026-{month:02d}" for month in range(1, 9)]
    assert [month.drifted for month in months] == [[]] * 8
    share = months[0].findings[0]
    assert share.yes.estimate == pytest.approx(share.usual_yes, abs=0.1)


def test_shifted_probabilities_and_images_drift(bundle, tmp_path):
    usual = predictions(tmp_path / "usual.csv", bundle)
    other = predictions(tmp_path / "other.csv", bundle, shift=2.0, flagged=0.3, seed=1)
    first, second = watched(bundle, usual, other)
    assert first.drifted == []
    assert second.drifted == ["images", *load_bundle(bundle).findings]
    assert second.flagged.estimate == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_every_format_says_the_same(bundle, tmp_path, suffix):
    one, two = (predictions(tmp_path / f"m{each}", bundle, shift=1.0) for each in (".csv", suffix))
    assert watched(bundle, one) == watched(bundle, two)


def test_few_say_nothing(bundle, tmp_path):
    (month,) = watched(bundle, predictions(tmp_path / "few.csv", bundle, 20, shift=3.0))
    assert month.verdict == "too few"
    assert {one.verdict for one in month.findings} == {"too few"}
    assert np.isnan(month.findings[0].psi)


def test_tables_that_are_none_are_refused(bundle, tmp_path):
    good = predictions(tmp_path / "good.csv", bundle, 60)
    (tmp_path / "text.csv").write_text("nothing\n1\n")
    (tmp_path / "no.json").write_text('{"a": 1}')
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "high.csv").write_text(good.read_text().replace("study,Upper Square,0.", "study,Upper Square,7.", 1))
    cases = {
        "text.csv": "not a table of vkd predict --output: no column image",
        "no.json": "not a table of vkd predict",
        "no.parquet": "not a table of vkd predict",
        "high.csv": r"calibrated: found a number outside \[0, 1\]",
    }
    for name, wrong in cases.items():
        with pytest.raises(UserError, match=wrong):
            watched(bundle, tmp_path / name)
    other = predictions(tmp_path / "other.csv", bundle, 60, other="0" * 64)
    with pytest.raises(UserError, match="predicted by bundle 000000000000, expected"):
        watched(bundle, other)


def test_the_command_says_and_writes_it(bundle, tmp_path):
    usual = predictions(tmp_path / "2026-01.csv", bundle)
    other = predictions(tmp_path / "2026-02.csv", bundle, shift=2.0, seed=1)
    code, out, err = vkd("monitor", bundle, usual, other, "--output", tmp_path / "drift")
    assert code == 0, err
    assert "2026-01: 300 studies" in out
    assert "as usual" in out
    assert "drift: Upper Square: mean probability" in out
    written = json.loads((tmp_path / "drift" / "monitor.json").read_text())
    assert [month["name"] for month in written["months"]] == ["2026-01", "2026-02"]
    table = pd.read_csv(tmp_path / "drift" / "monitor.csv")
    assert set(table["verdict"]) == {"as usual", "drift"}
    assert len(table) == 6
    assert (tmp_path / "drift" / "drift.png").stat().st_size > 5000


def test_what_is_usual_goes_through_json():
    usual = UsualProbabilities.fit(drawn(200)[0], NAMES)
    again = UsualProbabilities.from_json(json.loads(json.dumps(usual.to_json())))
    assert again.to_json() == usual.to_json()
    with pytest.raises(UserError, match="probabilities"):
        UsualProbabilities.fit([[0.5, 2.0]], NAMES)
