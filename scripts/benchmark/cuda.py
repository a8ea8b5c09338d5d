"""A GPU: how fast, how far from the machine's limit, and whether it waits for data."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmark.networks import FINDINGS, images_only, made_up_batch, xray_vkd
from benchmark.steps import peak_memory, stepping, training_step
from benchmark.timing import Action, Row, Timed, clock_of, in_turn, on, single
from vkd_pyro import Loading, Selection, StudyData, predict
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.corpora.mimic_cxr import MimicCXR
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.store import prepare
from vkd_pyro.encoders.image import ImageEncoder, TorchvisionEncoder
from vkd_pyro.synthetic.layouts import synthesize

PEAKS = {"H200": (989e12, 4.8e12)}
"""Operations a second in bf16, dense, and bytes a second, by a part of the device's name; the maker's figures."""


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """DenseNet-121, 224 px, bf16, batches of 64."""
    name, batch = torch.cuda.get_device_name(), made_up_batch(64, 224).to("cuda")
    known = [peaks for part, peaks in PEAKS.items() if part in name]
    if not known:
        print(f"  no rows of the limit: the peaks of {name} are not known here, only of {', '.join(PEAKS)}")
    for peaks in known:
        yield from limits("densenet121", batch, peaks)
    encoder = TorchvisionEncoder("densenet121")
    yield from waiting_for_data(folder / "gpu", encoder, "cuda", 2048, 224, 64, chosen.workers, 20)


# ------------------------------------------------------------------------------ the machine's limit


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


def limits(network: str, batch: Batch, peaks: tuple[float, float], repeats: int = 20) -> list[Row]:
    """Time of training and prediction in bf16 against the least that the machine needs; on a GPU their memory too."""
    device = batch.images.device.type
    train = training_step(xray_vkd(TorchvisionEncoder(network), device), batch, precision="bf16")
    model = images_only(TorchvisionEncoder(network)).to(device)

    def prediction() -> None:
        with torch.autocast(device, torch.bfloat16):
            predict(model, batch.images, FINDINGS, 100).summary()

    actions = {"train": train, "predict, S = 100": prediction}
    found = []
    for name, action in actions.items():
        label, least = Work.of(action).limit(peaks)
        (timed,) = in_turn([("measured", action)], repeats, clock_of(device))
        limit = Timed(label, (least,) * repeats)
        found.append(timed.over(limit, f"{name}, bf16, against the limit{on(device)}", images=len(batch)))
    if device == "cuda":
        whole = "the device has", torch.cuda.get_device_properties(0).total_memory / 2**20
        for name, action in actions.items():
            found.append(single(f"memory, {name}, bf16, CUDA", ("peak", peak_memory(action)), whole, "MiB"))
    return found


# --------------------------------------------------------------------------------- waiting for data


def waiting_for_data(
    folder: Path, encoder: ImageEncoder, device: str, studies: int, size: int, batch_size: int, workers: int, steps: int
) -> list[Row]:
    """Training steps on augmented batches of a store, or of the device's own cache, against one batch that stays there.

    The ratio is 1 where no step waits; 1.02 is 2 % of waiting.
    """
    synthesize("mimic-cxr", folder / "corpus", studies, image_size=size)
    vkd = xray_vkd(encoder, device)
    reports, step = vkd.guide.report_encoder, stepping(vkd, precision="bf16")
    selection = Selection(MimicCXR(folder / "corpus"), size)
    prepare(selection, reports, folder / "store", progress=False)

    def steps_on(batches: Iterator[Batch]) -> Action:
        def run() -> None:
            for _ in range(steps):
                step(next(batches).to(device, non_blocking=True))

        return run

    def batches(**how: Any) -> Iterator[Batch]:
        data = StudyData(selection, loading=Loading(batch_size, Augmentation(), store=folder / "store", **how))
        return chain.from_iterable(repeat(data.train_loader(reports, seed=0, device=torch.device(device))))

    loaded, cached = batches(num_workers=workers), batches(cache_on_device=True)
    ways = [(f"from a store, {workers} workers", steps_on(loaded)), ("cached on the device", steps_on(cached))]
    ways.append(("one batch that stays", steps_on(repeat(next(cached)))))
    from_store, from_device, at_hand = in_turn(ways, 5, clock_of(device))
    images = steps * batch_size
    return [
        from_store.over(at_hand, f"train, data{on(device)}", "< 1.02", images),
        from_device.over(at_hand, f"train, data held{on(device)}", "< 1.02", images),
    ]
