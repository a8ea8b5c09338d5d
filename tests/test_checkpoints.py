"""Checkpoints: a run that is killed anywhere goes on as if it had not been, and no damaged file is ever loaded."""

import multiprocessing
import os
import random
import signal
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.conftest import TinyCorpus
from vkd_pyro.artifacts.checkpoints import load_checked, newest, save_checked
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import MLP, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.schedules import Cyclical
from vkd_pyro.training import fitting
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

EPOCHS, STEPS = 3, 12  # of 2 batches each
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.test_checkpoints"])


def train(run: Path, workers: int = 0, kill_at: int | str | None = None, resume: bool = False, **changes) -> None:
    """A whole training, or one that ends itself without a word in the middle of a step, or as it is calibrated."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of workers, which else outlive a process that is killed
    step = MethodTraining.training_step

    def killed(self: MethodTraining, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        if self.trainer.fit_loop.epoch_loop.total_batch_idx == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    if kill_at == "calibrate":
        fitting.calibrate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    elif kill_at is not None:
        MethodTraining.training_step = killed  # type: ignore[method-assign]
    data = StudyData(
        Selection(TinyCorpus(), image_size=32),
        loading=Loading(batch_size=2, augmentation=Augmentation(), num_workers=workers),
    )
    family = partial(DiagonalNormal, mlp=MLP((16,), dropout=0.1))
    vkd = VKD(TinyCorpus.findings, ConvEncoder((8, 16)), WordEncoder(64, 16), 4, family, family)
    adam = partial(torch.optim.Adam, lr=1e-2)
    settings = Training(
        EPOCHS, adam, "one_cycle", accelerator="cpu", num_samples=5, accumulate_batches=2, checkpoint_steps=3
    )
    settings = replace(settings, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitting.fit(vkd, data, run, beta_schedule=Cyclical(1), training=settings, progress=False, resume=resume)


def in_a_process(run: Path, **options) -> int | None:
    """The exit code of a training in its own process."""
    process = PROCESSES.Process(target=train, args=(run,), kwargs=options)
    process.start()
    process.join(120)
    return process.exitcode


def assert_same_run(run: Path, other: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        one, two = (load_checked(each / "checkpoints" / name) for each in (run, other))
        for key, value in one["state_dict"].items():
            assert torch.equal(two["state_dict"][key], value), key
        for mine, yours in zip(*(state["optimizer_states"][0]["state"].values() for state in (one, two)), strict=True):
            assert all(torch.equal(mine[key], yours[key]) for key in mine)
    assert (run / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    weights = [(each / "bundle" / "weights.safetensors").read_bytes() for each in (run, other)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert in_a_process(run) == 0
    assert load_checked(run / "checkpoints" / "last.ckpt")["global_step"] == EPOCHS * STEPS
    return run


@pytest.mark.parametrize(
    ("workers", "kills"),
    [(0, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((2, 1), (0, 20), (2, 20)))],
)
def test_a_run_that_is_killed_at_random_steps_ends_as_if_it_had_not_been(tmp_path, uninterrupted, workers, kills):
    run, choose = tmp_path / "run", random.Random(workers)
    moments = sorted(choose.sample(range(2 * EPOCHS * STEPS - 1), kills))
    for number, moment in enumerate(moments):
        assert in_a_process(run, workers=workers, kill_at=moment, resume=number > 0) == -signal.SIGKILL
    assert in_a_process(run, workers=workers, resume=True) == 0
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == [0, 1, 2]
    assert_same_run(uninterrupted, run)


def test_checkpoints_are_written_every_so_many_steps_within_an_epoch(tmp_path):
    assert in_a_process(tmp_path / "run", kill_at=21) == -signal.SIGKILL  # the 11th step of the first epoch
    steps = [load_checked(tmp_path / "run" / "checkpoints" / f"{name}.ckpt") for name in ("last", "previous")]
    assert [state["global_step"] for state in steps] == [9, 6]
    assert steps[0]["position"] == {"epoch": 0, "batch": 18}


def state() -> dict:
    torch.manual_seed(0)
    return {"state_dict": {"weight": torch.randn(20, 20)}, "position": {"epoch": 1, "batch": 2}}


def test_what_is_saved_is_what_is_loaded_also_by_torch(tmp_path):
    save_checked(state(), tmp_path / "last.ckpt")
    for loaded in (load_checked(tmp_path / "last.ckpt"), torch.load(tmp_path / "last.ckpt", weights_only=True)):
        assert torch.equal(loaded["state_dict"]["weight"], state()["state_dict"]["weight"])
        assert loaded["position"] == state()["position"]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_no_flipped_bit_is_ever_loaded(tmp_path):
    path, choose = tmp_path / "last.ckpt", random.Random(0)
    save_checked(state(), path)
    whole = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.ckpt: damaged"):
            load_checked(path)


@pytest.mark.parametrize("kept", [0, 1, 63, 64, 1000])
def test_a_file_that_was_cut_short_is_not_loaded(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    save_checked(state(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.ckpt: damaged"):
        load_checked(path)


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path):
    for name in ("last.ckpt", "previous.ckpt"):
        save_checked(state(), tmp_path / name)
    assert newest(tmp_path).name == "last.ckpt"
    (tmp_path / "last.ckpt").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"last\.ckpt: damaged.*; going on from previous\.ckpt"):
        assert newest(tmp_path).name == "previous.ckpt"
    (tmp_path / "previous.ckpt").write_bytes(b"half")
    with pytest.raises(UserError, match=r"last\.ckpt: damaged.*previous\.ckpt: damaged.*start a new run"):
        newest(tmp_path)


@pytest.mark.slow
def test_a_run_whose_last_checkpoint_is_damaged_ends_as_if_it_were_not(tmp_path, uninterrupted):
    run = tmp_path / "run"
    assert in_a_process(run, kill_at=40) == -signal.SIGKILL
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert in_a_process(run, kill_at=34, resume=True) == -signal.SIGKILL  # before another is written
    assert newest(run / "checkpoints").name == "previous.ckpt"
    assert (run / "checkpoints" / "last.damaged").is_file()
    assert in_a_process(run, resume=True) == 0
    assert_same_run(uninterrupted, run)


def test_a_kill_between_two_checkpoints_leaves_the_one_before(tmp_path, uninterrupted):
    run = tmp_path / "run"
    assert in_a_process(run, kill_at=30) == -signal.SIGKILL
    (run / "checkpoints" / "last.ckpt").unlink()
    assert in_a_process(run, resume=True) == 0
    assert_same_run(uninterrupted, run)


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path, uninterrupted):
    run = tmp_path / "run"
    assert in_a_process(run, kill_at=0) == -signal.SIGKILL
    assert {path.name for path in run.iterdir()} == {".lock", "config.yaml", "data.json"}
    assert in_a_process(run, resume=True) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.slow
def test_a_training_that_had_stopped_early_trains_no_epoch_more(tmp_path):
    patience = {"patience": 1, "tolerance": 0.9, "max_epochs": 6}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_a_process(whole, **patience) == 0
    assert in_a_process(killed, kill_at="calibrate", **patience) == -signal.SIGKILL
    assert in_a_process(killed, resume=True, **patience) == 0
    assert pd.read_csv(whole / "metrics.csv")["epoch"].tolist() == [0, 1]
    assert_same_run(whole, killed)


@pytest.fixture
def interrupted(tmp_path) -> Path:
    """A run in the middle of its second epoch."""
    assert in_a_process(tmp_path / "run", kill_at=40) == -signal.SIGKILL
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoints/best.ckpt", b"half", r"best\.ckpt: damaged.*; put back a copy of it, or train again"),
        ("metrics.csv", b"", r"metrics\.csv: damaged"),
        ("metrics.csv", b"\xff", r"metrics\.csv: damaged"),
        ("metrics.csv", b"step\n1\n", r"metrics\.csv: damaged"),
        ("metrics.csv", b"epoch,step\n8,1\n", r"metrics\.csv: expected a row for each epoch before 1"),
        ("data.json", b"{", r"data\.json: not readable as JSON .*; put back a copy of it"),
        ("data.json", b"{}", r"data\.json: the data is not what this run began with"),
    ],
)
def test_what_is_damaged_in_a_run_is_named_before_it_goes_on(interrupted, name, content, message):
    (interrupted / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        train(interrupted, resume=True)
