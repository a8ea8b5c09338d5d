"""Networks of timm and of transformers in a training: frozen, with features in a store; and a run that is loaded."""

import pytest
import torch

from tests.conftest import TinyCorpus, study_data
from tests.test_field_encoders import write_network
from vkd_pyro import Training, fit, load_bundle, load_run
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import prepare
from vkd_pyro.data.store.features import ImageFeatures
from vkd_pyro.encoders.frozen import FrozenImageEncoder
from vkd_pyro.encoders.timm_models import TimmEncoder
from vkd_pyro.encoders.transformers_models import TransformersEncoder
from vkd_pyro.methods import ImageOnly


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "rad-dino"
    write_network(folder)
    return folder


@pytest.mark.parametrize("kind", ["timm", "transformers"])
def test_either_is_a_frozen_backbone_with_features_in_a_store(kind, dinov2, tmp_path):
    def encoder():
        torch.manual_seed(0)
        backbone = TimmEncoder("test_vit", image_size=32) if kind == "timm" else TransformersEncoder(str(dinov2))
        return FrozenImageEncoder(backbone, width=6).eval()

    size = 32 if kind == "timm" else 28
    prepare(Selection(TinyCorpus(), size), None, tmp_path / "store", progress=False, features=ImageFeatures(encoder()))
    options = {"image_size": size, "batch_size": 8, "store": tmp_path / "store"}
    data = study_data(TinyCorpus(), features=True, **options)
    method = ImageOnly(data.findings, encoder())
    fit(method, data, tmp_path / "run", training=Training(max_epochs=1), progress=False)
    images = torch.rand(2, 1, size, size)
    assert torch.equal(load_bundle(tmp_path / "run" / "bundle").model.encode(images), method.model.encode(images))


def test_features_of_another_pooling_are_others(dinov2):
    made = [FrozenImageEncoder(TransformersEncoder(str(dinov2), p)).feature_preparation for p in ("cls", "mean")]
    assert made[0]["weights"] == made[1]["weights"]
    assert made[0] != made[1]


@pytest.mark.filterwarnings("ignore:never")  # a finding that none of so few studies has
def test_a_run_of_a_network_from_a_folder_can_be_loaded(dinov2, tmp_path):
    from vkd_pyro.cli import main

    text = f"""
method:
  class_path: vkd_pyro.methods.ImageOnly
  init_args:
    image_encoder:
      class_path: vkd_pyro.encoders.frozen.FrozenImageEncoder
      init_args:
        backbone:
          class_path: vkd_pyro.encoders.transformers_models.TransformersEncoder
          init_args:
            weights: {dinov2}
data:
  selection:
    corpus:
      class_path: vkd_pyro.synthetic.corpus.SyntheticCorpus
      init_args:
        num_studies: 60
    image_size: 28
training:
  max_epochs: 1
"""
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    main(["train", "--config", str(tmp_path / "config.yaml"), "--run", str(tmp_path / "run")])
    run, images = load_run(tmp_path / "run"), torch.rand(2, 1, 28, 28)
    assert torch.equal(run.method.eval().model.encode(images), run.bundle.model.encode(images))
