"""What the manual names is there: classes, files, commands, settings. `scripts/docs.sh` builds it, and so runs it."""

import inspect
import re
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.test_readme import blocks
from vkd_pyro import Loading, Selection, StudyData, Task, Training, distributions, methods, schedules
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.config import parse, shipped_configs
from vkd_pyro.cli import COMMANDS, main
from vkd_pyro.cli.train import train_parser
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.training.posthoc import Posthoc

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import tables  # noqa: E402

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if not {"_build", "generated"} & set(path.parts)
}
EVERY_PAGE = pytest.mark.parametrize("page", PAGES)


@EVERY_PAGE
def test_the_names_are_there(page):
    for name in set(re.findall(r"\bvkd_pyro(?:\.\w+)+", PAGES[page])):
        parent, _, last = name.rpartition(".")
        try:
            import_module(name)
        except ModuleNotFoundError:
            assert hasattr(import_module(parent), last), name


@EVERY_PAGE
def test_the_files_are_there(page):
    for name in set(re.findall(r"\b(?:scripts|tests|configs|docs|results)/[\w/]+\.\w+", PAGES[page])):
        assert (ROOT / name).exists(), name


@EVERY_PAGE
def test_the_configs_are_there(page):
    named = set(re.findall(r"--config ([a-z][\w/]*)(?![\w/.])", PAGES[page])) - {"swap"}
    assert named <= set(shipped_configs())


@EVERY_PAGE
def test_the_commands_are_there(page):
    named = set(re.findall(r"(?:^|`)vkd ([a-z]+)", PAGES[page], re.MULTILINE))
    assert named <= set(COMMANDS)


@EVERY_PAGE
def test_the_settings_are_there(page):
    homes = {
        "data.selection": Selection,
        "data.task": Task,
        "data.loading": Loading,
        "training": Training,
        "posthoc": Posthoc,
    }
    for home, name in re.findall(r"(?:`|--)(data\.\w+|training|posthoc)\.([a-z_]+)", PAGES[page]):
        assert name in {field.name for field in fields(homes[home])}, f"{home}.{name}"


@EVERY_PAGE
def test_the_settings_in_yaml_are_understood(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_family(tmp_path))
    for number, block in enumerate(blocks("yaml", PAGES[page])):
        if set(yaml.safe_load(block)) <= {"data", "method", "beta_schedule", "training", "posthoc", "seed"}:
            path = tmp_path / f"{number}.yaml"
            path.write_text(block)
            parse(train_parser(), ["--config", "synthetic", "--config", str(path)])


def write_family(folder):
    """my_family.py, as the tutorial writes it."""
    (family,) = re.findall(r"%%writefile my_family.py\n(.*?)```", PAGES["docs/tutorials/swapping.md"], re.DOTALL)
    (folder / "my_family.py").write_text(family)
    sys.modules.pop("my_family", None)
    return folder


@pytest.mark.filterwarnings("default:never (known|positive|absent) in training")
def test_the_family_of_ones_own_is_swapped_in_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_family(tmp_path))
    (settings,) = (block for block in blocks("yaml", PAGES["docs/tutorials/swapping.md"]) if "my_family" in block)
    (tmp_path / "swap.yaml").write_text(settings)
    command = ["train", "--config", "synthetic", "--config", str(tmp_path / "swap.yaml")]
    small = ["--data.selection.corpus.init_args.num_studies=300", "--training.max_epochs=1"]
    assert main([*command, *small, "--training.accelerator=cpu", "--run", str(tmp_path / "run")]) == 0
    prior = load_bundle(tmp_path / "run" / "bundle", allow=["my_family"]).model.prior
    assert (type(prior).__name__, prior.mlp.hidden) == ("Logistic", (64,))


def test_the_method_of_ones_own_has_a_loss():
    (code,) = (block for block in blocks("python", PAGES["docs/extending.md"]) if "Imitation" in block)
    namespace: dict = {"__name__": "my_method"}
    exec(code, namespace)
    data = StudyData(Selection(SyntheticCorpus(num_studies=60), image_size=32), loading=Loading(batch_size=8))
    encoder = WordEncoder()
    method = namespace["Imitation"](data.findings, ConvEncoder(), encoder)
    terms = method.terms(next(iter(data.train_loader(encoder, seed=0))))
    assert terms.loss.isfinite()
    assert (terms.alignment > 0).any()


def concrete(module, base):
    return {
        name
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, base) and not inspect.isabstract(each) and each is not base
    }


def test_every_swap_is_listed_as_tried_or_untried():
    listed = PAGES["docs/extending.md"].partition("## What can be swapped")[2]
    swaps = (
        concrete(distributions, distributions.Family)
        | concrete(distributions, distributions.Likelihood)
        | concrete(distributions, distributions.Divergence)
        | concrete(distributions, distributions.ReportLikelihood)
        | concrete(schedules, schedules.BetaSchedule)
        | concrete(methods, methods.Method)
    ) - {"NetworkFamily", "NetworkLikelihood"}
    assert {name for name in swaps if f"`{name}`" not in listed} == set()


def test_the_tables_are_made_of_all_results(tmp_path):
    tables.write(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {*tables.RESULTS, *tables.MADE}
    assert {path.stem for path in (ROOT / "results").glob("*.json")} == set(tables.RESULTS)
    included = {name for text in PAGES.values() for name in re.findall(r"\{include\} .*generated/(\w+)\.md", text)}
    assert included == {*tables.RESULTS, *tables.MADE} - {"openi_in_short"}
    rows = (tmp_path / "openi.md").read_text().splitlines()
    assert len({row.count("|") for row in rows if row.startswith("|")}) == 1
    assert "0.746\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.001" in (tmp_path / "openi.md").read_text()


def test_a_config_is_listed_with_its_first_sentence():
    assert tables.first_sentence("# As in Eq. 8: a thing\n# of two lines. And more.\n#\n# x\na: 1") == (
        "As in Eq. 8: a thing of two lines."
    )
    assert set(re.findall(r"^\| `([\w/]+)`", tables.configs(), re.MULTILINE)) == set(shipped_configs())
