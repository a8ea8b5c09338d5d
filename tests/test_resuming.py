"""Going on with a training: by the settings it began with, longer or faster if asked; or finished as it is."""

import shutil
import warnings
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from tests.conftest import TinyCorpus
from tests.test_training import SETTINGS, family, make_data, make_image_only, make_vkd
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.checkpoints import load_checked
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import BalancedKL
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.schedules import Constant
from vkd_pyro.training.fitting import finish, fit
from vkd_pyro.training.requirements import warn_of_slow_precision
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

ONE = replace(SETTINGS, max_epochs=1)


def of_width(latent_dim: int) -> VKD:
    torch.manual_seed(0)
    return VKD(TinyCorpus.findings, ConvEncoder((8, 16)), WordEncoder(64, 16), latent_dim, family, family)


def data_with(image_size: int = 32, **loading) -> StudyData:
    loading = {"batch_size": 8, "augmentation": Augmentation()} | loading
    return StudyData(Selection(TinyCorpus(), image_size=image_size), loading=Loading(**loading))


def train(run, method=None, data=None, training=ONE, beta_schedule=None, seed=0, **options):
    schedule = beta_schedule or Constant(0.5)
    options = {"progress": False} | options
    return fit(method or make_vkd(), data or make_data(), run, schedule, training, seed=seed, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("resuming") / "run"
    train(run)
    return run


@pytest.fixture
def one_epoch(whole, tmp_path):
    """A run of one epoch that has not been finished."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "bundle")
    return tmp_path / "run"


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1e-2)


SGD = replace(ONE, optimizer=sgd)
LOWER = replace(ONE, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3))
REFUSED = {
    "learning rate": ({"training": LOWER}, r"training\.optimizer\.lr: found 0\.001, .* trained with 0\.01"),
    "optimiser": ({"training": SGD}, r"training\.optimizer\.class_path: found 'torch\.optim\.SGD', .*Adam'"),
    "schedule": (
        {"training": replace(ONE, learning_rate_schedule="plateau")},
        r"training\.learning_rate_schedule: found 'plat",
    ),
    "accumulation": (
        {"training": replace(ONE, accumulate_batches=2)},
        r"training\.accumulate_batches: found 2, .* with 1",
    ),
    "precision": ({"training": replace(ONE, precision="bf16-mixed")}, r"training\.precision: found 'bf16-mixed'"),
    "seed": ({"seed": 5}, "seed: found 5, but this run was trained with 0"),
    "batch": ({"data": data_with(batch_size=4)}, r"data\.loading\.batch_size: found 4, .* with 8"),
    "augmentation": ({"data": data_with(augmentation=None)}, r"data\.loading\.augmentation: found None, .*Augmentat"),
    "image size": ({"data": data_with(image_size=48)}, r"data\.selection\.image_size: found 48, .* with 32"),
    "latent_dim": ({"method": lambda: of_width(8)}, r"method\.latent_dim: found 8, .* with 4.* more settings differ"),
    "method": (
        {"method": make_image_only},
        r"method: found 'vkd_pyro\.methods\.ImageOnly', .*'vkd_pyro\.methods\.VKD",
    ),
    "objective": (
        {"method": lambda: make_vkd(objective=TraceVKD_ELBO(kl_scale=0.5))},
        r"method\.objective\.kl_scale: found 0\.5, .* with 1\.0",
    ),
    "divergence": (
        {"method": lambda: make_vkd(objective=TraceVKD_ELBO(divergence=BalancedKL(0.3, 0.1)))},
        r"method\.objective\.divergence: found 'vkd_pyro\.distributions\.BalancedKL'",
    ),
    "beta": ({"beta_schedule": Constant(1.0)}, r"beta_schedule\.value: found 1\.0, .* with 0\.5"),
}


@pytest.mark.filterwarnings("ignore:training.precision. bf16-mixed on a processor")
@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_mix_two_trainings_is_refused_by_name(one_epoch, changes, message):
    changes = changes | ({"method": changes["method"]()} if "method" in changes else {})
    before = {path: path.read_bytes() for path in one_epoch.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=rf"last\.ckpt: {message}.*; go on with that, or start a new run"):
        train(one_epoch, resume=True, **changes)
    assert {path: path.read_bytes() for path in one_epoch.rglob("*") if path.is_file()} == before


def test_more_epochs_are_those_of_a_training_that_was_longer_from_the_start(one_epoch, tmp_path):
    two = replace(ONE, max_epochs=2, patience=9, tolerance=0.5, checkpoint_steps=2)
    train(one_epoch, resume=True, training=two, data=data_with(cache_images=False))
    train(tmp_path / "longer", training=two)
    assert pd.read_csv(one_epoch / "metrics.csv")["epoch"].tolist() == [0, 1]
    for name in ("bundle/weights.safetensors", "metrics.csv"):
        assert (one_epoch / name).read_bytes() == (tmp_path / "longer" / name).read_bytes()


def test_the_length_of_one_cycle_is_fixed(tmp_path):
    cycle = replace(ONE, learning_rate_schedule="one_cycle")
    train(tmp_path / "run", training=cycle)
    shutil.rmtree(tmp_path / "run" / "bundle")
    with pytest.raises(UserError, match=r"max_epochs: found 2, .* with 1 \(one_cycle goes over the whole training\)"):
        train(tmp_path / "run", resume=True, training=replace(cycle, max_epochs=2))


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    train(tmp_path / "run", training=SETTINGS)
    shutil.rmtree(tmp_path / "run" / "bundle")
    with pytest.raises(UserError, match=r"max_epochs: found 1, but 2 epochs are behind .* vkd train --finish .*/run$"):
        train(tmp_path / "run", resume=True)


def test_an_interrupted_run_can_be_finished_as_it_is(one_epoch):
    method = finish(make_vkd(seed=3), make_data(), one_epoch, ONE)
    best = load_checked(one_epoch / "checkpoints" / "best.ckpt")["state_dict"]
    bundle = load_bundle(one_epoch / "bundle")
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(value, best[f"method.model.{name}"])
    assert not method.training
    with pytest.raises(UserError, match="this run is complete"):
        train(one_epoch, resume=True)


def test_a_run_without_an_epoch_cannot_be_finished(one_epoch):
    shutil.rmtree(one_epoch / "checkpoints")
    with pytest.raises(UserError, match=r"best\.ckpt: not found"):
        finish(make_vkd(), make_data(), one_epoch)
    assert not (one_epoch / "bundle").exists()


def test_a_method_is_trained_once(tmp_path):
    method = make_vkd()
    train(tmp_path / "first", method)
    with pytest.raises(UserError, match=r"weights that were trained before, for .*first, .* build it .* anew"):
        train(tmp_path / "second", method)
    shared = make_image_only()
    shared.model.image_encoder = method.model.image_encoder
    with pytest.raises(UserError, match="weights that were trained before"):
        train(tmp_path / "third", shared)
    assert not (tmp_path / "second").exists()
    assert not (tmp_path / "third").exists()
    train(tmp_path / "fourth", make_vkd())


NUMBERS = {
    "learning rate": (partial(torch.optim.Adam, lr=-1.0), r"training\.optimizer: Invalid learning rate: -1"),
    "not a rate": (partial(torch.optim.Adam, lr=float("inf")), r"training\.optimizer: found learning rate inf"),
    "betas": (partial(torch.optim.Adam, betas=(0.9, 1.5)), r"training\.optimizer: Invalid beta parameter"),
    "decay": (partial(torch.optim.AdamW, weight_decay=-1.0), r"training\.optimizer: Invalid weight_decay"),
    "a word": (partial(torch.optim.Adam, learning_rate=1.0), r"training\.optimizer: .*unexpected keyword argument"),
}


@pytest.mark.parametrize(("optimizer", "message"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_the_optimiser_are_checked_before_data_are_read(tmp_path, optimizer, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", training=replace(ONE, optimizer=optimizer))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": float("nan")}, "training.tolerance: found nan, expected a share"),
        ({"tolerance": -0.1}, "training.tolerance: found -0.1"),
        ({"gradient_clip": 0.0}, "training.gradient_clip: found 0.0, expected more than 0, or null"),
        ({"gradient_clip": float("nan")}, "training.gradient_clip: found nan"),
        ({"precision": "16-mixed", "accelerator": "cpu"}, "training.precision: 16-mixed wants a GPU; on a CPU use"),
    ],
)
def test_numbers_of_a_training_are_checked_where_they_are_set(settings, message):
    with pytest.raises(UserError, match=message):
        Training(**settings)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_that_the_processor_imitates_is_told(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": native}, raising=False)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_slow_precision(Training(precision="bf16-mixed", accelerator="cpu"))
        warn_of_slow_precision(Training(precision="32-true", accelerator="cpu"))
    assert [str(w.message).partition(" on a")[0] for w in found] == (
        [] if native else ["training.precision: bf16-mixed"]
    )


@pytest.mark.parametrize("seed", [-1, 10**23])
def test_a_seed_is_a_whole_number_that_torch_takes(tmp_path, seed):
    with pytest.raises(UserError, match=f"seed: found {seed}, expected a whole number from 0"):
        train(tmp_path / "run", seed=seed)


def test_double_precision_and_another_default_device_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"found parameters of torch\.float64, expected float32; .*training\.precision"):
        train(tmp_path / "run", make_vkd().double())
    method = make_vkd()
    with torch.device("meta"), pytest.raises(UserError, match=r"set_default_device: found meta, but .* is on cpu"):
        train(tmp_path / "run", method)
