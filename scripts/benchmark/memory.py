"""Peak memory of a process with little work and with much: it should be flat."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmark.timing import Row, single
from vkd_pyro import Loading, Selection, StudyData
from vkd_pyro.cli import main as vkd
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.store import prepare
from vkd_pyro.encoders.report import LanguageModelEncoder
from vkd_pyro.synthetic.layouts import synthesize

STUDIES = (1_000, 10_000)


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """Preparing, and training from the store, of two sizes of a corpus."""
    for number in STUDIES:
        synthesize("mimic-cxr", folder / f"{number}", number, image_size=64)
    sizes = [(folder / f"{number}", folder / f"store{number}", chosen.language_model) for number in STUDIES]
    labels = [f"{number:,} studies" for number in STUDIES]
    yield compare_memory("prepare", preparing, sizes, labels)
    yield compare_memory("train from the store", training, sizes, labels)


def compare_memory(name: str, work: Callable[..., float], given: Sequence[tuple], labels: Sequence[str]) -> Row:
    """The row of the same work, which returns its MiB, in two processes: on little, and on much."""
    least, most = (in_a_process(work, *arguments) for arguments in given)
    return single(f"memory, {name}", (labels[1], most), (labels[0], least), "MiB", "flat")


def in_a_process(work: Callable[..., float], *arguments: object) -> float:
    """What the work returns in a process of its own, which begins with nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def preparing(corpus: Path, store: Path, language_model: str) -> float:
    """Peak MiB of `vkd prepare`."""
    prepare(Selection(MimicCXR(corpus), 64), LanguageModelEncoder(language_model), store, progress=False)
    return memory_of_process("VmHWM")


def training(corpus: Path, store: Path, language_model: str) -> float:
    """Peak MiB of reading batches, without the pages of mapped files, which the system takes back when in need."""
    data = StudyData(Selection(MimicCXR(corpus), 64), loading=Loading(store=store))
    return max(memory_of_process("RssAnon") for _ in data.train_loader(LanguageModelEncoder(language_model), seed=0))


def predicting(bundle: Path, images: Path, output: Path) -> float:
    """Peak MiB of `vkd predict`."""
    if vkd(["predict", str(bundle), str(images), "--output", str(output)]):
        raise RuntimeError("vkd predict has failed")
    return memory_of_process("VmHWM")


def memory_of_process(kind: str) -> float:
    """MiB of this process: "VmHWM", its peak; "RssAnon", at present without mapped files."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{kind}:")[1].split()[0]) / 1024
