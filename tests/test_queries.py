"""Questions about several findings: against sums over all answers, refusals, the command, the evaluation."""

import csv
import itertools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import refusal, vkd
from tests.test_evaluation import make_full_evaluation
from tests.test_predict import folder, folders  # noqa: F401, fixtures
from vkd_pyro import evaluate, predict
from vkd_pyro.distributions import MLP, CategoricalLikelihood, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.joint import at_least_one
from vkd_pyro.evaluation.saved import load_evaluation, save_evaluation
from vkd_pyro.methods import VKD
from vkd_pyro.model import Model
from vkd_pyro.prediction.prediction import Prediction
from vkd_pyro.prediction.queries import parse
from vkd_pyro.reporting.sections import Assessment, Extras, page_of
from vkd_pyro.utils.errors import UserError

FINDINGS = ("No Finding", "Edema", "Pleural Effusion", "Mass", "Support Devices")
MEANT = {
    "Edema": lambda n, e, f, m, d: e,
    "~edema": lambda n, e, f, m, d: not e,
    "Pleural Effusion & ~Edema": lambda n, e, f, m, d: f and not e,
    "Edema | Pleural  Effusion & Mass": lambda n, e, f, m, d: e or (f and m),
    "(Edema | Pleural Effusion) & Mass": lambda n, e, f, m, d: (e or f) and m,
    "~(Edema | Mass) & ~~Support Devices": lambda n, e, f, m, d: not (e or m) and d,
    "Edema & Mass | ~Edema & Pleural Effusion": lambda n, e, f, m, d: (e and m) or (not e and f),
    "Edema & ~Edema": lambda n, e, f, m, d: False,
    "Edema | ~Edema": lambda n, e, f, m, d: True,
    "Edema & (Edema | Mass) & (Mass | ~Edema)": lambda n, e, f, m, d: e and m,
    "any abnormality": lambda n, e, f, m, d: e or f or m,
    "no abnormality": lambda n, e, f, m, d: not (e or f or m),
}


def by_all_answers(meant, p: np.ndarray) -> np.ndarray:
    """The sum of the probabilities of all answers for which it holds; p [..., 5], independent."""
    total = np.zeros(p.shape[:-1])
    for answer in itertools.product((0, 1), repeat=5):
        total += bool(meant(*answer)) * np.where(answer, p, 1 - p).prod(axis=-1)
    return total


@pytest.mark.parametrize("query", MEANT)
def test_a_question_is_the_sum_over_all_answers_for_which_it_holds(query):
    samples = np.random.default_rng(0).random((1, 6, 3, 5))
    found = Prediction(samples, FINDINGS).probability(query)
    at_draws = by_all_answers(MEANT[query], samples)
    np.testing.assert_allclose(found.probability, at_draws.mean(axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose(found.standard_error, at_draws[0].std(axis=0, ddof=1) / 6**0.5, atol=1e-12)
    np.testing.assert_allclose(found.product, by_all_answers(MEANT[query], samples.mean(axis=(0, 1))), atol=1e-12)


def test_findings_that_depend_on_each_other_given_z_are_asked_of_one_by_one():
    said = Prediction(np.full((1, 2, 1, 5), 0.5), FINDINGS, independent=False)
    assert said.probability("~Edema").probability == 0.5
    with pytest.raises(UserError, match=r"'Edema & Mass': names 2 findings, which depend on each other given z"):
        said.probability("Edema & Mass")
    likelihood = CategoricalLikelihood(2, 5)
    model = Model(ConvEncoder((4, 8)), DiagonalNormal(8, 2, MLP((4,))), likelihood).eval()
    assert not predict(model, torch.zeros(1, 1, 16, 16), FINDINGS, num_samples=2).independent


def test_findings_that_go_together_are_more_probable_together():
    samples = np.zeros((1, 100, 1, 5))
    samples[0, ::2, 0, 1:3] = 1  # z says both, or neither
    found = Prediction(samples, FINDINGS).probability("Edema & Pleural Effusion")
    assert (found.probability.item(), found.product.item()) == (0.5, 0.25)
    assert found.standard_error.item() == pytest.approx(0.5 / 99**0.5)


def test_the_standard_error_is_that_of_the_mean_over_draws():
    generator = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(300):
        samples = generator.beta(1, 2, (2, 50, 1, 5))  # two networks
        found = Prediction(samples, FINDINGS, ("z", "ensemble")).probability("Edema & ~Mass")
        means.append(found.probability.item())
        errors.append(found.standard_error.item())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.12)


def test_networks_that_share_their_draws_are_as_unsure_as_one():
    one = np.random.default_rng(0).uniform(0.1, 0.9, (1, 50, 2, 5))
    alone, several = (Prediction(s, FINDINGS).probability("Edema & ~Mass") for s in (one, np.repeat(one, 20, axis=0)))
    np.testing.assert_allclose(several.standard_error, alone.standard_error)
    worth = one[0, ..., FINDINGS.index("Edema")] * (1 - one[0, ..., FINDINGS.index("Mass")])
    np.testing.assert_allclose(alone.standard_error, worth.std(axis=0, ddof=1) / np.sqrt(50))


def test_without_draws_nothing_is_unsure_and_of_one_nothing_is_known():
    samples = np.full((1, 1, 2, 5), 0.5)
    without_z = Prediction(samples, FINDINGS, (), has_z=False)
    assert without_z.probability("Edema & Mass").standard_error.tolist() == [0, 0]
    assert np.isnan(Prediction(samples, FINDINGS, ()).probability("Edema & Mass").standard_error).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Edemma", r"no finding 'Edemma' \(did you mean Edema\?\); expected of No Finding, Edema"),
        ("Edema &", "found the end, expected a finding"),
        ("", "found the end, expected a finding; such as"),
        ("& Edema", "found '&', expected a finding"),
        ("(Edema", "a parenthesis is not closed"),
        ("Edema)", r"found '\)', expected & or \|, or the end"),
        ("Edema ~ Mass", "found '~', expected & or"),
        ("()", r"found '\)', expected a finding"),
        ("__import__('os').system('true')", r"no finding '__import__'"),
        ("(" * 60 + "Edema" + ")" * 60, "more than 50 parentheses in each other"),
        ("~" * 300 + "Edema", "found 301 names and signs, expected at most 200"),
    ],
)
def test_what_is_no_question_is_refused_in_a_line(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse(text, FINDINGS)
    assert "\n" not in str(error.value)


def test_many_findings_named_twice_are_refused():
    names = [f"f{k}" for k in range(11)]
    with pytest.raises(UserError, match="11 findings are named more than once, expected at most 10"):
        parse(" | ".join(names * 2), names)
    long = " & ".join(["f0"] * 100)
    assert parse(long, names).at([0.3] * 11) == pytest.approx(0.3)


# ------------------------------------------------------------------------------ the command


def test_the_command_answers_with_the_error_of_its_draws(folders, folder):  # noqa: F811
    query = "Upper Square & ~Lower Square"
    code, out, _ = vkd("predict", folders["a"], folder / "a.png", "--query", query, "no abnormality")
    lines = [line for line in out.splitlines() if line.startswith("  P(")]
    assert code == 0
    assert lines[0].startswith(f"  P({query}) = 0.")
    assert "standard error over draws 0.0" in lines[0]
    assert len(lines) == 2


def test_answers_are_written_beside_the_predictions(folders, folder, tmp_path):  # noqa: F811
    output = tmp_path / "p.json"
    code, _, _ = vkd("predict", folders["a"], folder / "a.png", "--output", output, "--query", "any abnormality")
    with (tmp_path / "p.json.queries.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    findings = json.loads(output.read_text(encoding="utf-8"))[0]["findings"]
    assert code == 0
    assert row["query"] == "any abnormality"
    assert float(row["product_of_marginals"]) == pytest.approx(
        1 - math.prod(1 - each["probability"] for each in findings.values()), abs=1e-5
    )
    assert 0 < float(row["standard_error"]) < 0.1
    assert "--query: answers have no place in --format csv; give --output FILE" in refusal(
        "predict", folders["a"], folder / "a.png", "--query", "Upper Square", "--format", "csv"
    )
    assert "did you mean Upper Square?" in refusal("predict", folders["a"], folder / "a.png", "--query", "Uper Square")


def test_an_export_answers_as_its_bundle_does(folders, folder):  # noqa: F811
    pytest.importorskip("openvino")
    ask = ("predict", folders["a"], folder / "a.png", "--query", "Upper Square | Lower Square", "--num_samples", "20")
    ours, theirs = (
        [line for line in vkd(*ask, "--engine", engine)[1].splitlines() if line.startswith("  P(")]
        for engine in ("torch", "openvino")
    )
    numbers = [[float(number) for number in re.findall(r"0\.\d{4}", line)] for line in (*ours, *theirs)]
    assert len(numbers) == 2
    assert numbers[0] == pytest.approx(numbers[1], abs=2e-4)


# ------------------------------------------------------------------------------ the evaluation


def test_at_least_one_is_what_the_question_says():
    samples = torch.rand(7, 4, 5, generator=torch.Generator().manual_seed(0))
    found = Prediction(samples.double().numpy()[None], FINDINGS).probability("any abnormality")
    np.testing.assert_allclose(at_least_one(samples[..., 1:4]), found.probability, atol=1e-6)
    np.testing.assert_allclose(at_least_one(samples[..., 1:4], joint=False), found.product, atol=1e-6)


def test_an_evaluation_has_both_and_keeps_them(tmp_path):
    data = study_data(TinyCorpus(), batch_size=8)
    method = VKD(data.findings, ConvEncoder((4, 8)), WordEncoder(64, 8), latent_dim=4)
    found = evaluate(method, data, split="test", num_samples=20)
    assert (found.any_joint != found.any_marginal).any()
    save_evaluation(found, tmp_path / "saved")
    np.testing.assert_array_equal(load_evaluation(tmp_path / "saved").any_joint, found.any_joint)
    table = tables.together(found, 20)
    assert table.loc[tables.JOINT, "NLL of all labels"].estimate == pytest.approx(found.joint()["joint_nll"])
    assert table.loc[tables.MARGINAL, "NLL of all labels"].estimate == pytest.approx(found.joint()["marginal_nll"])
    assert table.loc[tables.JOINT, "frequency"] == np.mean((found.labels == 1).any(axis=1))


def test_a_study_has_an_abnormality_where_one_is_known():
    e = make_full_evaluation()
    e.labels[:4] = [[1, math.nan, 0], [0, math.nan, 0], [0, 0, 0], [math.nan] * 3]
    assert tables.at_least_one(e)[:4] == pytest.approx([1, math.nan, 0, math.nan], nan_ok=True)


def test_the_page_and_the_json_say_what_z_knows_of_findings_together():
    e = make_full_evaluation()
    p = 1 - (1 - e.probabilities).prod(axis=1)
    e = replace(e, any_joint=p, any_marginal=p, joint_log_prob=np.full(400, -1.0), marginal_log_prob=np.full(400, -1.5))
    assessed = Assessment.of(e, 20)
    (section,) = [part for part in page_of(e, assessed, Extras()).sections if part.name == "joint"]
    assert section.tables[0].rows[2][1].estimate == -0.5
    summary = assessed.summary()["together"]
    assert summary[tables.DIFFERENCE]["NLL of all labels"] == {"estimate": -0.5, "low": -0.5, "high": -0.5}
    assert tables.together(make_full_evaluation()) is None
