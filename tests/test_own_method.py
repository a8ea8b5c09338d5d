"""A method of one's own, in a file outside the package: trained by a config, evaluated, compared, exported."""

import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.test_cli import CONFIG, vkd

METHOD = '''
import torch
from pyro.nn import PyroModule
from torch import nn
from torch.nn.functional import mse_loss

from vkd_pyro.elbo import Terms
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods import Method, log_likelihood
from vkd_pyro.model import ImageClassifier


class Reader(PyroModule):
    """What only training needs: the report's encoder, and a guess of its features from the image."""

    def __init__(self, image_features: int, report_encoder: ReportEncoder) -> None:
        super().__init__()
        self.report_encoder = report_encoder
        self.guess = nn.Linear(image_features, report_encoder.features_dim)


class Imitation(Method):
    """The image's features imitate those of its report.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        weight: of the imitation.
        objective: of its own kind, and none by default.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        weight: float = 1.0,
        objective: str | None = None,
    ) -> None:
        guide = Reader(image_encoder.features_dim, report_encoder)
        super().__init__(findings, ImageClassifier(image_encoder, len(findings)), guide)
        self.weight, self.objective = weight, objective

    def terms(self, batch, beta=1.0):
        features = self.model.image_encoder(batch.images)
        report = self.guide.report_encoder(batch.report, batch.report_mask)
        far = mse_loss(self.guide.guess(features), report, reduction="none").mean(-1)
        labels = log_likelihood(self.model.head(features), batch.labels, batch.known)
        return Terms(labels, torch.zeros_like(labels), far * batch.has_report, 0.0, beta * self.weight)
'''


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config that names the method by its path; its file lies beside."""
    (tmp_path / "my_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = yaml.safe_load(CONFIG)
    settings["method"]["class_path"] = "my_method.Imitation"
    settings["method"]["init_args"] = {
        name: settings["method"]["init_args"][name] for name in ("image_encoder", "report_encoder")
    } | {"weight": 0.5}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    yield tmp_path / "config.yaml"
    sys.modules.pop("my_method", None)


def done(*arguments) -> str:
    code, out, err = vkd(*arguments)
    assert code == 0, err
    return out


def test_a_method_of_ones_own_goes_all_the_way(config, tmp_path):
    checked = done("check", "--config", config)
    assert "Imitation: weight 0.5" in checked
    done("train", "--config", config, "--run", tmp_path / "own")
    done("train", "--config", config, "--method", "ImageOnly", "--run", tmp_path / "image_only")
    kept = yaml.safe_load((tmp_path / "own" / "config.yaml").read_text())["method"]["init_args"]
    assert kept["objective"] is None  # only VKD's is written out
    logged = pd.read_csv(tmp_path / "own" / "metrics.csv")
    assert (logged["train/alignment"] > 0).all()
    assert "train/kl" not in logged
    for run in ("own", "image_only"):
        done("evaluate", tmp_path / run, "--page", "false", "--allow_module", "my_method", "tests")
    assert "own: macro30 AUC" in done("compare", tmp_path / "image_only", tmp_path / "own").replace(f"{tmp_path}/", "")

    done("export", tmp_path / "own" / "bundle", "--output", tmp_path / "export")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    tables = []
    for folder in ("own/bundle", "export"):
        done("predict", tmp_path / folder, tmp_path / "0.png", tmp_path / "1.png", "--output", tmp_path / "p.csv")
        tables.append(pd.read_csv(tmp_path / "p.csv", comment="#"))
        (tmp_path / "p.csv").unlink()
    np.testing.assert_allclose(tables[0]["probability"], tables[1]["probability"], atol=1e-5)
