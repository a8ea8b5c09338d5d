"""The README and the configs are run, so they cannot rot."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.config import parse, shipped_configs
from vkd_pyro.cli import main
from vkd_pyro.cli.train import train_parser

ROOT = Path(__file__).parent.parent
OF_TRAININGS = [name for name in shipped_configs() if name != "pacs" and not name.startswith("spaces/")]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) < 150


def test_the_python_example_is_short_and_runs(tmp_path):
    (example,) = blocks("python")
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 15
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "macro" in result.stdout
    assert re.search(r"^Pleural Effusion +[01]\.\d\d$", result.stdout, re.MULTILINE)


@pytest.mark.filterwarnings("default:never (known|positive|absent) in training")
def test_the_commands_run(tmp_path, monkeypatch, capsys):
    """Those of the README, then those of the manual's pages that go on from them, in one folder."""
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "xray.png")
    pages = ("data", "uncertainty", "runs", "sites")
    data, uncertainty, runs, sites = ((ROOT / "docs" / f"{page}.md").read_text() for page in pages)
    (rows,) = (block for block in blocks("text", data) if block.startswith("image,report"))
    write_hospital(tmp_path / "hospital", rows)
    for month in ("january", "february"):
        shutil.copytree(tmp_path / "hospital" / "images", tmp_path / month)
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(line, comments=True)[1:]
        for text in (README, uncertainty, runs, data, sites)
        for block in blocks("bash", text)
        for line in block.splitlines()
        if line[:4] == "vkd " and line[:10] != "vkd serve "  # it would not end; tests/test_serving.py starts it
    ]
    assert [command[0] for command in commands] == [
        *("check", "train", "evaluate", "predict"),
        *("predict", "predict"),
        *("train", "evaluate", "compare"),
        *("doctor", "label", "prepare", "train", "evaluate", "predict"),
        *("recalibrate", "predict", "predict", "monitor"),
    ]
    for command in commands:
        small = ["--training.max_epochs=1", "--training.accelerator=cpu"] if command[0] == "train" else []
        if "synthetic" in command:
            small.append("--data.selection.corpus.init_args.num_studies=300")
        if command[0] == "evaluate":
            small.append("--resamples=50")
        if command[0] == "recalibrate":
            small = ["--resamples=20", "--data.selection.labels=labels.csv"]
        if "manifest" in command and command[0] in ("train", "prepare"):
            small.append("--data.selection.image_size=32")
        assert main(command + small) == 0
    shown = capsys.readouterr().out
    assert "macro" in shown
    assert "xray.png" in shown


def write_hospital(folder, rows):
    """The CSV of the manual's page on data, with more rows like its two, and images."""
    header, first, second = rows.strip().splitlines()
    (folder / "images").mkdir(parents=True)
    (folder / "notes").mkdir()
    lines = [",".join(header.split(",")[:4])]  # without labels, as for the page's second command
    for number in range(120):
        image, patient = f"images/{number:04d}.png", f"p{number}"
        pixels = np.random.default_rng(number).integers(0, 255, (40, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image)
        if number % 2:
            text, view = f"notes/{number:04d}.txt", second.split(",")[3]
            (folder / text).write_text("Large effusion. Heart size normal.")
        else:
            text, view = '"' + first.split('"')[1] + '"', "PA"
        lines.append(f"{image},{text},{patient},{view}")
    (folder / "studies.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("default:never (known|positive|absent) in training")
def test_the_swap_trains(tmp_path):
    (settings,) = blocks("yaml")
    assert len(settings.splitlines()) <= 11
    (tmp_path / "swap.yaml").write_text(settings)
    command = ["train", "--config", "synthetic", "--config", str(tmp_path / "swap.yaml")]
    small = [
        "--data.selection.corpus.init_args.num_studies=300",
        "--training.max_epochs=1",
        "--training.accelerator=cpu",
    ]
    assert main([*command, *small, "--run", str(tmp_path / "run")]) == 0
    assert type(load_bundle(tmp_path / "run" / "bundle").model.prior).__name__ == "Laplace"


def test_its_table_is_that_of_the_results():
    subprocess.run([sys.executable, ROOT / "scripts" / "tables.py", "--check"], check=True)


@pytest.mark.parametrize("name", OF_TRAININGS)
def test_every_config_parses(name):
    # A fine-tuning takes its network from a run; an overlay is put on top of the config that its head names.
    below = {"chestxray14_finetune": ["synthetic"], "mimic_cxr_ddp": ["mimic_cxr"]}.get(name, [])
    below = ["openi_cpu" if name == "ablations/as_printed" else "openi_paper"] if "/" in name else below
    if name.startswith("tuned/"):
        method = name.replace("tuned", "methods")
        below = ["openi_pretrained", *([method] if method in OF_TRAININGS else [])]
    settings = parse(train_parser(), [option for one in (*below, name) for option in ("--config", one)])
    assert settings.method.class_path.startswith("vkd_pyro.methods.")


def test_the_settings_for_several_gpus():
    settings = parse(train_parser(), ["--config", "mimic_cxr", "--config", "mimic_cxr_ddp"])
    assert (settings.training.devices, settings.training.precision) == (8, "bf16-mixed")
    assert settings.data.selection.corpus.class_path == "vkd_pyro.data.corpora.mimic_cxr.MimicCXR"
    assert settings.training.learning_rate_schedule == "plateau"


def test_the_settings_of_the_paper():
    settings = parse(train_parser(), ["--config", "openi_paper"])
    method = settings.method.init_args
    assert method.latent_dim == 512
    assert settings.data.selection.image_size == 224
    assert method.image_encoder.init_args.name == "densenet121"
    assert method.report_encoder.init_args.max_tokens == 256
    assert (settings.beta_schedule.init_args.cycles, settings.beta_schedule.init_args.rising) == (4, 0.5)
    assert (method.objective.init_args.likelihood_samples, settings.training.tolerance) == ("prior", 0.01)


@pytest.mark.slow
def test_the_svi_script_trains_and_writes_a_bundle(tmp_path):
    script = ROOT / "scripts" / "train_svi.py"
    assert len(script.read_text().splitlines()) < 100
    command = [sys.executable, script, "--num_studies", "500", "--epochs", "4", "--output", tmp_path / "bundle"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(value) for value in re.findall(r"epoch \d: loss ([\d.]+)", result.stdout)]
    assert losses[-1] < losses[0]
    assert (tmp_path / "bundle" / "weights.safetensors").is_file()


@pytest.mark.slow
def test_the_experiment_script_compares_methods(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "experiment.py", "synthetic+methods/no_report", "synthetic"]
    options = ["--seeds", "1", "--runs", tmp_path, "--json", tmp_path / "table.json", "--training.max_epochs=1"]
    options += ["--data.selection.corpus.init_args.num_studies=300", "--training.accelerator=cpu"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "synthetic/no_report" in result.stdout
    assert "Δ micro" in result.stdout
    assert (tmp_path / "synthetic" / "vkd-0" / "bundle" / "weights.safetensors").is_file()
    assert '"config_sha256"' in (tmp_path / "table.json").read_text()
    stale = subprocess.run([*command, *options, "--training.max_epochs=2"], capture_output=True, text=True, check=False)
    assert stale.returncode == 2
    assert "was made with other settings than these" in stale.stderr
