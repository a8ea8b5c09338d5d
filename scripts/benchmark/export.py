"""Exported prediction: PyTorch and others against OpenVINO, from files and from memory."""

import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose

from benchmark.networks import FINDINGS, images_only
from benchmark.timing import Action, Named, Row, in_turn
from vkd_pyro.artifacts.bundle import sampled, save_bundle
from vkd_pyro.artifacts.export import load_predictor
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.encoders.image import TorchvisionEncoder
from vkd_pyro.model import ImageModel
from vkd_pyro.prediction import find_images, predict_files
from vkd_pyro.prediction.prediction import joined

EXPORTS = ("OpenVINO, fp32", "OpenVINO, bf16")


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """DenseNet-121, 224 px: from files of 256 px, from arrays, and from files as large as a detector's."""
    model = images_only(TorchvisionEncoder("densenet121"))
    folders = engines(model, 224, folder / "export")
    small = write_noise(folder / "small", 64, 256, 256, ".png")
    large = write_noise(folder / "large", 32, 2000, 2500, ".jpg")
    files, arrays = predicting_files(folders, small), predicting_arrays(folders, torch.rand(64, 1, 224, 224))
    others = [in_batches_of_32(model, small), *torchxrayvision(small)]
    yield from against_exports("predict, 256-px PNG", files + others, len(small), (">= 3", ">= 5"))
    yield from against_exports("predict, arrays", arrays, 64)
    yield from against_exports("predict, 5-megapixel JPEG", predicting_files(folders, large), len(large))


def against_exports(what: str, actions: list[Named], images: int, aims: tuple[str, str] = ("", "")) -> list[Row]:
    """Rows of everything that is no export against the two exports; all of them run in turn."""
    timed = {one.name: one for one in in_turn(actions, 5)}
    exports = [timed.pop(name) for name in EXPORTS]
    return [
        one.over(export, f"{what}: {one.name} to {export.name}", aim if one.name.startswith("eager") else "", images)
        for one in timed.values()
        for export, aim in zip(exports, aims, strict=True)
    ]


def engines(model: ImageModel, image_size: int, folder: Path) -> dict[str, Path]:
    """A bundle, and what is exported of it."""
    save_bundle(folder / "bundle", model, FINDINGS, ImageTransform(image_size), "")
    export_bundle(folder / "bundle", folder / "fp32")
    export_bundle(folder / "bundle", folder / "bf16", precision="bf16")
    names = ("vkd predict, PyTorch", *EXPORTS)
    return dict(zip(names, (folder / kind for kind in ("bundle", "fp32", "bf16")), strict=True))


def write_noise(folder: Path, number: int, width: int, height: int, suffix: str) -> list[Path]:
    """So many gray images, smooth as X-rays are."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for image in range(number):
        coarse = Image.fromarray(random.integers(256, size=(height // 4, width // 4), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{image}{suffix}")
    return find_images([folder])


def predicting_files(folders: dict[str, Path], paths: list[Path]) -> list[Named]:
    """As `vkd predict` does it: read, resize, encode, 100 draws, summary."""

    def action(folder: Path) -> Action:
        predictor = load_predictor(folder)
        return lambda: list(predict_files(predictor, paths))

    return [(name, action(folder)) for name, folder in folders.items()]


def predicting_arrays(folders: dict[str, Path], images: Tensor) -> list[Named]:
    """Encode, 100 draws, summary, of images that are in memory, 32 at a time."""

    def action(folder: Path) -> Action:
        predictor = load_predictor(folder)
        parts = [part.numpy() for part in images.split(32)]
        return lambda: [joined([predictor.sample(part, 100)], FINDINGS).summary() for part in parts]

    return [(name, action(folder)) for name, folder in folders.items()]


def in_batches_of_32(model: ImageModel, paths: list[Path]) -> Named:
    """As a loop in PyTorch has it that reads 32 files, then gives the network all 32 at once."""
    transform = ImageTransform(224)

    @torch.no_grad()
    def run() -> None:
        for start in range(0, len(paths), 32):
            images = torch.stack([transform(path) for path in paths[start : start + 32]]).float() / 255
            features = model.image_encoder(images)
            joined([sampled(model.posterior_predictive(features, 100), features)], FINDINGS).summary()

    return "eager PyTorch, 32 at once", run


def torchxrayvision(paths: list[Path]) -> list[Named]:
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
