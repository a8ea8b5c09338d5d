"""Overlay configs, the engine of experiments, and the tables that are made with it."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.test_cli import CONFIG, vkd
from vkd_pyro import metrics
from vkd_pyro.artifacts.config import shipped_configs
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.cross_fitting import join_folds
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.saved import load_evaluation
from vkd_pyro.utils.errors import UserError

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import experiment
import launching
import paper
import reproduce
import trainings

ROOT = Path(__file__).parent.parent
OVERLAYS = sorted(path for folder in ("ablations", "methods") for path in (ROOT / "configs" / folder).glob("*.yaml"))

# So small a corpus lacks some finding, and so short an epoch has few values of beta.
pytestmark = pytest.mark.filterwarnings(
    "ignore:never (known|positive|absent) in training", "ignore:beta_schedule. a cycle has only"
)


# -------------------------------------------------------------------------------------------- overlays


def label(path):
    return f"{path.parent.name}/{path.stem}"


def base_of(overlay):
    """The config that its head comment puts it on."""
    return ROOT / re.search(r"vkd train --config (configs/\w+\.yaml) --config", overlay.read_text())[1]


def bases_of(overlay):
    """What it is tried on; what changes a language model, or a network of torchvision, does not go on small ones."""
    own, words = base_of(overlay), ROOT / "configs" / "synthetic.yaml"
    return [own] if overlay.stem in ("as_printed", "checkpointed") else [own, words]


@cache
def resolved(*configs):
    """The settings of configs, one laid over the other; read once, which takes a third of a second."""
    return bare(trainings.resolved(*(word for config in configs for word in ("--config", str(config)))))


def bare(settings):
    """Names without ".init_args", which a config may leave out."""
    return {name.replace(".init_args", ""): value for name, value in settings.items()}


def part_of(name):
    """ "method.prior" of "method.prior.hidden", "training" of "training.optimizer.lr"; a class is its whole part."""
    words = name.removesuffix(".class_path").split(".")
    return ".".join(words[:2])


PAIRS = [(path, base) for path in OVERLAYS for base in bases_of(path)]


@pytest.mark.parametrize(("overlay", "base"), PAIRS, ids=lambda path: path.stem)
def test_an_overlay_changes_what_it_says_and_nothing_else(overlay, base):
    before, after = resolved(base), resolved(base, overlay)
    said = bare(trainings.flat(yaml.safe_load(overlay.read_text())))
    assert {name: after[name] for name in said} == said
    if before["method.class_path"] == after["method.class_path"]:
        said.pop("method.class_path", None)  # else it would stand for every argument of the method
    parts = {part_of(name) for name in said}
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert [name for name in changed if not any(name == part or name.startswith(f"{part}.") for part in parts)] == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=label)
def test_an_overlay_says_how_it_is_used(overlay):
    text = overlay.read_text()
    assert f"--config configs/{label(overlay)}.yaml" in text
    assert f"--run runs/{overlay.stem}" in text


def test_what_each_overlay_is():
    settings = {label(path): resolved(base_of(path), path) for path in OVERLAYS}
    classes = {name: found["method.class_path"].removeprefix("vkd_pyro.methods.") for name, found in settings.items()}
    assert set(classes.values()) == {
        "VKD", "NoReport", "ImageOnly", "LogitDistillation", "FeatureRegression", "Contrastive", "MultiTask",
    }  # fmt: skip
    assert {name for name, method in classes.items() if method != "VKD"} == {n for n in classes if "methods/" in n}
    assert len(classes) - list(classes.values()).count("VKD") == 9
    without_mi = {name: found for name, found in settings.items() if "mi_" in name}
    samples = {name: found["method.objective.likelihood_samples"] for name, found in without_mi.items()}
    assert samples == {"ablations/without_mi_posterior": "posterior", "ablations/without_mi_prior": "prior"}
    assert {found["method.objective.auxiliary_weight"] for found in without_mi.values()} == {0.0}


def test_the_papers_size_of_z_is_that_of_its_configs():
    """So Table 3 takes its row D = 512 from the runs of Table 1."""
    for name in paper.PAPER.values():
        config = str(ROOT / "configs" / f"{name}.yaml")
        assert trainings.resolved("--config", config)["method.init_args.latent_dim"] == 512


def test_a_method_is_trained_by_its_overlay(tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    overlay = ROOT / "configs" / "methods" / "contrastive_pretraining.yaml"
    options = ("--beta_schedule.init_args.epochs=1", "--run", tmp_path / "run")
    code, _, err = vkd("train", "--config", tmp_path / "tiny.yaml", "--config", overlay, *options)
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    method = config["method"]
    assert (method["class_path"], method["init_args"]["pretraining"]) == ("vkd_pyro.methods.Contrastive", True)
    assert vkd("evaluate", tmp_path / "run")[0] == 0


# ----------------------------------------------------------------------------------------- the engine


def part(first, count, seed):
    generator = np.random.default_rng(seed)
    names = tuple(str(number) for number in range(first, first + count))
    labels = (generator.random((count, 3)) < 0.4).astype(float)
    probabilities = generator.random((count, 3)) * 0.5 + labels * 0.3
    use = LatentUse({"prior": float(seed), "posterior": 1.0}, kl=float(seed))
    report = np.full((count, 3), np.nan)
    unknown, of_study = np.full(labels.shape, "unknown"), np.full(count, np.nan)
    return Evaluation(
        data={"corpus": "x", "splits": {}},
        how={"split": "test"},
        findings=("a", "b", "c"),
        study_ids=names,
        patient_ids=names,
        labels=labels,
        probabilities=probabilities,
        **dict.fromkeys(("calibrated", "low", "high", "latent_uncertainty", "report_probabilities"), report),
        answers=unknown,
        conformal=unknown,
        kl_per_study=of_study,
        ood=of_study,
        subgroups={},
        latent_use=use,
        **dict.fromkeys(("joint_log_prob", "marginal_log_prob", "answer_information"), of_study),
    )


def test_folds_together_are_every_study_once():
    parts = [part(0, 40, 1), part(40, 20, 4)]
    whole = join_folds(parts)
    assert whole.study_ids == tuple(str(number) for number in range(60))
    labels, probabilities = (np.concatenate([getattr(p, n) for p in parts]) for n in ("labels", "probabilities"))
    assert whole.averages()["image"]["macro"] == metrics.macro_auroc(probabilities, labels, models=whole.models)
    assert whole.averages()["image"]["micro"] == metrics.micro_auroc(probabilities, labels, whole.models)
    assert whole.kl == whole.active_units["prior"] == pytest.approx((40 * 1 + 20 * 4) / 60)
    assert whole.data == {"corpus": "x", "folds": 2}
    json.dumps(whole.summary(), allow_nan=False)


def test_folds_that_share_a_study_or_a_finding_less_are_refused():
    one, other = part(0, 40, 1), part(39, 20, 4)
    with pytest.raises(UserError, match="a study or a patient is in two"):
        join_folds([one, other])
    with pytest.raises(UserError, match="other findings"):
        join_folds([one, replace(part(40, 2, 0), findings=("a", "b", "d"))])


def test_a_row_is_named_by_its_files_or_its_method():
    row = experiment.row_named("synthetic+methods/no_report")
    assert (row.name, row.configs, row.options) == ("synthetic/no_report", ("synthetic", "methods/no_report"), ())
    row = experiment.row_named("configs/openi_cpu.yaml+configs/methods/feature_regression.yaml")
    assert (row.name, row.options) == ("openi_cpu/feature_regression", ())
    assert row.configs == ("configs/openi_cpu.yaml", "configs/methods/feature_regression.yaml")
    assert experiment.row_named("synthetic").name == "synthetic/vkd"
    row = experiment.row_named("synthetic+--training.monitor=val/macro_auc")
    assert (row.name, row.options) == (
        "synthetic/training.monitor=val-macro_auc",
        ("--training.monitor=val/macro_auc",),
    )


def test_an_option_goes_to_the_methods_that_have_it():
    given = ["--seed", "1", "--method.report_encoder.width", "8", "--method.latent_dim=4", "--method.latent_dmi=4"]
    for method, kept in (
        ("VKD", given),
        ("NoReport", ["--seed", "1", "--method.latent_dim=4", "--method.latent_dmi=4"]),
        ("ImageOnly", ["--seed", "1", "--method.latent_dmi=4"]),
    ):
        assert trainings.options_for(f"vkd_pyro.methods.{method}", given) == kept


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a config and the runs of one row at one seed, and how they were made."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(CONFIG)
    row = trainings.Row("tiny/no_report", (str(folder / "tiny.yaml"), "methods/no_report"))
    plan = trainings.Plan(folder / "runs", seeds=1, options=("--training.max_epochs=1",))
    trainings.evaluations([row], plan)
    return row, plan


def test_what_a_run_prints_is_beside_it(tiny):
    _, plan = tiny
    log = (plan.runs / "tiny" / "no_report-0.log").read_text()
    assert log.startswith("vkd train --config ")
    assert "vkd evaluate" in log


def test_complete_runs_are_left_interrupted_ones_resumed_killed_ones_begun_anew(tiny, tmp_path):
    row, plan = tiny
    (training,) = plan.trainings(row)
    assert training.command() == []
    run = tmp_path / "run"
    shutil.copytree(training.run, run)
    copy = replace(training, run=run)
    shutil.rmtree(run / "bundle")
    assert copy.command() == ["train", "--resume", str(run), "--allow_module", "tests.conftest"]
    shutil.rmtree(run / "checkpoints")
    assert copy.command() == ["train", *training.arguments]
    with launching.log_of(run, copy.command()):
        assert not run.exists()
        with pytest.raises(UserError, match="another process is at it"), launching.log_of(run, ["train"]):
            pass


def test_other_settings_are_told_by_name(tiny):
    row, plan = tiny
    with pytest.raises(UserError, match=r"other settings than these \(training.max_epochs 1, now 2\)"):
        replace(plan, options=("--training.max_epochs=2",)).trainings(row)[0].command()


def test_a_run_that_fails_ends_it_with_its_line(tiny, tmp_path, capsys):
    row, plan = tiny
    with pytest.raises(SystemExit) as error:
        trainings.evaluations([row], replace(plan, runs=tmp_path, options=("--data.loading.batch_size=1000",)))
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("vkd: data.loading.batch_size: 1000 is more than the")


def test_each_of_several_has_a_device_and_its_share_of_the_cores(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(launching.subprocess, "Popen", lambda command, env, **_: started.append((command, env)))
    monkeypatch.setattr(launching.os, "sched_getaffinity", lambda _: range(16))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    for slot in range(4):
        launching.launch(tmp_path / f"{slot}", ["train", "--seed", str(slot)], slot, jobs=4)
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in started] == ["2", "5", "2", "5"]
    assert {env["OMP_NUM_THREADS"] for _, env in started} == {"4"}
    assert started[1][0][1:] == ["-m", "vkd_pyro.cli", "train", "--seed", "1"]


@pytest.mark.slow
def test_several_at_once_are_as_one_after_the_other_and_a_failure_loses_nothing(tiny, tmp_path, capfd):
    row, plan = tiny
    bad = replace(row, name="tiny/bad", options=("--data.loading.batch_size=1000",))
    at_once = replace(plan, runs=tmp_path, seeds=2, launcher=launching.Launcher(jobs=2))
    with pytest.raises(SystemExit) as error:
        trainings.evaluations([row, bad], replace(at_once, seeds=1))
    assert "bad-0: vkd: data.loading.batch_size: 1000 is more than" in error.value.code
    assert (tmp_path / "tiny" / "no_report-0" / "bundle").is_dir()
    found = trainings.evaluations([row], at_once)[row.name]
    assert len(found) == 2
    assert np.allclose(found[0].probabilities, plan.evaluation(row, 0).probabilities, atol=1e-5)
    assert "[1/1] train" in capfd.readouterr().err  # of two seeds one was there


@pytest.mark.slow
def test_jobs_of_a_cluster_train_the_same_runs_and_none_twice(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    row, plan = tiny
    jobs = launching.Launcher("slurm", 2, ("cluster=local", "timeout_min=60"), tmp_path / "jobs")
    by_jobs = replace(plan, runs=tmp_path, launcher=jobs)
    (found,) = trainings.evaluations([row], by_jobs)[row.name]
    assert np.allclose(found.probabilities, plan.evaluation(row, 0).probabilities, atol=1e-5)
    assert "[1/1] train" in capfd.readouterr().err
    trainings.evaluations([row], by_jobs)
    assert "train" not in capfd.readouterr().err


@pytest.mark.slow
def test_an_interrupt_stops_the_children(tiny, tmp_path):
    row, _ = tiny
    command = [sys.executable, ROOT / "scripts" / "experiment.py", "+".join(row.configs), "--jobs", "2"]
    command += ["--seeds", "2", "--runs", tmp_path, "--training.max_epochs=100000"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "tiny" / "no_report-1.log"
        for _ in range(600):
            if (tmp_path / "tiny" / "no_report-1" / "checkpoints" / "last.ckpt").exists():
                break
            time.sleep(0.5)
        process.terminate()
        assert "interrupted" in process.communicate(timeout=90)[1]
    assert process.returncode == 130
    with launching.log_of(log.with_name("no_report-1"), ["evaluate"]):  # nobody has it any more
        pass


# ------------------------------------------------------------------------------------------- the tables


def run_script(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *(str(word) for word in words)])
    reproduce.main()


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_the_paper_has_a_figure_of_every_row(name):
    table = paper.TABLES[name]
    figures = paper.paper_figures()
    for group in table.groups:
        for entry in group.entries:
            assert paper.paper_cell(table, group, entry) != "-"
            if table.by_finding:
                corpus = paper.CORPORA[group.corpus]
                assert sum(key[:2] == ("1", corpus) and key[3] == entry.paper for key in figures) >= 8
    assert paper.paper_cell(table, table.groups[1], table.groups[1].entries[-1]) in ("0.839", "0.807", "0.842")


def test_the_papers_averages_are_not_means_of_its_rows():
    text = paper.about_averages(paper.TABLES["table1"].groups[0])
    assert "VKD 0.885, its 13 rows 0.727 on average" in text


def test_every_row_of_every_table_is_there():
    for table in paper.TABLES.values():
        names = [group.row(entry).name for group in table.groups for entry in group.entries]
        assert len(names) == len(set(names))
        for group in table.groups:
            assert set(group.baselines) <= {entry.name for entry in group.entries}
            assert all(config in shipped_configs() for entry in group.entries for config in group.row(entry).configs)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, monkeypatch, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    corpora = ["--openi", tmp_path / "a", "--mimic_cxr", tmp_path / "b", "--chestxray14", tmp_path / "c"]
    common = ["--dry_run", "--runs", tmp_path / "runs", "--seeds", 2, "--training.precision=bf16-mixed"]
    run_script(monkeypatch, "table1", *corpora, *common)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 5
    assert all(line.startswith("vkd train --config ") and "bf16" in line for line in lines)
    assert f"--start_from {tmp_path}/runs/mimic_cxr/vkd-1" in lines[-1]
    assert f"--data.selection.corpus.init_args.root={tmp_path}/c" in lines[-1]
    assert not (tmp_path / "runs").exists()
    run_script(monkeypatch, "openi", *corpora[:2], *common, "--rows", "openi_cpu/vkd_shuffled_reports")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 5
    assert all("--data.task.control=shuffled_reports" in line for line in lines)
    assert "--data.task.folds.fold=4 --data.task.folds.num_folds=5" in lines[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table1", "--openi", "no/where"], "--openi: no folder no/where"),
        (["table2"], "nothing to do; give --openi PATH or --mimic_cxr PATH"),
        (["table1", "--chestxray14", "."], "chestxray14/vkd: starts from mimic_cxr/vkd, which is not among the rows"),
        (["table2", "--openi", ".", "--rows", "vdk"], "as --rows some of openi/vkd, "),
    ],
)
def test_mistakes_are_told(monkeypatch, words, message):
    with pytest.raises(UserError, match=message) as error:
        run_script(monkeypatch, *words)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def openi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts") / "openi"
    code, _, err = vkd("synthesize", "--layout", "openi", "--output", folder, "--num_studies", "80", "--image_size", 32)
    assert code == 0, err
    return folder


SMALL = ("--smoke", "--seeds", 1, "--resamples", 10)
TRAINS_FAST = ("--training.accelerator=cpu", "--method.latent_dim=4")


@pytest.mark.slow
def test_the_comparison_of_openi_end_to_end(openi, tmp_path, monkeypatch, capsys):
    words = ["openi", "--openi", openi, *SMALL, "--folds", 2, "--runs", tmp_path / "runs", *TRAINS_FAST]
    words += ["--json", tmp_path / "openi.json", "--rows", "openi_cpu/image_only", "openi_cpu/vkd"]
    run_script(monkeypatch, *words)
    out, err = capsys.readouterr()
    assert "## Open-I" in out
    assert "cross-fitting in 2 folds by patient" in out
    assert "Δ macro30 to image_only" in out
    assert "patient-" not in out
    assert err.count("train ") == 4

    runs = [tmp_path / "runs" / "openi_cpu" / f"vkd-0-fold{fold}" for fold in range(2)]
    folds = [load_evaluation(run / "evaluation" / "test") for run in runs]
    summaries = [json.loads((run / "data.json").read_text())["splits"] for run in runs]
    whole = {sum(part["studies"] for part in splits.values()) for splits in summaries}
    together = join_folds(folds)
    assert {len(set(together.study_ids))} == {len(together.study_ids)} == whole
    content = json.loads((tmp_path / "openi.json").read_text())
    (group,) = content["groups"].values()
    (seed,) = group["entries"]["vkd"]["seeds"]
    assert seed["auc"]["image"]["micro"] == metrics.micro_auroc(
        together.probabilities, together.labels, together.models
    )
    assert content["table"]["vkd"]["micro"] == f"{seed['auc']['image']['micro']:.3f}"
    assert len(group["entries"]["vkd"]["config_sha256"]) == 64
    assert group["conditions"]["batch size"] == "4"
    assert group["conditions"]["M"] == "4 (vkd)"

    run_script(monkeypatch, *words)  # all is there: nothing is trained, and the table is the same
    again = capsys.readouterr()
    assert again.out == out
    assert "train " not in again.err


@pytest.mark.slow
def test_table_2_end_to_end(openi, tmp_path, monkeypatch, capsys):
    words = ["table2", "--openi", openi, *SMALL, "--runs", tmp_path / "runs", *TRAINS_FAST]
    run_script(monkeypatch, *words, "--rows", "*/without_mi_posterior", "*/no_report")
    out = capsys.readouterr().out
    assert "| without_mi_posterior | without L_MI | 0.873 |" in out
    assert "| no_report | without VKD (no report) | 0.837 |" in out
    assert "z of the likelihood from **posterior (without_mi_posterior)**" in out  # without reports there is no choice
    assert "MIMIC-CXR: left out, since --mimic_cxr is not given." in out
    assert "70 / 10 / 20 by patient" in out


@pytest.mark.slow
def test_table_1_end_to_end(openi, tmp_path, monkeypatch, capsys):
    for layout in ("mimic-cxr", "chestxray14"):
        options = ("--layout", layout, "--output", tmp_path / layout, "--num_studies", "120", "--image_size", 32)
        assert vkd("synthesize", *options)[0] == 0
    corpora = ["--openi", openi, "--mimic_cxr", tmp_path / "mimic-cxr", "--chestxray14", tmp_path / "chestxray14"]
    words = ["table1", *corpora, *SMALL, "--runs", tmp_path / "runs", "--training.accelerator=cpu"]
    run_script(monkeypatch, *words, "--json", tmp_path / "table1.json")
    out = capsys.readouterr().out
    assert "| finding | known | positive | no_report, paper | no_report | vkd, paper | vkd |" in out
    assert all(f"## {name}\n" in out for name in ("Open-I", "MIMIC-CXR", "ChestX-ray14"))
    fine_tuned = out.split("## ChestX-ray14")[1]
    assert "| 0.899 |" in next(line for line in fine_tuned.splitlines() if line.startswith("| Cardiomegaly"))
    assert '| "0.872" |' in next(line for line in fine_tuned.splitlines() if line.startswith("| micro"))
    run_script(monkeypatch, *words)
    assert "train " not in capsys.readouterr().err
