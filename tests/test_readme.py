"""The README and the configs are run, so they cannot rot."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.cli import main
from vkd_pyro.cli.train import train_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_is_short_and_runs(tmp_path):
    example, _ = blocks("python")
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 20
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "macro" in result.stdout
    assert re.search(r"^Pleural Effusion +[01]\.\d\d$", result.stdout, re.MULTILINE)


@pytest.mark.filterwarnings("default:never positive in training")
def test_the_commands_run(tmp_path, monkeypatch, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "xray.png")
    write_hospital(tmp_path / "hospital")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(line, comments=True)[1:]
        for block in blocks("bash")
        for line in block.splitlines()
        if line[:4] == "vkd "
    ]
    names = [command[0] for command in commands]
    assert names == [
        "check",
        "train",
        "evaluate",
        "predict",
        "predict",
        "train",
        "evaluate",
        "compare",
        "doctor",
        "label",
        "prepare",
        "train",
        "evaluate",
        "predict",
    ]
    for command in commands:
        small = ["--training.max_epochs=1", "--training.accelerator=cpu"] if command[0] == "train" else []
        if "configs/synthetic.yaml" in command:
            small.append("--data.selection.corpus.init_args.num_studies=300")
        if "configs/manifest.yaml" in command and command[0] in ("train", "prepare"):
            small.append("--data.selection.image_size=32")
        assert main(command + small) == 0
    shown = capsys.readouterr().out
    assert "macro" in shown
    assert "xray.png" in shown


def write_hospital(folder):
    """The CSV of the README's tutorial, with more rows like its two, and images."""
    (rows,) = blocks("csv")
    header, first, second = rows.strip().splitlines()
    (folder / "images").mkdir(parents=True)
    (folder / "notes").mkdir()
    lines = [",".join(header.split(",")[:4])]  # without labels, as for the tutorial's second command
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


@pytest.mark.filterwarnings("default:never positive in training")
def test_the_family_of_ones_own_is_swapped_in_by_name(tmp_path, monkeypatch):
    _, family = blocks("python")
    (tmp_path / "my_family.py").write_text(family)
    (settings,) = (block for block in blocks("yaml") if "my_family" in block)
    (tmp_path / "swap.yaml").write_text(settings)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["train", "--config", str(ROOT / "configs" / "synthetic.yaml"), "--config", str(tmp_path / "swap.yaml")]
    small = [
        "--data.selection.corpus.init_args.num_studies=300",
        "--training.max_epochs=1",
        "--training.accelerator=cpu",
    ]
    assert main([*command, *small, "--run", str(tmp_path / "run")]) == 0
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert type(bundle.model.prior).__name__ == "Logistic"
    assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_the_scripts_it_names_are_there():
    for script in re.findall(r"scripts/\w+\.(?:sh|py)", README):
        assert (ROOT / script).is_file(), script


def test_its_tables_are_those_of_the_results():
    subprocess.run([sys.executable, ROOT / "scripts" / "readme_tables.py", "--check"], check=True)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_parses(config):
    # A fine-tuning takes its network from a run; what several devices need is put on top of the config for one.
    below = {"chestxray14_finetune.yaml": ["synthetic.yaml"], "mimic_cxr_ddp.yaml": ["mimic_cxr.yaml"]}.get(config, [])
    options = [option for name in (*below, config) for option in ("--config", str(ROOT / "configs" / name))]
    settings = train_parser().parse_args(options)
    assert settings.model.latent_dim > 0


def test_the_settings_for_several_gpus():
    configs = [str(ROOT / "configs" / name) for name in ("mimic_cxr.yaml", "mimic_cxr_ddp.yaml")]
    settings = train_parser().parse_args(["--config", configs[0], "--config", configs[1]])
    assert (settings.training.devices, settings.training.precision) == (8, "bf16-mixed")
    assert settings.data.corpus.class_path == "vkd_pyro.data.corpora.mimic_cxr.MimicCXR"
    assert settings.training.learning_rate_schedule == "plateau"


def test_the_settings_of_the_paper():
    settings = train_parser().parse_args(["--config", str(ROOT / "configs" / "openi_paper.yaml")])
    assert settings.model.latent_dim == 512
    assert settings.data.image_size == 224
    assert settings.model.image_encoder.init_args.name == "densenet121"
    assert settings.model.report_encoder.init_args.max_tokens == 256
    assert (settings.beta_schedule.init_args.cycles, settings.beta_schedule.init_args.rising) == (4, 0.5)
    assert (settings.objective.likelihood_samples, settings.training.tolerance) == ("prior", 0.01)


def test_the_svi_script_trains_and_writes_a_bundle(tmp_path):
    script = ROOT / "scripts" / "train_svi.py"
    assert len(script.read_text().splitlines()) < 100
    command = [sys.executable, script, "--num_studies", "500", "--epochs", "4", "--output", tmp_path / "bundle"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(value) for value in re.findall(r"epoch \d: loss ([\d.]+)", result.stdout)]
    assert losses[-1] < losses[0]
    assert (tmp_path / "bundle" / "weights.safetensors").is_file()


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
