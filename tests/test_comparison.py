"""Comparisons: the paired interval, findings one by one, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.test_evaluation import make_evaluation, make_full_evaluation
from vkd_pyro.evaluation.comparison import by_finding, mean_difference, paired_difference
from vkd_pyro.metrics import auroc, macro_auroc, micro_auroc
from vkd_pyro.utils.errors import UserError


def test_difference_of_a_method_with_itself_is_exactly_zero():
    interval = paired_difference([make_evaluation()], [make_evaluation()], num_resamples=50)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


@pytest.mark.parametrize(("metric", "function"), [("macro", macro_auroc), ("micro", micro_auroc)])
def test_difference_is_of_predictions_averaged_over_seeds(metric, function):
    ours, theirs = [make_evaluation(s, 1.5) for s in (0, 1)], [make_evaluation(s, 1.0) for s in (2, 3)]
    interval = paired_difference(ours, theirs, metric, num_resamples=300)
    mean = [np.mean([e.probabilities for e in each], axis=0) for each in (ours, theirs)]
    assert interval.estimate == pytest.approx(function(mean[0], ours[0].labels) - function(mean[1], ours[0].labels))
    assert interval.low < interval.estimate < interval.high
    assert interval.low > 0


@pytest.mark.parametrize(("metric", "function"), [("macro", macro_auroc), ("micro", micro_auroc)])
def test_the_mean_difference_is_that_of_each_seed(metric, function):
    ours, theirs = [make_evaluation(s, 1.5) for s in (0, 1)], [make_evaluation(s, 1.0) for s in (2, 3)]
    interval = mean_difference(ours, theirs, metric, num_resamples=300)
    each = [
        function(a.probabilities, a.labels) - function(b.probabilities, b.labels)
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert interval.estimate == pytest.approx(np.mean(each))
    assert 0 < interval.low < interval.estimate < interval.high
    alone = mean_difference(ours[:1], theirs[:1], metric, num_resamples=300)
    assert alone == paired_difference(ours[:1], theirs[:1], metric, num_resamples=300)


def test_seeds_that_differ_widen_the_interval_of_their_mean():
    """Of one seed that gains and one that loses: as wide as the two are apart, as patients alone do not make it."""
    good, bad = make_evaluation(0, 3.0), make_evaluation(0, 0.1)
    interval = mean_difference([good, bad], [bad, good], num_resamples=200)
    gain = mean_difference([good], [bad], num_resamples=1).estimate
    assert interval.estimate == pytest.approx(0, abs=1e-12)
    assert interval.low < -0.8 * gain < 0.8 * gain < interval.high


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # Two methods of equal quality: the interval must contain 0 in about 95 % of repeated experiments.
    covered = 0
    for trial in range(60):
        a, b = make_evaluation(2 * trial + 10), make_evaluation(2 * trial + 11)
        interval = paired_difference([a], [b], "micro", num_resamples=200, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 52 <= covered <= 60


def test_findings_with_few_positives_take_no_part():
    rare = make_evaluation(signal=1.0)
    rare.labels[:, 0] = 0
    rare.labels[:29, 0] = 1
    other = make_evaluation(1)
    other.labels[:] = rare.labels
    interval = paired_difference([rare], [other], num_resamples=10)
    rest = [macro_auroc(e.probabilities[:, 1:], e.labels[:, 1:]) for e in (rare, other)]
    assert interval.estimate == pytest.approx(rest[0] - rest[1])


def test_a_finding_with_few_absent_keeps_its_area_in_resamples_without_them():
    """A differs nowhere, B by 1 wherever it is defined: the mean is 1/2 in every resample, also in those without B."""
    labels = np.zeros((200, 2))
    labels[:60, 0] = labels[3:, 1] = 1
    right = labels.copy()
    wrong = np.stack([labels[:, 0], 1 - labels[:, 1]], axis=1)
    template = make_evaluation(size=200)
    ours, theirs = (
        replace(template, findings=("A", "B"), labels=labels, probabilities=p * 0.8 + 0.1) for p in (right, wrong)
    )
    found = paired_difference([ours], [theirs], num_resamples=300)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_without_a_common_finding_there_is_no_macro():
    few = [make_evaluation(seed, size=60) for seed in (0, 1)]
    assert (np.nansum(few[0].labels, axis=0) < 30).all()
    assert str(paired_difference([few[0]], [few[1]])) == "undefined"
    assert not np.isnan(paired_difference([few[0]], [few[1]], "micro", 10).estimate)


def test_by_finding_is_the_difference_of_each_area_and_undefined_where_that_is():
    ours, theirs = make_evaluation(0, 1.5, one_class=True), make_evaluation(2, 1.0, one_class=True)
    found = by_finding([ours], [theirs], 50)
    assert list(found) == list(ours.findings)
    for k in (0, 1):
        areas = [auroc(e.probabilities[:, k], e.labels[:, k]) for e in (ours, theirs)]
        interval = found[ours.findings[k]]
        assert interval.estimate == pytest.approx(areas[0] - areas[1])
        assert interval.low < interval.estimate < interval.high
    assert np.isnan(found["Pneumothorax"].estimate)


def test_a_rare_finding_has_all_its_positives_in_every_resample():
    rows = slice(10, 60, 10)
    ours, theirs = make_evaluation(0), make_evaluation(1)
    for e in (ours, theirs):
        e.labels[:, 0] = 0
        e.labels[rows, 0] = 1  # five positives, above all negatives for ours, below all for theirs
    ours.probabilities[rows, 0], theirs.probabilities[rows, 0] = 1, 0
    interval = by_finding([ours], [theirs], 100)["Edema"]
    assert (interval.estimate, interval.low, interval.high) == (1, 1, 1)
    assert interval.note == "fewer than 30 patients with the finding"


def test_the_difference_of_a_finding_that_four_patients_have_has_no_interval():
    rows = slice(10, 50, 10)
    ours, theirs = make_evaluation(0), make_evaluation(1)
    for e in (ours, theirs):
        e.labels[:, 0] = 0
        e.labels[rows, 0] = 1
    ours.probabilities[rows, 0], theirs.probabilities[rows, 0] = 1, 0
    interval = by_finding([ours], [theirs], 100)["Edema"]
    assert interval.estimate == 1
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.note == "4 patients with the finding, fewer than 5: no interval"


def test_of_folds_put_together_pairs_of_the_same_model_count():
    models = np.arange(400) % 2
    ours, theirs = (replace(make_evaluation(seed), models=models) for seed in (0, 1))
    shifted = replace(ours, probabilities=ours.probabilities / 2 + models[:, None] / 2)  # other scale, same order
    for metric in ("macro", "micro"):
        before, after = (paired_difference([each], [theirs], metric, 20) for each in (ours, shifted))
        assert before == after


# ----------------------------------------------------------------------------------------- refused


REFUSED = {
    "another split, test and validation": lambda e: replace(e, how=e.how | {"split": "validation"}),
    "another level, study and image": lambda e: replace(e, how=e.how | {"level": "image"}),
    r"other findings \(Edema, Oedema\)": lambda e: replace(e, findings=("Oedema", *e.findings[1:])),
    r"other findings \(in another order\)": lambda e: replace(e, findings=e.findings[::-1]),
    "other evaluation policies .*'ignore'.* and .*'ones'": lambda e: replace(e, data=e.data | {"eval_policy": ONES}),
    "not of the same studies: 2 are in one only": lambda e: replace(e, study_ids=("other", *e.study_ids[1:])),
    "other labels for the same studies": lambda e: replace(e, labels=1 - e.labels),
    "folds are put together in one": lambda e: replace(e, models=np.arange(400) % 2),
}
ONES = {"class_path": "vkd_pyro.data.labels.policy.LabelPolicy", "init_args": {"uncertain": "ones"}}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_compared_is_refused_by_name(message):
    first = make_full_evaluation()
    other = REFUSED[message](first)
    for function in (paired_difference, by_finding):
        with pytest.raises(UserError, match=message) as error:
            function([first], [other])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="compare: "):
        paired_difference([first, other], [first])


def test_evaluations_of_another_size_are_refused():
    with pytest.raises(UserError, match="not of the same studies: 200 are in one only"):
        paired_difference([make_evaluation()], [make_evaluation(size=200)])


def test_training_policies_may_differ_and_a_saved_policy_is_the_same():
    first = make_full_evaluation()
    other = replace(first, data=first.data | {"train_policy": ONES})
    assert paired_difference([first], [other], num_resamples=10).estimate == 0
    saved = replace(first, data=json.loads(json.dumps(first.data)))  # its tuples are lists
    assert paired_difference([first], [saved], num_resamples=10).estimate == 0
