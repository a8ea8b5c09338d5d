"""Evaluations: paired intervals, saving, text."""

import json
from pathlib import Path

import numpy as np
import pytest

from vkd_pyro.collapse import LatentUse
from vkd_pyro.comparison import paired_difference
from vkd_pyro.errors import UserError
from vkd_pyro.evaluation import Evaluation, load_evaluation, save_evaluation
from vkd_pyro.metrics import macro_auroc


def make_evaluation(seed: int = 0, signal: float = 1.0, size: int = 400, one_class: bool = False) -> Evaluation:
    labels = (np.random.default_rng(7).random((size, 3)) < 0.3).astype(float)
    labels[::9, 1] = np.nan
    if one_class:
        labels[:, 2] = 0
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    scores = 1 / (1 + np.exp(-(signal * np.nan_to_num(labels) + noise)))
    ids = tuple(f"s{i}" for i in range(size))
    unknown = np.full_like(scores, np.nan)
    return Evaluation(
        data={"corpus": "tiny"},
        how={"split": "test", "level": "study"},
        findings=("Edema", "Fracture", "Pneumothorax"),
        study_ids=ids,
        patient_ids=tuple(f"p{i // 2}" for i in range(size)),
        labels=labels,
        probabilities=scores,
        calibrated=unknown,
        low=unknown,
        high=unknown,
        expected_entropy=unknown,
        report_probabilities=unknown.copy(),
        answers=np.full(scores.shape, "unknown"),
        conformal=np.full(scores.shape, "unknown"),
        kl_per_study=unknown[:, 0],
        novelty=unknown[:, 0],
        subgroups={"sex": np.where(np.arange(size) % 2 == 0, "female", "male")},
        latent_use=LatentUse(active_units={"prior": 3.0, "posterior": float("nan")}),
    )


def test_difference_of_a_method_with_itself_is_exactly_zero():
    interval = paired_difference([make_evaluation()], [make_evaluation()], num_resamples=50)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_difference_is_of_predictions_averaged_over_seeds():
    ours, theirs = [make_evaluation(s, 1.5) for s in (0, 1)], [make_evaluation(s, 1.0) for s in (2, 3)]
    interval = paired_difference(ours, theirs, num_resamples=300)
    mean = [np.mean([e.probabilities for e in each], axis=0) for each in (ours, theirs)]
    expected = macro_auroc(mean[0], ours[0].labels) - macro_auroc(mean[1], ours[0].labels)
    assert interval.estimate == pytest.approx(expected)
    assert interval.low < interval.estimate < interval.high
    assert interval.low > 0


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


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="not of the same studies"):
        paired_difference([make_evaluation()], [make_evaluation(size=200)])
    with pytest.raises(UserError, match="other labels for the same studies"):
        paired_difference([make_evaluation()], [make_evaluation(one_class=True)])


def test_saved_and_loaded_evaluations_are_equal(tmp_path):
    evaluation = make_evaluation(one_class=True)
    save_evaluation(evaluation, tmp_path / "test")
    loaded = load_evaluation(tmp_path / "test")
    for name in ("findings", "study_ids", "patient_ids"):
        assert getattr(loaded, name) == getattr(evaluation, name)
    for name in ("labels", "probabilities", "report_probabilities", "kl"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(evaluation, name))


def test_json_has_null_for_the_undefined(tmp_path):
    save_evaluation(make_evaluation(one_class=True), tmp_path)
    text = (tmp_path / "evaluation.json").read_text()
    summary = json.loads(text, parse_constant=lambda constant: pytest.fail(f"bare {constant} in JSON"))
    assert summary["findings"]["Pneumothorax"]["image AUC"] is None
    assert summary["kl"] is None
    assert summary["defined_findings"] == 2


def test_text_names_every_average_and_the_undefined():
    evaluation = make_evaluation(one_class=True)
    assert "report" not in str(evaluation)
    evaluation.report_probabilities[:] = evaluation.probabilities
    text = str(evaluation)
    for expected in ("macro    (mean of 2 findings)", "micro", "weighted", "undefined", "not available at inference"):
        assert expected in text


def test_an_evaluation_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match=r"no evaluation\.json"):
        load_evaluation(Path("nowhere"))
