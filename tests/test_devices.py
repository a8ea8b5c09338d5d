"""Training in several processes: the same steps as in one, nothing read or said twice, and one run written."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tests.conftest import TinyCorpus, study_data
from vkd_pyro.artifacts.checkpoints import load_checked
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading.dataset import HalfLabelledSampler, Share, ShuffledSampler, StudyBatches, TrainingBatches
from vkd_pyro.distributions import MLP, BernoulliLikelihood, DiagonalNormal, Head, Laplace, draw, noise_of_places
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods import ImageOnly, LogitDistillation, NoReport
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.schedules import Cyclical
from vkd_pyro.training.fitting import fit
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.settings import Training
from vkd_pyro.training.trainer import check_devices
from vkd_pyro.utils.errors import UserError

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.test_devices"])
STEP = MethodTraining.training_step


def train(folder: Path, devices: int, environment: dict[str, str], resume: bool = False, **options) -> None:
    """A training whose every loss is written down."""
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("RANK", 0))  # Lightning has read it as it was imported
    torch.set_num_threads(1)
    torch.manual_seed(0)
    losses = folder / f"losses-{environment.get('RANK', 0)}.jsonl"

    kill_at = options.pop("kill_at", None)

    def step(self: MethodTraining, batch, batch_idx):
        if self.trainer.fit_loop.epoch_loop.total_batch_idx == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = STEP(self, batch, batch_idx)
        with losses.open("a") as file:
            file.write(json.dumps([loss.item(), *batch.study_ids]) + "\n")
        return loss

    MethodTraining.training_step = step  # type: ignore[method-assign]
    settings = {"max_epochs": 2, "freeze_batchnorm": True} | options.pop("training", {})
    share = {"label_share": options.pop("label_share", 1.0)}
    data = study_data(TinyCorpus(), image_size=32, batch_size=8 // devices, augmentation=Augmentation(), **share)
    family = partial(DiagonalNormal, mlp=MLP((16,), dropout=0.0))
    heads = partial(BernoulliLikelihood, head=Head(dropout=0.0))
    encoders = ConvEncoder((8, 16)), WordEncoder(64, 16, dropout=0.0)
    parts = {"latent_dim": 4, "prior": family, "posterior": family, "likelihood": heads, "auxiliary": heads}
    made = {
        "vkd": lambda: VKD(TinyCorpus.findings, *encoders, **parts, objective=options.pop("objective", None)),
        "no_report": lambda: NoReport(TinyCorpus.findings, encoders[0], 4, family, heads),
        "image_only": lambda: ImageOnly(TinyCorpus.findings, encoders[0]),
        "logit_distillation": lambda: LogitDistillation(TinyCorpus.findings, *encoders),
    }
    method = made[options.pop("method", "vkd")]()
    training = Training(
        optimizer=partial(torch.optim.SGD, lr=1e-2), accelerator="cpu", devices=devices, num_samples=5, **settings
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = Cyclical(1)
        fit(
            method,
            data,
            folder / "run",
            beta_schedule=schedule,
            training=training,
            progress=False,
            resume=resume,
            **options,
        )


def together(folder: Path, devices: int, **options) -> Path:
    """A training in so many processes, as torchrun starts them."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(devices):
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
        environment |= {"WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices)}
        environment = environment if devices > 1 else {}
        process = PROCESSES.Process(target=train, args=(folder, devices, environment), kwargs=options, daemon=True)
        processes.append(process)
        processes[-1].start()
    for process in processes:
        process.join(60)
    expected = -signal.SIGKILL if "kill_at" in options else 0
    assert [process.exitcode for process in processes] == [expected] * devices
    return folder


def steps(folder: Path) -> tuple[list[float], list[list[str]]]:
    """The loss of each step, over all processes, and its studies."""
    files = [
        [json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.glob("losses-*.jsonl"))
    ]
    losses = [float(np.mean([line[0] for line in lines])) for lines in zip(*files, strict=True)]
    return losses, [sorted(study for line in lines for study in line[1:]) for lines in zip(*files, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"method": "no_report"}, marks=pytest.mark.slow),
        pytest.param(
            {"objective": TraceVKD_ELBO(3, 2, "mixture", unknown_labels="from_report"), "label_share": 0.5},
            marks=pytest.mark.slow,
        ),
        pytest.param({"training": {"accumulate_batches": 2}}, marks=pytest.mark.slow),
    ],
    ids=["vkd", "no_report", "half labelled", "accumulated"],
)
def test_two_processes_take_the_steps_of_one(tmp_path, options):
    one, two = (together(tmp_path / str(devices), devices, **options) for devices in (1, 2))
    (losses, studies), (losses_of_two, studies_of_two) = steps(one), steps(two)
    assert studies_of_two == studies
    assert all(len(step) == 8 for step in studies)
    assert losses_of_two == pytest.approx(losses, abs=1e-5)
    # The noise of val/loss is that of a batch, and batches are smaller; all else is said of images.
    tables = [pd.read_csv(folder / "run" / "metrics.csv").drop(columns="val/loss") for folder in (one, two)]
    pd.testing.assert_frame_equal(*tables, atol=1e-5, rtol=1e-5)
    states = [load_checked(folder / "run" / "checkpoints" / "last.ckpt")["state_dict"] for folder in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "image_only"},
        pytest.param({"objective": TraceVKD_ELBO(auxiliary_weight=0.0)}, marks=pytest.mark.slow),
        pytest.param({"method": "logit_distillation"}, marks=pytest.mark.slow),
    ],
    ids=["image_only", "vkd without mi", "logit_distillation"],
)
def test_every_method_trains_in_two_processes(tmp_path, options):
    folder = together(tmp_path / "two", 2, **options)
    assert (folder / "run" / "bundle").is_dir()
    assert np.isfinite(steps(folder)[0]).all()


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_as_it_would_have(tmp_path):
    settings = {"training": {"checkpoint_steps": 2, "freeze_batchnorm": False}}
    whole, killed = together(tmp_path / "whole", 2, **settings), tmp_path / "killed"
    together(killed, 2, kill_at=3, **settings)
    together(killed, 2, kill_at=9, resume=True, **settings)
    together(killed, 2, resume=True, **settings)
    assert (killed / "run" / "metrics.csv").read_bytes() == (whole / "run" / "metrics.csv").read_bytes()
    weights = [(folder / "run" / "bundle" / "weights.safetensors").read_bytes() for folder in (whole, killed)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_torchrun_trains_from_the_command_line(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "--", "vkd_pyro.cli", "train", "--config", "configs/synthetic.yaml", "--run", str(run)]
    command += ["--training.devices", "2", "--training.max_epochs", "1", "--data.loading.batch_size", "8"]
    command += ["--data.selection.corpus.init_args.num_studies", "120", "--training.accelerator", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: ") == 1
    assert (run / "bundle" / "weights.safetensors").is_file()


def test_torchrun_with_another_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"training\.devices: found 2 .* torchrun has started 4 .*--nproc_per_node"):
        check_devices(Training(devices=2))
    check_devices(Training(devices=2, num_nodes=2))


def test_batchnorm_over_all_devices_is_refused_on_the_cpu():
    with pytest.raises(UserError, match=r"training\.sync_batchnorm: .*GPUs only"):
        check_devices(Training(accelerator="cpu", sync_batchnorm=True))


# ------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_rows_of_each_step(world):
    whole = list(TrainingBatches(ShuffledSampler(50, seed=1), 4 * world, Share()))
    shares = [list(TrainingBatches(ShuffledSampler(50, seed=1), 4, Share(rank, world))) for rank in range(world)]
    assert all(len(share) == len(whole) == 50 // (4 * world) for share in shares)
    for number, rows in enumerate(whole):
        parts = [share[number] for share in shares]
        assert all(len(part) == 4 for part in parts)
        assert sorted(draw for part in parts for draw in part) == sorted(rows)


def test_every_share_of_a_half_labelled_step_is_half_labelled():
    sampler = HalfLabelledSampler(range(10), range(10, 40), half=6, num_batches=5, seed=0)
    for rank in range(3):
        for batch in TrainingBatches(sampler, 4, Share(rank, 3)):
            assert [row < 10 for _, row in batch] == [True, True, False, False]


@pytest.mark.parametrize("batch", [0, 1, 5, 11])
def test_an_epoch_goes_on_behind_any_batch(batch):
    def batches(epoch: int, begin: int | None) -> list:
        made = TrainingBatches(ShuffledSampler(50, seed=1), 4, Share())
        made.set_epoch(epoch)
        if begin is not None:
            made.resume_at(2, begin)
            made.set_epoch(epoch)
        return list(made)

    assert batches(2, batch) == batches(2, None)[batch:]
    assert batches(3, batch) == batches(3, None)


def test_a_process_without_a_validation_batch_has_one_of_another():
    rows = [(study, 0) for study in range(6)]
    assert [StudyBatches(rows, 4, share=Share(rank, 3)).batches for rank in range(3)] == [
        [[(-1, 0), (-1, 1), (-1, 2), (-1, 3)]],
        [[(-1, 4), (-1, 5)]],
        [[(-1, 4), (-1, 5)]],
    ]


@pytest.mark.parametrize("world", [1, 2, 5])
def test_each_validation_batch_has_one_process(world):
    rows = [(study, image) for study in range(9) for image in range(study % 3 + 1)]
    shares = [StudyBatches(rows, 4, share=Share(rank, world)).batches for rank in range(world)]
    together = [shares[number % world][number // world] for number in range(sum(map(len, shares)))]
    assert together == StudyBatches(rows, 4).batches


# -------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_noise_of_a_row_does_not_depend_on_its_process(world):
    torch.manual_seed(0)
    features, family = torch.randn(6, 5), DiagonalNormal(5, 4, MLP((8,), 0.0))
    with noise_of_places(7):
        whole = [draw(family(features), 3), draw(family(features), 2)]
    for rank in range(world):
        with noise_of_places(7, rank, world):
            for expected in whole:
                drawn = draw(family(features[rank::world]), len(expected))
                torch.testing.assert_close(drawn, expected[:, rank::world])
    assert not torch.equal(whole[0][:2], whole[1])


def test_noise_is_a_function_of_the_seed_whatever_else_is_drawn():
    z = DiagonalNormal(5, 4, MLP((8,), 0.0))(torch.randn(6, 5))

    def drawn(seed: int) -> torch.Tensor:
        torch.randn(seed + 1)
        with noise_of_places(seed):
            return draw(z, 3)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_other_families_are_drawn_from_the_generator_of_torch():
    z = Laplace(5, 4, MLP((8,), 0.0))(torch.randn(6, 5))
    torch.manual_seed(3)
    expected = draw(z, 2)
    torch.manual_seed(3)
    with noise_of_places(1):
        assert torch.equal(draw(z, 2), expected)
