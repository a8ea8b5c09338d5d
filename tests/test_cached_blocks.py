"""Fine-tuning of the last blocks from what the first of them is given: the same numbers, gradients and bundles."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import TinyCorpus, study_data
from tests.test_fine_tuning import BACKBONES, SIZE, backbone
from vkd_pyro import Training, evaluate, fit, load_bundle
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import prepare
from vkd_pyro.data.store.features import ImageFeatures
from vkd_pyro.encoders.image import ImageEncoder, SmallResNetEncoder
from vkd_pyro.encoders.last_blocks import LastBlocksEncoder
from vkd_pyro.encoders.prefix import shape_like
from vkd_pyro.methods import ImageOnly
from vkd_pyro.utils.errors import UserError

CUT = [name for name in BACKBONES if "dense" not in name]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("name", CUT)
def test_images_and_what_the_first_block_is_given_give_the_same(name, blocks):
    encoder, images = LastBlocksEncoder(backbone(name), blocks, width=6).eval(), torch.rand(3, 1, SIZE, SIZE)
    torch.testing.assert_close(encoder(encoder.extract(images)), encoder(images))


@pytest.mark.parametrize("name", CUT)
def test_both_have_the_same_gradients_and_running_statistics(name):
    images, found = torch.rand(4, 1, SIZE, SIZE), []
    goal = torch.randn(4, backbone(name).features_dim)
    for cached in (False, True):
        encoder = LastBlocksEncoder(backbone(name), 2)
        given = encoder.eval().extract(images) if cached else images
        (encoder.train()(given) - goal).square().sum().backward()
        gradients = {key: value.grad for key, value in encoder.named_parameters() if value.requires_grad}
        assert all(gradient is not None for gradient in gradients.values())
        found.append(gradients | {f"buffer {key}": value for key, value in encoder.named_buffers()})
    for key, value in found[0].items():
        assert (found[1][key] - value).float().norm() <= 1e-3 * value.float().norm(), key


def test_images_of_another_size_than_the_blank_one():
    encoder, images = LastBlocksEncoder(backbone("torchvision, residual"), 1).eval(), torch.rand(2, 1, 160, 160)
    given = encoder.extract(images)
    assert given.shape == (2, 512 * 5 * 5)
    torch.testing.assert_close(encoder(given), encoder(images))


def test_features_of_another_block_are_refused():
    assert shape_like(torch.zeros(1, 3, 2, 2), 12) == (3, 2, 2)
    assert shape_like(torch.zeros(1, 3, 2, 2), 75) == (3, 5, 5)
    with pytest.raises(
        UserError, match=r"features have 76 numbers an image, and .* first trained block takes 3 x 2 x 2"
    ):
        shape_like(torch.zeros(1, 3, 2, 2), 76)
    with pytest.raises(UserError, match=r"features have 10 numbers an image, and .* block takes 2 x 3"):
        shape_like(torch.zeros(1, 2, 3), 10)


def test_a_network_whose_blocks_read_more_than_the_one_before_is_refused():
    dense = LastBlocksEncoder(backbone("torchvision, dense"), 2).eval()
    with pytest.raises(UserError, match="a _DenseLayer reads more than the block before it: no cache"):
        dense.extract(torch.rand(1, 1, SIZE, SIZE))

    class Skipping(ImageEncoder):
        def __init__(self):
            super().__init__()
            self.inner = SmallResNetEncoder((4, 8), 8)
            self.features_dim = 8

        def forward(self, images):
            return self.inner(images) + images.mean(dim=(1, 2, 3), keepdim=True).flatten(1)

    with pytest.raises(UserError, match="Skipping reads in its last blocks what earlier ones gave elsewhere"):
        LastBlocksEncoder(Skipping(), 1).eval().extract(torch.rand(1, 1, SIZE, SIZE))


def test_what_is_stored_depends_on_what_is_frozen_alone():
    def preparation(blocks=2, change=None):
        encoder = LastBlocksEncoder(backbone("torchvision, residual"), blocks)
        if change is not None:
            nn.init.ones_(encoder.backbone.network.get_parameter(change))
        return encoder.feature_preparation

    assert preparation(change="layer4.1.conv1.weight") == preparation()
    assert preparation(change="layer3.0.conv1.weight") != preparation()
    assert preparation(blocks=1) != preparation()


def test_what_was_trained_on_a_store_reads_images(tmp_path):
    def encoder():
        return LastBlocksEncoder(backbone("small residual"), 1, width=6).eval()

    features = ImageFeatures(encoder(), versions=2, augmentation=Augmentation())
    prepare(Selection(TinyCorpus(), SIZE), None, tmp_path / "store", progress=False, features=features)
    data = study_data(TinyCorpus(), image_size=SIZE, batch_size=8, store=tmp_path / "store", features=True)
    method = ImageOnly(data.findings, encoder())
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    fit(method, data, tmp_path / "run", training=Training(max_epochs=2), progress=False)
    moved = {name for name, value in method.model.state_dict().items() if not torch.equal(before[name], value)}
    trained = {name for name, parameter in method.model.named_parameters() if parameter.requires_grad}
    assert trained <= moved
    on_features, on_images = (evaluate(method, part, split="test") for part in (data, data.with_images()))
    np.testing.assert_allclose(on_features.probabilities, on_images.probabilities, atol=2e-3)
    images = torch.rand(2, 1, SIZE, SIZE)
    assert torch.equal(load_bundle(tmp_path / "run" / "bundle").model.encode(images), method.model.encode(images))
