"""From files to training steps: the prepared store, and `vkd prepare` itself."""

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from PIL import Image
from torch.optim import Adam

from benchmark.networks import made_up_batch, xray_vkd
from benchmark.steps import training_step
from benchmark.timing import Action, Row, compare, threads
from vkd_pyro import VKD, Loading, Selection, StudyData, Task
from vkd_pyro.data.corpora.openi import OpenI
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.selection import BadImages
from vkd_pyro.data.store import prepare
from vkd_pyro.data.store.layout import SHARD, missing_blocks
from vkd_pyro.data.store.shards import write_images, write_reports
from vkd_pyro.encoders.image import ConvEncoder, TorchvisionEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder, WordEncoder


def rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """All rows of this part."""
    corpus = OpenI(chosen.root)
    yield epoch_from_store(Selection(corpus, 128), chosen.language_model, folder / "128")
    yield reading(Selection(corpus), folder / "224")
    yield loading(Selection(corpus), folder / "224")
    yield preparing_images(Selection(corpus), folder)
    yield preparing_reports(Selection(corpus), chosen.language_model, folder)


def decoding_rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """The row that needs no data."""
    yield decoding(folder)


def decoding(folder: Path, repeats: int = 9) -> Row:
    """A JPEG of five megapixels, smooth with grain, read at 224 px: decoded whole, and at half its size."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 255, (64, 52), np.uint8)).resize((2544, 3056), Image.Resampling.BICUBIC)
    grainy = np.asarray(smooth, np.float32) + random.normal(0, 6, (3056, 2544))
    path = folder / "xray.jpg"
    Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    whole, scaled = ImageTransform(224), ImageTransform(224, scaled_jpeg=True)
    ways = ("decoded whole", lambda: whole(path)), ("scaled_jpeg", lambda: scaled(path))
    return compare("read a 5-megapixel JPEG, 224 px", *ways, repeats=repeats, images=1)


def epoch_from_store(selection: Selection, language_model: str, folder: Path, steps: int = 12) -> Row:
    """The same training steps: the language model in every step, or its embeddings from a store."""
    cached, uncached = (LanguageModelEncoder(language_model, cache=cache) for cache in (True, False))
    prepare(selection, cached, folder, progress=False)

    def training(encoder: LanguageModelEncoder, store: Path | None) -> Action:
        data = StudyData(selection, Task(max_train_studies=32 * steps), Loading(batch_size=32, store=store))
        vkd = VKD(data.findings, ConvEncoder(), encoder, latent_dim=64)
        optimizer = Adam(p for p in vkd.parameters() if p.requires_grad)
        loader = data.train_loader(encoder, seed=0)

        def epoch() -> None:
            for batch in loader:
                optimizer.zero_grad()
                vkd.terms(batch).loss.backward()
                optimizer.step()

        return epoch

    ways = ("language model in every step", training(uncached, None)), ("from the store", training(cached, folder))
    return compare("epoch, small network", *ways, repeats=3, aim=">= 3")


def reading(selection: Selection, folder: Path) -> Row:
    """Images read from the store in random order on one thread, against copying the same bytes."""
    prepare(selection, WordEncoder(), folder, progress=False)
    dataset = StudyData(selection, loading=Loading(store=folder)).train_loader(None, seed=0).dataset
    rows = np.random.default_rng(0).permutation(len(dataset)).tolist()
    pixels = [dataset.studies[i].images[j] for i, j in dataset.rows]
    with threads(1):
        return compare(
            f"read {len(rows):,} images, {selection.image_size} px",
            ("from the store", lambda: [dataset[-1, row] for row in rows]),
            ("memory copy", lambda: [pixels[row].copy() for row in rows]),
            repeats=5,
            aim="5,000 images/s",
            images=len(rows),
        )


def loading(selection: Selection, store: Path, size: int = 8) -> Row:
    """Augmented batches from the store that `reading` has made, against training steps on as many images."""
    vkd = xray_vkd(TorchvisionEncoder("densenet121"))
    data = StudyData(selection, loading=Loading(size, Augmentation(), store=store))
    batches = chain.from_iterable(repeat(data.train_loader(None, seed=0)))
    with threads(1):
        return compare(
            "loader against step, 224 px",
            ("a step of DenseNet-121, one thread", training_step(vkd, made_up_batch(size, 224))),
            ("a batch, augmented, one thread", lambda: next(batches)),
            repeats=5,
            aim="> 1",
            images=size,
        )


def preparing_images(selection: Selection, folder: Path) -> Row:
    """The image part of `vkd prepare` against decoding and resizing alone, both on all cores."""
    studies = selection.read().studies
    paths = [image for study in studies for image in study.images]

    def decode(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((224, 224), Image.Resampling.BILINEAR))

    def alone() -> None:
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(decode, paths):
                pass

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            write_images(missing_blocks(Path(output), studies, "images"), selection.transform, BadImages())

    ways = ("vkd prepare", whole), ("decode, resize", alone)
    return compare(f"prepare {len(paths):,} images", *ways, repeats=15, aim="<= 1.3")


def preparing_reports(selection: Selection, language_model: str, folder: Path) -> Row:
    """The text part of `vkd prepare` against the language model's forward passes alone."""
    encoder = LanguageModelEncoder(language_model)
    texts = selection.read().texts[: 2 * SHARD]
    passes, embed = [], encoder.embed
    encoder.embed = lambda *batch: (passes.append(batch), embed(*batch))[1]
    encoder.prepare([text or "" for text in texts[:SHARD]])
    encoder.prepare([text or "" for text in texts[SHARD:]])
    encoder.embed = embed

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            write_reports(missing_blocks(Path(output), texts, "reports"), encoder)

    def alone() -> None:
        for batch in passes:
            embed(*batch)

    ways = ("vkd prepare", whole), ("forward passes", alone)
    return compare(f"prepare {len(texts):,} reports", *ways, repeats=3, aim="<= 1.1")
