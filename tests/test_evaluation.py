"""Evaluations: saving and loading, what is derived, text."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.evaluate import _ood
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.outputs import StudyOutputs
from vkd_pyro.evaluation.saved import load_evaluation, save_evaluation
from vkd_pyro.metrics import entropy
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.recalibration import Platt, Recalibration
from vkd_pyro.posthoc.thresholds import BySensitivity, OperatingPoints
from vkd_pyro.utils.errors import UserError


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
        latent_uncertainty=unknown,
        report_probabilities=unknown.copy(),
        answers=np.full(scores.shape, "unknown"),
        conformal=np.full(scores.shape, "unknown"),
        kl_per_study=unknown[:, 0],
        ood=unknown[:, 0],
        subgroups={"sex": np.where(np.arange(size) % 2 == 0, "female", "male")},
        latent_use=LatentUse(active_units={"prior": 3.0, "posterior": float("nan")}),
        **dict.fromkeys(("joint_log_prob", "marginal_log_prob", "answer_information"), unknown[:, 0]),
    )


def make_full_evaluation(
    seed: int = 0, size: int = 400, recalibration: type[Recalibration] = Platt, **changes
) -> Evaluation:
    """What a VKD that reads reports gives with its calibration, which was fitted to others of the same kind."""
    e, validation = make_evaluation(seed, size=size), make_evaluation(seed + 1000)
    fitted = recalibration.fit(validation.probabilities, validation.labels, e.findings)
    honest = fitted(validation.probabilities)
    points = OperatingPoints.fit(honest, validation.labels, e.findings, BySensitivity(0.8))
    conformal = Conformal.fit(honest, validation.labels, e.findings, 0.2)
    low, high = e.probabilities * 0.9, 1 - (1 - e.probabilities) * 0.9
    calibrated, generator = fitted(e.probabilities), np.random.default_rng(seed)
    absent = np.arange(size) % 10 == 0  # a tenth has no report
    calibration = {"recalibration": fitted, "operating_points": points, "conformal": conformal}
    full = replace(
        e,
        data=DATA,
        how={"split": "test", "level": "study", "fusion": "mean", "num_samples": 100, "seed": 0, "bundle": "abc"}
        | {"version": "0", "calibration": {name: each.to_json() for name, each in calibration.items()}},
        calibrated=calibrated,
        low=low,
        high=high,
        latent_uncertainty=0.1 * entropy(e.probabilities),
        report_probabilities=np.where(absent[:, None], np.nan, make_evaluation(seed + 1, 2.0, size).probabilities),
        answers=points.answers(
            calibrated, yes_share=points.yes_share(np.stack([fitted(low)] * 2 + [calibrated] + [fitted(high)] * 2))
        ),
        conformal=conformal.answers(calibrated),
        kl_per_study=np.where(absent, np.nan, generator.gamma(2, size=size)),
        ood=generator.random(size),
        subgroups=e.subgroups | {"view": np.full(size, "frontal"), "age": np.full(size, "unknown")},
        latent_use=LatentUse({"prior": 3.0, "posterior": 2.0}, 2.0, np.array([1.5, 0.5]), 0.25, 0.1, 0.2),
    )
    return replace(full, **changes)


POLICY = {
    "class_path": "vkd_pyro.data.labels.policy.LabelPolicy",
    "init_args": {"uncertain": "ignore", "blank": "zeros"},
}
POLICY["init_args"] |= {"soft_range": (0.55, 0.85), "uncertain_by_finding": None}
DATA = {"corpus": "tiny", "splits": {"test": {"images": 500}}, "train_policy": POLICY, "eval_policy": POLICY}


def assert_equal(loaded: Evaluation, evaluation: Evaluation, *but: str) -> None:
    """Every field, what is undefined in both included."""
    for name in {field.name for field in fields(Evaluation)} - {*but}:
        ours, theirs = getattr(loaded, name), getattr(evaluation, name)
        if name == "latent_use":
            ours, theirs = vars(ours), vars(theirs)
        np.testing.assert_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("of_folds", [False, True])
@pytest.mark.parametrize("make", [make_evaluation, make_full_evaluation])
def test_saved_and_loaded_evaluations_are_equal(make, of_folds, tmp_path):
    evaluation = replace(make(), models=np.arange(400) % 2 if of_folds else None)
    save_evaluation(evaluation, tmp_path / "test")
    loaded = load_evaluation(tmp_path / "test")
    assert_equal(loaded, replace(evaluation, data=json.loads(json.dumps(evaluation.data))))
    np.testing.assert_equal(loaded.averages(), evaluation.averages())


def test_rows_of_images_are_numbered_within_their_study(tmp_path):
    evaluation = make_full_evaluation(study_ids=tuple(f"s{i // 2}" for i in range(400)))
    save_evaluation(evaluation, tmp_path)
    assert pd.read_parquet(tmp_path / "predictions.parquet")["image"].tolist() == [0, 1] * 200
    assert load_evaluation(tmp_path).study_ids == evaluation.study_ids
    assert load_evaluation(tmp_path).summary()["studies"] == 200


@pytest.mark.parametrize("damage", ["column", "key", "no table"])
def test_another_format_is_one_line(damage, tmp_path):
    save_evaluation(make_full_evaluation(), tmp_path)
    table, summary = tmp_path / "predictions.parquet", tmp_path / "evaluation.json"
    if damage == "column":
        pd.read_parquet(table).drop(columns="ood_p").to_parquet(table)
    elif damage == "key":
        known = json.loads(summary.read_text())
        summary.write_text(json.dumps({name: known[name] for name in known if name != "latent_use"}))
    else:
        table.unlink()
    with pytest.raises(UserError, match=r"not in this version's format \(.*\); run vkd evaluate again$") as error:
        load_evaluation(tmp_path)
    assert "\n" not in str(error.value)


def test_the_uncertainty_is_the_entropy_of_the_probability():
    evaluation = make_full_evaluation()
    p = evaluation.probabilities
    total = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(evaluation.uncertainty, total)


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


def test_a_study_is_as_novel_as_its_most_novel_image_for_so_many():
    class Judge:
        def score(self, signals):
            p = np.array([0.01, 0.5, 0.3, 0.9, 0.8, 0.7])[: len(signals.features)]
            return type("Scored", (), {"p_values": np.stack([p] * 4, axis=1)})()

    names = np.array(["b", "b", "a", "c", "c", "c"])
    nothing = {f.name: np.zeros((6, 2)) for f in fields(StudyOutputs)}
    nothing |= {"study_ids": names, "image_uncertainty": np.zeros(6)}
    images = StudyOutputs(**nothing)
    calibration = type("Fitted", (), {"reference": Judge()})()
    by_study = _ood(images, images.mean_over_images(), calibration)
    assert by_study.tolist() == pytest.approx([2 * 0.01, 0.3, 1.0])  # in the order b, a, c
    assert _ood(images, images, calibration).tolist() == [0.01, 0.5, 0.3, 0.9, 0.8, 0.7]
    assert np.isnan(_ood(images, images.mean_over_images(), None)).all()


def test_the_repr_of_an_evaluation_names_nobody():
    evaluation = make_evaluation()
    said = repr(evaluation)
    assert said == f"Evaluation({len(evaluation.study_ids):,} rows, {len(evaluation.findings)} findings, split='test')"
    assert not any(name in said for name in (*evaluation.study_ids, *evaluation.patient_ids))
