"""What an evaluation shows: averages, calibration, decisions, uncertainty, subgroups, against closed forms."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.test_evaluation import make_evaluation, make_full_evaluation
from vkd_pyro import metrics
from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.thresholds import ByCost, OperatingPoints

NAN = float("nan")


def evaluation_of(probabilities, labels, **changes) -> Evaluation:
    """An evaluation of these alone, [N, K], and nothing else known; a patient a study."""
    p, y = np.array(probabilities, float), np.array(labels, float)
    numbers = ("calibrated", "low", "high", "latent_uncertainty", "report_probabilities")
    fields: dict[str, Any] = dict.fromkeys(numbers, np.full_like(p, NAN))
    fields |= dict.fromkeys(("kl_per_study", "ood"), np.full(len(p), NAN))
    fields |= dict.fromkeys(("answers", "conformal"), np.full(p.shape, "unknown"))
    fields |= {name: tuple(f"{name}{i}" for i in range(len(p))) for name in ("study_ids", "patient_ids")}
    fields |= {"findings": tuple(f"finding {k}" for k in range(p.shape[1])), "subgroups": {}}
    return replace(make_evaluation(), **(fields | {"probabilities": p, "labels": y} | changes))


def subset_of(e: Evaluation, rows) -> Evaluation:
    """The same evaluation of some studies alone."""
    names = ("study_ids", "patient_ids")
    arrays = [n for n, value in vars(e).items() if isinstance(value, np.ndarray)]
    return replace(
        e,
        **{name: tuple(np.array(getattr(e, name))[rows]) for name in names},
        **{name: getattr(e, name)[rows] for name in arrays},
        subgroups={kind: groups[rows] for kind, groups in e.subgroups.items()},
    )


# ----------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize("models", [None, np.arange(400) % 2])
def test_averages_are_those_of_metrics_and_lie_in_their_intervals(models):
    e = replace(make_evaluation(one_class=True), models=models)
    e.labels[20:, 1] = np.where(e.labels[20:, 1] == 1, 0, e.labels[20:, 1])  # rare, so not in macro30
    found = tables.averages(e, 100)
    p, y = e.probabilities, e.labels
    expected = {
        "macro": metrics.macro_auroc(p, y, models=models),
        "macro30": metrics.macro_auroc(p, y, min_positives=30, models=models),
        "micro": metrics.micro_auroc(p, y, models),
        "weighted": metrics.weighted_auroc(p, y, models),
    }
    assert list(found) == list(expected)
    assert len(set(expected.values())) == 4
    for name, interval in found.items():
        assert interval.estimate == pytest.approx(expected[name], abs=1e-12)
        assert interval.low < interval.estimate < interval.high


def test_findings_with_a_single_positive_stay_in_the_mean_of_every_resample():
    # Eleven areas are exactly 0 and one is 1, whatever is drawn: the mean is 1 / 12, and nothing makes it vary.
    labels, probabilities = np.zeros((400, 12)), np.full((400, 12), 0.5)
    labels[::2, 0] = probabilities[::2, 0] = 1
    labels[np.arange(1, 12), np.arange(1, 12)], probabilities[np.arange(1, 12), np.arange(1, 12)] = 1, 0
    e = evaluation_of(probabilities, labels, subgroups={"sex": np.repeat(["female", "male"], 200)})
    expected = metrics.Interval(*[pytest.approx(1 / 12)] * 3)
    assert tables.averages(e, 50)["macro"] == expected
    group = tables.subgroups(e, 50).loc["sex: female", "macro AUC"]
    assert group == expected


def test_nothing_is_averaged_where_nothing_is_defined():
    e = evaluation_of(np.full((10, 2), 0.3), np.zeros((10, 2)))
    assert all(np.isnan([i.estimate, i.low, i.high]).all() for i in tables.averages(e, 5).values())
    assert tables.ranking(e, 5)["undefined"].tolist() == ["no study is positive"] * 2


def test_of_several_models_only_pairs_of_the_same_one_count():
    # Each model ranks its own studies perfectly, on scales that do not meet: pooled, half of the pairs would be wrong.
    e = evaluation_of([[0.1], [0.2], [0.8], [0.9]], [[0], [1], [0], [1]], models=np.array([0, 0, 1, 1]))
    assert tables.ranking(e, 5)["AUC"].iloc[0].estimate == 1
    assert {i.estimate for name, i in tables.averages(e, 5).items() if name != "macro30"} == {1.0}
    assert tables.averages(replace(e, models=None), 5)["micro"].estimate == 0.75


def test_ranking_counts_labels_and_has_both_classifiers():
    e = make_full_evaluation()
    table = tables.ranking(e, 20)
    assert table["known"].tolist() == (~np.isnan(e.labels)).sum(axis=0).tolist()
    assert table["positive"].tolist() == (e.labels == 1).sum(axis=0).tolist()
    assert table.index.tolist() == list(e.findings)
    for k, (_, row) in enumerate(table.iterrows()):
        assert row["AUC"].estimate == metrics.auroc(e.probabilities[:, k], e.labels[:, k])
        assert row["average precision"].estimate == metrics.average_precision(e.probabilities[:, k], e.labels[:, k])
        assert row["report AUC"] == metrics.auroc(e.report_probabilities[:, k], e.labels[:, k])
        assert row["undefined"] == ""


# ------------------------------------------------------------------------------------- calibration


def test_calibration_is_that_of_metrics_pooled_and_by_finding():
    e = make_full_evaluation()
    table = tables.calibration(e)
    assert table.index.tolist() == ["all findings", *e.findings]
    for name, p in (("raw", e.probabilities), ("recalibrated", e.calibrated)):
        for row, columns in ((0, slice(None)), (2, [1])):
            found, y = table.iloc[row], e.labels[:, columns]
            line = metrics.calibration_slope(p[:, columns], y)
            assert found[f"Brier, {name}"] == metrics.brier(p[:, columns], y)
            assert found[f"log loss, {name}"] == metrics.negative_log_likelihood(p[:, columns], y)
            assert found[f"ECE, {name}"] == metrics.expected_calibration_error(p[:, columns], y)
            assert found[f"adaptive ECE, {name}"] == metrics.adaptive_calibration_error(p[:, columns], y)
            assert found[f"slope, {name}"] == line.slope
            assert found[f"in the large, {name}"] == pytest.approx(np.nanmean(p[:, columns] - y))
    assert table.loc["all findings", "log loss, raw"] == e.nll()


def test_calibration_is_undefined_where_it_was_not_asked_or_no_label_is_known():
    e = make_evaluation(one_class=True)
    e.labels[:, 1] = NAN
    table = tables.calibration(e)
    assert table.filter(like="recalibrated").isna().all(axis=None)
    assert table.loc["Fracture"].isna().all()
    assert np.isnan(table.loc["Pneumothorax", "slope, raw"])
    assert table.loc["Pneumothorax", "Brier, raw"] == pytest.approx(np.square(e.probabilities[:, 2]).mean())


# --------------------------------------------------------------------------------------- decisions


@pytest.fixture
def six():
    """Six studies, small enough to count by hand; the second finding has no threshold."""
    p = np.array([0.9, 0.8, 0.6, 0.4, 0.2, 0.3])
    y = np.array([1, 0, 1, 1, 0, NAN])
    answers = np.array(["yes", "yes", "refer", "no", "no", "yes"])
    point = {"finding": "finding 0", "threshold": 0.5, "positives": 9, "negatives": 9}
    other = {"finding": "finding 1", "threshold": None, "positives": 1, "negatives": 9, "undefined": "too few"}
    points = [point | {"true_positives": 9, "true_negatives": 9}, other | dict.fromkeys(HITS)]
    bounds = {"absent": (0.5, None), "present": (0.4, None)}
    conformal = {name: [{"known": 9, "bound": b} for b in pair] for name, pair in bounds.items()}
    calibration = {
        "operating_points": OperatingPoints.fit([[0.1]], [[0.0]], ["f"], ByCost()).to_json() | {"points": points},
        "conformal": {"alpha": 0.1, "findings": ["finding 0", "finding 1"]} | conformal,
    }
    return evaluation_of(
        np.full((6, 2), 0.5),
        np.column_stack([y, y]),
        calibrated=np.column_stack([p, p]),
        answers=np.column_stack([answers, np.full(6, "unknown")]),
        how={"calibration": calibration},
    )


HITS = ("true_positives", "true_negatives")


def test_decisions_are_counted_over_known_labels(six):
    row = tables.decisions(six).loc["finding 0"]
    assert row["threshold"] == 0.5
    assert row["sensitivity"] == pytest.approx(2 / 3)  # yes by the threshold: studies 0 and 2 of 0, 2, 3
    assert row["specificity"] == 1 / 2  # study 4 of 1, 4
    assert row["referred"] == 1 / 5  # study 2; study 5 has no label
    assert row["wrong, if answered"] == 2 / 4  # studies 1 and 3 of 0, 1, 3, 4
    assert row["undefined"] == ""


def test_without_a_threshold_every_decision_is_undefined_and_says_why(six):
    row = tables.decisions(six).loc["finding 1"]
    assert row.drop("undefined").astype(float).isna().all()
    assert row["undefined"] == "too few"


def test_conformal_sets_are_counted_by_class(six):
    row = tables.conformal(six).loc["finding 0"]
    assert row["coverage, absent"] == 1 / 2  # study 4 of 1, 4: up to 0.5
    assert row["coverage, present"] == 1  # all of 0, 2, 3: from 0.4 on
    assert row["one answer"] == 4 / 5  # all but study 3, which is in both
    assert tables.conformal(six).loc["finding 1"].tolist() == [1, 1, 0]  # both always


def test_conformal_sets_are_those_of_the_answers():
    e = make_full_evaluation()
    fitted = Conformal.from_json(e.how["calibration"]["conformal"])
    np.testing.assert_array_equal(e.conformal, fitted.answers(e.calibrated))
    held = np.where(e.labels == 1, np.isin(e.conformal, ("yes", "refer")), np.isin(e.conformal, ("no", "refer")))
    table = tables.conformal(e)
    assert table["coverage, present"].tolist() == pytest.approx([held[e.labels[:, k] == 1, k].mean() for k in range(3)])
    assert table["coverage, absent"].tolist() == pytest.approx([held[e.labels[:, k] == 0, k].mean() for k in range(3)])


@pytest.mark.parametrize("changes", [{"how": {}}, {"models": np.arange(400) % 2}])
def test_there_are_no_decisions_without_thresholds_or_with_those_of_several_models(changes):
    e = make_full_evaluation(**changes)
    assert tables.decisions(e) is None
    assert tables.conformal(e) is None


# ------------------------------------------------------------------------------------------- uncertainty


def answers_with(wrong, **changes) -> Evaluation:
    """An evaluation of one finding that is wrong where it is said: an answer of 0.7 to what is absent, or present."""
    wrong = np.asarray(wrong, bool)
    return evaluation_of(np.full((len(wrong), 1), 0.7), np.where(wrong, 0.0, 1.0)[:, None], **changes)


def test_uncertainty_that_knows_the_errors_refers_as_the_oracle_does():
    # The 28 most uncertain of 100 are wrong: all of the first fifth, and 8 of the other 80.
    rank = np.random.default_rng(0).permutation(100)  # 0 is the most uncertain
    found = tables.selective(answers_with(rank < 28), uncertainty=1 - rank / 100, num_resamples=200)
    assert (found.uncertain_error, found.other_error) == (1, 0.1)
    assert found.ratio.estimate == 10
    assert found.ratio.low < 10 < found.ratio.high
    referred = np.round(100 * tables.SHARES).astype(int)
    np.testing.assert_allclose(found.shares, tables.SHARES)
    np.testing.assert_allclose(found.error, np.maximum(28 - referred, 0) / (100 - referred))
    np.testing.assert_allclose(found.oracle, found.error)
    np.testing.assert_allclose(found.random, 0.28)


def test_the_ratio_is_undefined_where_the_rest_has_no_wrong_answer():
    rank = np.arange(100)
    found = tables.selective(answers_with(rank < 20), uncertainty=1 - rank / 100, num_resamples=10)
    assert (found.uncertain_error, found.other_error) == (1, 0)
    assert np.isnan([found.ratio.estimate, found.ratio.low, found.ratio.high]).all()


def test_uncertainty_that_knows_nothing_refers_no_better_than_the_lot():
    generator = np.random.default_rng(1)
    e = answers_with(generator.random(4000) < 0.3)
    found = tables.selective(e, generator.random(4000), 200)
    assert found.ratio.low < 1 < found.ratio.high
    assert found.ratio.estimate == pytest.approx(1, abs=0.15)
    half = tables.SHARES <= 0.5
    np.testing.assert_allclose(found.error[half], found.random[half], atol=0.03)
    assert (found.oracle[half][1:] < found.error[half][1:] - 0.02).all()


def test_equal_uncertainties_tell_nothing():
    found = tables.selective(answers_with(np.arange(50) % 3 == 0), np.ones(50), 10)
    assert np.isnan(found.uncertain_error)
    assert np.isnan(found.ratio.estimate)
    assert (found.shares == 0).all()


@pytest.mark.parametrize("absent", ["label", "uncertainty"])
def test_a_study_without_label_or_uncertainty_takes_no_part(absent):
    generator = np.random.default_rng(2)
    e, uncertainty = answers_with(generator.random(300) < 0.3), generator.random(300)
    alone = tables.selective(e, uncertainty, 20)
    if absent == "label":
        labels, uncertainties = np.full((200, 1), NAN), np.full(200, 2.0)  # the most uncertain of all
    else:
        labels, uncertainties = np.zeros((200, 1)), np.full(200, NAN)
    more = evaluation_of(np.full((500, 1), 0.7), np.concatenate([e.labels, labels]))
    found = tables.selective(more, np.concatenate([uncertainty, uncertainties]), 20)
    assert (found.uncertain_error, found.other_error) == (alone.uncertain_error, alone.other_error)
    assert found.ratio.estimate == alone.ratio.estimate
    for name in ("shares", "error", "oracle", "random"):
        if (absent, name) != ("uncertainty", "random"):
            np.testing.assert_allclose(getattr(found, name), getattr(alone, name), err_msg=name)


def test_an_unknown_label_is_no_answer():
    e = evaluation_of([[0.9, 0.2], [0.9, 0.2], [0.4, 0.6]], [[1, NAN], [0, 0], [1, NAN]])
    found = tables.selective(e, np.array([1.0, 2.0, 3.0]), 5)
    assert found.error[0] == 2 / 4  # of (0, 0), (1, 0), (1, 1), (2, 0) the second and the last are wrong
    assert (found.uncertain_error, found.other_error) == (1, 1 / 3)


def test_by_default_the_uncertainty_is_the_total_of_all_findings_and_answers_are_recalibrated():
    e = make_full_evaluation()
    by_default, said = tables.selective(e, num_resamples=5), tables.selective(e, e.uncertainty.sum(axis=1), 5)
    np.testing.assert_array_equal(by_default.error, said.error)
    assert by_default.error[0] == pytest.approx(1 - metrics.accuracy(e.calibrated, e.labels))
    raw = tables.selective(replace(e, calibrated=np.full_like(e.calibrated, NAN)), num_resamples=5)
    assert raw.error[0] == pytest.approx(1 - metrics.accuracy(e.probabilities, e.labels))


# --------------------------------------------------------------------------------------- subgroups


@pytest.fixture
def grouped():
    generator = np.random.default_rng(3)
    bands = generator.choice(["unknown", "80 and over", "under 40", "40 to 59"], 400)
    return make_full_evaluation(
        subgroups={
            "sex": np.where(np.arange(400) % 3 == 0, "female", "unknown"),  # one group, and unknown
            "age": bands,
            "view": np.full(400, "frontal"),
        }
    )


def test_a_kind_of_one_group_is_left_out_and_groups_keep_their_order(grouped):
    groups = ["age: under 40", "age: 40 to 59", "age: 80 and over", "age: unknown"]
    assert tables.subgroups(grouped, 5).index.tolist() == groups
    assert tables.subgroups(replace(grouped, subgroups={}), 5).empty


@pytest.mark.parametrize("of_folds", [False, True])
def test_a_group_has_the_numbers_of_its_studies_alone(grouped, of_folds):
    e = replace(grouped, models=np.arange(400) % 2) if of_folds else grouped
    e.labels[e.subgroups["age"] == "under 40", 2] = 0  # undefined in that group
    table = tables.subgroups(e, 30)
    for name, row in table.iterrows():
        alone = subset_of(e, e.subgroups["age"] == str(name).removeprefix("age: "))
        averages = tables.averages(alone, 30)
        assert row["studies"] == len(alone.study_ids)
        assert row["patients"] == len(set(alone.patient_ids))
        assert row["positive"] == np.nansum(alone.labels)
        assert row["micro AUC"] == averages["micro"]
        assert row["macro AUC"] == averages["macro"]
        assert row["findings"] == (2 if name == "age: under 40" else 3)
        assert row["ECE"] == metrics.expected_calibration_error(alone.calibrated, alone.labels)
    assert table["studies"].sum() == 400


def test_a_group_without_a_positive_is_there_and_undefined(grouped):
    grouped.labels[grouped.subgroups["age"] == "80 and over"] = 0
    row = tables.subgroups(grouped, 5).loc["age: 80 and over"]
    assert (row["positive"], row["findings"]) == (0, 0)
    assert np.isnan(row["macro AUC"].estimate)
    assert np.isnan(row["micro AUC"].estimate)
