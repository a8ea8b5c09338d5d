"""Speed and memory, as ratios of two things run alternately in one run.

    python scripts/benchmark.py --root OPENI --language_model FOLDER --json results/benchmark.json

Each row compares two functions that do the same work; they are run in turn, A B A B ..., and the ratio of their median
times stands beside the spread of the paired ratios. Absolute figures are of the machine that is named on top.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.optim import Adam

import vkd_pyro
from vkd_pyro import VKD, StudyData, TraceVKD_ELBO
from vkd_pyro.data.corpora.layouts import synthesize
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.selection import BadImages
from vkd_pyro.data.store import SHARD, prepare, write_images, write_reports
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder, WordEncoder
from vkd_pyro.files import write_json


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
) -> Row:
    """Runs the two in turn, once each before the clock starts."""
    times: dict[str, list[float]] = {"slower": [], "faster": []}
    slower[1]()
    faster[1]()
    for _ in range(repeats):
        for key, (_, function) in (("slower", slower), ("faster", faster)):
            start = time.perf_counter()
            function()
            times[key].append(time.perf_counter() - start)
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
    rows = []
    for name, command in (("prepare", PREPARE), ("train from the store", TRAIN)):
        peaks = []
        for number in studies:
            place = folder / f"{number}"
            if not place.exists():
                synthesize("mimic-cxr", place, number, image_size=64)
            done = subprocess.run(
                [sys.executable, "-c", command, place, folder / f"store{number}", language_model],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(float(done.stdout.split()[-1]))
        ratio = peaks[1] / peaks[0]
        label = f"{studies[1]:,} studies", f"{studies[0]:,} studies"
        rows.append(Row(f"memory, {name}", *label, peaks[1], peaks[0], "MiB", ratio, ratio, ratio, "flat"))
        print(rows[-1], flush=True)
    return rows


DATA = """
import resource, sys
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
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
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


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="Open-I, as downloaded")
    parser.add_argument("--language_model", required=True, help="folder of the frozen language model")
    parser.add_argument("--studies", type=int, nargs=2, default=(1000, 10000), help="sizes whose memory is compared")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vkd_pyro": vkd_pyro.__version__,
    }
    print(machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            epoch_from_store(chosen.root, chosen.language_model, folder / "128"),
            reading(chosen.root, folder / "224"),
            preparing_images(chosen.root, folder),
            preparing_reports(chosen.root, chosen.language_model, folder),
            *memory(tuple(chosen.studies), chosen.language_model, folder),
        ]
    if chosen.json:
        command = "python scripts/benchmark.py --root ../shared/openi --language_model models/all-MiniLM-L6-v2"
        table = {row.name: row.cells() for row in rows}
        write_json(chosen.json, {"command": command, "machine": machine, "rows": "measured", "table": table})


if __name__ == "__main__":
    main()
