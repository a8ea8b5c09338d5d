"""The benchmark: that what it compares does the same work, and that its parts run, on small sizes; not how fast."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.distributions import MLP, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder
from vkd_pyro.methods.vkd import VKD

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmark.py"
spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
assert spec is not None
assert spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
sys.modules["benchmark"] = benchmark  # where dataclasses look for it
spec.loader.exec_module(benchmark)

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def small_vkd(dropout: float = 0.0, image_encoder: ImageEncoder | None = None) -> VKD:
    torch.manual_seed(0)

    def family(features: int, latent: int) -> DiagonalNormal:
        return DiagonalNormal(features, latent, MLP((7, 5), dropout))

    encoders = image_encoder or ConvEncoder((4, 8)), benchmark.Embedded(16, 2, 8, dropout)
    return VKD(tuple("abc"), *encoders, latent_dim=6, prior=family, posterior=family)


def small_batch(size: int = 6, image_size: int = 16) -> Batch:
    return benchmark.made_up_batch(size, image_size, 16, 3)


@pytest.fixture
def small(monkeypatch):
    """In place of the paper's network, a small one around the same image encoder."""
    monkeypatch.setattr(benchmark, "xray_vkd", lambda encoder, device="cpu": small_vkd(0.5, encoder))


# ------------------------------------------------------------------------------------- same work


@pytest.mark.parametrize("kl_weight", [0.0, 0.3, 1.0])
def test_the_loss_by_hand_is_that_of_the_objective(kl_weight):
    vkd, batch = small_vkd().eval(), small_batch(12)
    assert 0 < batch.known.float().mean() < 1
    assert 0 < batch.has_report.float().mean() < 1
    losses, gradients = [], []
    for loss in (benchmark.program_loss, benchmark.plain_loss):
        vkd.zero_grad()
        torch.manual_seed(7)  # both draw the noise of the report's z first
        value = loss(vkd, batch, kl_weight)
        value.backward()
        losses.append(value.item())
        gradients.append(torch.cat([p.grad.flatten() for p in vkd.parameters() if p.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert torch.allclose(*gradients, atol=1e-5)


def test_one_step_by_hand_leaves_the_same_weights():
    weights = []
    for loss in (benchmark.program_loss, benchmark.plain_loss):
        vkd = small_vkd()  # dropout is 0, and batches are normalised as in training
        step = benchmark.training_step(vkd, small_batch(), loss)
        torch.manual_seed(7)
        step()
        weights.append(torch.cat([parameter.flatten() for parameter in vkd.parameters()]).detach())
    # Adam's first step is the sign of a gradient: where that is rounding alone, it may be either.
    assert ((weights[0] - weights[1]).abs() < 1e-5).float().mean() > 0.99


def test_no_network_costs_no_operations_and_has_all_parameters():
    network = ConvEncoder((4, 8))
    idle = benchmark.NoNetwork(network)
    with FlopCounterMode(display=False) as counter:
        features = idle(torch.rand(2, 1, 16, 16))
    assert counter.get_total_flops() == 0
    assert features.shape == (2, 8)
    assert len(list(idle.parameters())) == len(list(network.parameters()))


# ----------------------------------------------------------------------------------------- ratios


def test_a_ratio_is_of_medians_and_its_spread_of_pairs():
    row = benchmark.Timed("a", (2.0, 4.0, 9.0)).over(benchmark.Timed("b", (1.0, 2.0, 3.0)), "row", "<= 2", images=8)
    assert (row.ratio, row.low, row.high) == (2.0, 2.0, 3.0)
    assert row.cells() == {
        "ratio": "2.00 [2.00, 3.00]",
        "aim": "<= 2",
        "of": "a: 4.00 s, 2.0 images/s",
        "to": "b: 2.00 s, 4.0 images/s",
    }


def test_what_is_compared_runs_in_turn_after_one_run_that_is_not_timed():
    ran, now = [], iter(range(100))
    actions = [(name, lambda name=name: ran.append(name)) for name in "abc"]
    timed = benchmark.in_turn(actions, 2, lambda: next(now))
    assert "".join(ran) == "abc" * 3
    assert [one.times for one in timed] == [(1, 1)] * 3


def test_seconds_below_one_are_shown_in_milliseconds():
    cells = benchmark.compare("row", ("a", lambda: None), ("b", lambda: None), "", 1, iter([0, 0.5, 1, 2]).__next__)
    assert cells.cells()["of"] == "a: 500.0 ms"


# ----------------------------------------------------------------------------- parts, on small sizes


def test_a_step_both_ways():
    row = benchmark.stepping_both_ways("step", small_vkd(0.5), small_batch(), 2, "bf16", "<= 1.05")
    assert (row.slower, row.faster, row.images) == ("under the ELBO", "plain PyTorch", 6)
    assert row.ratio > 0


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_options_of_the_network(small, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)  # takes minutes
    rows = benchmark.options_of_network("mobilenet_v3_small", small_batch(2, 32), 1)
    assert [f"{row.name}, CUDA" for row in rows] == [f"step, {option}, CUDA" for option in benchmark.OPTIONS]


@needs_openvino
def test_exports(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    model = benchmark.images_only(ConvEncoder((4, 8)), 4)
    folders = benchmark.engines(model, 16, tmp_path)
    paths = benchmark.write_noise(tmp_path / "pictures", 3, 24, 32, ".png")
    files = benchmark.predicting_files(folders, paths)
    others = [benchmark.in_batches_of_32(model, paths), *benchmark.torchxrayvision(paths)]
    rows = benchmark.against_exports("png", files + others, (">= 3", ">= 5"), 3)
    assert [(row.name, row.aim) for row in rows] == [
        ("png: vkd predict, PyTorch to OpenVINO, fp32", ""),
        ("png: vkd predict, PyTorch to OpenVINO, bf16", ""),
        ("png: eager PyTorch, 32 at once to OpenVINO, fp32", ">= 3"),
        ("png: eager PyTorch, 32 at once to OpenVINO, bf16", ">= 5"),
    ]
    assert "no row of torchxrayvision" in capsys.readouterr().out
    said = [[each.probabilities for each in action()] for _, action in files]
    assert said[0] == [pytest.approx(probabilities, abs=1e-5) for probabilities in said[1]]
    arrays = benchmark.predicting_arrays(folders, torch.rand(3, 1, 16, 16))
    assert len(benchmark.against_exports("arrays", arrays, ("", ""), 3)) == 2


def test_torchxrayvision_takes_the_same_files(tmp_path):
    pytest.importorskip("torchxrayvision")
    paths = benchmark.write_noise(tmp_path / "pictures", 2, 256, 256, ".png")
    ((name, action),) = benchmark.torchxrayvision(paths)
    action()
    assert name == "torchxrayvision"


def test_pictures_of_noise_are_gray_and_of_the_size_asked_for(tmp_path):
    (path,) = benchmark.write_noise(tmp_path / "pictures", 1, 40, 60, ".jpg")
    with benchmark.Image.open(path) as picture:
        assert (picture.mode, picture.size, picture.format) == ("L", (40, 60), "JPEG")
    assert ImageTransform(16)(path).float().std() > 5


# -------------------------------------------------------------------------------- GPU's, on a CPU


def test_work_is_counted_forward_and_backward():
    linear, x = torch.nn.Linear(8, 4, bias=False), torch.rand(16, 8)

    def step() -> None:
        linear.weight.grad = None
        linear(x).sum().backward()

    work = benchmark.Work.of(step)
    assert work.operations == 2 * (2 * 16 * 8 * 4)  # x W, and the gradient of W
    matrices = 4 * (16 * 8 + 8 * 4 + 16 * 4)  # of each product: two are read, one written
    assert 2 * matrices <= work.bytes <= 4 * matrices


def test_a_view_moves_nothing():
    x = torch.rand(10, 10)
    assert benchmark.Work.of(lambda: x.T[2:].unsqueeze(0)).bytes == 0
    assert benchmark.Work.of(lambda: x + 1).bytes == 2 * 400


def test_the_limit_is_of_what_binds():
    work = benchmark.Work(operations=6e12, bytes=4e9)
    assert work.limit((3e12, 4e9)) == ("limit of its arithmetic (6.00 TFLOP, 4.0 GB moved)", 2.0)
    assert work.limit((12e12, 1e9)) == ("limit of its memory (6.00 TFLOP, 4.0 GB moved)", 4.0)


def test_limits_of_training_and_prediction(small):
    rows = benchmark.limits("mobilenet_v3_small", small_batch(2, 32), (1e12, 1e11), repeats=1)
    assert [f"{row.name}, CUDA" for row in rows] == [name for name in benchmark.ON_GPU if "limit" in name]
    assert all(row.ratio > 0 for row in rows)


def test_waiting_for_data(tmp_path):
    rows = benchmark.waiting_for_data(tmp_path, ConvEncoder((4, 8)), "cpu", 60, 16, 8, 0, 2)
    assert [row.name for row in rows] == ["train, data", "train, data held"]
    for row in rows:
        assert f"{row.name}, CUDA" in benchmark.ON_GPU
        assert row.images == 16


# ----------------------------------------------------------------------------------------- the file


def test_without_a_gpu_it_says_in_one_line_what_to_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cuda", "--only", "gpu"])
    with pytest.raises(SystemExit, match=r"no GPU here; .* --device cuda --json") as stopped:
        benchmark.main()
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["--only", "gpu"], "measured with --device cuda"), (["--only", "data"], "--root is needed for data")],
)
def test_what_cannot_be_measured_is_refused(given, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *given])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert expected in capsys.readouterr().err


def test_rows_that_were_not_measured_are_kept_and_a_gpus_left_empty(tmp_path, monkeypatch):
    path = tmp_path / "benchmark.json"
    part = benchmark.Part(lambda chosen, folder: [benchmark.single("new", ("a", 4.0), ("b", 2.0), "MiB", "flat")])
    monkeypatch.setitem(benchmark.PARTS, "step", part)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--only", "step", "--json", str(path)])
    benchmark.main()
    first = json.loads(path.read_text())
    first["table"]["old"] = first["table"].pop("new")
    path.write_text(json.dumps(first))
    benchmark.main()
    found = json.loads(path.read_text())
    assert (
        found["table"]["old"]
        == found["table"]["new"]
        == {
            "ratio": "2.00 [2.00, 2.00]",
            "aim": "flat",
            "of": "a: 4.00 MiB",
            "to": "b: 2.00 MiB",
        }
    )
    assert found["table"]["train, data, CUDA"] == {"ratio": "", "aim": "< 1.02", "of": "", "to": ""}
    assert found["machine"]["cpu"]["torch"] == torch.__version__


def test_rows_of_two_machines_are_not_mixed(tmp_path):
    path, chosen = tmp_path / "benchmark.json", argparse.Namespace(only="step", device="cpu")
    chosen.json = path
    table = {"old": {}, "step, CUDA": {}}
    path.write_text(json.dumps({"machine": {"cpu": {"device": "another"}}, "table": table}))
    with pytest.raises(SystemExit, match=r"measured on .*another.*; measure all, without --only"):
        benchmark.rows_kept(chosen, {"device": "this"})
    chosen.only = None
    machines, kept = benchmark.rows_kept(chosen, {"device": "this"})
    assert (machines, kept) == ({"cpu": {"device": "this"}}, {"step, CUDA": {}})
    chosen.device = "cuda"
    assert benchmark.rows_kept(chosen, {"device": "a GPU"})[1] == {"old": {}}
