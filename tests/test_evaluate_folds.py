"""`vkd evaluate --folds`: runs of cross-fitting as one evaluation, with a page."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TinyCorpus
from tests.test_cli import refusal, vkd
from tests.test_evaluation import make_evaluation
from vkd_pyro.evaluation.cross_fitting import join_folds
from vkd_pyro.utils.errors import UserError

CONFIG = """
data:
  selection:
    corpus: {class_path: tests.conftest.TinyCorpus, init_args: {num_studies: 90}}
    image_size: 32
  loading: {batch_size: 16}
  task: {folds: {fold: 0, num_folds: 3}}
method:
  class_path: vkd_pyro.methods.ImageOnly
  init_args:
    image_encoder: {class_path: vkd_pyro.encoders.image.ConvEncoder, init_args: {channels: [8, 16]}}
training: {max_epochs: 2, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    (root / "config.yaml").write_text(CONFIG)
    for fold in range(3):
        options = ("--data.task.folds.fold", fold, "--run", root / f"fold{fold}")
        code, _, err = vkd("train", "--config", root / "config.yaml", *options)
        assert code == 0, err
    return [root / f"fold{fold}" for fold in range(3)]


def test_each_patient_is_judged_once_by_the_model_of_their_fold(runs, tmp_path):
    code, _, err = vkd(
        *("evaluate", runs[0], "--folds", runs[1], runs[2], "--output", tmp_path / "page", "--resamples", "30")
    )
    assert code == 0, err
    table = pd.read_parquet(tmp_path / "page" / "predictions.parquet")
    assert table["study"].nunique() == 90
    parts = []
    for run in runs:
        assert vkd("evaluate", run, "--page", "false")[0] == 0
        parts.append(pd.read_parquet(run / "evaluation" / "test" / "predictions.parquet"))
    whole = pd.concat(parts).set_index("study")
    column = f"image:{TinyCorpus.findings[0]}"
    joined = table.set_index("study")[column]
    np.testing.assert_allclose(joined.loc[whole.index], whole[column], rtol=1e-6)
    assert (tmp_path / "page" / "index.html").is_file()
    assert "fold0 and 2 more folds" in (tmp_path / "page" / "index.html").read_text()
    summary = json.loads((tmp_path / "page" / "evaluation.json").read_text())
    assert summary["data"]["folds"] == 3
    assert "cohort" in summary


def test_the_page_begins_with_the_difference_to_another_method(runs, tmp_path):
    folds = ("evaluate", runs[0], "--folds", runs[1], runs[2], "--resamples", "30")
    assert vkd(*folds, "--output", tmp_path / "first", "--page", "false")[0] == 0
    code, _, err = vkd(*folds, "--output", tmp_path / "second", "--against", tmp_path / "first")
    assert code == 0, err
    summary = json.loads((tmp_path / "second" / "evaluation.json").read_text())
    assert summary["against"] == {"name": "first", "macro30": {"estimate": 0.0, "low": 0.0, "high": 0.0}}
    html = (tmp_path / "second" / "index.html").read_text()
    assert "That is not shown to differ from first on the same studies (+0.000 [+0.000, +0.000])." in html


@pytest.mark.filterwarnings("default:.*patients evaluated")
def test_patients_that_a_run_was_trained_on_are_warned_of(runs, tmp_path):
    other_fold = ("evaluate", runs[0], "--data.task.folds.fold", 1, "--page", "false", "--output", tmp_path / "out")
    code, _, err = vkd(*other_fold)
    assert code == 0
    assert re.search(r"fold0: (\d+) of the \1 patients evaluated were in its training or validation split", err)
    new = ("--data.selection.corpus.init_args.num_studies", 60)  # another corpus, so other patients
    code, _, err = vkd("evaluate", runs[0], "--page", "false", *new)
    assert (code, "patients evaluated" in err) == (0, False)


def test_numbers_without_a_page_leave_nothing_of_an_earlier_page(runs, tmp_path):
    assert vkd("evaluate", runs[0], "--resamples", 10, "--output", tmp_path / "e")[0] == 0
    before = {path.name for path in (tmp_path / "e").iterdir()}
    assert {"tables", "figures", "failures.csv", "checklist.html", "index.html"} <= before
    assert vkd("evaluate", runs[0], "--page", "false", "--output", tmp_path / "e")[0] == 0
    assert {path.name for path in (tmp_path / "e").iterdir()} == {"evaluation.json", "predictions.parquet"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: replace(e, data=e.data | {"eval_policy": "ones"}), "of another eval_policy, .* and ones; train and"),
        (lambda e: replace(e, data=e.data | {"corpus": "else"}), "of another corpus, tiny and else"),
        (lambda e: replace(e, how=e.how | {"level": "image"}), "of another level, study and image"),
        (
            lambda e: replace(e, latent_use=replace(e.latent_use, kl_per_dimension=np.zeros(8))),
            r"of another latent dimensions, .* and \[8\]",
        ),
    ],
)
def test_folds_that_are_not_alike_are_not_joined(change, message):
    one, other = make_evaluation(0), make_evaluation(1)
    other = replace(
        other, study_ids=tuple(f"o{s}" for s in other.study_ids), patient_ids=tuple(f"o{p}" for p in other.patient_ids)
    )
    assert len(join_folds([one, other]).study_ids) == 800
    with pytest.raises(UserError, match=message):
        join_folds([one, change(other)])


def test_what_is_of_one_run_is_refused(runs, tmp_path):
    folds = ("evaluate", runs[0], "--folds", runs[1])
    assert "--output: not given, and the folds have no folder in common" in refusal(*folds)
    assert "--cases: is of one run" in refusal(*folds, "--output", tmp_path / "x", "--cases", "2")
    assert "a study or a patient is in two of them" in refusal(
        *("evaluate", runs[0], "--folds", runs[0], "--output", tmp_path / "x")
    )
    assert not (tmp_path / "x").exists()
