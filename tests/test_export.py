"""Exports: graphs that say what the bundle says, in a folder that stands alone."""

import importlib.util
import json
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.test_bundle import FINDINGS, TRANSFORM, make_classifier, make_model
from tests.test_cli import refusal, vkd
from tests.test_predict import DATA, trained
from vkd_pyro.artifacts.bundle import load_bundle, sampled, save_bundle
from vkd_pyro.artifacts.export import load_export, load_predictor
from vkd_pyro.artifacts.export.engine import library
from vkd_pyro.artifacts.export.graph_model import GraphModel
from vkd_pyro.artifacts.export.noise import Generator, drawn
from vkd_pyro.artifacts.export.reparametrisation import from_noise, parts_of
from vkd_pyro.artifacts.export.tracing import by_openvino, graphs_of
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.distributions import (
    MLP,
    BernoulliLikelihood,
    DiagonalNormal,
    Flow,
    FullNormal,
    Head,
    Laplace,
    LowRankNormal,
    LowRankProbitLikelihood,
    NormalMixture,
    SplineFlow,
    StandardNormal,
    StudentT,
    VampPrior,
)
from vkd_pyro.distributions.draws import common_draws
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder, TorchvisionEncoder
from vkd_pyro.model import Model
from vkd_pyro.prediction import predict_files
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.training.posthoc import calibrate
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import hash_of, sha256_of

if importlib.util.find_spec("openvino") is None:  # not imported here: see `library`
    pytest.skip("OpenVINO is not installed: pip install 'vkd-pyro[export]'", allow_module_level=True)

FAMILIES = [
    DiagonalNormal(16, 4, MLP((8,))),
    DiagonalNormal(16, 20, MLP((8,))),
    LowRankNormal(16, 4, MLP((8,)), rank=2),
    LowRankNormal(16, 20, MLP((8,)), rank=17),
    Laplace(16, 4, MLP((8,))),
]


def model_of(prior) -> Model:
    torch.manual_seed(0)
    likelihood = BernoulliLikelihood(prior.latent_dim, 3, features_dim=16, head=Head(8))
    return Model(ConvEncoder((8, 16)), prior, likelihood).eval()


def graph_model(model) -> GraphModel:
    graphs = graphs_of(model, 16)
    return GraphModel(by_openvino(graphs.encoder), by_openvino(graphs.head), graphs.noise)


def differences(model, engine, number: int, num_samples: int = 7) -> list[float]:
    """The largest of features, prior means and samples."""
    images = torch.rand(number, 1, 16, 16, generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        features = model.encode(images)
        expected = sampled(model.posterior_predictive(features, num_samples, 3), features)
    found = engine.posterior_predictive(engine.encode(images.numpy()), num_samples, 3)
    assert found.samples.shape == (num_samples, number, len(FINDINGS))
    assert (found.latents is None) == (expected.latents is None)
    names = ["features", "samples", *(["latents"] if expected.latents is not None else [])]
    return [float(np.abs(getattr(expected, name) - getattr(found, name)).max()) for name in names]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A calibrated bundle of a model of a few steps."""
    folder, network = tmp_path_factory.mktemp("trained") / "bundle", trained(0)
    data = {"views": "frontal"}
    save_bundle(folder, network.model, DATA.findings, DATA.transform, "# A card", data, calibrate(network, DATA))
    return folder


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "export"
    assert export_bundle(bundle, folder) < 1e-5
    return folder


@pytest.fixture(scope="module", params=[make_model, make_classifier])
def pair(request, tmp_path_factory) -> tuple[Path, Path]:
    """A bundle without a calibration, and its export."""
    root = tmp_path_factory.mktemp("plain")
    save_bundle(root / "bundle", request.param(), FINDINGS, TRANSFORM, "# A card")
    before = {path: path.read_bytes() for path in (root / "bundle").iterdir()}
    export_bundle(root / "bundle", root / "deep" / "export")
    assert {path: path.read_bytes() for path in (root / "bundle").iterdir()} == before
    return root / "bundle", root / "deep" / "export"


@pytest.fixture(scope="module")
def xrays(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("xrays")
    for number, study in enumerate(DATA.studies("test")[:7]):
        Image.fromarray(study.images[0]).resize((40, 36)).save(folder / f"{number}.png")
    return folder


def edit(folder: Path, **changes) -> None:
    """Changes fields of a config, and its hash with them."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config | {"config_sha256": hash_of(config)}))


def test_noise_that_the_head_does_not_take_is_refused(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "export"))
    (part,) = json.loads((folder / "config.json").read_text())["noise"]
    for width in (1, 2, part["width"] + 1):
        edit(folder, noise=[part | {"width": width}])
        with pytest.raises(UserError, match="export: "):
            load_export(folder)


def test_graphs_of_one_image_alone_are_refused(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "export"))
    openvino = library("openvino")
    model = openvino.Core().read_model(folder / "encoder.xml")
    size = load_export(exported).transform.size
    model.reshape([1, 1, size, size])
    openvino.save_model(model, tmp_path / "encoder.xml", compress_to_fp16=False)
    for name in ("encoder.xml", "encoder.bin"):
        shutil.copyfile(tmp_path / name, folder / name)
    files = {name: sha256_of(folder / name) for name in ("encoder.xml", "encoder.bin", "head.xml", "head.bin")}
    edit(folder, files=files)
    several = np.zeros((3, 1, size, size), np.float32)  # its batch axis is free again, or it is refused
    with suppress(UserError):
        assert load_export(folder).model.encode(several).shape[0] == 3


@pytest.mark.parametrize("rank", [1, 2, 17])
def test_a_low_rank_prior_goes_into_onnx(rank, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'vkd-pyro[export]'")
    model = model_of(LowRankNormal(16, 20, MLP((8,)), rank=rank))
    save_bundle(tmp_path / "bundle", model, FINDINGS, TRANSFORM, "")
    assert export_bundle(tmp_path / "bundle", tmp_path / "export", "onnx") < 1e-5
    assert max(differences(model, load_export(tmp_path / "export").model, 3)) < 1e-5


# ---------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("seed", [0, 3, -7, 2**32 + 5, 2**40 + 1])
def test_noise_is_the_numbers_of_pytorch(seed):
    torch.manual_seed(seed)
    generator = Generator(seed)
    for number in (3, 5, 16, 2, 1, 1, 40, 7, 0, 100, 9, 17, 1000):
        assert np.allclose(generator.normal(number), torch.randn(number), rtol=0, atol=1e-6)
        uniform = torch.empty(number).uniform_(torch.finfo(torch.float32).eps - 1, 1)
        assert np.array_equal(generator.uniform(number), uniform)


@pytest.mark.parametrize("prior", FAMILIES, ids=lambda one: f"{type(one).__name__}-{one.latent_dim}")
def test_noise_is_that_of_the_common_draws(prior):
    features = torch.rand(5, 16)
    with torch.no_grad():
        z = prior.eval()(features)
        expected = common_draws(z, lambda rows: prior(features[rows]), 6, 3, torch.device("cpu"))
        torch.testing.assert_close(
            from_noise(z, torch.from_numpy(drawn(parts_of(prior), 6, 3))), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("prior", [NormalMixture, StudentT, VampPrior, FullNormal, Flow, SplineFlow, StandardNormal])
def test_a_prior_of_which_no_graph_can_draw_is_refused(prior):
    found = f"found the prior {prior.__name__}, of which no graph can draw; expected DiagonalNormal, LowRankNormal or"
    with pytest.raises(UserError, match=found):
        graphs_of(model_of(prior(16, 4)), 16)


def test_a_refused_bundle_is_one_line_and_nothing_is_written(tmp_path):
    save_bundle(tmp_path / "bundle", model_of(NormalMixture(16, 4)), FINDINGS, TRANSFORM, "")
    assert "found the prior NormalMixture" in refusal("export", tmp_path / "bundle", "--output", tmp_path / "export")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


# --------------------------------------------------------------------------------------------- graphs


@pytest.mark.parametrize("prior", [FAMILIES[2], pytest.param(FAMILIES[4], marks=pytest.mark.slow)])
def test_openvino_computes_what_the_model_does(prior):
    model = model_of(prior)
    model.likelihood = LowRankProbitLikelihood(4, 3, features_dim=16, head=Head(8)).eval()
    assert max(differences(model, graph_model(model), 3)) < 1e-5


TELLS_NOBODY = """
import sys
from vkd_pyro.artifacts.export.engine import library
library("openvino")
assert sys.modules["openvino_telemetry"] is None
assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"
"""


def test_openvino_tells_nobody_that_it_is_used(monkeypatch):
    library("openvino")
    subprocess.run([sys.executable, "-c", TELLS_NOBODY], check=True)  # apart from what other tests have imported
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed; pip install 'vkd-pyro\[export\]'"):
        library("openvino")


class Branching(ImageEncoder):
    """Chooses by what it sees, which no graph can."""

    features_dim = 16

    def forward(self, images):
        return images.flatten(1)[:, :16] * (2 if images.mean() > 0.5 else 1)


def test_a_part_that_cannot_be_traced_is_named():
    model = make_model()
    model.image_encoder = Branching()
    with pytest.raises(UserError, match=r"^export: Branching cannot be traced by torch.export \(.*\)$"):
        graphs_of(model, 16)


class Bessel(ImageEncoder):
    """Traced, but of no operation that OpenVINO knows."""

    features_dim = 16

    def forward(self, images):
        return torch.special.bessel_j0(images.flatten(1)[:, :16])


def test_an_operation_that_openvino_does_not_know_is_named():
    model = make_classifier()
    model.image_encoder = Bessel()
    with pytest.raises(UserError, match=r"^export: OpenVINO cannot convert the model \(.*bessel_j0.*\); try --format"):
        by_openvino(graphs_of(model, 16).encoder)


# --------------------------------------------------------------------------------------------- folder


def test_an_export_stands_alone(pair, tmp_path):
    bundle = load_bundle(pair[0])
    export = load_export(shutil.move(shutil.copytree(pair[1], tmp_path / "a"), tmp_path / "b"))
    names = ("findings", "transform", "weights_hash", "views", "calibration", "bundle_hash")
    assert all(getattr(export, name) == getattr(bundle, name) for name in names)
    files = [path for path in pair[1].iterdir() if path.name != "README.md"]
    assert sorted(path.name for path in files) == ["config.json", "encoder.bin", "encoder.xml", "head.bin", "head.xml"]
    assert (pair[1] / "README.md").read_text() == "# A card"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}


def test_a_graph_takes_any_number_of_images_and_draws(pair, monkeypatch):
    model, engine = load_bundle(pair[0]).model, load_export(pair[1]).model
    for number in (1, 3, 8):
        assert max(differences(model, engine, number)) < 1e-5
    assert max(differences(model, engine, 3, num_samples=1)) < 1e-5
    monkeypatch.setattr("vkd_pyro.artifacts.export.graph_model.DRAWS_AT_ONCE", 20)  # that is, two images at a time
    assert max(differences(model, engine, 8)) < 1e-5


def test_an_export_keeps_the_calibration(bundle, exported):
    ours, theirs = load_bundle(bundle).calibration, load_export(exported).calibration
    assert theirs.to_json() == ours.to_json()
    for name, array in ours.reference.to_arrays().items():
        assert np.array_equal(theirs.reference.to_arrays()[name], array)


def test_nothing_is_written_into_a_bundle(bundle):
    for inside in (bundle / "export", bundle / "deep" / "er"):
        assert "in the bundle" in refusal("export", bundle, "--output", inside)


@pytest.mark.parametrize("name", ["encoder.xml", "encoder.bin", "head.xml", "head.bin", "ood.safetensors"])
def test_a_damaged_export_is_refused(exported, name, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "export")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: not the file this"):
        load_export(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: not the file this"):
        load_export(folder)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"export_version": 2}, "export_version is 2, this version of vkd_pyro reads 5; export the bundle again"),
        ({"noise": [{"kind": "normal"}]}, r"config\.json: noise\.0\.width: Field required; export the bundle again"),
        ({"findings": None}, r"config\.json: findings: Input should be a valid list"),
    ],
)
def test_a_config_that_describes_no_export_is_refused(exported, changes, found, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "export")
    edit(folder, **changes)
    with pytest.raises(UserError, match=found):
        load_export(folder)


def test_findings_that_were_reordered_are_refused(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"findings": config["findings"][::-1]}))
    with pytest.raises(UserError, match="changed since it was written"):
        load_export(folder)
    (folder / "config.json").write_text("no JSON")
    with pytest.raises(UserError, match="not readable as JSON"):
        load_export(folder)
    with pytest.raises(UserError, match=r"not an export; expected a folder with config\.json"):
        load_export(tmp_path)


def test_graphs_that_say_something_else_are_not_written(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("vkd_pyro.artifacts.export.writing.MAX_DIFFERENCE", -1)
    with pytest.raises(UserError, match=r"probabilities differ by .* expected at most -1; nothing was written"):
        export_bundle(bundle, tmp_path / "export", "torch")
    assert list(tmp_path.iterdir()) == []


def test_nothing_stands_there_when_writing_failed(bundle, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("vkd_pyro.artifacts.export.writing.write_graph", fail)
    assert "no space left" in refusal("export", bundle, "--output", tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize(("of", "batch_size"), [("export", 2), ("export", 7), ("bundle", 3)])
def test_the_tables_of_both_engines_are_the_same(bundle, exported, xrays, of, batch_size, tmp_path):
    options = [xrays, "--seed", "5", "--num_samples", "30", "--output"]
    assert vkd("predict", bundle, *options, tmp_path / "torch.csv")[0] == 0
    folder = exported if of == "export" else bundle
    engine = ["--engine", "openvino", "--batch_size", batch_size]
    assert vkd("predict", folder, *options, tmp_path / "openvino.csv", *engine) == (
        0,
        f"written: {tmp_path}/openvino.csv: 7 images\n",
        "",
    )
    tables = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("torch", "openvino")]
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-4)
    assert set(tables[0]["answer"]) >= {"yes", "no"}
    assert not tables[0][["calibrated_low", "uncertainty_latent", "ood_p"]].isna().any(axis=None)


def test_without_a_calibration_or_z_the_same_is_unknown(pair, xrays):
    images = sorted(xrays.iterdir())
    for one, other in zip(*(predict_files(load_predictor(folder), images) for folder in pair), strict=True):
        for name in ("probabilities", "low", "latent", "calibrated", "ood"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-5)


def test_an_ensemble_may_be_of_both(bundle, exported, xrays, tmp_path):
    save_bundle(tmp_path / "b", trained(1).model, DATA.findings, DATA.transform, "")
    few = UncertaintySources(num_samples=20)
    images = sorted(xrays.iterdir())[:3]
    one = list(predict_files([load_bundle(bundle), load_bundle(tmp_path / "b")], images, few))
    other = list(predict_files([load_export(exported), load_bundle(tmp_path / "b")], images, few))
    for name in ("probabilities", "high", "latent", "epistemic"):
        pairs = ([getattr(each, name) for each in said] for said in (one, other))
        np.testing.assert_allclose(*pairs, atol=1e-4)
    assert (other[0].epistemic > 0).all()


def test_what_only_a_network_can_do_is_refused(bundle, exported, xrays, tmp_path):
    assert "OpenVINO has one network and no masks" in refusal("predict", exported, xrays, "--num_masks", "2")
    assert "--overlay: needs a network's gradients" in refusal("predict", exported, xrays, "--overlay", tmp_path / "o")
    assert "export, which OpenVINO computes" in refusal("predict", exported, xrays, "--engine", "torch")
    with pytest.raises(UserError, match="not a bundle"):
        load_predictor(tmp_path)


# -------------------------------------------------------------------------------- formats and commands


def test_half_precision_is_openvinos_and_near(bundle, xrays, tmp_path):
    code, out, err = vkd("export", bundle, "--output", tmp_path / "half", "--precision", "bf16")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"written: {tmp_path}/half: openvino, bf16"
    assert second.startswith("probabilities differ from the bundle's by at most ")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["max_difference"] < 0.05
    images = sorted(xrays.iterdir())
    for one, other in zip(
        *(predict_files(load_predictor(f), images) for f in (tmp_path / "half", bundle)), strict=True
    ):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.05)


def test_a_mistake_is_told_before_anything_is_computed(bundle, tmp_path):
    assert "exists already, and an export never changes" in refusal("export", bundle, "--output", tmp_path)
    found = refusal("export", bundle, "--output", tmp_path / "o", "--format", "onnx", "--precision", "bf16")
    assert "--precision bf16 is OpenVINO's; found --format onnx" in found


@pytest.mark.parametrize("make", [make_model, pytest.param(make_classifier, marks=pytest.mark.slow)])
def test_onnx_is_read_by_openvino_and_by_its_own_runtime(make, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'vkd-pyro[export]'")
    save_bundle(tmp_path / "bundle", make(), FINDINGS, TRANSFORM, "")
    assert export_bundle(tmp_path / "bundle", tmp_path / "export", "onnx") < 1e-5
    assert max(differences(make(), load_export(tmp_path / "export").model, 3)) < 1e-5
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")
    sessions = [runtime.InferenceSession(tmp_path / "export" / f"{name}.onnx") for name in ("encoder", "head")]

    def compute(session):
        names = [one.name for one in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))

    parts = graphs_of(make(), 16).noise
    assert max(differences(make(), GraphModel(*map(compute, sessions), parts), 5)) < 1e-5


def test_a_torch_export_is_for_other_programs(bundle, xrays, tmp_path):
    assert export_bundle(bundle, tmp_path / "export", "torch") < 1e-6
    assert torch.export.load(tmp_path / "export" / "encoder.pt2").module()(torch.rand(5, 1, 32, 32)).shape == (5, 16)
    assert "a .pt2 file can run code when it is read" in refusal("predict", tmp_path / "export", xrays)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_densenet121_is_exported(format, tmp_path):
    torch.manual_seed(0)
    model = Model(
        TorchvisionEncoder("densenet121"), DiagonalNormal(1024, 512), BernoulliLikelihood(512, 14, features_dim=1024)
    )
    transform = type(TRANSFORM)(64)
    save_bundle(tmp_path / "bundle", model.eval(), tuple(map(str, range(14))), transform, "")
    assert export_bundle(tmp_path / "bundle", tmp_path / "export", format) < 1e-4
