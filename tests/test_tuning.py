"""The search for settings: what is tried, what counts, what goes on after a kill, and that no test study is read."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, refusal, vkd
from tests.test_readme import blocks
from vkd_pyro.cli import main
from vkd_pyro.tuning.results import best_of, table, tidy, write_picture
from vkd_pyro.tuning.space import Choice, Number, Space, read_space
from vkd_pyro.tuning.study import Beats, Goal, open_study, pruner_of, search, without_password
from vkd_pyro.tuning.trial import SearchError, failure
from vkd_pyro.utils.errors import UserError

LR = "training.optimizer.lr"
KL = {"class_path": "vkd_pyro.distributions.BalancedKL", "init_args": {"prior_weight": 0.3, "posterior_weight": 0.1}}
SPACE = Space({LR: Number(False, 1e-4, 1e-1, log=True), "method.latent_dim": Number(True, 2, 8, step=2)})
HERE = Path(__file__)


def begin(folder, seed=0, pruner=None, identity=None, **options):
    return open_study(folder, Goal(), pruner or pruner_of("none", 3), seed, identity or {}, **options)


def squares(trial, options):
    """A value that is known in closed form: the distance of the width from 6."""
    return float((trial.params["method.latent_dim"] - 6) ** 2)


def refused(error):
    return str(error) if isinstance(error, UserError) else None


# -------------------------------------------------------------------------------------------- studies


def test_the_config_as_it_stands_is_the_first_trial(tmp_path):
    first = {LR: 0.05, "method.latent_dim": 4}
    study = begin(tmp_path / "study", first=first)
    search(study, SPACE, squares, refused, 3)
    study = begin(tmp_path / "study", first=first)  # it goes on, and does not try it again
    search(study, SPACE, squares, refused, 4)
    assert study.trials[0].params == first
    assert [trial.params for trial in study.trials].count(first) == 1


def test_a_search_finds_the_best_and_a_seed_makes_it_the_same(tmp_path):
    tried = []
    for name in ("one", "two"):
        study = begin(tmp_path / name)
        search(study, SPACE, squares, refused, 8)
        tried.append([trial.params for trial in study.trials])
    assert tried[0] == tried[1]
    assert best_of(study).value == min(squares(trial, None) for trial in study.trials)
    assert len({str(params) for params in tried[0]}) == 8


def test_an_interrupted_search_tries_what_an_uninterrupted_one_does(tmp_path):
    whole, parts = begin(tmp_path / "whole"), begin(tmp_path / "parts")
    search(whole, SPACE, squares, refused, 6)
    search(parts, SPACE, squares, refused, 3)
    search(begin(tmp_path / "parts"), SPACE, squares, refused, 6)
    assert [trial.params for trial in parts.get_trials()] == [trial.params for trial in whole.trials]


def test_what_settings_do_is_a_failed_trial_and_what_the_machine_does_ends_the_search(tmp_path):
    def run(trial, options):
        if trial.number == 1:
            raise UserError("the training diverged")
        if trial.number == 3 and trouble:
            raise OSError("no network")
        return squares(trial, options)

    study, trouble = begin(tmp_path / "study"), True
    with pytest.raises(OSError, match="no network"):
        search(study, SPACE, run, failure, 4)
    trouble = False
    search(study, SPACE, run, failure, 4)
    rows = table(study)
    assert rows["state"].tolist() == ["complete", "failed", "complete", "killed", "complete"]
    assert rows["reason"][1] == "the training diverged"
    assert rows[LR][4] == rows[LR][3]


def test_errors_are_of_the_settings_or_of_the_machine():
    full = UserError("the disk is full")
    full.__cause__ = OSError(28, "No space left on device")
    assert failure(UserError("a loss\nis not a number")) == "a loss is not a number"
    assert failure(full) is None
    assert failure(SearchError("no such metric")) is None
    assert failure(KeyError("a fault of the program")) is None


def test_another_space_or_metric_is_another_study(tmp_path):
    begin(tmp_path / "study", identity={"space": {"a": 1}})
    with pytest.raises(UserError, match="study was begun with another space than this: a is 2 now, and was 1; give"):
        begin(tmp_path / "study", identity={"space": {"a": 2}})
    with pytest.raises(UserError, match="study was begun with another metric"):
        open_study(tmp_path / "study", Goal("val/loss"), pruner_of("none", 1), 0, {"space": {"a": 1}})


def test_a_database_that_is_none_is_one_line_without_the_password(tmp_path):
    with pytest.raises(UserError, match="--storage: nonsense://host/a: cannot be used") as error:
        begin(tmp_path / "study", storage="nonsense://me:word@host/a")
    assert "word" not in str(error.value)
    assert without_password("postgresql://me:w@rd@host/a") == "postgresql://host/a"


def test_the_median_prunes_a_trial_that_is_worse_and_the_picture_shows_it(tmp_path):
    def run(trial, options):
        for epoch in range(3):
            trial.report(float(trial.number), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(trial.number)

    study = begin(tmp_path / "study", pruner=pruner_of("median", 3))
    space = Space(dict(SPACE.parts) | {"method.d": Choice({"a": 1, None: 2})})
    search(study, space, run, refused, 7)
    rows = table(study)
    assert rows["state"].tolist() == ["complete"] * 5 + ["pruned"] * 2
    assert rows["epochs"].tolist()[-1] == 2  # never after the first alone
    assert set(rows["method.d"]) <= {"a", "null"}
    write_picture(study, tmp_path / "study", Goal())
    assert (tmp_path / "study" / "search.png").stat().st_size > 10_000
    assert "best so far" in (tmp_path / "study" / "search.svg").read_text()


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("all", 4), ("none", 0)])
def test_runs_of_trials_are_kept_as_asked(tmp_path, keep, kept):
    study = begin(tmp_path)
    search(study, SPACE, squares, refused, 4)
    for number in range(4):
        (tmp_path / "trials" / f"{number:04d}").mkdir(parents=True)
    tidy(study, tmp_path, keep)
    left = [path.name for path in (tmp_path / "trials").iterdir()]
    assert len(left) == kept
    assert keep != "best" or left == [f"{study.best_trial.number:04d}"]


WORKER = """
import sys, time
from pathlib import Path
from tests.test_tuning import SPACE, begin, refused, squares
from vkd_pyro.tuning.study import Beats, search
def run(trial, options):
    if sys.argv[2] == "slow" and trial.number == 1:
        Path(sys.argv[1], "begun").touch()
        time.sleep(600)
    time.sleep(0.2)
    return squares(trial, options)
search(begin(Path(sys.argv[1]), beats=Beats(1, 2)), SPACE, run, refused, 8, poll=0.2)
"""


def worker(folder, kind):
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORKER, str(folder), kind], cwd=HERE.parent.parent)


@pytest.mark.slow
def test_a_killed_trial_is_tried_again_and_the_total_is_as_asked(tmp_path):
    process = worker(tmp_path, "slow")
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    study = begin(tmp_path, beats=Beats(1, 2))
    search(study, SPACE, squares, refused, 8, poll=0.2)
    states = [trial.state for trial in study.get_trials()]
    assert (states.count(TrialState.COMPLETE), states.count(TrialState.FAIL), len(states)) == (8, 1, 9)
    killed, *_ = [trial for trial in study.get_trials() if trial.state == TrialState.FAIL]
    again = [trial for trial in study.get_trials() if trial.system_attrs.get("retry_history") == [killed.number]]
    assert [trial.params for trial in again] == [killed.params]


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    both = [worker(tmp_path, "fast"), worker(tmp_path, "fast")]
    assert [process.wait(300) for process in both] == [0, 0]
    rows = table(begin(tmp_path))
    assert rows["state"].tolist() == ["complete"] * 8
    assert rows[LR].nunique() == 8


# ------------------------------------------------------------------------------------------- the command


class Sealed(TinyCorpus):
    """Its test studies cannot be read: neither images, nor reports, nor labels."""

    def studies(self):
        return [seal(study) if study.split == "test" else study for study in super().studies()]


class Seal:
    def __getattr__(self, name):
        raise AssertionError("a test study was read")

    def __len__(self):
        return 1


def seal(study):
    vars(study).update(images=(Seal(),), labels=Seal())
    return study


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    config = yaml.safe_load(CONFIG)
    config["data"]["selection"]["corpus"]["class_path"] = "tests.test_tuning.Sealed"
    config["training"]["max_epochs"] = 1
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    divergence = {"type": "categorical", "choices": [KL, {"class_path": "vkd_pyro.distributions.KL"}]}
    space = {LR: {"type": "float", "low": 1e-3, "high": 1e-2}, "method.objective.divergence": divergence}
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    given = ("--config", folder / "tiny.yaml", "--space", folder / "space.yaml", "--study", folder / "study")
    code, out, err = vkd("tune", *given, "--trials", 3)
    assert code == 0, err
    return folder, out, given


@pytest.mark.slow
def test_a_search_leaves_a_table_a_picture_and_the_best_run_and_reads_no_test_study(tuned):
    folder, out, _ = tuned
    study = folder / "study"
    rows = pd.read_csv(study / "trials.csv")
    assert rows["state"].tolist() == ["complete"] * 3
    assert (study / "search.png").is_file()
    best = rows.loc[rows["value"].idxmin()]
    assert [path.name for path in (study / "trials").iterdir()] == [f"{best['trial']:04d}"]
    metrics = pd.read_csv(study / "trials" / f"{best['trial']:04d}" / "metrics.csv")
    assert metrics["val/nll"].min() == pytest.approx(best["value"])
    assert f"best: trial {best['trial']}, val/nll {best['value']:.4f}" in out
    assert "test " not in (study / "trials" / f"{best['trial']:04d}" / "data.json").read_text()


@pytest.mark.slow
def test_the_best_config_trains_to_the_value_of_its_trial(tuned):
    folder, _, given = tuned
    code, _, err = vkd("train", "--config", folder / "study" / "best.yaml", "--run", folder / "again",
                       "--data.selection.corpus=tests.conftest.TinyCorpus")  # fmt: skip
    assert code == 0, err
    rows = pd.read_csv(folder / "study" / "trials.csv")
    assert pd.read_csv(folder / "again" / "metrics.csv")["val/nll"].min() == pytest.approx(rows["value"].min())
    code, out, _ = vkd("tune", *given, "--trials", 3)  # nothing is left to do
    assert code == 0
    assert "complete" not in out
    assert "begun with another config" in refusal("tune", *given, "--method.latent_dim", 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (HERE.parent.parent / "docs" / "tuning.md").read_text()
    commands = [shlex.split(line)[1:] for block in blocks("bash", page) for line in block.splitlines()]
    assert [command[0] for command in commands] == ["train", "evaluate", "tune", "train"]
    for command in commands:
        small = ["--training.max_epochs=1", "--training.accelerator=cpu", "--training.report_warm_up=2"]
        small += ["--data.selection.corpus.init_args.num_studies=300"]
        more = {"evaluate": ["--resamples=20"], "tune": [*small, "--trials=2"], "train": small}[command[0]]
        assert main(command + more) == 0


def test_data_without_test_has_none():
    data = study_data(Sealed(), image_size=32, batch_size=8).without_test()
    assert not data.has("test")
    assert set(data.summary()["splits"]) == {"train", "validation"}
    with pytest.raises(UserError, match="the test split is empty"):
        data.evaluation_loader("test", None)


MISTAKES = {
    "method.latent_dimm: {type: int, low: 1, high: 2}": "space.yaml: method: VKD: Option 'latent_dimm' is not accepted",
    "method.latent_dim: {type: float, low: 0.5, high: 2}": "space.yaml: method.latent_dim: Expected a <class 'int'>",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_an_option_that_the_config_does_not_have_is_one_line(tmp_path, text, message):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "space.yaml").write_text(text)
    given = ("--config", tmp_path / "tiny.yaml", "--space", tmp_path / "space.yaml")
    assert message in refusal("tune", *given, "--study", tmp_path / "study")


def test_what_a_search_cannot_have_is_one_line(tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    given = ("tune", "--config", tmp_path / "tiny.yaml", "--space", "spaces/training")
    assert "--study: not given" in refusal(*given)
    given = (*given, "--study", tmp_path / "study")
    assert "--run: trials have folders of their own" in refusal(*given, "--run", tmp_path / "run")
    assert "training.devices: a trial has one" in refusal(*given, "--training.devices", 2)
    assert "--metric: found test/nll" in refusal(*given, "--metric", "test/nll", "--training.optimizer", "AdamW")
    assert "holds something else than a study" in refusal(*given[:-1], tmp_path)


def test_the_spaces_that_ship_fit_the_configs_that_their_heads_name():
    from vkd_pyro.artifacts.config import config_path
    from vkd_pyro.cli.tune import parse, tune_parser

    space = read_space([Path(config_path(name)) for name in ("spaces/training", "spaces/vkd")])
    (options,) = (options for options in space.examples()[:1])
    for base in ("synthetic", "openi_cpu"):
        assert parse(tune_parser(), ["--config", base, *options]).method.init_args.latent_dim == 16
    shared = read_space([Path(config_path("spaces/training"))]).examples()[0]
    rival = parse(tune_parser(), ["--config", "openi_cpu", "--config", "methods/image_only", *shared])
    assert rival.training.optimizer.init_args.lr == 3e-4
