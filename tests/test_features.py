"""Frozen image encoders, and training on their features from a store."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from tests.conftest import TinyCorpus, study_data
from tests.test_store import SKIP, Files, Uneven, write_files
from vkd_pyro import Training, evaluate, fit, load_bundle
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import prepare
from vkd_pyro.data.store.features import ImageFeatures
from vkd_pyro.data.store.shards import image_source, is_source
from vkd_pyro.distributions import WordPresence
from vkd_pyro.encoders.frozen import FrozenImageEncoder
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods import ImageOnly
from vkd_pyro.utils.errors import UserError


def frozen(seed: int = 0, channels: tuple[int, ...] = (4, 8), **options) -> FrozenImageEncoder:
    torch.manual_seed(seed)
    return FrozenImageEncoder(ConvEncoder(channels), width=6, **options).eval()


def data_of(corpus, folder, **options):
    return study_data(corpus, **({"image_size": 32, "batch_size": 8, "store": folder, "features": True} | options))


@pytest.fixture
def store(tmp_path):
    features = ImageFeatures(frozen(), versions=3, augmentation=Augmentation(degrees=30))
    prepare(Selection(Uneven(), 32), None, tmp_path / "store", progress=False, features=features)
    return tmp_path / "store"


def test_only_the_network_behind_the_backbone_is_trained():
    encoder = frozen().train()
    assert not encoder.backbone.training
    assert encoder.network.training
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    encoder(torch.rand(4, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.backbone.state_dict().items())
    assert encoder.network[2].weight.grad.abs().sum() > 0


def test_images_and_their_features_give_the_same():
    encoder, images = frozen(), torch.rand(4, 1, 32, 32)
    torch.testing.assert_close(encoder(encoder.extract(images)), encoder(images))


def test_it_can_be_exported_and_explained():
    encoder = frozen()
    batch = {"images": {0: torch.export.Dim("batch", min=2, max=64)}}
    program = torch.export.export(encoder, (torch.rand(3, 1, 32, 32),), dynamic_shapes=batch).module()
    images = torch.rand(5, 1, 32, 32, requires_grad=True)
    torch.testing.assert_close(program(images), encoder(images))
    encoder(images).sum().backward()  # as class activation maps want it
    assert images.grad.abs().sum() > 0


def test_a_store_gives_the_features_of_its_images(store):
    encoder = frozen()
    for split in ("train", "test"):
        images = list(data_of(Uneven(), store, features=False).evaluation_loader(split, None))
        stored = list(data_of(Uneven(), store).evaluation_loader(split, None))
        assert len(images) == len(stored) > 1
        for one, other in zip(images, stored, strict=True):
            assert one.study_ids == other.study_ids
            torch.testing.assert_close(other.images, encoder.extract(one.images), atol=2e-3, rtol=2e-3)


def test_training_draws_versions_and_evaluation_the_first(store):
    dataset = data_of(Uneven(), store).train_loader(None, seed=3).dataset
    versions = dataset.features[0][0]
    assert versions.shape == (3, 8)
    drawn = {tuple(dataset[epoch, 0].image.tolist()) for epoch in range(30)}
    assert drawn == {tuple(np.float32(version).tolist()) for version in versions}
    assert dataset[-1, 0].image.tolist() == np.float32(versions[0]).tolist()
    assert len({tuple(version.tolist()) for version in versions}) == 3


def test_what_was_trained_on_features_reads_images(store, tmp_path):
    data = data_of(Uneven(), store)
    method = ImageOnly(data.findings, frozen())
    fit(method, data, tmp_path / "run", training=Training(max_epochs=2), progress=False)
    on_features, on_images = (evaluate(method, part, split="test") for part in (data, data.with_images()))
    np.testing.assert_allclose(on_features.probabilities, on_images.probabilities, atol=2e-3)
    bundle = load_bundle(tmp_path / "run" / "bundle")
    images = torch.rand(3, 1, 32, 32)
    expected = method.model.posterior_predictive(method.model.encode(images), 1).probabilities
    found = bundle.model.posterior_predictive(bundle.model.encode(images), 1).probabilities
    torch.testing.assert_close(found, expected)


def test_a_store_goes_on_after_a_shard_was_lost(store):
    shard = next(store.glob("*.features.arrow"))
    whole = shard.read_bytes()
    shard.unlink()
    (store / "store.json").unlink()
    features = ImageFeatures(frozen(), versions=3, augmentation=Augmentation(degrees=30))
    prepare(Selection(Uneven(), 32), None, store, progress=False, features=features)
    assert shard.read_bytes() == whole


def test_an_image_that_was_skipped_has_no_features(tmp_path):
    root = write_files(tmp_path / "files")
    (root / "study-0004.png").write_bytes(b"no image")
    corpus = Files(root)
    prepare(Selection(corpus, 32), None, tmp_path / "store", SKIP, False, features=ImageFeatures(frozen()))
    encoder, found = frozen(), {}
    for split in ("train", "validation", "test"):
        for batch in data_of(corpus, tmp_path / "store", bad_images=SKIP).evaluation_loader(split, None):
            found |= dict(zip(batch.study_ids, batch.images, strict=True))
    assert "study-0004" not in found
    assert len(found) == 29
    pixels = torch.from_numpy(np.array(Image.open(root / "study-0005.png"))).float()[None, None] / 255
    torch.testing.assert_close(found["study-0005"], encoder.extract(pixels)[0], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            lambda: frozen(seed=1),
            "made with extractor .*weights.*; prepare another store, or set it back",
        ),
        (lambda: ConvEncoder((4, 8)), r"data.loading.features: ConvEncoder takes images; set it to false, or take an"),
    ],
)
def test_features_of_another_encoder_are_refused(store, tmp_path, encoder, message):
    data = data_of(Uneven(), store)
    method = ImageOnly(data.findings, encoder())
    with pytest.raises(UserError, match=message):
        fit(method, data, tmp_path / "run", training=Training(max_epochs=1), progress=False)
    with pytest.raises(UserError, match=message):
        evaluate(method, data, split="test")


def test_another_report_likelihood_reuses_images_and_features(store, tmp_path):
    selection = Selection(Uneven(), 32)
    parts = {"observation": WordPresence(4), "features": ImageFeatures(frozen(), 3, Augmentation(degrees=30))}
    prepare(selection, WordEncoder(50), tmp_path / "anew", progress=False, **parts)
    counts = prepare(selection, WordEncoder(50), tmp_path / "reused", progress=False, reuse=store, **parts)
    files = {path.name: path for path in (tmp_path / "reused").glob("*.arrow")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "anew").glob("*.arrow")} == {
        name: path.read_bytes() for name, path in files.items()
    }
    taken = {name for name, path in files.items() if (store / name).exists() and path.samefile(store / name)}
    assert taken == {"00000.images.arrow", "00000.features.arrow"}
    assert counts == prepare(selection, WordEncoder(50), tmp_path / "reused", progress=False, reuse=store, **parts)
    other = ImageFeatures(frozen(seed=1), 3, Augmentation(degrees=30))
    prepare(selection, None, tmp_path / "other", progress=False, features=other, reuse=store)
    assert (tmp_path / "other" / "00000.images.arrow").samefile(store / "00000.images.arrow")
    made_of = [(folder / "00000.features.arrow").read_bytes() for folder in (store, tmp_path / "other")]
    assert made_of[0] != made_of[1]  # of another network, so made anew


@pytest.mark.parametrize("resumed", [False, True])
def test_features_of_an_image_that_was_mended_are_made_anew(tmp_path, resumed):
    root = write_files(tmp_path / "files")
    whole = (root / "study-0004.png").read_bytes()
    (root / "study-0004.png").write_bytes(b"no image")
    selection, features = Selection(Files(root), 32), ImageFeatures(frozen())
    prepare(selection, None, tmp_path / "skipped", SKIP, False, features=features)
    (root / "study-0004.png").write_bytes(whole)
    prepare(selection, None, tmp_path / "anew", SKIP, False, features=features)
    if resumed:
        (tmp_path / "skipped" / "store.json").unlink()  # as if it had been interrupted
    again, reuse = (tmp_path / "skipped", None) if resumed else (tmp_path / "mended", tmp_path / "skipped")
    assert prepare(selection, None, again, SKIP, False, features=features, reuse=reuse)["studies"] == 30
    for name in ("00000.images.arrow", "00000.features.arrow"):
        assert (again / name).read_bytes() == (tmp_path / "anew" / name).read_bytes(), name


def test_a_refused_reuse_leaves_nothing(store, tmp_path):
    with pytest.raises(UserError, match="this store was made with image transform"):
        prepare(Selection(Uneven(), 48), None, tmp_path / "out", progress=False, reuse=store)
    assert not (tmp_path / "out").exists()


def test_an_image_of_the_same_size_in_the_place_of_another_is_noticed(tmp_path):
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.write_bytes(b"\x89PNG" + bytes(300_000) + b"1")
    other.write_bytes(b"\x89PNG" + bytes(300_000) + b"2")
    source = image_source(one)
    assert is_source(one, source)
    assert not is_source(other, source)
    assert is_source(other, "300005"), "of a store that knows sizes alone"
    assert not is_source(other, "300006")
    assert image_source(tmp_path / "none.png") == ""


def test_a_store_of_other_images_is_not_reused(store, tmp_path):
    with pytest.raises(UserError, match=r"store was made with image transform .*32.* found now .*48"):
        prepare(Selection(Uneven(), 48), None, tmp_path / "larger", progress=False, reuse=store)
    with pytest.raises(UserError, match=r"not a store \(no plan.json\)"):
        prepare(Selection(Uneven(), 32), None, tmp_path / "none", progress=False, reuse=tmp_path)


def test_a_store_without_features_is_refused(tmp_path):
    prepare(Selection(TinyCorpus(), 32), None, tmp_path / "store", progress=False)
    data = data_of(TinyCorpus(), tmp_path / "store")
    with pytest.raises(UserError, match="holds no features; write another store by vkd prepare --features, or set"):
        data.train_loader(None, seed=0)


@pytest.mark.parametrize("options", [{"store": None}, {"cache_on_device": True}])
def test_features_want_a_store_alone(tmp_path, options):
    with pytest.raises(UserError, match=r"data.loading.features: wants data.loading.store, which holds them"):
        data_of(TinyCorpus(), tmp_path, **options)


def test_no_version_is_refused():
    with pytest.raises(UserError, match="--features: found 0 versions of an image, expected at least 1"):
        replace(ImageFeatures(frozen()), versions=0)


class Interrupted(Exception):
    pass


class EndInSecondEpoch(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise Interrupted


def test_a_run_on_features_goes_on_and_is_started_from_without_the_pretrained_weights(store, tmp_path):
    data, training = data_of(Uneven(), store), Training(max_epochs=2)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        fit(ImageOnly(data.findings, frozen()), data, run, training=training, progress=False,
            callbacks=[EndInSecondEpoch()])  # fmt: skip
    other = ImageOnly(data.findings, frozen(seed=1))  # as the command line builds it: the checkpoint has the weights
    fit(other, data, run, training=training, progress=False, resume=True)
    expected = frozen().backbone.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in
               other.model.image_encoder.backbone.state_dict().items())  # fmt: skip
    third = ImageOnly(data.findings, frozen(seed=2))
    fit(third, data, tmp_path / "third", training=Training(max_epochs=1), progress=False, start_from=run)
    assert (tmp_path / "third" / "bundle").is_dir()
