"""Speed and memory, as ratios of two things run alternately in one run.

    python scripts/benchmark.py --root OPENI --language_model FOLDER --json results/benchmark.json
    python scripts/benchmark.py --only step --json results/benchmark.json
    python scripts/benchmark.py --device cuda --json results/benchmark.json

The second measures one part alone, the third what a GPU does; other rows of the file are left as they are.

Each row compares two things that do the same work; all that are compared are run in turn, A B C A B C ..., and the
ratio of two median times stands beside the spread of the paired ratios. Absolute figures are of the machine that is
named on top.
"""

import argparse
import importlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, repeat
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol

import numpy as np
import pyro
import torch
from PIL import Image
from pyro.distributions import validation_enabled
from pyro.infer import Predictive
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import Compose
from vkd_pyro.artifacts.export.engines import engine_of

import vkd_pyro
from vkd_pyro import VKD, StudyData, TraceVKD_ELBO, predict
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.artifacts.export import export_bundle, load_predictor
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.images.transforms import Augmentation, ImageTransform
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS as FINDINGS
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import BadImages, Selection
from vkd_pyro.data.store import prepare
from vkd_pyro.data.store.layout import SHARD
from vkd_pyro.data.store.shards import write_images, write_reports
from vkd_pyro.data.task import Task
from vkd_pyro.distributions import BernoulliLikelihood, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder, TorchvisionEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder, ReportEncoder, TransformerBlock, WordEncoder
from vkd_pyro.model import Model
from vkd_pyro.prediction import find_images, predict_files
from vkd_pyro.prediction.predictive import Prediction
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.files import write_json

COMMANDS = (
    "python scripts/benchmark.py --root ../shared/openi --language_model models/all-MiniLM-L6-v2 "
    "--json results/benchmark.json",
    "python scripts/benchmark.py --device cuda --json results/benchmark.json",
)
"""What measures everything: on a CPU, and on a GPU."""

Action = Callable[[], object]
Clock = Callable[[], float]
Precision = Literal["fp32", "bf16"]
Machine = dict[str, str | int]


# ----------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the median of `slower` over that of `faster`, times unless the unit says otherwise.

    Attributes:
        images: how many each of the two works on, for images/s; 0 where none are counted.
    """

    name: str
    slower: str
    faster: str
    slower_value: float
    faster_value: float
    unit: str
    ratio: float
    low: float
    high: float
    aim: str
    images: int = 0

    def cells(self) -> dict[str, str]:
        """Of the README's table."""
        return {
            "ratio": f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]",
            "aim": self.aim,
            "of": f"{self.slower}: {self._shown(self.slower_value)}",
            "to": f"{self.faster}: {self._shown(self.faster_value)}",
        }

    def __str__(self) -> str:
        cells = self.cells()
        aim = f"  aim {self.aim}" if self.aim else ""
        return f"{self.name}: {cells['ratio']}{aim}\n    {cells['of']}\n    {cells['to']}"

    def _shown(self, value: float) -> str:
        if self.unit != "s":
            return f"{value:,.2f} {self.unit}"
        seconds = f"{value:,.2f} s" if value >= 1 else f"{1000 * value:,.1f} ms"
        return f"{seconds}, {self.images / value:,.1f} images/s" if self.images else seconds


def printed(row: Row) -> Row:
    """The row, shown at once."""
    print(row, flush=True)
    return row


def single(
    name: str, slower: tuple[str, float], faster: tuple[str, float], unit: str, aim: str, images: int = 0
) -> Row:
    """Of two values that were found once each, or are known."""
    ratio = slower[1] / faster[1]
    return printed(Row(name, slower[0], faster[0], slower[1], faster[1], unit, ratio, ratio, ratio, aim, images))


@dataclass(frozen=True)
class Timed:
    """What was run, and the seconds that each run took."""

    name: str
    times: tuple[float, ...]

    def over(self, other: "Timed", name: str, aim: str, images: int = 0) -> Row:
        """The row of this one, the slower, and the other."""
        pairs = [a / b for a, b in zip(self.times, other.times, strict=True)]
        a, b = median(self.times), median(other.times)
        return printed(Row(name, self.name, other.name, a, b, "s", a / b, min(pairs), max(pairs), aim, images))


def in_turn(actions: Sequence[tuple[str, Action]], repeats: int, clock: Clock = time.perf_counter) -> list[Timed]:
    """Runs all in turn, so many times, and once each before the clock starts."""
    for _, action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for (_, action), of_action in zip(actions, times, strict=True):
            start = clock()
            action()
            of_action.append(clock() - start)
    return [Timed(name, tuple(of_action)) for (name, _), of_action in zip(actions, times, strict=True)]


def compare(
    name: str,
    slower: tuple[str, Action],
    faster: tuple[str, Action],
    aim: str,
    repeats: int,
    clock: Clock = time.perf_counter,
    images: int = 0,
) -> Row:
    """Runs the two in turn, once each before the clock starts."""
    one, other = in_turn([slower, faster], repeats, clock)
    return one.over(other, name, aim, images)


def clock_of(device: str) -> Clock:
    """Seconds; of a GPU when it has done all that it was given."""

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock if device == "cuda" else time.perf_counter


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------------------------- the prepared store


def epoch_from_store(root: Path, language_model: str, folder: Path) -> Row:
    """The same training steps: the language model in every step, or its embeddings from a store."""
    cached, uncached = (LanguageModelEncoder(language_model, cache=cache) for cache in (True, False))
    steps = 12

    def data(store: Path | None) -> StudyData:
        return StudyData(
            Selection(OpenI(root), image_size=128),
            task=Task(max_train_studies=32 * steps),
            loading=Loading(batch_size=32, store=store),
        )

    prepare(data(None).selection, cached, folder, progress=False)

    def training(encoder: LanguageModelEncoder, studies: StudyData) -> Callable[[], None]:
        vkd = VKD(studies.findings, ConvEncoder(), encoder, latent_dim=64)
        optimizer, objective = Adam(p for p in vkd.parameters() if p.requires_grad), TraceVKD_ELBO()
        loader = studies.train_loader(encoder, seed=0)

        def epoch() -> None:
            for batch in loader:
                optimizer.zero_grad()
                objective.terms(vkd.model, vkd.guide, batch, kl_weight=1.0).loss.backward()
                optimizer.step()

        return epoch

    return compare(
        "epoch, small network",
        ("language model in every step", training(uncached, data(None))),
        ("from the store", training(cached, data(folder))),
        ">= 3",
        3,
    )


def reading(root: Path, folder: Path) -> Row:
    """Examples of 224 px read from the store in random order on one thread, against copying the same bytes."""
    prepare(StudyData(Selection(OpenI(root))).selection, WordEncoder(), folder, progress=False)
    dataset = StudyData(Selection(OpenI(root)), loading=Loading(store=folder)).train_loader(None, seed=0).dataset
    rows = np.random.default_rng(0).permutation(len(dataset)).tolist()
    pixels = [dataset.studies[i].images[j] for i, j in dataset.rows]
    with threads(1):
        return compare(
            f"read {len(rows):,} images, 224 px",
            ("from the store", lambda: [dataset[-1, row] for row in rows]),
            ("memory copy", lambda: [pixels[row].copy() for row in rows]),
            "5,000 images/s",
            5,
            images=len(rows),
        )


def loading(root: Path, folder: Path) -> Row:
    """Augmented batches of 224 px from the store that `reading` has made, against training steps on as many images."""
    size = 8
    vkd = xray_vkd(TorchvisionEncoder("densenet121"))
    data = StudyData(
        Selection(OpenI(root)), loading=Loading(batch_size=size, augmentation=Augmentation(), store=folder)
    )
    batches = chain.from_iterable(repeat(data.train_loader(None, seed=0)))
    with threads(1):
        return compare(
            "loader against step, 224 px",
            ("a step of DenseNet-121, one thread", training_step(vkd, made_up_batch(size, 224))),
            ("a batch, augmented, one thread", lambda: next(batches)),
            "> 1",
            5,
            images=size,
        )


def preparing_images(root: Path, folder: Path) -> Row:
    """The image part of `vkd prepare` against decoding and resizing alone, both on all cores."""
    selection = StudyData(Selection(OpenI(root))).selection
    studies = selection.read().studies
    paths = [image for study in studies for image in study.images]

    def decode(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L").resize((224, 224), Image.Resampling.BILINEAR))

    def alone() -> None:
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(decode, paths):
                pass

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            write_images(studies, selection.transform, BadImages(), Path(output), progress=False)

    return compare(f"prepare {len(paths):,} images", ("vkd prepare", whole), ("decode, resize", alone), "<= 1.3", 15)


def preparing_reports(root: Path, language_model: str, folder: Path) -> Row:
    """The text part of `vkd prepare` against the language model's forward passes alone."""
    encoder = LanguageModelEncoder(language_model)
    texts = StudyData(Selection(OpenI(root))).selection.read().texts[: 2 * SHARD]
    passes, embed = [], encoder.embed
    encoder.embed = lambda *batch: (passes.append(batch), embed(*batch))[1]
    encoder.prepare([text or "" for text in texts[:SHARD]])
    encoder.prepare([text or "" for text in texts[SHARD:]])
    encoder.embed = embed

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            write_reports(texts, encoder, Path(output), progress=False)

    def alone() -> None:
        for batch in passes:
            embed(*batch)

    return compare(f"prepare {len(texts):,} reports", ("vkd prepare", whole), ("forward passes", alone), "<= 1.1", 3)


def memory(studies: tuple[int, int], language_model: str, folder: Path) -> list[Row]:
    """Peak memory of a process that prepares, and of one that trains from the store, for two sizes of a corpus."""
    for number in studies:
        synthesize("mimic-cxr", folder / f"{number}", number, image_size=64)

    def row(name: str, command: str) -> Row:
        sizes = [(folder / f"{number}", folder / f"store{number}", language_model) for number in studies]
        return compare_memory(name, command, (sizes[0], sizes[1]), [f"{number:,} studies" for number in studies])

    return [row("prepare", PREPARE), row("train from the store", TRAIN)]


def compare_memory(name: str, command: str, arguments: tuple[Sequence[object], ...], labels: Sequence[str]) -> Row:
    """Peak memory of the same code, which prints its MiB last, in two processes: with small work, and with large."""
    small, large = (
        subprocess.run([sys.executable, "-c", command, *map(str, given)], capture_output=True, text=True, check=True)
        for given in arguments
    )
    least, most = (float(done.stdout.split()[-1]) for done in (small, large))
    return single(f"memory, {name}", (labels[1], most), (labels[0], least), "MiB", "flat")


PEAK = """
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
"""Of this process alone: what `getrusage` says begins with the memory of the process that started it."""

DATA = """
import sys
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.task import Task
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.encoders.report import LanguageModelEncoder
corpus, folder, language_model = sys.argv[1:]
encoder = LanguageModelEncoder(language_model)
"""
PREPARE = (
    DATA
    + """
from vkd_pyro.data.store import prepare
prepare(StudyData(MimicCXR(corpus), 64).selection, encoder, folder, progress=False)
"""
    + PEAK
)
TRAIN = (
    DATA
    + """
peak = 0
for number, batch in enumerate(StudyData(MimicCXR(corpus), 64, store=folder).train_loader(encoder, seed=0)):
    # Without the pages of the mapped files, which the system takes back when it needs them.
    peak = max(peak, int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]))
print(peak / 1024)
"""
)


def data_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """From files to training steps."""
    return [
        epoch_from_store(chosen.root, chosen.language_model, folder / "128"),
        reading(chosen.root, folder / "224"),
        loading(chosen.root, folder / "224"),
        preparing_images(chosen.root, folder),
        preparing_reports(chosen.root, chosen.language_model, folder),
    ]


def memory_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """Of preparing and of training."""
    return memory(tuple(chosen.studies), chosen.language_model, folder)


# ------------------------------------------------------------------------------------------ prediction


def images_only(encoder: ImageEncoder, latent_dim: int) -> Model:
    """A model with the heads of the paper, in eval mode; how well it was trained changes no cost."""
    torch.manual_seed(0)
    prior = DiagonalNormal(encoder.features_dim, latent_dim)
    return Model(encoder, prior, BernoulliLikelihood(latent_dim, len(FINDINGS), encoder.features_dim)).eval()


def predicting() -> list[Row]:
    """100 draws of z against one; and Pyro's `Predictive`, which runs the whole program for each draw, against us.

    In seconds of the processor, on one thread, so that what else the machine does counts little.
    """
    model, images = images_only(TorchvisionEncoder("densenet121"), 512), torch.rand(16, 1, 224, 224)
    few = 10

    def ours(num_samples: int) -> Callable[[], object]:
        return lambda: predict(model, images, FINDINGS, num_samples).summary()

    def program() -> torch.Tensor:
        return model.program(model.image_encoder(images))

    @torch.no_grad()
    def theirs() -> object:
        return Predictive(program, num_samples=few, parallel=False, return_sites=("y",))()

    with threads(1):
        return [
            compare(
                "predict, DenseNet-121, 224 px",
                ("S = 100, one thread", ours(100)),
                ("S = 1, one thread", ours(1)),
                "<= 1.1",
                50,
                time.process_time,
                len(images),
            ),
            compare(
                f"Pyro's Predictive, S = {few}, DenseNet-121, 224 px",
                ("parallel=False, one thread", theirs),
                ("predict, one thread", ours(few)),
                f"about {few}",
                5,
                time.process_time,
                len(images),
            ),
        ]


def memory_predicting(numbers: tuple[int, int], folder: Path) -> Row:
    """Peak memory of `vkd predict` with few and with many images of 224 px, and a small network."""
    save_bundle(folder / "bundle", images_only(ConvEncoder(), 64), FINDINGS, ImageTransform(224), "")
    random = np.random.default_rng(0)
    for number in numbers:
        (folder / f"{number}").mkdir(parents=True)
        for image in range(number):
            pixels = random.integers(256, size=(224, 224), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}" / f"{image}.png")
    sizes = [(folder / "bundle", folder / f"{number}", folder / f"{number}.csv") for number in numbers]
    return compare_memory("vkd predict", PREDICT, tuple(sizes), [f"{number:,} images" for number in numbers])


PREDICT = (
    """
import sys
from vkd_pyro.cli.predict import main
bundle, images, output = sys.argv[1:]
main([bundle, images, "--output", output])
"""
    + PEAK
)


def predict_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """Prediction; it needs no data."""
    return [*predicting(), memory_predicting(tuple(chosen.images), folder / "predict")]


# ------------------------------------------------------------------------------------- training step


class Embedded(ReportEncoder):
    """A Transformer block on token embeddings that are there already: `LanguageModelEncoder` without its frozen model.

    Args:
        width: of the embeddings.
        heads, feed_forward, dropout: of the block; those of MiniLM.
    """

    def __init__(self, width: int = 384, heads: int = 12, feed_forward: int = 1536, dropout: float = 0.5) -> None:
        super().__init__()
        self.features_dim = self.width = width
        self.heads, self.feed_forward, self.dropout = heads, feed_forward, dropout
        self.block = TransformerBlock(width, heads, feed_forward, dropout)

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """Random embeddings, float16 [128, width]; what they are changes no cost."""
        return list(torch.randn(len(reports), 128, self.width).half())

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: float [B, T, width]; bool [B, T]. Returns: float32 [B, width]."""
        return self.block(report, mask)


class NoNetwork(ImageEncoder):
    """In place of an image network: the first pixels are the features, and its parameters are there, but idle."""

    def __init__(self, network: ImageEncoder) -> None:
        super().__init__()
        self.network, self.features_dim = network, network.features_dim

    def forward(self, images: Tensor) -> Tensor:
        """Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, features_dim]."""
        return images.flatten(1)[:, : self.features_dim]


def made_up_batch(size: int, image_size: int, width: int = 384, num_findings: int = len(FINDINGS)) -> Batch:
    """B studies of noise; a fifth of the labels are unknown, and a fifth of the studies have no report."""
    random = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.rand(size, 1, image_size, image_size, generator=random),
        report=torch.randn(size, 128, width, generator=random),
        report_mask=torch.arange(128) < torch.randint(16, 129, (size, 1), generator=random),
        has_report=torch.rand(size, generator=random) < 0.8,
        labels=(torch.rand(size, num_findings, generator=random) < 0.2).float(),
        known=torch.rand(size, num_findings, generator=random) < 0.8,
        study_ids=tuple(map(str, range(size))),
    )


OBJECTIVE = TraceVKD_ELBO()


def program_loss(vkd: VKD, batch: Batch, kl_weight: float = 0.5) -> Tensor:
    """The objective as training computes it, from its second step on."""
    with validation_enabled(False), pyro.get_param_store().scope():
        return OBJECTIVE.terms(vkd.model, vkd.guide, batch, kl_weight).loss


def plain_loss(vkd: VKD, batch: Batch, kl_weight: float = 0.5) -> Tensor:
    """The same objective (paper Eq. 8) of the same networks, by hand: no Pyro, and no distribution."""
    model, guide = vkd.model, vkd.guide
    report = guide.report_encoder(batch.report, batch.report_mask)
    q_loc, q_scale = normal_of(guide.posterior, report)
    auxiliary = guide.auxiliary.network(q_loc + q_scale * torch.randn_like(q_loc))
    image = model.image_encoder(batch.images)
    p_loc, p_scale = normal_of(model.prior, image)
    likelihood = model.likelihood.network(torch.cat([image, p_loc + p_scale * torch.randn_like(p_loc)], dim=-1))

    variances = (q_scale / p_scale).square()
    kl = (0.5 * (variances + ((q_loc - p_loc) / p_scale).square() - 1 - variances.log())).sum(-1)
    with_report = cross_entropy(auxiliary, batch) + kl_weight * kl
    return (cross_entropy(likelihood, batch) + batch.has_report * with_report).mean()


def normal_of(family: DiagonalNormal, features: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale, float [B, D] each."""
    loc, scale = family.loc_and_scale(family.network(features)).float().chunk(2, dim=-1)
    return loc, softplus(scale) + 1e-4


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Of each study, summed over its known findings; float [B]."""
    each = binary_cross_entropy_with_logits(logits.float(), batch.labels, reduction="none")
    return (each * batch.known).sum(-1)


class Loss(Protocol):
    """Of a network on a batch; a scalar."""

    def __call__(self, vkd: VKD, batch: Batch) -> Tensor: ...


def training_step(vkd: VKD, batch: Batch, loss: Loss = program_loss, precision: Precision = "fp32") -> Action:
    """Forward, backward, clipping, Adam."""
    step = stepping(vkd, loss, precision)
    return lambda: step(batch)


def stepping(vkd: VKD, loss: Loss = program_loss, precision: Precision = "fp32") -> Callable[[Batch], None]:
    """As `training_step`, of any batch."""
    parameters = [parameter for parameter in vkd.train().parameters() if parameter.requires_grad]
    optimizer, device = Adam(parameters), parameters[0].device.type

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(vkd, batch)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def xray_vkd(image_encoder: ImageEncoder, device: str = "cpu") -> VKD:
    """The network of the paper: K = 14, D = 512."""
    torch.manual_seed(0)
    return VKD(FINDINGS, image_encoder, Embedded()).to(device)


def stepping_both_ways(name: str, vkd: VKD, batch: Batch, repeats: int, precision: Precision, aim: str) -> Row:
    """The step of the program against that by hand, of one network on one device."""
    device = batch.images.device.type
    ways = [("under the ELBO", program_loss), ("plain PyTorch", plain_loss)]
    actions = [(way, training_step(vkd, batch, loss, precision)) for way, loss in ways]
    return compare(name, *actions, aim, repeats, clock_of(device), len(batch))


def step_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """What the probabilistic program costs beside the same by hand; last without an image network, which hides it."""
    size, repeats = (64, 50) if chosen.device == "cuda" else (8, 30)
    batch = made_up_batch(size, 224).to(chosen.device)
    network = TorchvisionEncoder("densenet121")
    rows = [
        stepping_both_ways(f"step, {shown}", xray_vkd(network, chosen.device), batch, repeats, precision, "<= 1.05")
        for shown, precision in BY_DEVICE[chosen.device].items()
    ]
    idle = xray_vkd(NoNetwork(network), chosen.device)
    row = stepping_both_ways(f"step, no image network{on(chosen.device)}", idle, batch, 10 * repeats, "fp32", "")
    print(f"  {1000 * (row.slower_value - row.faster_value):.2f} ms a step for the program")
    return [*rows, row]


BY_DEVICE: dict[str, dict[str, Precision]] = {
    "cpu": {"DenseNet-121, 224 px": "fp32"},
    "cuda": {"DenseNet-121, 224 px, fp32, CUDA": "fp32", "DenseNet-121, 224 px, bf16, CUDA": "bf16"},
}
"""Names of steps, and their precision."""


def on(device: str) -> str:
    """The end of a row's name."""
    return ", CUDA" if device == "cuda" else ""


# ------------------------------------------------------------------------------- the image network


@dataclass(frozen=True)
class Variant:
    """A way to compute the image network: arguments of the encoder, and what is no argument of it."""

    name: str
    options: dict[str, Any]
    compiled: bool = False
    precision: Precision = "fp32"

    def step(self, network: str, batch: Batch) -> Action:
        """A training step on a device."""
        encoder = TorchvisionEncoder(network, **self.options)
        vkd = xray_vkd(encoder, batch.images.device.type)
        if self.compiled:
            encoder.compile()
        return training_step(vkd, batch, precision=self.precision)


VARIANTS = (
    Variant("as it is by default", {}),
    Variant("contiguous", {"channels_last": False}),
    Variant("bf16 mixed", {}, precision="bf16"),
    Variant("torch.compile", {}, compiled=True),
    Variant("checkpointing", {"checkpointing": True}),
)
OPTIONS = {
    "channels-last": ("contiguous", "as it is by default"),
    "bf16 mixed precision": ("as it is by default", "bf16 mixed"),
    "torch.compile": ("as it is by default", "torch.compile"),
    "no checkpointing": ("checkpointing", "as it is by default"),
}
"""Each option and the two variants that differ by it, the one expected to be slower first."""


def options_of_network(network: str, batch: Batch, repeats: int) -> list[Row]:
    """Time of a training step, and on a GPU its peak memory, with each option and without."""
    device = batch.images.device.type
    actions = [(variant.name, variant.step(network, batch)) for variant in VARIANTS]
    seconds = {name: duration(action) for name, action in actions}
    print("  first step, with what is prepared: " + ", ".join(f"{name} {s:.0f} s" for name, s in seconds.items()))
    timed = {one.name: one for one in in_turn(actions, repeats, clock_of(device))}
    rows = [
        timed[slower].over(timed[faster], f"step, {option}{on(device)}", "", len(batch))
        for option, (slower, faster) in OPTIONS.items()
    ]
    if device == "cuda":
        peaks = {name: peak_memory(action) for name, action in actions}
        for option, (slower, faster) in OPTIONS.items():
            values = (slower, peaks[slower]), (faster, peaks[faster])
            rows.append(single(f"memory, {option}, CUDA", *values, "MiB", ""))
    return rows


def duration(action: Action) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_memory(action: Action) -> float:
    """MiB on the GPU that a run needs beside what is there: weights and optimisers, of all that is compared."""
    action()
    torch.cuda.reset_peak_memory_stats()
    there = torch.cuda.memory_allocated()
    action()
    return (torch.cuda.max_memory_allocated() - there) / 2**20


def network_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """Of DenseNet-121."""
    size, repeats = (64, 20) if chosen.device == "cuda" else (8, 3)
    return options_of_network("densenet121", made_up_batch(size, 224).to(chosen.device), repeats)


# -------------------------------------------------------------------------------- exported prediction


def engines(model: Model, image_size: int, folder: Path) -> dict[str, Path]:
    """A bundle, and what is exported of it."""
    save_bundle(folder / "bundle", model, FINDINGS, ImageTransform(image_size), "")
    export_bundle(folder / "bundle", folder / "fp32")
    export_bundle(folder / "bundle", folder / "bf16", precision="bf16")
    return {
        "vkd predict, PyTorch": folder / "bundle",
        "OpenVINO, fp32": folder / "fp32",
        "OpenVINO, bf16": folder / "bf16",
    }


def write_noise(folder: Path, number: int, width: int, height: int, suffix: str) -> list[Path]:
    """So many gray pictures, smooth as X-rays are."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for image in range(number):
        coarse = Image.fromarray(random.integers(256, size=(height // 4, width // 4), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{image}{suffix}")
    return find_images([folder])


def predicting_files(folders: dict[str, Path], paths: list[Path]) -> list[tuple[str, Action]]:
    """As `vkd predict` does it: read, resize, encode, 100 draws, summary."""

    def action(folder: Path) -> Action:
        predictor = load_predictor(folder)
        return lambda: list(predict_files(predictor, paths))

    return [(name, action(folder)) for name, folder in folders.items()]


def in_batches_of_32(model: Model, paths: list[Path]) -> tuple[str, Action]:
    """As a loop in PyTorch has it that reads 32 files, then gives the network all 32 at once."""
    transform = ImageTransform(224)

    @torch.no_grad()
    def run() -> None:
        for start in range(0, len(paths), 32):
            images = torch.stack([transform(path) for path in paths[start : start + 32]]).float() / 255
            samples = model.probabilities(model.image_encoder(images), 100)
            Prediction(samples[None].numpy(), FINDINGS).summary()

    return "eager PyTorch, 32 at once", run


def predicting_arrays(folders: dict[str, Path], images: Tensor) -> list[tuple[str, Action]]:
    """The same, of pictures that are in memory, 32 at a time."""

    def action(folder: Path) -> Action:
        engine = engine_of(load_predictor(folder))

        def run() -> None:
            for part in images.split(32):
                Prediction(engine(part, 100, 0).samples[None], FINDINGS).summary()

        return run

    return [(name, action(folder)) for name, folder in folders.items()]


def torchxrayvision(paths: list[Path]) -> list[tuple[str, Action]]:
    """The same files through its own loading and its own DenseNet-121, 32 at a time; none where it is not installed."""
    try:
        xrv = importlib.import_module("torchxrayvision")
    except ImportError as error:
        print(f"  no row of torchxrayvision: {error}; pip install torchxrayvision")
        return []
    model = xrv.models.DenseNet(weights=None).eval()
    transform = Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)])

    @torch.no_grad()
    def run() -> None:
        for start in range(0, len(paths), 32):
            images = [transform(xrv.utils.load_image(str(path))) for path in paths[start : start + 32]]
            model(torch.from_numpy(np.stack(images)))

    return [("torchxrayvision", run)]


def against_exports(what: str, actions: list[tuple[str, Action]], aims: tuple[str, str], images: int) -> list[Row]:
    """Rows of everything that is no export against the two exports; all of them run in turn."""
    timed = {one.name: one for one in in_turn(actions, 5)}
    exports = {name: timed.pop(name) for name in ("OpenVINO, fp32", "OpenVINO, bf16")}
    return [
        slower.over(faster, f"{what}: {slower.name} to {name}", aim if slower.name.startswith("eager") else "", images)
        for slower in timed.values()
        for (name, faster), aim in zip(exports.items(), aims, strict=True)
    ]


def export_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """DenseNet-121, 224 px: from files of 256 px, from arrays, and from files as large as a detector's."""
    model = images_only(TorchvisionEncoder("densenet121"), 512)
    folders = engines(model, 224, folder / "export")
    small = write_noise(folder / "small", 64, 256, 256, ".png")
    large = write_noise(folder / "large", 32, 2000, 2500, ".jpg")
    files, arrays = predicting_files(folders, small), predicting_arrays(folders, torch.rand(64, 1, 224, 224))
    others = [in_batches_of_32(model, small), *torchxrayvision(small)]
    return [
        *against_exports("predict, 256-px PNG", files + others, (">= 3", ">= 5"), len(small)),
        *against_exports("predict, arrays", arrays, ("", ""), 64),
        *against_exports("predict, 5-megapixel JPEG", predicting_files(folders, large), ("", ""), len(large)),
    ]


# --------------------------------------------------------------------------------------------- GPU


PEAKS = {"H200": (989e12, 4.8e12)}
"""Operations a second in bf16, dense, and bytes a second, by a part of the device's name; the maker's figures."""


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, forward and backward, were nothing kept in a cache between them.

    Attributes:
        bytes: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor))
        return found


@dataclass(frozen=True)
class Work:
    """What a machine has to do at least."""

    operations: float
    bytes: float

    @classmethod
    def of(cls, action: Action) -> "Work":
        """Counted, of one run."""
        with FlopCounterMode(display=False) as operations:
            action()
        with Traffic() as traffic:
            action()
        return cls(operations.get_total_flops(), traffic.bytes)

    def limit(self, peaks: tuple[float, float]) -> tuple[str, float]:
        """What binds it, in words, and the seconds that this takes at least."""
        seconds = {"arithmetic": self.operations / peaks[0], "memory": self.bytes / peaks[1]}
        binding = max(seconds, key=lambda name: seconds[name])
        work = f"{self.operations / 1e12:.2f} TFLOP, {self.bytes / 1e9:.1f} GB moved"
        return f"limit of its {binding} ({work})", seconds[binding]


def against_limit(name: str, action: Action, peaks: tuple[float, float], images: int, repeats: int, device: str) -> Row:
    """A run's time against the least that the machine needs for it."""
    work = Work.of(action)
    (timed,) = in_turn([("measured", action)], repeats, clock_of(device))
    label, least = work.limit(peaks)
    return timed.over(Timed(label, (least,) * repeats), name, "", images)


def limits(network: str, batch: Batch, peaks: tuple[float, float], repeats: int = 20) -> list[Row]:
    """Training and prediction in bf16 against what the machine could do."""
    device = batch.images.device.type
    train = training_step(xray_vkd(TorchvisionEncoder(network), device), batch, precision="bf16")
    model = images_only(TorchvisionEncoder(network), 512).to(device)

    def prediction() -> None:
        with torch.autocast(device, torch.bfloat16):
            predict(model, batch.images, FINDINGS, 100).summary()

    actions = {"train": train, "predict, S = 100": prediction}
    return [
        against_limit(f"{name}, bf16, against the limit{on(device)}", action, peaks, len(batch), repeats, device)
        for name, action in actions.items()
    ] + [
        single(f"memory, {name}, bf16{on(device)}", ("peak", peak_memory(action)), whole_memory(), "MiB", "")
        for name, action in actions.items()
        if device == "cuda"
    ]


def whole_memory() -> tuple[str, float]:
    """MiB of the GPU."""
    return "the device has", torch.cuda.get_device_properties(0).total_memory / 2**20


def waiting_for_data(
    folder: Path, encoder: ImageEncoder, device: str, studies: int, size: int, batch_size: int, workers: int, steps: int
) -> list[Row]:
    """Training steps on augmented batches of a store, and of what is held on the device, against one that stays there.

    The ratio is 1 where no step waits; 1.02 is 2 % of waiting.
    """
    synthesize("mimic-cxr", folder / "corpus", studies, image_size=size)
    vkd = xray_vkd(encoder, device)
    reports, step = vkd.guide.report_encoder, stepping(vkd, precision="bf16")

    def data(store: Path | None, workers: int = 0, cache_on_device: bool = False) -> StudyData:
        corpus = MimicCXR(folder / "corpus")
        return StudyData(Selection(corpus, size), loading=Loading(store=store, cache_on_device=cache_on_device))

    prepare(data(None).selection, reports, folder / "store", progress=False)

    def steps_on(batches: Iterator[Batch]) -> Action:
        def run() -> None:
            for _ in range(steps):
                step(next(batches).to(device, non_blocking=True))

        return run

    def batches(**how: Any) -> Iterator[Batch]:
        loader = data(folder / "store", **how).train_loader(reports, seed=0, device=torch.device(device))
        return chain.from_iterable(repeat(loader))

    loaded, held = batches(workers=workers), batches(cache_on_device=True)
    ways = [(f"from a store, {workers} workers", steps_on(loaded)), ("held on the device", steps_on(held))]
    ways.append(("one batch that stays", steps_on(repeat(next(held)))))
    from_store, from_device, at_hand = in_turn(ways, 5, clock_of(device))
    images = steps * batch_size
    return [
        from_store.over(at_hand, f"train, data{on(device)}", "< 1.02", images),
        from_device.over(at_hand, f"train, data held{on(device)}", "< 1.02", images),
    ]


def gpu_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """DenseNet-121, 224 px, bf16, batches of 64: how fast, how far from the machine's limit, and what it waits for."""
    name, batch = torch.cuda.get_device_name(), made_up_batch(64, 224).to("cuda")
    known = [peaks for part, peaks in PEAKS.items() if part in name]
    if not known:
        print(f"  no rows of the limit: the peaks of {name} are not known here, only of {', '.join(PEAKS)}")
    rows = [row for peaks in known for row in limits("densenet121", batch, peaks)]
    encoder = TorchvisionEncoder("densenet121")
    return [*rows, *waiting_for_data(folder / "gpu", encoder, "cuda", 2048, 224, 64, chosen.workers, 20)]


# -------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Part:
    """Some rows: what measures them, where, and which options it needs."""

    rows: Callable[[argparse.Namespace, Path], list[Row]]
    devices: tuple[str, ...] = ("cpu",)
    needs: tuple[str, ...] = ()


PARTS = {
    "data": Part(data_rows, needs=("root", "language_model")),
    "memory": Part(memory_rows, needs=("language_model",)),
    "predict": Part(predict_rows),
    "step": Part(step_rows, ("cpu", "cuda")),
    "export": Part(export_rows),
    "network": Part(network_rows, ("cpu", "cuda")),
    "gpu": Part(gpu_rows, ("cuda",)),
}

ON_GPU = {
    **dict.fromkeys((f"step, {name}" for name in BY_DEVICE["cuda"]), "<= 1.05"),
    "step, no image network, CUDA": "",
    **{f"{what}, {option}, CUDA": "" for what in ("step", "memory") for option in OPTIONS},
    **{f"{what}, bf16, against the limit, CUDA": "" for what in ("train", "predict, S = 100")},
    **{f"memory, {what}, bf16, CUDA": "" for what in ("train", "predict, S = 100")},
    "train, data, CUDA": "< 1.02",
    "train, data held, CUDA": "< 1.02",
}
"""Rows that a GPU measures, and their aims; where none has, their cells are empty."""


def main() -> None:
    chosen = arguments()
    machine = machine_of(chosen.device)
    print(machine)
    machines, table = rows_kept(chosen, machine)
    parts = [chosen.only] if chosen.only else [name for name, part in PARTS.items() if chosen.device in part.devices]
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            table |= {row.name: row.cells() for row in PARTS[part].rows(chosen, Path(folder))}
    if chosen.json:
        content = {"command": "; ".join(COMMANDS), "machine": machines, "rows": "measured", "table": with_gaps(table)}
        write_json(chosen.json, content)


def arguments() -> argparse.Namespace:
    """What is asked for; ends the process where it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="Open-I, as downloaded")
    parser.add_argument("--language_model", help="folder of the frozen language model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks are")
    parser.add_argument("--workers", type=int, default=8, help="processes that read data for a GPU")
    parser.add_argument("--studies", type=int, nargs=2, default=(1000, 10000), help="sizes whose memory is compared")
    parser.add_argument("--images", type=int, nargs=2, default=(200, 2000), help="the same, of prediction")
    parser.add_argument("--only", choices=PARTS, help="the rows to measure; others that the file has are kept")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    if chosen.only and chosen.device not in PARTS[chosen.only].devices:
        parser.error(f"--only {chosen.only} is measured with --device {PARTS[chosen.only].devices[0]}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"--device cuda: no GPU here; on a machine with one: {COMMANDS[1]}")
    for name, part in PARTS.items():
        if chosen.device in part.devices and chosen.only in (None, name):
            for option in part.needs:
                if not getattr(chosen, option):
                    parser.error(f"--{option} is needed for {name}; or choose other rows by --only")
    return chosen


def machine_of(device: str) -> Machine:
    """The device, and the versions of what computes on it."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "openvino": installed("openvino"),
        "lightning": installed("lightning"),
        "pyro": pyro.__version__,
        "vkd_pyro": vkd_pyro.__version__,
    }


def processor() -> str:
    """The model's name where the system tells it, else the kind."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str:
    """Its version, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


Table = dict[str, dict[str, str]]


def rows_kept(chosen: argparse.Namespace, machine: Machine) -> tuple[dict[str, Machine], Table]:
    """The machines, by device, and the table of an earlier run, as far as its rows are not to be measured again.

    All rows of the other device stay, and with `--only` those of this one, which must be of the same machine.
    """
    device, path = chosen.device, chosen.json
    if path is None or not path.exists():
        return {device: machine}, {}
    content = json.loads(path.read_text())
    machines, table = content["machine"], content["table"]
    if not chosen.only:
        table = {name: cells for name, cells in table.items() if name.endswith(on("cuda")) != (device == "cuda")}
    elif machines.get(device, machine) != machine:
        sys.exit(f"{path}: measured on {machines[device]}, this is {machine}; measure all, without --only")
    return machines | {device: machine}, table


def with_gaps(table: Table) -> Table:
    """The table, its GPU's rows last, and empty cells where a GPU has not measured."""
    gaps = {name: {"ratio": "", "aim": aim, "of": "", "to": ""} for name, aim in ON_GPU.items() if name not in table}
    return dict(sorted((table | gaps).items(), key=lambda row: row[0].endswith(on("cuda"))))


if __name__ == "__main__":
    main()
