"""Posterior predictive checks: of a model that is true, of findings that go together, of what is not known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.test_elbo import make_batch, make_vkd
from tests.test_evaluation import make_full_evaluation
from tests.test_outputs import several_images
from vkd_pyro.distributions import LowRankProbitLikelihood
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.outputs import study_outputs
from vkd_pyro.evaluation.replicas import NUM_REPLICAS, replicate, unpack
from vkd_pyro.evaluation.saved import load_evaluation
from vkd_pyro.evaluation.tables import PredictiveChecks, predictive_checks
from vkd_pyro.reporting.sections import Extras
from vkd_pyro.reporting.sections.checks import checks
from vkd_pyro.reporting.write import save_all

STUDIES = 300
SAMPLES = np.array([[0.05, 0.1, 0.05], [0.6, 0.7, 0.5]])
"""p(y_k = 1 | z) at each of two draws of z: findings that go together."""


def evaluated(labels: np.ndarray, samples: np.ndarray = SAMPLES, seed: int = 0) -> Evaluation:
    """An evaluation of studies that are all alike, with these labels."""
    every = np.repeat(samples[:, None], len(labels), axis=1)
    e = make_full_evaluation(size=len(labels))
    return replace(e, labels=labels, probabilities=every.mean(axis=0), replicas=replicate(every, e.study_ids, seed))


def true_labels(seed: int) -> np.ndarray:
    """Drawn from the model: z is one of the two, each as likely."""
    generator = np.random.default_rng(seed)
    return (generator.random((STUDIES, 3)) < SAMPLES[generator.integers(2, size=STUDIES)]).astype(float)


def checked(labels: np.ndarray, **options) -> PredictiveChecks:
    found = predictive_checks(evaluated(labels, **options))
    assert found is not None
    return found


# --------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize("findings", [3, 14, 130])
def test_replicas_have_the_probabilities_and_the_dependence_of_their_draws(findings):
    samples = np.repeat(np.array([[[0.1]], [[0.7]]]), findings, axis=2).repeat(200, axis=1)
    labels = unpack(replicate(samples, [f"s{n}" for n in range(200)], 0), findings)
    assert labels.shape == (NUM_REPLICAS, 200, findings)
    np.testing.assert_allclose(labels.mean(axis=(0, 1)), 0.4, atol=0.02)
    assert (labels[..., 0] & labels[..., -1]).mean() == pytest.approx((0.1**2 + 0.7**2) / 2, abs=0.01)
    between = np.corrcoef(labels[:, :, 0].astype(float).T)  # studies are drawn apart
    assert np.abs(between[~np.eye(200, dtype=bool)].mean()) < 0.01


def test_replicas_depend_on_the_study_and_the_seed_alone():
    vkd, batch = make_vkd(), make_batch()
    whole = study_outputs(vkd, batch, 10, 0, replicated=True).replicas
    alone = study_outputs(vkd, batch[2:3], 10, 0, replicated=True).replicas
    np.testing.assert_array_equal(alone[0], whole[2])
    assert (study_outputs(vkd, batch, 10, 1, replicated=True).replicas != whole).any()


def test_images_of_a_study_have_the_replicas_of_the_study():
    outputs = study_outputs(make_vkd(), several_images(), 10, 0, replicated=True)
    np.testing.assert_array_equal(outputs.replicas[0], outputs.replicas[1])
    np.testing.assert_array_equal(outputs.mean_over_images().replicas[0], outputs.replicas[0])


def test_there_are_none_where_they_are_not_asked_or_labels_depend_on_each_other_given_z():
    vkd, batch = make_vkd(), make_batch()
    assert np.isnan(study_outputs(vkd, batch, 5, 0).replicas).all()
    k = len(vkd.findings)
    vkd.model.likelihood = LowRankProbitLikelihood(vkd.latent_dim, k)
    assert np.isnan(study_outputs(vkd.eval(), batch, 5, 0, replicated=True).replicas).all()


# --------------------------------------------------------------------------------------- p-values


def test_labels_of_the_model_itself_have_uniform_p_values():
    tables = [checked(true_labels(seed)).statistics for seed in range(30)]
    for statistic in ("findings a study, mean", "findings a study, variance", "pairs of findings in a study, mean"):
        p = np.array([table.loc[statistic, "p, jointly"] for table in tables])
        assert (p < 0.1).mean() < 0.25
        assert 0.3 < p.mean() < 0.7


def test_independent_replicas_of_findings_that_go_together_are_flagged():
    found = checked(true_labels(0))
    for statistic in ("findings a study, variance", "pairs of findings in a study, mean"):
        row = found.statistics.loc[statistic]
        assert row["p, independent"] < 0.01
        assert row["independent"].high < row["observed"]
        assert row["jointly"].low < row["observed"] < row["jointly"].high
    assert found.statistics.loc["findings a study, mean", "p, independent"] > 0.05  # the same marginals
    assert (found.pairs["p, independent"] < 0.01).all()
    assert found.outside == {"jointly": 0.0, "independent": 1.0}


def test_replicas_have_the_expected_counts():
    found = checked(true_labels(0))
    both = (SAMPLES[:, 0] * SAMPLES[:, 1]).mean() * STUDIES
    assert found.pairs.loc["Edema & Fracture", "jointly"].estimate == pytest.approx(both, rel=0.05)
    none = (1 - SAMPLES).prod(axis=1).mean()
    assert found.counts.loc["0", "jointly"].estimate == pytest.approx(none, abs=0.01)
    assert sum(interval.estimate for interval in found.counts["jointly"]) == pytest.approx(1)
    assert found.counts["observed"].sum() == pytest.approx(1)
    assert found.studies == STUDIES


# --------------------------------------------------------------------------------------- what is not known


def test_unknown_labels_are_masked_alike():
    labels = true_labels(0)
    labels[:200, 0] = np.nan
    labels[:50] = np.nan
    found = checked(labels)
    assert found.studies == 250
    known = (SAMPLES[:, 0] * SAMPLES[:, 1]).mean() * 100
    assert found.pairs.loc["Edema & Fracture", "jointly"].estimate == pytest.approx(known, rel=0.1)
    assert found.statistics.loc["findings a study, mean", "p, jointly"] > 0.05


def test_a_pair_of_which_both_are_never_known_is_undefined():
    labels = true_labels(0)
    labels[:150, 0], labels[150:, 1] = np.nan, np.nan
    found = checked(labels)
    undefined = found.pairs.loc["Edema & Fracture"]
    assert np.isnan([undefined["observed"], undefined["p, jointly"], undefined["jointly"].estimate]).all()
    assert found.pairs.loc["Edema & Pneumothorax", "observed"] > 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"labels": np.full((STUDIES, 3), np.nan)}, "no label of an abnormality is known"),
        ({"replicas": np.full((STUDIES, 1), np.nan)}, "depend on each other given z"),
        ({"findings": ("No Finding", "Support Devices", "Edema")}, ""),
    ],
)
def test_what_is_undefined_says_why(change, why):
    e = replace(evaluated(true_labels(0)), **change)
    found = predictive_checks(e)
    assert why in found.undefined
    assert np.isnan(found.statistics["p, jointly"]).all() == bool(why)
    section = checks(SimpleNamespace(checks=found))
    assert len(section.figures) == (0 if why else 1)
    if why:
        assert {table.undefined for table in section.tables} == {found.undefined}
    else:  # a single abnormality has no pairs
        assert len(found.pairs) == 0
        assert np.isnan(found.outside["jointly"])


# --------------------------------------------------------------------------------------- the page


def test_the_page_and_its_numbers_have_them(tmp_path):
    e = evaluated(true_labels(0))
    save_all(e, tmp_path / "all", Extras(), 20)
    content = json.loads((tmp_path / "all" / "evaluation.json").read_text())["checks"]
    assert content["statistics"]["findings a study, variance"]["p, independent"] < 0.01
    assert set(content["pairs"]["Edema & Fracture"]["jointly"]) == {"estimate", "low", "high"}
    assert (tmp_path / "all" / "figures" / "predictive_checks.svg").is_file()
    assert len(list((tmp_path / "all" / "tables").glob("checks_*.csv"))) == 3
    page = (tmp_path / "all" / "index.html").read_text()
    assert "what differs is what z gives" in page
    assert "Of 3 pairs, outside of their intervals: 0 % jointly, 100 % independent" in page
    again = load_evaluation(tmp_path / "all")
    assert again.replicas is None
    assert predictive_checks(again) is None


def test_draws_of_z_are_those_that_are_evaluated():
    vkd, batch = make_vkd(), make_batch()
    outputs = study_outputs(vkd, batch, 50, 0, replicated=True)
    drawn = unpack(outputs.replicas, len(vkd.findings)).mean(axis=0)
    np.testing.assert_allclose(drawn, outputs.probabilities, atol=4 * 0.5 / NUM_REPLICAS**0.5)
