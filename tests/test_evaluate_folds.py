"""`vkd evaluate --folds`: runs of cross-fitting as one evaluation, with a page."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TinyCorpus
from tests.test_cli import refusal, vkd

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


def test_what_is_of_one_run_is_refused(runs, tmp_path):
    folds = ("evaluate", runs[0], "--folds", runs[1])
    assert "--output: not given, and the folds have no folder in common" in refusal(*folds)
    assert "--cases: is of one run" in refusal(*folds, "--output", tmp_path / "x", "--cases", "2")
    assert "a study or a patient is in two of them" in refusal(
        *("evaluate", runs[0], "--folds", runs[0], "--output", tmp_path / "x")
    )
    assert not (tmp_path / "x").exists()
