"""A training that ends anywhere: killed before any of its writes, interrupted, without room; and a second one."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import get_worker_info

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, vkd
from vkd_pyro.artifacts.run import check_not_live, check_ready, claimed
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.distributions import MLP, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.methods.no_report import NoReport
from vkd_pyro.training import fitting
from vkd_pyro.training.callbacks import MetricsTable
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.truncate", "shutil.rmtree"}


class Killed(BaseException):
    """No process goes on after it."""


class Writes:
    """Counts what a process does to the files below a folder, and ends it before one of these operations.

    An audit hook: it sees each operation before it is done. A killed process does nothing more, so neither does this.
    """

    def __init__(self):
        self.folder, self.kill_at, self.seen, self.dead = None, None, [], False
        sys.addaudithook(self.see)

    def see(self, event, arguments):
        """The hook, which stays for good."""
        if self.folder is None or event not in {"open", *WRITES}:
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(self.folder) or "/.lock" in str(path):
            return
        self.dead = self.dead or len(self.seen) == self.kill_at
        self.seen.append(event)
        if self.dead:
            raise Killed

    @contextmanager
    def below(self, folder, kill_at=None):
        """Counts, and kills before the operation of that number."""
        self.folder, self.kill_at, self.seen, self.dead = str(folder), kill_at, [], False
        try:
            yield
        except Killed:
            pass
        finally:
            self.folder = None


@pytest.fixture(scope="session")
def writes():
    return Writes()


def train(run, resume=False, **settings):
    """Two epochs, with checkpoints within them; image only."""
    torch.manual_seed(0)
    method = NoReport(TinyCorpus.findings, ConvEncoder((4,)), 2, partial(DiagonalNormal, mlp=MLP((4,), 0.1)))
    data = study_data(TinyCorpus(), image_size=16, batch_size=10)
    training = Training(**({"max_epochs": 2, "accelerator": "cpu", "num_samples": 2, "checkpoint_steps": 2} | settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitting.fit(method, data, run, training=training, config="seed: 0\n", resume=resume, progress=False)


def tell(run):
    """What must be the same of two runs."""
    state = json.loads((run / "bundle" / "config.json").read_text())
    return (run / "metrics.csv").read_text(), state["weights_sha256"], (run / "data.json").read_text()


def can(run, resume):
    """Whether it is allowed to go on like that."""
    try:
        check_ready(run, resume)
    except UserError:
        return False
    return True


def goes_on(run, whole):
    """A killed run goes on, in one of the two ways, to the end that it would have had."""
    if (run / "bundle").exists():
        return
    ways = [resume for resume in (False, True) if can(run, resume)]
    assert ways
    train(run, resume=ways[0], **whole[1])
    assert tell(run) == whole[0]
    assert not list(run.rglob("*.unfinished"))


@pytest.fixture(scope="module")
def whole(writes, tmp_path_factory):
    """What an uninterrupted run of an epoch tells; its settings; and after which writes something has another name."""
    run = tmp_path_factory.mktemp("whole") / "run"
    settings = {"max_epochs": 1, "checkpoint_steps": None}
    with writes.below(run):
        train(run, **settings)
    return tell(run), settings, [number + 1 for number, event in enumerate(writes.seen) if event == "os.rename"]


def test_a_training_that_is_killed_after_any_of_its_files_goes_on(writes, whole, tmp_path):
    assert len(whole[2]) == 7  # config.yaml, data.json, metrics.csv, best.ckpt, last.ckpt, bundle/config.json, bundle
    for number in [0, *whole[2]]:
        run = tmp_path / str(number)
        with writes.below(run, number):
            train(run, **whole[1])
        goes_on(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_a_training_that_is_killed_before_any_of_its_writes_goes_on(resumed, writes, tmp_path):
    with writes.below(tmp_path / "whole"):
        train(tmp_path / "whole")
    whole, first = (tell(tmp_path / "whole"), {}), len(writes.seen) // 2
    for number in range(len(writes.seen)):
        run = tmp_path / str(number)
        if resumed:
            with writes.below(run, first):
                train(run)
        with writes.below(run, number):
            train(run, resume=resumed)
        goes_on(run, whole)


def test_a_run_that_has_lost_its_checkpoints_is_not_begun_again(tmp_path):
    train(tmp_path / "run", checkpoint_steps=None)
    shutil.rmtree(tmp_path / "run" / "bundle")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = (tmp_path / "run" / "metrics.csv").read_text()
    with pytest.raises(UserError, match=r"no checkpoints/last\.ckpt to resume from; put back a copy of it, or start"):
        train(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


# ------------------------------------------------------------------------------------ two at a time


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
def test_a_live_run_is_left_alone(resume, tmp_path, monkeypatch):
    """A second training, begun while the first is between two epochs."""
    run, seen = tmp_path / "run", []
    row = MetricsTable.on_train_epoch_end

    def meanwhile(self, trainer, module):
        before = contents(run)
        with pytest.raises(UserError, match=r"holds another run|another vkd train is writing to it") as error:
            train(run, resume=resume)
        if resume:
            with pytest.raises(UserError, match="another vkd train is writing to it"):
                check_not_live(run)
        assert contents(run) == before
        seen.append(str(error.value))
        row(self, trainer, module)

    monkeypatch.setattr(MetricsTable, "on_train_epoch_end", meanwhile)
    train(run, max_epochs=1)
    assert len(seen) == 1
    assert (run / "bundle").is_dir()


def hold(run, connection):
    """A process that has the lock of a run until it is killed; its own forked child lives on for a moment."""
    with claimed(run, resume=False):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
        connection.send("held")
        time.sleep(60)


def test_a_killed_process_holds_no_lock(tmp_path):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run", sender))
    process.start()
    assert receiver.recv() == "held"
    with pytest.raises(UserError, match="another vkd train is writing to it"), claimed(tmp_path / "run", False):
        pass
    process.kill()
    process.join()
    with claimed(tmp_path / "run", resume=False):
        pass


# -------------------------------------------------------------------------- what is left after Ctrl-C


def interrupted(monkeypatch, run, **options):
    """A training that gets Ctrl-C in its first step, while somebody puts a file there."""

    def step(self, batch, batch_idx):
        (run / "notes.txt").write_text("mine")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MethodTraining, "training_step", step)
        with pytest.raises(KeyboardInterrupt):
            train(run, **options)


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_training_removes_what_it_made_and_nothing_else(there, tmp_path, monkeypatch):
    run = tmp_path / "run"
    if there:
        run.mkdir()
    interrupted(monkeypatch, run)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    (run / "notes.txt").unlink()
    monkeypatch.setattr(fitting, "check_trainable", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(run)
    assert list(run.iterdir()) == []  # the folder was there before


def test_an_interrupted_resumption_removes_nothing(writes, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with writes.below(run, whole[2][1]):
        train(run, **whole[1])
    assert not (run / "checkpoints").exists()
    interrupted(monkeypatch, run, resume=True)
    assert {path.name for path in run.iterdir()} == {".lock", "notes.txt", "config.yaml", "data.json"}
    train(run, resume=True, **whole[1])
    assert tell(run) == whole[0]


# ------------------------------------------------------------------------------------------ no room


@contextmanager
def files_of_at_most(size):
    """No file may become larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_room(size, *command):
    """A command ends in one line, below its progress bars."""
    with files_of_at_most(size):
        code, _, err = vkd(*command)
    assert code == 2
    assert re.fullmatch(r"vkd: .*: the disk is full \(.*\); make room and run again", err.splitlines()[-1])
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A config, and a run of it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(CONFIG)
    code, _, err = vkd("train", "--config", folder / "config.yaml", "--run", folder / "run")
    assert code == 0, err
    return folder


@pytest.mark.parametrize("size", [0, 3000, 20_000])
def test_training_without_room_is_one_line_and_goes_on(size, trained, tmp_path):
    run = tmp_path / "run"
    no_room(size, "train", "--config", trained / "config.yaml", "--run", run)
    assert not run.exists()


@pytest.mark.parametrize("epochs", [2, 3], ids=["a bundle", "a checkpoint"])
def test_what_has_no_room_in_a_run_is_one_line_and_it_goes_on(epochs, trained, tmp_path):
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    shutil.rmtree(run / "bundle")
    (run / "config.yaml").write_text(CONFIG.replace("max_epochs: 2", f"max_epochs: {epochs}"))
    no_room(20_000, "train", "--resume", run)
    assert not list(run.rglob("*.unfinished"))
    code, _, err = vkd("train", "--resume", run)
    assert code == 0, err
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == list(range(epochs))


@pytest.mark.parametrize("size", [0, 1000, 9000])
def test_a_store_without_room_is_one_line_and_goes_on(size, trained, tmp_path):
    command = ("prepare", "--config", trained / "config.yaml", "--output", tmp_path / "store")
    no_room(size, *command)
    assert not list((tmp_path / "store").glob("*.unfinished"))
    code, _, err = vkd(*command)
    assert code == 0, err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
@pytest.mark.parametrize("size", [0, 1000])
def test_predictions_without_room_are_not_written(size, suffix, trained, tmp_path):
    Image.frombytes("L", (32, 32), bytes(range(256)) * 4).save(tmp_path / "image.png")
    no_room(size, "predict", trained / "run/bundle", tmp_path / "image.png", "--output", tmp_path / f"out.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


@pytest.mark.parametrize("size", [3000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format", ["openvino", "torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_export_without_room_is_not_written(size, format, trained, tmp_path):
    if format != "torch":
        pytest.importorskip(format, reason="the export extra is not installed")
    no_room(size, "export", trained / "run/bundle", "--format", format, "--output", tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- a loader's process


def end_a_reader(number, folder, connection):
    """In a process of its own: `vkd train`, whose loader's process gets a signal."""
    read = ImageTransform.__call__

    def ended(self, image):
        if get_worker_info() is not None:
            os.kill(os.getpid(), number)
        return read(self, image)

    ImageTransform.__call__ = ended
    multiprocessing.set_start_method("fork", force=True)  # of loaders, which inherit this
    options = ("--data.loading.num_workers=1", "--data.loading.timeout=2", "--run", folder / "run")
    connection.send(vkd("train", "--config", folder / "config.yaml", *options))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_loaders_process_that_gives_no_more_is_one_line(number, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_interruption"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=end_a_reader, args=(number, tmp_path, sender))
    process.start()
    sender.close()
    code, _, err = receiver.recv()
    process.kill()
    process.join()
    assert code == 2
    last = err.splitlines()[-1]
    assert re.fullmatch(r"vkd: data\.loading\.num_workers: DataLoader .*: a process that reads images was .*", last), (
        err
    )
    assert not (tmp_path / "run").exists()
