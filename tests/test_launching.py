"""Commands of runs by this machine, by SLURM's jobs (submitit without SLURM), and by Ray: what is left is the same."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vkd_pyro.utils.errors import UserError

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import launching
from launching import Launcher

WAYS = [
    ("local", ()),
    ("slurm", ("cluster=local",)),
    pytest.param("ray", ("num_cpus=1",), marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Processes of their own find the package whatever is installed."""
    root = str(Path(__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))))


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_what_commands_print_is_in_their_logs_and_a_failure_loses_nothing(name, options, tmp_path):
    launcher = Launcher(name, 2, options, tmp_path / "jobs")
    good, bad = (tmp_path / "good", ["configs"]), (tmp_path / "bad", ["nonsense"])
    with pytest.raises(SystemExit) as error:
        launcher.carry_out([good, bad])
    assert str(error.value.code).startswith(f"{tmp_path / 'bad'}: vkd: no command nonsense")
    log = (tmp_path / "good.log").read_text()
    assert log.startswith("vkd configs\n")
    assert "methods/no_report" in log


def test_a_job_that_comes_late_does_what_is_left(tmp_path):
    run, command = tmp_path / "run", ["train", "--run", "run", "--allow_module", "a.b"]
    assert launching.left_to_do(run, command) == command
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    resumed = ["train", "--resume", str(run), "--allow_module", "a.b"]
    assert launching.left_to_do(run, command) == resumed
    assert launching.left_to_do(run, resumed) == resumed
    (run / "bundle").mkdir()
    assert launching.left_to_do(run, command) == []
    assert launching.left_to_do(run, ["evaluate", "run"]) == ["evaluate", "run"]


def test_a_finished_run_is_not_cleared_by_a_late_job(tmp_path, monkeypatch):
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("kept")
    monkeypatch.setattr(sys, "argv", ["launching.py", str(tmp_path / "run"), "train", "--run", "run"])
    assert launching.main() == 0
    assert (tmp_path / "run" / "config.yaml").read_text() == "kept"
    with (
        launching.locked_log(tmp_path / "run"),
        pytest.raises(UserError, match="another process is at it"),
    ):
        launching.main()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("timeout_min",), "--launcher_options: found 'timeout_min', expected KEY=VALUE"),
        (("cluster=local", "colour=1"), "--launcher slurm: .*colour"),
        ((), "--launcher slurm: Could not detect"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no srun
    with pytest.raises(UserError, match=message):
        Launcher("slurm", 1, options, tmp_path / "jobs").carry_out([(tmp_path / "run", ["configs"])])


def test_a_job_of_slurm_has_ended_when_it_is_out_of_the_queue_with_or_without_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "GONE", 0.0)
    monkeypatch.setattr(launching.time, "sleep", lambda seconds: None)
    queue = [{"7_0", "7_1"}, {"7_0"}, {"7_0"}, set()]  # 7_0 was interrupted, and queued again; 7_1 was killed
    monkeypatch.setattr(launching, "in_slurms_queue", lambda jobs: queue.pop(0))
    jobs = {
        number: SimpleNamespace(job_id=f"7_{number}", paths=SimpleNamespace(result_pickle=tmp_path / f"{number}"))
        for number in range(2)
    }
    (tmp_path / "0").touch()
    found = []
    for number, has_result in launching.ended(jobs, by_slurm=True):
        found.append((number, has_result, len(queue)))
        del jobs[number]
    assert found == [(1, False, 2), (0, True, 0)]


def test_where_slurm_does_not_answer_every_job_is_taken_to_be_in_its_queue(tmp_path, monkeypatch):
    answer = tmp_path / "squeue"
    answer.write_text("#!/bin/sh\necho 7_0\necho 7_1\nexit ${STATUS}\n")
    answer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    jobs = [SimpleNamespace(job_id="8")]
    for status, expected in (("0", {"7_0", "7_1"}), ("1", {"8"})):
        monkeypatch.setenv("STATUS", status)
        assert launching.in_slurms_queue(jobs) == expected
