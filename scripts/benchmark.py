"""Speed and memory, as ratios of two things run alternately in one run.

    python scripts/benchmark.py --root OPENI --language_model FOLDER --json results/benchmark.json
    python scripts/benchmark.py --only predict --json results/benchmark.json

The second measures prediction alone, and leaves the other rows of the file as they are.

Each row compares two functions that do the same work; they are run in turn, A B A B ..., and the ratio of their median
times stands beside the spread of the paired ratios. Absolute figures are of the machine that is named on top.
"""

import argparse
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
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from pyro.infer import Predictive
from torch.optim import Adam

import vkd_pyro
from vkd_pyro import VKD, StudyData, TraceVKD_ELBO, predict
from vkd_pyro.bundle import save_bundle
from vkd_pyro.data.corpora.layouts import synthesize
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.findings import CHEXPERT_FINDINGS as FINDINGS
from vkd_pyro.data.selection import BadImages
from vkd_pyro.data.store import SHARD, prepare, write_images, write_reports
from vkd_pyro.data.transforms import ImageTransform
from vkd_pyro.distributions import BernoulliLikelihood, DiagonalNormal
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder, TorchvisionEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder, WordEncoder
from vkd_pyro.files import write_json
from vkd_pyro.model import Model

Machine = dict[str, str | int]


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` is the median of `slower` over that of `faster`, times unless the unit says otherwise."""

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

    def cells(self) -> dict[str, str]:
        """Of the README's table."""
        return {
            "ratio": f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]",
            "aim": self.aim,
            "of": f"{self.slower}: {self.slower_value:,.2f} {self.unit}",
            "to": f"{self.faster}: {self.faster_value:,.2f} {self.unit}",
        }

    def __str__(self) -> str:
        values = f"{self.slower_value:,.1f} / {self.faster_value:,.1f} {self.unit}"
        return f"{self.name:<28}{self.ratio:7.2f} [{self.low:.2f}, {self.high:.2f}]  aim {self.aim:<14}{values}"


def compare(
    name: str,
    slower: tuple[str, Callable[[], object]],
    faster: tuple[str, Callable[[], object]],
    aim: str,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Runs the two in turn, once each before the clock starts."""
    times: dict[str, list[float]] = {"slower": [], "faster": []}
    slower[1]()
    faster[1]()
    for _ in range(repeats):
        for key, (_, function) in (("slower", slower), ("faster", faster)):
            start = clock()
            function()
            times[key].append(clock() - start)
    pairs = [a / b for a, b in zip(times["slower"], times["faster"], strict=True)]
    a, b = median(times["slower"]), median(times["faster"])
    row = Row(name, slower[0], faster[0], a, b, "s", a / b, min(pairs), max(pairs), aim)
    print(row, flush=True)
    return row


# ---------------------------------------------------------------------------------- the prepared store


def epoch_from_store(root: Path, language_model: str, folder: Path) -> Row:
    """The same training steps: the language model in every step, or its embeddings from a store."""
    cached, uncached = (LanguageModelEncoder(language_model, cache=cache) for cache in (True, False))
    steps = 12

    def data(store: Path | None) -> StudyData:
        return StudyData(OpenI(root), image_size=128, batch_size=32, max_train_studies=32 * steps, store=store)

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
    prepare(StudyData(OpenI(root)).selection, WordEncoder(), folder, progress=False)
    dataset = StudyData(OpenI(root), store=folder).train_loader(None, seed=0).dataset
    rows = np.random.default_rng(0).permutation(len(dataset)).tolist()
    pixels = [dataset.studies[i].images[j] for i, j in dataset.rows]
    with threads(1):
        row = compare(
            f"read {len(rows):,} images, 224 px",
            ("from the store", lambda: [dataset[-1, row] for row in rows]),
            ("memory copy", lambda: [pixels[row].copy() for row in rows]),
            f"5,000 / s: {len(rows) / 5000:.2f} s",
            5,
        )
    print(f"  {len(rows) / row.slower_value:,.0f} images/s from the store, {len(rows) / row.faster_value:,.0f} copied")
    return row


def preparing_images(root: Path, folder: Path) -> Row:
    """The image part of `vkd prepare` against decoding and resizing alone, both on all cores."""
    selection = StudyData(OpenI(root)).selection
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

    return compare(f"prepare {len(paths):,} images", ("vkd prepare", whole), ("decode, resize", alone), "<= 1.3", 5)


def preparing_reports(root: Path, language_model: str, folder: Path) -> Row:
    """The text part of `vkd prepare` against the language model's forward passes alone."""
    encoder = LanguageModelEncoder(language_model)
    texts = StudyData(OpenI(root)).selection.read().texts[: 2 * SHARD]
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
    ratio = most / least
    row = Row(f"memory, {name}", labels[1], labels[0], most, least, "MiB", ratio, ratio, ratio, "flat")
    print(row, flush=True)
    return row


PEAK = """
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
"""Of this process alone: what `getrusage` says begins with the memory of the process that started it."""

DATA = """
import sys
from vkd_pyro.data.loading import StudyData
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

    what = f"{len(images)} images"
    with threads(1):
        rows = [
            compare(
                "predict, DenseNet-121, 224 px",
                (f"S = 100, {what}", ours(100)),
                (f"S = 1, {what}", ours(1)),
                "<= 1.1",
                50,
                time.process_time,
            ),
            compare(
                f"Pyro's Predictive, S = {few}, DenseNet-121, 224 px",
                (f"parallel=False, {what}", theirs),
                (f"predict, {what}", ours(few)),
                f"about {few}",
                5,
                time.process_time,
            ),
        ]
    for row in rows:
        speeds = [len(images) / seconds for seconds in (row.slower_value, row.faster_value)]
        print(f"  {row.slower}: {speeds[0]:.1f} images/s; {row.faster}: {speeds[1]:.1f} images/s; one thread")
    return rows


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


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def data_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """From files to training steps."""
    return [
        epoch_from_store(chosen.root, chosen.language_model, folder / "128"),
        reading(chosen.root, folder / "224"),
        preparing_images(chosen.root, folder),
        preparing_reports(chosen.root, chosen.language_model, folder),
    ]


def memory_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """Of preparing and of training."""
    return memory(tuple(chosen.studies), chosen.language_model, folder)


def predict_rows(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """Prediction; it needs no data."""
    return [*predicting(), memory_predicting(tuple(chosen.images), folder / "predict")]


PARTS = {"data": data_rows, "memory": memory_rows, "predict": predict_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="Open-I, as downloaded")
    parser.add_argument("--language_model", help="folder of the frozen language model")
    parser.add_argument("--studies", type=int, nargs=2, default=(1000, 10000), help="sizes whose memory is compared")
    parser.add_argument("--images", type=int, nargs=2, default=(200, 2000), help="the same, of prediction")
    parser.add_argument("--only", choices=PARTS, help="the rows to measure; others that the file has are kept")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    if chosen.only in (None, "data") and not chosen.root:
        parser.error("--root is needed, unless --only memory or predict")
    if chosen.only != "predict" and not chosen.language_model:
        parser.error("--language_model is needed, unless --only predict")
    machine: Machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vkd_pyro": vkd_pyro.__version__,
    }
    print(machine)
    table = rows_kept(chosen.json, machine) if chosen.only and chosen.json else {}
    with tempfile.TemporaryDirectory() as name:
        for part in [chosen.only] if chosen.only else PARTS:
            table |= {row.name: row.cells() for row in PARTS[part](chosen, Path(name))}
    if chosen.json:
        command = "python scripts/benchmark.py --root ../shared/openi --language_model models/all-MiniLM-L6-v2"
        write_json(chosen.json, {"command": command, "machine": machine, "rows": "measured", "table": table})


def rows_kept(path: Path, machine: Machine) -> dict[str, dict[str, str]]:
    """The table of an earlier run on the same machine; none where there is no file."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    if earlier["machine"] != machine:
        sys.exit(f"{path}: measured on {earlier['machine']}, this is {machine}; measure all, without --only")
    return earlier["table"]


if __name__ == "__main__":
    main()
