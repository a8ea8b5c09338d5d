"""Prediction: 100 draws of z against one, Pyro's `Predictive` against ours, and memory; it needs no data."""

import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from pyro.infer import Predictive
from torch import Tensor

from benchmark.export import write_noise
from benchmark.memory import compare_memory
from benchmark.memory import predicting as vkd_predict
from benchmark.networks import FINDINGS, images_only
from benchmark.timing import Action, Row, compare, threads
from vkd_pyro import predict
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.encoders.image import ConvEncoder, TorchvisionEncoder

IMAGES = (200, 2_000)


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """All rows of this part."""
    yield from predicting()
    yield memory_predicting(IMAGES, folder / "predict")


def predicting(few: int = 10) -> Iterator[Row]:
    """100 draws of z against one; and Pyro's `Predictive`, which runs the whole program for each draw, against us.

    In seconds of the processor, on one thread, so that what else the machine does counts little.
    """
    model, images = images_only(TorchvisionEncoder("densenet121")), torch.rand(16, 1, 224, 224)

    def ours(num_samples: int) -> Action:
        return lambda: predict(model, images, FINDINGS, num_samples).summary()

    def program() -> Tensor:
        return model.program(model.image_encoder(images))

    @torch.no_grad()
    def theirs() -> object:
        return Predictive(program, num_samples=few, parallel=False, return_sites=("y",))()

    draws = ("S = 100, one thread", ours(100)), ("S = 1, one thread", ours(1))
    by_pyro = ("parallel=False, one thread", theirs), ("predict, one thread", ours(few))
    name, how = "DenseNet-121, 224 px", {"clock": time.process_time, "images": len(images)}
    with threads(1):
        yield compare(f"predict, {name}", *draws, repeats=50, aim="<= 1.1", **how)
        yield compare(f"Pyro's Predictive, S = {few}, {name}", *by_pyro, repeats=5, aim=f"about {few}", **how)


def memory_predicting(numbers: tuple[int, int], folder: Path) -> Row:
    """Peak memory of `vkd predict` with few and with many images of 224 px, and a small network."""
    save_bundle(folder / "bundle", images_only(ConvEncoder(), 64), FINDINGS, ImageTransform(224), "")
    for number in numbers:
        write_noise(folder / f"{number}", number, 224, 224, ".png")
    given = [(folder / "bundle", folder / f"{number}", folder / f"{number}.csv") for number in numbers]
    return compare_memory("vkd predict", vkd_predict, given, [f"{number:,} images" for number in numbers])
