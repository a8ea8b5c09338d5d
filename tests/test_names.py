"""Names in options and configs are judged before torch is imported, and what is right passes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import OF_TRAININGS
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.artifacts.source import arguments, below
from vkd_pyro.cli.train import OTHERS, PARTS, train_parser
from vkd_pyro.utils.errors import UserError

SYNTHETIC = ("--config", "synthetic", "--run", "run")

SLIPS = [
    (["--method.prior", "Laplac"], "method.prior: found Laplac, expected a class: its name or its import path (did"),
    (["--method.latent_dimm", "4"], "method: VKD: Option 'latent_dimm' is not accepted (did you mean latent_dim?)"),
    (["--config", "methods/no_reports"], "--config: no file methods/no_reports (did you mean methods/no_report?)"),
    (["--config", "broken.yaml"], "broken.yaml, line 3, column 4: not a readable YAML file (did not find"),
    (["--config", "nested.yaml"], "nested.yaml: method.prior: DiagonalNormal: Option 'mlpp' is not accepted (did you"),
    (
        ["--method.prior.init_args.mlpp", "4"],
        "method.prior: DiagonalNormal: Option 'mlpp' is not accepted (did",
    ),
    (["--method.prior", "own.Mine"], "own.Mine: No module named 'own'; it lies in this folder, where Python does not"),
    (["--data.selection.image_sise", "4"], "data.selection: Selection: Option 'image_sise' is not accepted (did you"),
    (["--batch_sise=4"], "unrecognized arguments: --batch_sise 4 (did you mean data.loading.batch_size?)"),
    (["--method=VDK"], "method: found VDK, expected a class: its name or its import path (did you mean VKD?)"),
]
FILES = {
    "broken.yaml": "data:\n  selection: [1\n  x: : 2\n",
    "own.py": "raise SystemExit('it ran')\n",
    "nested.yaml": (
        "method: {class_path: vkd_pyro.methods.VKD, init_args: {prior: "
        "{class_path: vkd_pyro.distributions.DiagonalNormal, init_args: {mlpp: 3}}}}\n"
    ),
}


def test_a_slip_is_told_with_the_nearest_name_before_torch_is_imported(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    program = (
        "import sys; from vkd_pyro.cli import main\n"
        f"for given in {[given for given, _ in SLIPS]!r}:\n"
        f"    assert main([*sys.argv[1:], *{SYNTHETIC!r}, *given]) == 2\n"
        "print(sorted({'torch', 'pandas', 'lightning', 'own'} & set(sys.modules)))"
    )
    for command in ("train", "check", "prepare"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == "[]\n", done.stderr
        for line, (_, expected) in zip(done.stderr.splitlines(), SLIPS, strict=True):
            assert expected in line


@pytest.mark.parametrize("name", OF_TRAININGS)
def test_the_configs_that_ship_have_right_names(name):
    check_names(["--config", name], PARTS, OTHERS)


def test_the_options_of_the_parser_are_known():
    defaults = vars(train_parser().get_defaults().as_flat())
    given = [f"--{option}" for option in defaults]
    check_names(given, PARTS, OTHERS)
    assert {option.split(".")[0] for option in defaults} == {*PARTS, *OTHERS}


def test_the_source_says_what_the_classes_say():
    from vkd_pyro.methods import VKD
    from vkd_pyro.training.settings import Training

    assert set(arguments("VKD")) == set(VKD.__init__.__annotations__) - {"return"}
    assert set(arguments("Training")) == set(Training.__dataclass_fields__)
    assert arguments("VKD")["prior"] == "Family"
    assert arguments("Path") is None
    assert {"VKD", "NoReport", "ImageOnly"} < below("Method")


def test_what_others_made_is_left_to_the_parser():
    given = ["--method", "tests.test_names.Own", "--method.anything", "4", "--method.image_encoder.weights", "a/b.pt"]
    check_names(["--beta_schedule", "Constant", *given], PARTS, OTHERS)
    with pytest.raises(UserError, match=r"beta_schedule: Constant: Option 'cycles' is not accepted$"):
        check_names(["--beta_schedule", "Constant", "--beta_schedule.cycles", "4"], PARTS, OTHERS)


def test_the_package_is_the_command(capsys):
    from vkd_pyro import __version__
    from vkd_pyro.cli import main

    assert main(["-V"]) == 0
    assert capsys.readouterr().out == f"vkd {__version__}\n"
    run = [sys.executable, "-m", "vkd_pyro", "--version"]
    done = subprocess.run(run, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == f"vkd {__version__}\n"


@pytest.mark.slow
def test_a_function_in_the_place_of_a_class_is_said(tmp_path):
    """In a process of its own, where a deprecation that jsonargparse meets on its way is no error."""
    command = [sys.executable, "-P", "-m", "vkd_pyro.cli", "train", *SYNTHETIC]
    command += ["--method.prior.class_path", "os.getcwd"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = "vkd: class_path: a setting names a function, expected a class: its name or its import path"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, said)
    assert list(tmp_path.iterdir()) == []
