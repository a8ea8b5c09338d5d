"""What a corpus needs: the arithmetic of given figures, and that figures are measured, on small sizes; not how fast."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel

from vkd_pyro.artifacts.checkpoints import load_checked
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.loading.device_cache import needed
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.encoders.image import ConvEncoder

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import estimate

MIMIC, TEN_TIMES = estimate.SIZES
CPU = {need.image: 0.5 for need in estimate.NEEDS.values() if need.image and "CUDA" not in need.image} | {
    name: 0.25 for need in estimate.NEEDS.values() for name in (need.fixed, need.report) if name and "CUDA" not in name
}


def table_of(figures):
    return estimate.with_device({}, "cpu", {}, figures)["table"]


# ------------------------------------------------------------------------------------- arithmetic


def test_an_amount_is_fixed_and_of_each_image_and_report_divided_among_devices():
    figures, size = {"a": 7.0, "b": 2.0, "c": 3.0}, estimate.Size(images=10, reports=4)
    assert estimate.Need("GB", "a", "b", "c").amount(figures, size) == 7 + 2 * 10 + 3 * 4
    assert estimate.Need("GB", image="b").amount(figures, size) == 20
    assert estimate.Need("h", image="b", devices=8).amount(figures, size) == 2.5
    assert estimate.Need("GB", fixed="a").amount(figures, size) == 7


def test_cells_are_in_gigabytes_and_hours():
    need = estimate.Need("GB", fixed="process", report="study")
    assert need.cells({"process": 4e9, "study": 1e6}) == {
        "measured": "4.0 GB + 1.0 MB a report",
        MIMIC: "232 GB",
        TEN_TIMES: "2,282 GB",
    }
    assert estimate.Need("h", image="step").cells({"step": 3600 / 377_110}) == {
        "measured": "0.0095 s an image",
        MIMIC: "1.0 h",
        TEN_TIMES: "10 h",
    }


def test_ten_times_is_ten_times():
    one, other = estimate.SIZES.values()
    assert (other.images, other.reports) == (10 * one.images, 10 * one.reports)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0481, "0.048"), (0.00104, "0.0010"), (6, "6.0"), (9.94, "9.9"), (9.97, "10"), (10, "10"), (1234.5, "1,234")],
)
def test_numbers_have_two_digits_at_least(number, text):
    assert estimate.shown(number) == text


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (5.8e9, "GB", "5.8 GB"),
        (212e6, "GB", "212 MB"),
        (50_176, "GB", "50 kB"),
        (500, "GB", "0.50 kB"),
        (90, "h", "90 s"),
    ],
)
def test_what_one_takes_is_in_a_unit_of_its_size(number, unit, text):
    assert estimate.one_shown(number, unit) == text


def test_cells_that_were_not_measured_are_empty():
    table = table_of(CPU)
    empty = {name for name, cells in table.items() if not any(cells.values())}
    assert empty == {name for name in table if "GPU" in name and "cache_on_device" not in name}
    assert all(all(cells.values()) for name, cells in table.items() if name not in empty)
    assert {tuple(cells) for cells in table.values()} == {("measured", MIMIC, TEN_TIMES)}


def test_eight_gpus_take_an_eighth():
    names = ("step, CUDA", "peak, CUDA", "embed, CUDA")
    table = table_of(CPU | dict.fromkeys(names, 3600 / 377_110 * 80))
    assert table["an epoch: one GPU, bf16"][MIMIC] == "80 h"
    assert table["an epoch: 8 GPUs, bf16"][MIMIC] == "10 h"


def test_a_device_leaves_the_figures_of_the_other():
    content = estimate.with_device({}, "cpu", {"device": "a"}, CPU)
    both = estimate.with_device(
        json.loads(json.dumps(content)), "cuda", {"device": "b"}, {"step, CUDA": 3600 / 377_110}
    )
    assert both["machine"] == {"cpu": {"device": "a"}, "cuda": {"device": "b"}}
    assert both["figures"]["cpu"] == CPU
    changed = {name for name, cells in both["table"].items() if cells != content["table"][name]}
    assert changed == {"an epoch: one GPU, bf16", "an epoch: 8 GPUs, bf16"}


# -------------------------------------------------------------------------------------- measuring


@pytest.fixture
def vkd():
    torch.manual_seed(0)
    return estimate.network(ConvEncoder((4, 8)))


def test_every_figure_that_is_needed_is_measured(tmp_path, vkd, monkeypatch):
    smaller = {
        "store": partial(estimate.store, studies=4, size=16),
        "study_in_memory": partial(estimate.study_in_memory, studies=(70, 90)),
        "reading": partial(estimate.reading, width=300, height=200),
        "training": lambda vkd, batch_size: 1.0,
        "embedding": lambda model, tokens, batch_size: 1.0,
        "language_model": lambda: None,
        "network": lambda: vkd,
    }
    for name, measure in smaller.items():
        monkeypatch.setattr(estimate, name, measure)
    threads = torch.get_num_threads()
    figures = estimate.on_cpu(tmp_path)
    torch.set_num_threads(threads)
    assert set(figures) == set(CPU)
    assert all(value > 0 for value in figures.values())


def test_a_store_holds_the_bytes_of_its_pixels_and_embeddings(tmp_path):
    found = estimate.store(tmp_path, studies=20, size=64)
    assert found["stored image"] == pytest.approx(64**2, rel=0.05)
    assert found["stored embeddings"] == pytest.approx(128 * 768 * 2, rel=0.01)
    assert found["stored embeddings, at most"] == pytest.approx(256 * 768 * 2, rel=0.01)
    assert found["cached image"] == 64**2

    encoder = estimate.Embedded(768)
    data = StudyData(
        Selection(MimicCXR(tmp_path / "corpus"), 64, views="all", unknown_views="keep"),
        loading=Loading(store=tmp_path / "store", batch_size=1),
    )
    dataset = data.train_loader(encoder, seed=0).dataset
    cached = len(dataset) * found["cached image"] + len(dataset.studies) * found["cached embeddings"]
    assert needed(dataset) == pytest.approx(cached, rel=0.01)


def test_a_checkpoint_holds_weights_and_two_moments(tmp_path, vkd):
    size = estimate.checkpoint(vkd, tmp_path / "last.ckpt")["checkpoint"]
    weights = sum(parameter.nbytes for parameter in vkd.parameters())
    assert size == pytest.approx(3 * weights, rel=0.02)
    assert set(load_checked(tmp_path / "last.ckpt")) == {"state_dict", "optimizer_states"}


def test_the_network_is_that_of_the_config():
    vkd = estimate.network()
    assert len(vkd.findings) == 14
    assert vkd.guide.report_encoder.features_dim == 768
    assert vkd.model.image_encoder.name == "densenet121"


def test_a_language_model_and_a_step_take_time(vkd):
    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    assert estimate.embedding(model, tokens=4, batch_size=2, repeats=1) > 0
    before = [parameter.clone() for parameter in vkd.parameters()]
    assert estimate.training(vkd, 2, 16, repeats=1) > 0
    assert not all(map(torch.equal, before, vkd.parameters()))


def test_an_xray_is_a_large_gray_jpeg(tmp_path):
    estimate.write_xray(tmp_path / "xray.jpg", 512, 640)
    with Image.open(tmp_path / "xray.jpg") as image:
        assert (image.size, image.mode, image.format) == ((512, 640), "L", "JPEG")
    assert 0.2 < (tmp_path / "xray.jpg").stat().st_size / (512 * 640) < 1


# ---------------------------------------------------------------------------------------- running


def test_the_file_has_what_the_readme_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "on_cpu", lambda folder: CPU)
    monkeypatch.setattr(sys, "argv", ["estimate.py", "--json", str(tmp_path / "scale.json")])
    estimate.main()
    content = json.loads((tmp_path / "scale.json").read_text())
    assert list(content) == ["command", "machine", "rows", "note", "table", "figures"]
    assert content["table"] == table_of(CPU)
    assert "proportional" in content["note"]
    assert MIMIC not in capsys.readouterr().out


def test_without_a_gpu_it_says_in_one_line_what_to_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["estimate.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match=r"no GPU here; on a machine with one: python scripts/estimate.py --device"):
        estimate.main()
