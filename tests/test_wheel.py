"""What is installed is enough: the configs ship with the package, and its commands work outside any clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.test_cli import refusal, vkd
from vkd_pyro.artifacts.config import config_path, shipped_configs
from vkd_pyro.cli import COMMANDS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"  # a copy: what an earlier build has left in the tree would be packed again
    tree.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("vkd_pyro", "configs"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", str(tree), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run(build, capture_output=True, text=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("vkd_pyro-*.whl")
    return path


@pytest.mark.slow
def test_a_wheel_holds_every_config_and_what_pages_are_made_of(wheel):
    names = set(ZipFile(wheel).namelist())
    configs = {f"vkd_pyro/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs
    assert {name for name in names if name.startswith("vkd_pyro/configs/")} == configs
    assert {"vkd_pyro/py.typed", "vkd_pyro/reporting/templates/evaluation.html.j2"} <= names
    assert not {name for name in names if name.startswith(("tests", "scripts"))}


@pytest.mark.slow
def test_an_installed_wheel_trains_outside_any_clone(wheel, tmp_path):
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    ZipFile(wheel).extractall(site)
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])  # what it needs, from here
    command = [str(tmp_path / "env/bin/python"), "-m", "vkd_pyro.cli"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version").startswith("vkd 0.")
    assert "methods/no_report" in run("configs")
    small = (
        "--data.selection.corpus.num_studies",
        "200",
        "--training.max_epochs",
        "1",
        "--training.accelerator",
        "cpu",
    )
    out = run("train", "--config", "synthetic", "--config", "methods/no_report", *small, "--run", "run")
    assert "trained: run" in out
    where = run("predict", "--help")
    assert "bundle" in where
    probe = [command[0], "-c", "import vkd_pyro; print(vkd_pyro.__file__)"]
    assert str(site) in subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True, env=environment).stdout


def test_configs_are_named_without_a_path():
    assert shipped_configs()
    for name, path in shipped_configs().items():
        assert path.read_text() == (ROOT / "configs" / f"{name}.yaml").read_text()
        assert config_path(name) == str(path)
    assert config_path("no/such") == "no/such"


def test_configs_are_listed_with_the_first_line_of_each_and_printed():
    code, out, err = vkd("configs")
    assert (code, err) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in out.splitlines())
    heads = {name: path.read_text().splitlines()[0].removeprefix("# ") for name, path in shipped_configs().items()}
    assert listed == heads
    code, out, _ = vkd("configs", "synthetic")
    assert yaml.safe_load(out)["method"]["class_path"] == "vkd_pyro.methods.VKD"
    assert "no config synthetik; expected one of" in refusal("configs", "synthetik")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("configs",)])
def test_what_asks_for_no_model_imports_no_torch(arguments):
    code = "import sys; from vkd_pyro.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("pre",), {"predict", "prepare"}),
        (("train", "--con"), {"--config"}),
        (("train", "--config", "methods/no"), {"methods/no_report"}),
        (("check", "--method", "No"), {"NoReport"}),
        (("train", "--method.latent"), {"--method.latent_dim"}),
        (("train", "--run", "''"), set()),  # then the shell completes files
        (("doctor", "--num"), {"--num_images"}),
    ],
)
def test_a_shell_completes(words, completed, completion):
    assert completion(*words) == completed


@pytest.fixture(scope="module")
def completion():
    code, script, _ = vkd("completion", "bash")
    assert code == 0
    assert vkd("completion", "zsh")[1].endswith(script)

    def complete(*words):
        ask = f'COMP_WORDS=(vkd {" ".join(words)}); COMP_CWORD={len(words)}; _vkd; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert complete("") == set(COMMANDS)
    return complete
