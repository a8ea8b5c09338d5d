"""What MIMIC-CXR, and ten times that, need in disk, memory and hours.

    python scripts/estimate.py --json results/scale.json
    python scripts/estimate.py --device cuda --json results/scale.json

What one image, one report and one training step cost is measured, on the machine that is named, and multiplied by how
many there are. Seconds on a CPU are the processor's, on one thread. The second command measures what is of a GPU, and
keeps what the file says of a CPU; until then those cells are empty.
"""

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchmark.memory import memory_of_process
from benchmark.networks import FINDINGS, Embedded, made_up_batch
from benchmark.run import machine_of
from benchmark.steps import stepping
from benchmark.timing import Action, Clock, clock_of, in_turn
from PIL import Image, ImageFilter
from torch import nn
from torch.optim import Adam

from vkd_pyro import VKD, Loading, Selection, StudyData
from vkd_pyro.artifacts.checkpoints import save_checked
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.store import prepare
from vkd_pyro.encoders.image import ImageEncoder, TorchvisionEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.files import write_json

COMMANDS = (
    "python scripts/estimate.py --json results/scale.json",
    "python scripts/estimate.py --device cuda --json results/scale.json",
)
NOTE = (
    "Assumed: cost is proportional to the number of images, reports (one a study) and devices, and nothing waits for "
    "disk or network; 8 GPUs are 8 times one. Every image counts as one of training. "
    "Reports are of 128 tokens each, or 256, the most that is kept. The X-ray that is read is a JPEG of 2,544 x 3,056 "
    "pixels made from noise; weights are random, which changes no cost. An epoch is its training steps "
    "alone: no augmentation, no validation. The memory of a process is without the pages of the store's mapped files."
)
WIDTH, HEADS, FEED_FORWARD = 768, 12, 3072
"""Of BERT-base, and of the Transformer block on it."""
TOKENS, MOST_TOKENS = 128, 256
GPUS = 8


# ---------------------------------------------------------------------------------------- arithmetic


@dataclass(frozen=True)
class Size:
    """How large a corpus is."""

    images: int
    reports: int


SIZES = {"MIMIC-CXR: 377,110 images": Size(377_110, 227_835), "ten times that": Size(3_771_100, 2_278_350)}

Figures = dict[str, float]
"""Bytes or seconds of one of something, by name; those of a GPU are absent where none has measured."""

UNITS = {"GB": {"GB": 1e9, "MB": 1e6, "kB": 1e3}, "h": {"s": 1.0}}
"""Units of one of something, by the unit of a need; the first that is not too large is taken."""
WHOLE = {"GB": 1e9, "h": 3600.0}


@dataclass(frozen=True)
class Need:
    """fixed + image · images + report · reports, divided among devices; each is the name of a figure, or none."""

    unit: str
    fixed: str = ""
    image: str = ""
    report: str = ""
    devices: int = 1

    def amount(self, figures: Figures, size: Size) -> float:
        """In bytes or seconds; `KeyError` where a figure has not been measured."""
        counted = ((self.fixed, 1), (self.image, size.images), (self.report, size.reports))
        return sum(figures[name] * number for name, number in counted if name) / self.devices

    def cells(self, figures: Figures) -> dict[str, str]:
        """What the table shows, by column; empty where a figure has not been measured."""
        parts = ((self.fixed, ""), (self.image, " an image"), (self.report, " a report"))
        try:
            measured = " + ".join(one_shown(figures[name], self.unit) + of for name, of in parts if name)
            amounts = {name: self.amount(figures, size) / WHOLE[self.unit] for name, size in SIZES.items()}
        except KeyError:
            return dict.fromkeys(("measured", *SIZES), "")
        return {"measured": measured} | {name: f"{shown(amount)} {self.unit}" for name, amount in amounts.items()}


def shown(number: float) -> str:
    """With two digits at least."""
    return f"{number:,.0f}" if number >= 9.95 else f"{number:#.2g}"


def one_shown(number: float, unit: str) -> str:
    """Bytes or seconds with their unit."""
    units = UNITS[unit]
    name = next((name for name, size in units.items() if number >= size), list(units)[-1])
    return f"{shown(number / units[name])} {name}"


NEEDS = {
    "disk: store, images of 224 px": Need("GB", image="stored image"),
    "disk: store, embeddings of reports": Need("GB", report="stored embeddings"),
    "disk: store, embeddings of reports, at most": Need("GB", report="stored embeddings, at most"),
    "disk: store, token ids in their place": Need("GB", report="stored ids"),
    "disk: a checkpoint, of three that a run keeps": Need("GB", "checkpoint"),
    "memory: a training process, CPU, batches of 32": Need("GB", "process", report="study in memory"),
    "memory: a GPU, batches of 64, bf16": Need("GB", "peak, CUDA"),
    "memory: a GPU, cache_on_device, beside that": Need("GB", image="cached image", report="cached embeddings"),
    "vkd prepare, images: one core": Need("h", image="read"),
    "vkd prepare, reports: one core": Need("h", report="embed"),
    "vkd prepare, reports, at most: one core": Need("h", report="embed, at most"),
    "vkd prepare, reports: one GPU": Need("h", report="embed, CUDA"),
    "an epoch: one core": Need("h", image="step"),
    "an epoch: one GPU, bf16": Need("h", image="step, CUDA"),
    f"an epoch: {GPUS} GPUs, bf16": Need("h", image="step, CUDA", devices=GPUS),
}


# ----------------------------------------------------------------------------------------- measuring


def on_cpu(folder: Path) -> Figures:
    """All that needs no GPU, on one thread."""
    torch.set_num_threads(1)
    step = training(network(), 32)
    process = memory_of_process("VmHWM") * 2**20  # before the rest, since it is of all so far
    model = language_model()
    embed = {"embed": embedding(model, TOKENS, 32), "embed, at most": embedding(model, MOST_TOKENS, 16)}
    sizes = store(folder) | study_in_memory(folder) | checkpoint(network(), folder / "last.ckpt")
    return {"step": step, "process": process} | embed | sizes | reading(folder)


def on_cuda() -> Figures:
    """What a GPU does; its peak is of weights, optimiser and one step."""
    step = training(network(), 64, device="cuda", repeats=20)
    peak = float(torch.cuda.max_memory_allocated())
    return {"step, CUDA": step, "peak, CUDA": peak, "embed, CUDA": embedding(language_model(), TOKENS, 64, "cuda", 20)}


def seconds(action: Action, repeats: int, device: str = "cpu") -> float:
    """The median; on a CPU of the processor's seconds, so that what else the machine does counts little."""
    clock: Clock = clock_of(device) if device == "cuda" else time.process_time
    (timed,) = in_turn([("", action)], repeats, clock)
    return median(timed.times)


def network(encoder: ImageEncoder | None = None) -> VKD:
    """That of configs/mimic_cxr_paper.yaml, with embeddings of reports for an input."""
    reports = Embedded(WIDTH, HEADS, FEED_FORWARD)
    return VKD(FINDINGS, encoder or TorchvisionEncoder("densenet121"), reports, latent_dim=512)


def training(vkd: VKD, batch_size: int, image_size: int = 224, device: str = "cpu", repeats: int = 3) -> float:
    """Seconds an image; fp32 on a CPU, bf16 on a GPU."""
    step = stepping(vkd.to(device), precision="bf16" if device == "cuda" else "fp32")
    width = vkd.guide.report_encoder.features_dim
    batch = made_up_batch(batch_size, image_size, width, len(vkd.findings)).to(device)
    return seconds(lambda: step(batch), repeats, device) / batch_size


def language_model() -> nn.Module:
    """BERT-base, which Bio_ClinicalBERT is, too."""
    from transformers import BertConfig, BertModel  # seconds to import

    return BertModel(BertConfig())


def embedding(model: nn.Module, tokens: int, batch_size: int, device: str = "cpu", repeats: int = 3) -> float:
    """Seconds a report, in fp32, as `vkd prepare` does it."""
    ids = torch.randint(1000, (batch_size, tokens), device=device)
    model.to(device).eval()

    @torch.no_grad()
    def embed() -> None:
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.half().cpu()

    return seconds(embed, repeats, device) / batch_size


def reading(folder: Path, width: int = 2544, height: int = 3056) -> Figures:
    """Seconds of one X-ray, from its file to 224 px."""
    path, transform = folder / "xray.jpg", ImageTransform(224)
    write_xray(path, width, height)
    return {"read": seconds(lambda: transform(path), 7)}


def write_xray(path: Path, width: int, height: int) -> None:
    """A JPEG: smooth shades, and grain, which makes it as large as those of a detector."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(256, size=(height // 64, width // 64), dtype=np.uint8))
    shades = coarse.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(8))
    grain = random.normal(0, 9, (height, width))
    Image.fromarray((np.asarray(shades) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=95)


def corpus(folder: Path, studies: int, written: int, size: int) -> Selection:
    """All images of a synthetic corpus, written with so many pixels, at a size."""
    synthesize("mimic-cxr", folder, studies, image_size=written)
    return Selection(MimicCXR(folder), size, views="all", unknown_views="keep")


def store(folder: Path, studies: int = 64, size: int = 224) -> Figures:
    """Bytes in the files of a small store."""
    selection = corpus(folder / "corpus", studies, 64, size)
    counts = prepare(selection, Embedded(WIDTH), folder / "store", progress=False)

    def files(kind: str) -> int:
        return sum(path.stat().st_size for path in (folder / "store").glob(f"*.{kind}.arrow"))

    report = files("reports") / studies  # a study without a report has the embeddings of an empty one
    return {
        "stored image": files("images") / counts["images"],
        "stored embeddings": report,
        "stored embeddings, at most": report * MOST_TOKENS / TOKENS,
        "stored ids": 8.0 * TOKENS,
        "cached image": float(size**2),
        "cached embeddings": 2.0 * TOKENS * WIDTH,
    }


def study_in_memory(folder: Path, studies: tuple[int, int] = (100, 1100)) -> Figures:
    """Bytes by which a process that reads a store grows with each of its studies."""
    encoder = WordEncoder(16, 4)

    def opened(number: int) -> tuple[int, int]:
        selection = corpus(folder / f"{number}", number, 16, 16)
        done = prepare(selection, encoder, folder / f"store{number}", progress=False)
        data = StudyData(selection, loading=Loading(store=folder / f"store{number}"))
        tracemalloc.start()
        loader = data.train_loader(encoder, seed=0)
        _, used = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(loader)  # kept until here
        return done["studies"], used

    opened(studies[0] - 1)  # what is made once
    (few, small), (many, large) = map(opened, studies)
    return {"study in memory": (large - small) / (many - few)}


def checkpoint(vkd: VKD, path: Path) -> Figures:
    """Bytes of weights, and of the two moments that Adam keeps of each that is trained."""
    optimizer = Adam(parameter for parameter in vkd.parameters() if parameter.requires_grad)
    for parameter in vkd.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    save_checked({"state_dict": vkd.state_dict(), "optimizer_states": [optimizer.state_dict()]}, path)
    return {"checkpoint": float(path.stat().st_size)}


# ------------------------------------------------------------------------------------------- running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what is measured")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"--device cuda: no GPU here; on a machine with one: {COMMANDS[1]}")
    with tempfile.TemporaryDirectory() as folder:
        figures = on_cuda() if chosen.device == "cuda" else on_cpu(Path(folder))
    before = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json and chosen.json.exists() else {}
    content = with_device(before, chosen.device, machine_of(chosen.device), figures)
    for name, cells in content["table"].items():
        print(f"{name}: {'; '.join(cells.values())}")
    if chosen.json:
        write_json(chosen.json, content)


def with_device(content: dict[str, Any], device: str, machine: Any, figures: Figures) -> dict[str, Any]:
    """What the file says, with new figures of one device; those of the other stay."""
    by_device = content.get("figures", {}) | {device: figures}
    known = {name: value for found in by_device.values() for name, value in found.items()}
    return {
        "command": "; ".join(COMMANDS),
        "machine": content.get("machine", {}) | {device: machine},
        "rows": "needed",
        "note": NOTE,
        "table": {name: need.cells(known) for name, need in NEEDS.items()},
        "figures": by_device,
    }


if __name__ == "__main__":
    main()
