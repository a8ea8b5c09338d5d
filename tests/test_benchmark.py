"""The benchmark: that what it compares does the same work, and that its parts run, on small sizes; not how fast."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.distributions import MLP, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder
from vkd_pyro.methods.vkd import VKD

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from benchmark import busy, cuda, data, export, memory, networks, run, start, steps, timing

MEASURED = json.loads((Path(__file__).parent.parent / "results" / "benchmark.json").read_text())["table"]
"""The rows of the table; those of a GPU are there, empty or not."""

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def small_vkd(dropout: float = 0.0, image_encoder: ImageEncoder | None = None) -> VKD:
    torch.manual_seed(0)

    def family(features: int, latent: int) -> DiagonalNormal:
        return DiagonalNormal(features, latent, MLP((7, 5), dropout))

    encoders = image_encoder or ConvEncoder((4, 8)), networks.Embedded(16, 2, 8, dropout)
    return VKD(tuple("abc"), *encoders, latent_dim=6, prior=family, posterior=family)


def small_batch(size: int = 6, image_size: int = 16) -> Batch:
    return networks.made_up_batch(size, image_size, 16, 3)


@pytest.fixture
def small(monkeypatch):
    """In place of the paper's network, a small one around the same image encoder."""
    for module in (cuda, steps):
        monkeypatch.setattr(module, "xray_vkd", lambda encoder, device="cpu": small_vkd(0.5, encoder))


# ------------------------------------------------------------------------------------- same work


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_loss_by_hand_is_that_of_the_objective(beta):
    vkd, batch = small_vkd().eval(), small_batch(12)
    assert 0 < batch.known.float().mean() < 1
    assert 0 < batch.has_report.float().mean() < 1
    losses, gradients = [], []
    for loss in (steps.program_loss, steps.plain_loss):
        vkd.zero_grad()
        torch.manual_seed(7)  # both draw the noise of the report's z first
        value = loss(vkd, batch, beta)
        value.backward()
        losses.append(value.item())
        gradients.append(torch.cat([p.grad.flatten() for p in vkd.parameters() if p.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert torch.allclose(*gradients, atol=1e-5)


def test_one_step_by_hand_leaves_the_same_weights():
    weights = []
    for loss in (steps.program_loss, steps.plain_loss):
        vkd = small_vkd()  # dropout is 0, and batches are normalised as in training
        step = steps.training_step(vkd, small_batch(), loss)
        torch.manual_seed(7)
        step()
        weights.append(torch.cat([parameter.flatten() for parameter in vkd.parameters()]).detach())
    # Adam's first step is the sign of a gradient: where that is rounding alone, it may be either.
    assert ((weights[0] - weights[1]).abs() < 1e-5).float().mean() > 0.99


def test_no_network_costs_no_operations_and_has_all_parameters():
    network = ConvEncoder((4, 8))
    idle = networks.NoNetwork(network)
    with FlopCounterMode(display=False) as counter:
        features = idle(torch.rand(2, 1, 16, 16))
    assert counter.get_total_flops() == 0
    assert features.shape == (2, 8)
    assert len(list(idle.parameters())) == len(list(network.parameters()))


# ----------------------------------------------------------------------------------------- ratios


def test_a_ratio_is_of_medians_and_its_spread_of_pairs():
    row = timing.Timed("a", (2.0, 4.0, 9.0)).over(timing.Timed("b", (1.0, 2.0, 3.0)), "row", "<= 2", images=8)
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
    timed = timing.in_turn(actions, 2, lambda: next(now))
    assert "".join(ran) == "abc" * 3
    assert [one.times for one in timed] == [(1, 1)] * 3


def test_seconds_below_one_are_shown_in_milliseconds():
    cells = timing.compare("row", ("a", lambda: None), ("b", lambda: None), 1, clock=iter([0, 0.5, 1, 2]).__next__)
    assert cells.cells()["of"] == "a: 500.0 ms"


# ----------------------------------------------------------------------------- parts, on small sizes


def test_a_step_both_ways():
    row = steps.stepping_both_ways("step", small_vkd(0.5), small_batch(), 2, "bf16", "<= 1.05")
    assert (row.slower, row.faster, row.images) == ("under the ELBO", "plain PyTorch", 6)
    assert row.ratio > 0


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_options_of_the_network(small, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)  # takes minutes
    rows = steps.options_of_network("mobilenet_v3_small", small_batch(2, 32), 1)
    assert [f"{row.name}, CUDA" for row in rows] == [f"step, {option}, CUDA" for option in steps.OPTIONS]
    assert {f"{row.name}, CUDA" for row in rows} <= MEASURED.keys()


@pytest.mark.slow
@needs_openvino
def test_exports(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    model = networks.images_only(ConvEncoder((4, 8)), 4)
    folders = export.engines(model, 16, tmp_path)
    paths = export.write_noise(tmp_path / "images", 3, 24, 32, ".png")
    files = export.predicting_files(folders, paths)
    others = [export.in_batches_of_32(model, paths), *export.torchxrayvision(paths)]
    rows = export.against_exports("png", files + others, 3, (">= 3", ">= 5"))
    assert [(row.name, row.aim) for row in rows] == [
        ("png: vkd predict, PyTorch to OpenVINO, fp32", ""),
        ("png: vkd predict, PyTorch to OpenVINO, bf16", ""),
        ("png: eager PyTorch, 32 at once to OpenVINO, fp32", ">= 3"),
        ("png: eager PyTorch, 32 at once to OpenVINO, bf16", ">= 5"),
    ]
    assert "no row of torchxrayvision" in capsys.readouterr().out
    said = [[each.probabilities for each in action()] for _, action in files]
    assert said[0] == [pytest.approx(probabilities, abs=1e-5) for probabilities in said[1]]
    arrays = export.predicting_arrays(folders, torch.rand(3, 1, 16, 16))
    assert len(export.against_exports("arrays", arrays, 3)) == 2


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own():
    here = bytearray(2**28)
    kinds = [("RssAnon",), ("VmHWM",)]
    row = memory.compare_memory("row", memory.memory_of_process, kinds, ["at present", "peak"])
    assert (row.name, row.slower, row.faster, row.unit) == ("memory, row", "peak", "at present", "MiB")
    assert 0 < row.faster_value <= memory.memory_of_process("VmHWM") - len(here) / 2**20


def test_torchxrayvision_takes_the_same_files(tmp_path):
    pytest.importorskip("torchxrayvision")
    paths = export.write_noise(tmp_path / "images", 2, 256, 256, ".png")
    ((name, action),) = export.torchxrayvision(paths)
    action()
    assert name == "torchxrayvision"


def test_images_of_noise_are_gray_and_of_the_size_asked_for(tmp_path):
    (path,) = export.write_noise(tmp_path / "images", 1, 40, 60, ".jpg")
    with Image.open(path) as image:
        assert (image.mode, image.size, image.format) == ("L", (40, 60), "JPEG")
    assert ImageTransform(16)(path).float().std() > 5


# -------------------------------------------------------------------------------- GPU's, on a CPU


def test_work_is_counted_forward_and_backward():
    linear, x = torch.nn.Linear(8, 4, bias=False), torch.rand(16, 8)

    def step() -> None:
        linear.weight.grad = None
        linear(x).sum().backward()

    work = cuda.Work.of(step)
    assert work.operations == 2 * (2 * 16 * 8 * 4)  # x W, and the gradient of W
    matrices = 4 * (16 * 8 + 8 * 4 + 16 * 4)  # of each product: two are read, one written
    assert 2 * matrices <= work.bytes <= 4 * matrices


def test_a_view_moves_nothing():
    x = torch.rand(10, 10)
    assert cuda.Work.of(lambda: x.T[2:].unsqueeze(0)).bytes == 0
    assert cuda.Work.of(lambda: x + 1).bytes == 2 * 400


def test_the_limit_is_of_what_binds():
    work = cuda.Work(operations=6e12, bytes=4e9)
    assert work.limit((3e12, 4e9)) == ("limit of its arithmetic (6.00 TFLOP, 4.0 GB moved)", 2.0)
    assert work.limit((12e12, 1e9)) == ("limit of its memory (6.00 TFLOP, 4.0 GB moved)", 4.0)


def test_limits_of_training_and_prediction(small):
    rows = cuda.limits("mobilenet_v3_small", small_batch(2, 32), (1e12, 1e11), repeats=1)
    assert [f"{row.name}, CUDA" for row in rows] == [name for name in MEASURED if "limit" in name]
    assert all(row.ratio > 0 for row in rows)


@pytest.mark.slow
def test_waiting_for_data(tmp_path):
    rows = cuda.waiting_for_data(tmp_path, ConvEncoder((4, 8)), "cpu", 60, 16, 8, 0, 2)
    assert [row.name for row in rows] == ["train, data", "train, data held"]
    for row in rows:
        assert f"{row.name}, CUDA" in MEASURED
        assert row.images == 16


# ----------------------------------------------------------------------------------------- the file


def test_without_a_gpu_it_says_in_one_line_what_to_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device", "cuda", "--only", "gpu"])
    with pytest.raises(SystemExit, match=r"no GPU here; .* --device cuda --json") as stopped:
        run.main()
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["--only", "gpu"], "measured with --device cuda"), (["--only", "data"], "--root is needed for data")],
)
def test_what_cannot_be_measured_is_refused(given, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", *given])
    with pytest.raises(SystemExit):
        run.main()
    assert expected in capsys.readouterr().err


def test_rows_that_were_not_measured_are_kept_and_a_gpus_come_last(tmp_path, monkeypatch):
    path = tmp_path / "benchmark.json"
    part = run.Part(lambda chosen, folder: [timing.single("new", ("a", 4.0), ("b", 2.0), "MiB", "flat")])
    monkeypatch.setitem(run.PARTS, "step", part)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--only", "step", "--json", str(path)])
    run.main()
    first = json.loads(path.read_text())
    first["table"] = {"old, CUDA": {}, "old": first["table"].pop("new")}
    path.write_text(json.dumps(first))
    run.main()
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
    assert list(found["table"]) == ["old", "new", "old, CUDA"]
    assert found["machine"]["cpu"]["torch"] == torch.__version__


def test_rows_of_two_machines_are_not_mixed(tmp_path):
    path, chosen = tmp_path / "benchmark.json", argparse.Namespace(only="step", device="cpu")
    chosen.json = path
    table = {"old": {}, "step, CUDA": {}}
    path.write_text(json.dumps({"machine": {"cpu": {"device": "another"}}, "table": table}))
    with pytest.raises(SystemExit, match=r"measured on .*another.*; measure all, without --only"):
        run.rows_kept(chosen, {"device": "this"})
    chosen.only = None
    machines, kept = run.rows_kept(chosen, {"device": "this"})
    assert (machines, kept) == ({"cpu": {"device": "this"}}, {"step, CUDA": {}})
    chosen.device = "cuda"
    assert run.rows_kept(chosen, {"device": "a GPU"})[1] == {"old": {}}


# ------------------------------------------------------------------------------------- beside other work


def test_either_waiting_policy_is_that_of_the_process_and_the_others_end(monkeypatch):
    seen = []
    monkeypatch.setattr(
        busy, "STEPS", "import os; print({'active': 3.0, 'passive': 1.5}[os.environ['OMP_WAIT_POLICY']])"
    )
    started = busy.subprocess.Popen
    monkeypatch.setattr(busy.subprocess, "Popen", lambda *a, **k: seen.append(started(*a, **k)) or seen[-1])
    row = busy.waiting(busy=1, threads=1, repeats=2, steps=1)
    assert (row.ratio, row.slower_value, row.faster_value) == (2.0, 3.0, 1.5)
    assert row.name == "step of a small network, 1 threads, beside 1 busy processes"
    assert all(process.returncode is not None for process in seen)


def test_a_start_by_the_bundle_is_compared_with_one_by_its_export(tmp_path, monkeypatch):
    seen = []

    def seconds(folder, image, cold):
        seen.append((folder.name, cold))
        return 100.0 if len(seen) <= 2 else {"bundle": 6.0, "fp32": 1.5}[folder.name]

    monkeypatch.setattr(start, "seconds", seconds)
    folders = {"vkd predict, PyTorch": Path("bundle"), "OpenVINO, fp32": Path("fp32"), "OpenVINO, bf16": Path("bf16")}
    row = start.starting(folders, Path("a.png"), cold=True, repeats=2)
    assert seen == [("bundle", True), ("fp32", True)] * 3
    assert (row.name, row.slower, row.faster) == (
        "vkd predict of one image, page cache dropped",
        "bundle, PyTorch",
        "export, OpenVINO",
    )
    assert (row.ratio, row.low, row.high) == (4.0, 4.0, 4.0)  # the first run of each is not timed


def test_a_jpeg_is_read_both_ways(tmp_path):
    row = data.decoding(tmp_path, repeats=1)
    assert (row.slower, row.faster) == ("decoded whole", "scaled_jpeg")
