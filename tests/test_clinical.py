"""What thresholds mean for patients: published and hand-worked numbers, coverage by simulation."""

import math

import numpy as np
import pytest

from tests.test_evaluation import make_full_evaluation
from tests.test_tables import evaluation_of
from vkd_pyro import metrics
from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.tables.clinical import MEASURES
from vkd_pyro.metrics import (
    Interval,
    area_under_generalized_risk,
    at_prevalence,
    auroc,
    decision_curve,
    operating,
    share_interval,
    wilson,
)
from vkd_pyro.metrics.clinical import log_ratio
from vkd_pyro.reporting.sections import Assessment, Extras, page_of
from vkd_pyro.utils.errors import UserError

NAN = float("nan")


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


# ------------------------------------------------------------------------------ shares


@pytest.mark.parametrize(
    ("successes", "trials", "printed"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilsons_interval_is_the_published_one(successes, trials, printed):
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", Table I, method 3."""
    found = wilson(successes, trials)
    assert found.estimate == successes / trials
    assert bounds(found) == pytest.approx(printed, abs=6e-5)


def test_a_share_of_independent_rows_is_wilsons_and_of_copies_says_no_more():
    right = np.arange(40) % 4 == 0
    once = share_interval(right, np.arange(40))
    assert bounds(once) == pytest.approx(bounds(wilson(10, 40)))
    twice = share_interval(right.repeat(2), np.arange(40).repeat(2))
    worth = 40 * 39 / 40  # the variance between 40 patients is of 39
    assert bounds(twice) == pytest.approx(bounds(wilson(0.25 * worth, worth)))
    all_right = share_interval(np.ones(30), np.arange(30) // 3)
    assert bounds(all_right) == pytest.approx(bounds(wilson(10, 10)))
    assert math.isnan(share_interval([], []).estimate)


def test_shares_of_patients_with_several_studies_are_covered():
    generator, held = np.random.default_rng(0), {"patients": 0, "rows": 0}
    patients = np.arange(240) // 4
    for _ in range(1000):
        right = generator.random(240) < generator.beta(2, 0.5, 60)[patients]  # 0.8 on average
        for name, who in (("patients", patients), ("rows", np.arange(240))):
            found = share_interval(right, who)
            held[name] += found.low <= 0.8 <= found.high
    assert 0.93 <= held["patients"] / 1000 <= 0.97
    assert held["rows"] / 1000 < 0.9


# ------------------------------------------------------------------------------ a threshold


def counted(true_positives: int, false_negatives: int, false_positives: int, true_negatives: int):
    """Probabilities 0.9 of yes and 0.1 of no, labels and patients, with these counts at 0.5."""
    numbers = (true_positives, false_negatives, false_positives, true_negatives)
    p, y = np.repeat([0.9, 0.1, 0.9, 0.1], numbers), np.repeat([1.0, 1, 0, 0], numbers)
    return p, y, np.arange(len(p))


def test_a_threshold_is_counted_by_hand():
    found = operating(*counted(45, 5, 30, 120), 0.5)
    estimates = [getattr(found, name).estimate for name in MEASURES]
    assert estimates == pytest.approx([0.9, 0.8, 0.6, 0.96, 1 / 0.6])
    assert (found.prevalence, found.flagged) == (0.25, 0.375)
    assert bounds(found.ppv) == pytest.approx(bounds(wilson(45, 75)))
    assert bounds(found.needed_to_read) == pytest.approx((1 / found.ppv.high, 1 / found.ppv.low))


def test_at_another_prevalence_bayes_rule_holds():
    found = at_prevalence(operating(*counted(45, 5, 30, 120), 0.5), 0.02)
    # Of 10,000 patients 200 have it: 180 are a yes, beside 1,960 of the 9,800 others.
    assert found.ppv.estimate == pytest.approx(180 / (180 + 1960))
    assert found.npv.estimate == pytest.approx(7840 / (7840 + 20))
    assert found.needed_to_read.estimate == pytest.approx(2140 / 180)
    assert found.flagged == pytest.approx(0.214)
    assert found.ppv.low < found.ppv.estimate < found.ppv.high < 0.13
    same = at_prevalence(operating(*counted(45, 5, 30, 120), 0.5), 0.25)
    assert (same.ppv.estimate, same.npv.estimate) == pytest.approx((0.6, 0.96))
    with pytest.raises(UserError, match="prevalence: found 2, expected a share between 0 and 1"):
        at_prevalence(found, 2)


def test_predictive_values_at_another_prevalence_are_covered():
    generator, held = np.random.default_rng(1), {"ppv": 0, "npv": 0}
    truth = {"ppv": 0.85 * 0.02 / (0.85 * 0.02 + 0.1 * 0.98), "npv": 0.9 * 0.98 / (0.9 * 0.98 + 0.15 * 0.02)}
    for _ in range(1000):
        hits, alarms = generator.binomial(40, 0.85), generator.binomial(200, 0.1)
        found = at_prevalence(operating(*counted(hits, 40 - hits, alarms, 200 - alarms), 0.5), 0.02)
        for name, value in truth.items():
            held[name] += getattr(found, name).low <= value <= getattr(found, name).high
    assert all(0.93 <= number / 1000 <= 0.97 for number in held.values()), held


def test_without_a_false_alarm_a_yes_is_sure_only_as_far_as_was_seen():
    found = at_prevalence(operating(*counted(9, 1, 0, 50), 0.5), 0.01)
    assert (found.ppv.estimate, found.ppv.high) == (1, 1)
    assert found.ppv.low < 0.2
    nothing = log_ratio(Interval(0, 0, 0.1), Interval(0, 0, 0.1))
    assert str(nothing) == "undefined"
    never = at_prevalence(operating(*counted(0, 10, 0, 50), 0.5), 0.01)
    assert str(never.ppv) == str(never.needed_to_read) == "undefined"
    assert never.npv.estimate == pytest.approx(0.99)


# ------------------------------------------------------------------------------ net benefit


def test_net_benefit_is_counted_by_hand():
    p, y, _ = counted(45, 5, 30, 120)
    found = decision_curve(p, y, [0.05, 0.2, 0.5, 0.95])
    # At 0.2 a false positive weighs a quarter, at 1/2 one, and yes to all has 50 true and 150 false ones of 200.
    expected = [50 / 200 - 150 / 200 / 19, 45 / 200 - 30 / 200 / 4, 45 / 200 - 30 / 200, 0]
    assert found.model == pytest.approx(expected)
    assert found.everyone == pytest.approx([50 / 200 - 150 / 200 * w for w in (1 / 19, 1 / 4, 1, 19)])
    assert found.useful.tolist() == [False, True, True, False]
    assert np.isnan(decision_curve([0.5], [NAN], [0.5]).model).all()
    with pytest.raises(UserError, match="thresholds: found one outside"):
        decision_curve(p, y, [1.0])


def test_net_benefit_is_that_of_the_r_package():
    """Family history and cancer in 750 men, as dcurves (R, of the method's authors) gives it: 105 cancers, 115 with a
    family history, 24 of them with cancer."""
    p, y, _ = counted(24, 105 - 24, 91, 645 - 91)
    found = decision_curve(np.where(np.asarray(p) >= 0.5, 1.0, 0.0), y, [0.05, 0.1, 0.2, 0.3])
    assert found.model == pytest.approx([0.025614035087719297, 0.018518518518518517, 0.0016666666666666635, -0.02])
    assert found.everyone == pytest.approx([0.09473684210526317, 0.04444444444444445, -0.075, -0.2285714285714286])


def test_yes_to_all_is_worth_nothing_at_the_prevalence():
    y = np.arange(100) < 30
    assert decision_curve(np.full(100, 0.99), y, [0.3]).everyone.item() == pytest.approx(0)


# ------------------------------------------------------------------------------ selective


def test_the_generalized_area_is_that_of_its_authors():
    """Traub et al. 2024, Eq. 7: (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2, ties as well."""
    generator = np.random.default_rng(0)
    wrong = (generator.random(500) < 0.2).astype(float)
    uncertainty = np.round(generator.normal(size=500) + wrong, 1)
    accuracy = 1 - wrong.mean()
    expected = (1 - auroc(uncertainty, wrong)) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert area_under_generalized_risk(wrong, uncertainty) == pytest.approx(expected)
    assert area_under_generalized_risk(np.ones(7), np.arange(7)) == 0.5
    assert math.isnan(area_under_generalized_risk([NAN], [0.1]))


# ------------------------------------------------------------------------------ tables and page


def test_tables_have_each_finding_and_what_was_asked_for():
    e = make_full_evaluation()
    table = tables.clinical(e, {"Edema": 0.02})
    assert table.index.tolist() == ["Edema", "Edema, at a prevalence of 0.02", "Fracture", "Pneumothorax"]
    points = tables.operating_points(e)
    expected = operating(e.calibrated[:, 0], e.labels[:, 0], e.patient_ids, points.thresholds[0])
    assert table.loc["Edema", "sensitivity"] == expected.sensitivity
    assert table.loc["Edema", "sensitivity"].estimate == tables.decisions(e).loc["Edema", "sensitivity"]
    assert table.iloc[1]["ppv"] == at_prevalence(expected, 0.02).ppv
    assert tables.clinical(evaluation_of([[0.2]], [[1]])) is None


def test_prevalences_are_read_and_others_refused():
    names = ("Edema", "Pleural Effusion")
    assert tables.prevalences(["Pleural Effusion=0.1", "Edema=2e-2"], names) == {"Pleural Effusion": 0.1, "Edema": 0.02}
    for text in ("Edema", "Edema=2", "Edema=x", "=", "Edema=nan"):
        with pytest.raises(UserError, match=r"--prevalence: found .*, expected FINDING=SHARE"):
            tables.prevalences([text], names)
    with pytest.raises(UserError, match=r"no finding 'Edemma' \(did you mean Edema\?\); expected of Edema, Pleural"):
        tables.prevalences(["Edemma=0.1"], names)


def test_the_page_and_the_json_have_them():
    e = make_full_evaluation()
    assessed = Assessment.of(e, 20, {"Edema": 0.02})
    section = next(part for part in page_of(e, assessed, Extras()).sections if part.name == "clinical")
    assert [table.title for table in section.tables] == [
        "At the thresholds",
        "Better than yes to all and no to all",
        "What to refer",
    ]
    summary = assessed.summary()
    found = summary["clinical"]["Edema, at a prevalence of 0.02"]["ppv"]
    assert found["low"] < found["estimate"] < found["high"]
    assert len(summary["decision_curves"]["Edema"]["model"]) == 99
    assert summary["selective"]["generalized_risk_area"] > 0
    rows = section.tables[2].rows
    assert rows[0][0] == "0%"
    assert rows[0][1] == pytest.approx(1000 * (1 - metrics.accuracy(e.calibrated, e.labels)))
