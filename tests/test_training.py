"""Training: what a run holds, what each method trains, and that a resumed run is the uninterrupted one."""

import math
import random
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from tests.conftest import TinyCorpus, study_data
from tests.test_encoders import write_bert
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.run import load_checkpoint
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import (
    KL,
    MLP,
    BalancedKL,
    BernoulliLikelihood,
    DiagonalNormal,
    Divergence,
    LowRankProbitLikelihood,
)
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder, WordEncoder
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.methods.no_report import NoReport
from vkd_pyro.methods.vkd import VKD
from vkd_pyro.schedules import Constant, Cyclical, Switch
from vkd_pyro.training.callbacks import RelativeEarlyStopping
from vkd_pyro.training.fitting import finish, fit
from vkd_pyro.training.settings import Training
from vkd_pyro.training.trainer import compile_encoders
from vkd_pyro.utils.epochs import MONITORED, best_epoch
from vkd_pyro.utils.errors import UserError

SETTINGS = Training(max_epochs=2, optimizer=lambda p: torch.optim.Adam(p, lr=1e-2), accelerator="cpu", num_samples=5)


def family(features: int, latent: int) -> DiagonalNormal:
    return DiagonalNormal(features, latent, MLP((16,), 0.1))


def make_vkd(seed: int = 0, objective: TraceVKD_ELBO | None = None) -> VKD:
    torch.manual_seed(seed)
    parts = ConvEncoder((8, 16)), WordEncoder(64, 16)
    return VKD(TinyCorpus.findings, *parts, 4, family, family, objective=objective)


def make_no_report() -> NoReport:
    torch.manual_seed(0)
    return NoReport(TinyCorpus.findings, ConvEncoder((8, 16)), 4, family)


def make_image_only() -> ImageOnly:
    torch.manual_seed(0)
    return ImageOnly(TinyCorpus.findings, ConvEncoder((8, 16)))


def make_data(**options) -> StudyData:
    return study_data(TinyCorpus(), image_size=32, batch_size=8, augmentation=Augmentation(), **options)


def train(run, method=None, training=SETTINGS, data=None, objective=None, **options):
    settings = {"beta_schedule": Cyclical(cycles=1)} | options
    method = method or make_vkd(objective=objective)
    return fit(method, data or make_data(), run, training=training, progress=False, **settings)


class Darker(TinyCorpus):
    """So many of its first studies have pictures of eight gray levels; they are not of the test split."""

    def __init__(self, num_studies: int = 60, dark: int = 60) -> None:
        super().__init__(num_studies)
        self.dark = dark

    def studies(self):
        dark = [replace(study, images=(study.images[0] // 32,)) for study in super().studies()]
        seen = [number for number, study in enumerate(dark) if study.split != "test"][: self.dark]
        return [dark[number] if number in seen else study for number, study in enumerate(super().studies())]


def test_pictures_with_hardly_any_gray_levels_are_warned_of_and_beyond_a_share_refused(tmp_path):
    def data(dark):
        return study_data(Darker(dark=dark), image_size=32, batch_size=8)

    found = r"of \d\d images looked at have hardly any gray levels \(fewer than 32\)"
    with pytest.raises(UserError, match=rf"data.selection.bad_images: 5 {found}, more than max_flat_share 0.05 allows"):
        train(tmp_path / "run", data=data(5))
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
    with pytest.warns(UserWarning, match=rf"^2 {found}; see which by vkd doctor"):
        train(tmp_path / "run", data=data(2))


def test_a_run_holds_what_it_says(tmp_path):
    network = train(tmp_path / "run", config="seed: 0\n")
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files == {
        ".lock",
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "bundle/config.json",
        "bundle/weights.safetensors",
        "bundle/ood.safetensors",
        "bundle/README.md",
        "data.json",
    }
    bundle = load_bundle(tmp_path / "run" / "bundle")
    for name, value in network.model.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[name], value)


def test_metrics_have_every_term_and_both_classifiers(tmp_path):
    train(tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["epoch"].tolist() == [0, 1]
    terms = {f"train/{name}" for name in ("loss", "log_likelihood", "auxiliary", "kl", "beta")}
    validation = {f"val/{name}" for name in ("nll", "loss", "kl", "macro_auc", "micro_auc", "report_macro_auc")}
    units = {"val/active_units_prior", "val/active_units_posterior"}
    assert terms | validation | units <= set(table)
    assert table[sorted(terms | validation | units)].notna().all(axis=None)


@pytest.mark.parametrize("make", [make_no_report, make_image_only])
def test_methods_without_reports_have_no_kl_and_no_report_classifier(tmp_path, make):
    train(tmp_path / "run", make())
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (table["train/kl"] == 0).all()
    assert (table["train/auxiliary"] == 0).all()
    assert table["val/report_macro_auc"].isna().all()


def test_without_reports_there_is_no_guide():
    method = make_no_report()
    assert method.guide is None
    assert method.report_encoder is None
    assert not [name for name in method.state_dict() if not name.startswith("model.")]


def test_vkd_without_mi_does_not_train_the_auxiliary_classifier(tmp_path):
    trained, fresh = train(tmp_path / "run", objective=TraceVKD_ELBO(auxiliary_weight=0.0)), make_vkd()
    for name, value in trained.guide.auxiliary.state_dict().items():
        assert torch.equal(value, fresh.guide.auxiliary.state_dict()[name])
    assert not torch.equal(trained.guide.report_encoder.embeddings.weight, fresh.guide.report_encoder.embeddings.weight)


def test_image_only_is_trained_without_z(tmp_path):
    assert train(tmp_path / "run", make_image_only()).model.latent(torch.zeros(1, 16)) is None


def test_training_learns(tmp_path):
    data = StudyData(Selection(TinyCorpus(300), image_size=32), loading=Loading(batch_size=16))
    settings = Training(8, lambda p: torch.optim.Adam(p, lr=1e-2), "one_cycle", accelerator="cpu", patience=None)
    network = train(tmp_path / "run", training=settings, data=data, objective=TraceVKD_ELBO(kl_scale=0.01))
    averages = evaluate(network, data, "test").averages()
    assert averages["image"]["macro"] > 0.9
    assert averages["report"]["macro"] > 0.9


@pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
def test_resuming_at_an_epoch_boundary_gives_the_uninterrupted_run(tmp_path, monkeypatch, schedule):
    settings = Training(3, SETTINGS.optimizer, schedule, accelerator="cpu", num_samples=5)
    whole = train(tmp_path / "whole", training=settings)

    def stop_after_the_first_epoch(self, trainer, module):
        RelativeEarlyStopping.on_validation_end(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    class Interrupted(RelativeEarlyStopping):
        on_validation_end = stop_after_the_first_epoch

    with monkeypatch.context() as patch:
        patch.setattr("vkd_pyro.training.trainer.RelativeEarlyStopping", Interrupted)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(tmp_path / "resumed", training=settings)
    assert not (tmp_path / "resumed" / "bundle").exists()

    resumed = train(tmp_path / "resumed", training=settings, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    tables = [pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "resumed")]
    pd.testing.assert_frame_equal(*tables)
    for name in ("last.ckpt", "best.ckpt"):
        states = [torch.load(tmp_path / run / "checkpoints" / name, weights_only=True) for run in ("whole", "resumed")]
        for key, value in states[0]["state_dict"].items():
            assert torch.equal(states[1]["state_dict"][key], value)
        assert states[0]["lr_schedulers"] == states[1]["lr_schedulers"]
        assert states[0]["optimizer_states"][0]["param_groups"] == states[1]["optimizer_states"][0]["param_groups"]


def test_a_run_that_was_moved_keeps_its_best_epoch(tmp_path, monkeypatch):
    nlls = iter([0.3, 0.9, 0.8, 0.7])
    monkeypatch.setattr("vkd_pyro.training.module.summarise", lambda outputs: {"val/nll": next(nlls)})
    train(tmp_path / "here", training=Training(2, SETTINGS.optimizer, accelerator="cpu"))
    best = torch.load(tmp_path / "here" / "checkpoints" / "best.ckpt", weights_only=True)
    shutil.rmtree(tmp_path / "here" / "bundle")
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there", training=Training(4, SETTINGS.optimizer, accelerator="cpu"), resume=True)
    after = torch.load(tmp_path / "there" / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["epoch"], after["epoch"]) == (0, 0)
    for key, value in best["state_dict"].items():
        assert torch.equal(after["state_dict"][key], value)


@pytest.mark.parametrize(("monitor", "kept", "epochs"), [("val/nll", 0, 3), ("val/macro_auc", 2, 5)])
def test_the_epoch_that_is_kept_and_the_last_one_follow_the_monitor(tmp_path, monkeypatch, monitor, kept, epochs):
    """Patience of 2, from the first epoch by val/nll, from the third by the AUC."""
    aucs, nlls = iter([0.5, 0.6, 0.9, 0.8, 0.8, 0.95]), iter([0.3, 0.5, 0.4, 0.6, 0.5, 0.7])
    monkeypatch.setattr(
        "vkd_pyro.training.module.summarise", lambda outputs: {"val/nll": next(nlls), "val/macro_auc": next(aucs)}
    )
    run, settings = tmp_path / "run", Training(6, SETTINGS.optimizer, accelerator="cpu", monitor=monitor, patience=2)
    vkd = train(run, training=settings)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    table = pd.read_csv(run / "metrics.csv")
    assert (best["epoch"], best_epoch(table), len(table)) == (kept, kept, epochs)
    by = "negative log-likelihood" if monitor == "val/nll" else "macro AUC"
    said = f"by {by} (negative log-likelihood {table['val/nll'][kept]:.4f} nats a label)"
    assert said in load_bundle(run / "bundle").card
    for name, value in best["state_dict"].items():
        assert torch.equal(value, vkd.state_dict()[name.removeprefix("method.")])


def test_a_language_model_is_trained_to_the_end_and_gone_on_with(tmp_path):
    """Its checkpoints hold words beside tensors: which model, and the hash of its weights."""
    folder = write_bert(tmp_path, seed=0)

    def method() -> VKD:
        torch.manual_seed(0)
        encoder = LanguageModelEncoder(str(folder), max_tokens=20)
        return VKD(TinyCorpus.findings, ConvEncoder((8, 16)), encoder, 4, family, family)

    run, data = tmp_path / "run", make_data()
    fit(method(), data, run, Constant(), SETTINGS, progress=False)
    bundle = load_bundle(run / "bundle")
    shutil.rmtree(run / "bundle")
    finished = finish(method(), data, run, SETTINGS)
    assert load_bundle(run / "bundle").weights_hash == bundle.weights_hash
    assert finished.report_encoder.fingerprint == method().report_encoder.fingerprint
    shutil.rmtree(run / "bundle")
    fit(method(), data, run, Constant(), replace(SETTINGS, max_epochs=3), progress=False, resume=True)
    assert len(pd.read_csv(run / "metrics.csv")) == 3


def test_an_undefined_auc_cannot_choose_an_epoch(tmp_path, monkeypatch):
    metrics = {"val/nll": 0.5, "val/macro_auc": math.nan}
    monkeypatch.setattr("vkd_pyro.training.module.summarise", lambda outputs: dict(metrics))
    train(tmp_path / "nll")
    with pytest.raises(UserError, match=r"training\.monitor: val/macro_auc is not a number, since no finding"):
        train(tmp_path / "auc", training=Training(2, SETTINGS.optimizer, accelerator="cpu", monitor="val/macro_auc"))


def test_a_network_in_eval_mode_is_trained_in_training_mode(tmp_path):
    vkd = make_vkd().eval()
    fit(vkd, make_data(), tmp_path / "run", training=SETTINGS, beta_schedule=Cyclical(1), progress=False)
    assert vkd.model.image_encoder.network[1].num_batches_tracked > 0


def test_a_part_that_no_bundle_could_rebuild_is_refused_before_training(tmp_path):
    class Forgetful(ConvEncoder):
        def __init__(self, channels=(8, 16), stride=2):
            super().__init__(channels)

    vkd = VKD(TinyCorpus.findings, Forgetful(), WordEncoder(64, 16), 4)
    with pytest.raises(UserError, match=r"Forgetful: no attribute stride; .* add self\.stride = stride"):
        fit(vkd, make_data(), tmp_path / "run", training=SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("max_epochs", 0), ("max_epochs", 1.5), ("patience", 0), ("devices", 0), ("num_samples", 0)],
        *[("checkpoint_steps", 0), ("learning_rate_schedule", "'onecycle'"), ("monitor", "'val/auc'")],
        *[("precision", "'16'"), ("accelerator", "'cuda'"), ("loggers", "'TensorBoard'")],
    ],
)
def test_settings_that_cannot_be_are_refused(field, value):
    given = value.strip("'") if isinstance(value, str) else value
    with pytest.raises(UserError, match=rf"training\.{field}: found {value}"):
        Training(**{field: [given] if field == "loggers" else given})


def test_plateau_lowers_the_rate_after_three_epochs_without_a_better_nll(tmp_path, monkeypatch):
    monkeypatch.setattr("vkd_pyro.training.module.summarise", lambda outputs: {"val/nll": 1.0})
    for epochs, rate in ((4, 1e-2), (5, 1e-3)):
        train(
            tmp_path / str(epochs),
            training=Training(epochs, SETTINGS.optimizer, "plateau", accelerator="cpu", patience=None),
        )
        last = torch.load(tmp_path / str(epochs) / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(rate)


def test_the_same_seed_trains_the_same_network(tmp_path):
    one, two, other = (train(tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.model.prior.loc_and_scale.weight, other.model.prior.loc_and_scale.weight)


def test_a_checkpoint_holds_the_report_branch(tmp_path):
    trained = train(tmp_path / "run")
    fresh = make_vkd(seed=9)
    load_checkpoint(fresh, tmp_path / "run")
    for name, value in trained.guide.state_dict().items():
        assert torch.equal(fresh.guide.state_dict()[name], value)


def test_pyros_store_is_left_empty(tmp_path):
    pyro.clear_param_store()
    train(tmp_path / "run")
    assert len(pyro.get_param_store()) == 0


def test_a_run_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds another run; choose another --run"):
        train(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_resuming_nothing_and_resuming_a_complete_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"run: not a run; expected a folder with config\.yaml"):
        train(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run")
    with pytest.raises(UserError, match="this run is complete"):
        train(tmp_path / "run", resume=True)


def test_a_finding_never_positive_in_training_is_named(tmp_path):
    class WithoutLower(TinyCorpus):
        def _study(self, number):
            study = super()._study(number)
            study.labels[1] = 0
            return study

    data = StudyData(Selection(WithoutLower(), image_size=32), loading=Loading(batch_size=8))
    with pytest.warns(UserWarning, match="never positive in training, so not learnt: Lower Square"):
        train(tmp_path / "run", data=data)


def test_a_finding_never_absent_in_training_is_named(tmp_path):
    class AlwaysLower(TinyCorpus):
        def _study(self, number):
            study = super()._study(number)
            study.labels[1] = 1
            return study

    data = StudyData(Selection(AlwaysLower(), image_size=32), loading=Loading(batch_size=8))
    with pytest.warns(UserWarning, match="never absent in training, so not learnt: Lower Square"):
        train(tmp_path / "run", data=data)


def test_training_studies_without_a_known_label_are_refused(tmp_path):
    class Unlabelled(TinyCorpus):
        def studies(self):
            for study in super().studies():
                if study.split == "train":
                    study.labels[:] = np.nan
                yield study

    data = StudyData(Selection(Unlabelled(), image_size=32), loading=Loading(batch_size=8))
    with pytest.raises(UserError, match=r"no label of the \d+ training studies is known; check that the label table"):
        train(tmp_path / "run", data=data)


class Deaf(BernoulliLikelihood):
    """Counts labels that are not known as absent."""

    def forward(self, z, features=None, known=None):
        return super().forward(z, features, None)


def test_a_likelihood_that_counts_unknown_labels_is_refused(tmp_path):
    for part, site in (("model.likelihood", "y"), ("guide.auxiliary", "y_given_z")):
        method = make_vkd()
        owner, name = part.split(".")
        deaf = Deaf(4, 3, 16) if owner == "model" else Deaf(4, 3)
        setattr(getattr(method, owner), name, deaf)
        with pytest.raises(UserError, match=f"^{site}: its log-probability depends on labels that are not known"):
            train(tmp_path / "run", method)


class NotReparametrised(dist.Normal):
    has_rsample = False


class Drawn(DiagonalNormal):
    """Without reparametrised draws."""

    def forward(self, features):
        normal = super().forward(features)
        return NotReparametrised(normal.mean, normal.stddev).to_event(1)


def test_what_check_knows_fit_says_before_its_first_step(tmp_path):
    method = make_vkd()
    method.model.prior = Drawn(16, 4, MLP((16,), 0.1))
    with pytest.raises(UserError, match=r"z: the prior, NotReparametrised, has no reparametrised draws \(rsample\)"):
        train(tmp_path / "run", method)
    method = make_vkd()
    method.model.prior = DiagonalNormal(16, 5, MLP((16,), 0.1))
    with pytest.raises(UserError, match=r"cannot be run: z, Normal, has event shape \[5\], and method.latent_dim is 4"):
        train(tmp_path / "run", method)
    assert not (tmp_path / "run").exists()


class SoftOnes(BernoulliLikelihood):
    def check_labels(self, labels):
        pass


def test_labels_outside_of_the_support_are_not_called_divergence(tmp_path):
    data = make_data()
    data.targets = lambda split: np.resize(np.float32([0, 2, 0, 0, 2]), (len(data.studies(split)), 3))
    method = make_vkd()
    method.model.likelihood = SoftOnes(4, 3, 16)
    with pytest.raises(UserError, match=r"within the support") as refused:
        train(tmp_path / "run", method, data=data)
    assert "diverged" not in str(refused.value)


def test_batches_of_one_with_batch_normalisation_are_refused(tmp_path):
    class Pooled(ConvEncoder):
        def __init__(self):
            super().__init__((8, 16))
            self.norm = torch.nn.BatchNorm1d(16)

        def forward(self, images):
            return self.norm(super().forward(images))

    torch.manual_seed(0)
    method = ImageOnly(TinyCorpus.findings, Pooled())
    with pytest.raises(
        UserError, match=r"data\.loading\.batch_size: batch normalisation .* found batches of 1; set it"
    ):
        train(tmp_path / "run", method, data=study_data(TinyCorpus(), image_size=32, batch_size=1))


def test_divergence_is_an_error_and_not_a_number(tmp_path):
    settings = Training(2, lambda p: torch.optim.SGD(p, lr=1e12), accelerator="cpu", gradient_clip=None)
    with pytest.raises(UserError, match="the training diverged in epoch"):
        train(tmp_path / "run", training=settings)
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_training_split_held_on_the_device_trains_the_same_network(tmp_path):
    held, loaded = (
        train(tmp_path / str(cache_on_device), data=make_data(cache_on_device=cache_on_device))
        for cache_on_device in (True, False)
    )
    for name, value in loaded.state_dict().items():
        assert torch.equal(held.state_dict()[name], value), name


def test_a_frozen_batchnorm_keeps_its_running_statistics(tmp_path):
    trained = train(tmp_path / "run", training=replace(SETTINGS, freeze_batchnorm=True))
    norm, fresh = (vkd.model.image_encoder.network[1] for vkd in (trained, make_vkd()))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, fresh.running_mean)
    assert not torch.equal(norm.weight, fresh.weight)


def test_compiled_encoders_train_the_same_network(tmp_path, monkeypatch):
    compiled = partial(compile_encoders, backend="aot_eager")
    monkeypatch.setattr("vkd_pyro.training.fitting.compile_encoders", compiled)
    networks = [train(tmp_path / str(c), training=replace(SETTINGS, compile=c, max_epochs=1)) for c in (True, False)]
    assert networks[0].model.image_encoder._compiled_call_impl is not None
    for (name, value), other in zip(networks[1].state_dict().items(), networks[0].state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, atol=2e-2, rtol=1e-2, msg=name)


def test_early_stopping_is_relative():
    class Trainer:
        should_stop = False
        callback_metrics: dict = {}

    stopping, trainer = RelativeEarlyStopping(patience=2, tolerance=0.01), Trainer()
    stopped = []
    for nll in (1.0, 0.98, 0.975, 0.971, 0.5):  # below 0.98 by 0.5 % and 0.9 %: not enough
        trainer.callback_metrics = {MONITORED: torch.tensor(nll)}
        stopping.on_validation_end(trainer, None)
        stopped.append(trainer.should_stop)
    assert stopped == [False, False, False, True, True]
    assert stopping.state_dict()["best"] == pytest.approx(0.5)
    restored = RelativeEarlyStopping(2, 0.01)
    restored.load_state_dict(stopping.state_dict())
    assert (restored.best, restored.waited) == (stopping.best, stopping.waited)


def test_beta_of_the_last_epoch_follows_the_step_count(tmp_path):
    train(tmp_path / "run", beta_schedule=Constant(0.25))
    assert np.allclose(pd.read_csv(tmp_path / "run" / "metrics.csv")["train/beta"], 0.25)


@pytest.mark.filterwarnings("ignore:beta_schedule. Constant keeps beta at 0")
def test_validation_takes_beta_one(tmp_path):
    train(tmp_path / "run", objective=TraceVKD_ELBO(kl_scale=1e6), beta_schedule=Constant(0.0))
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (table["val/loss"] > 1e3 * table["val/kl"].clip(lower=1e-3)).all()
    assert math.isfinite(table["train/loss"].iloc[0])
    assert (table["train/loss"] < 1e3).all()


def test_labels_from_the_report_want_a_likelihood_that_takes_them(tmp_path):
    vkd = make_vkd(objective=TraceVKD_ELBO(unknown_labels="from_report"))
    vkd.model.likelihood = LowRankProbitLikelihood(4, 3, 16)
    with pytest.raises(UserError, match=r"outside of what its likelihood can say .*support") as refused:
        train(tmp_path / "run", vkd, data=make_data(label_share=0.4))
    assert "diverged" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:z is ignored")
def test_a_schedule_that_leaves_the_posterior_free_is_warned_of(tmp_path):
    with pytest.warns(
        UserWarning, match=r"Switch keeps beta at 0 in the first epoch, .*anchor_weight, e\.g\. to 0\.01"
    ):
        train(tmp_path / "free", beta_schedule=Switch(epochs=1.0))
    for objective, setting in (
        (TraceVKD_ELBO(kl_scale=0.0), "method.objective.kl_scale"),
        (TraceVKD_ELBO(divergence=BalancedKL(posterior_weight=0.0)), "method.objective.divergence.posterior_weight"),
    ):
        with pytest.warns(UserWarning, match=rf"{setting}: 0, so nothing holds the scale .*\); set .*anchor_weight"):
            train(tmp_path / setting, objective=objective)
    train(tmp_path / "anchored", objective=TraceVKD_ELBO(anchor_weight=0.01), beta_schedule=Switch(epochs=1.0))
    assert "train/anchor" in pd.read_csv(tmp_path / "anchored" / "metrics.csv")


def test_few_labels_with_all_reports_train_with_labels_from_the_report(tmp_path):
    objective = TraceVKD_ELBO(unknown_labels="from_report")
    train(tmp_path / "run", objective=objective, data=make_data(label_share=0.4))
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert np.isfinite(table["train/log_likelihood"]).all()


def test_a_finding_that_no_study_is_known_to_lack_cannot_come_from_the_report(tmp_path):
    data = make_data(findings=(*TinyCorpus.findings[:2], "Elsewhere"))
    with pytest.raises(UserError, match="without a finding, found none of Elsewhere; use ignored"):
        train(tmp_path / "run", objective=TraceVKD_ELBO(unknown_labels="from_report"), data=data)


def test_what_does_not_go_together_is_one_line_and_leaves_nothing(tmp_path):
    class Gamma(DiagonalNormal):
        def forward(self, features):
            normal = super().forward(features)
            return dist.Gamma(normal.variance, normal.variance).to_event(1)

    class Untyped(DiagonalNormal):
        def forward(self, features):
            return super().forward(features).base_dist

    for family, message in (
        (Gamma, "both must lie on the same: swap method.posterior or method.prior"),
        (Untyped, r"is \.to_event\(1\) missing"),
    ):
        vkd = make_vkd()
        vkd.model.prior = family(16, 4, MLP((16,), 0.1))
        with pytest.raises(UserError, match=message):
            fit(vkd, make_data(), tmp_path / "run", training=SETTINGS, beta_schedule=Cyclical(cycles=1), progress=False)
        assert not (tmp_path / "run").exists()


def test_a_divergence_of_another_shape_is_refused(tmp_path):
    class Summed(Divergence):
        def __call__(self, q, p, z):
            return KL()(q, p, z).sum()

    objective = TraceVKD_ELBO(divergence=Summed())
    with pytest.raises(UserError, match=r"divergence: Summed gave shape \[\], expected \[8\], one value a study"):
        train(tmp_path / "run", objective=objective)


def test_training_and_evaluation_leave_the_global_generators_as_they_were(tmp_path):
    """So members of an ensemble that are made one after the other begin with other weights."""
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    method = VKD(TinyCorpus.findings, ConvEncoder((4, 8)), WordEncoder(50, 6), latent_dim=3)
    made = torch.get_rng_state()
    fit(method, make_data(), tmp_path / "run", training=SETTINGS, progress=False, beta_schedule=Constant())
    evaluate(method, make_data(), num_samples=2)
    assert not torch.equal(before[0], made)
    assert torch.equal(torch.get_rng_state(), made)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_second_model_in_pyros_store_is_refused_and_the_first_goes_on():
    """Else nothing of the second would be trained, with plausible losses."""
    pyro.clear_param_store()
    first, second = make_vkd(), make_vkd()
    batch = next(iter(make_data().train_loader(first.report_encoder, seed=0)))

    def svi(vkd: VKD) -> pyro.infer.SVI:
        return pyro.infer.SVI(vkd.model, vkd.guide, pyro.optim.Adam({"lr": 1e-2}), TraceVKD_ELBO())

    svi(first).step(batch)
    with pytest.raises(UserError, match=r"SVI: (\d+) of \1 parameters .* call pyro.clear_param_store\(\)"):
        svi(second).step(batch)
    svi(first).step(batch)
    pyro.clear_param_store()
    before = {name: value.detach().clone() for name, value in second.named_parameters()}
    svi(second).step(batch)
    assert not any(torch.equal(value, before[name]) for name, value in second.named_parameters())
    pyro.clear_param_store()
