"""A dataset held on a device: the batches of the usual loader, and refused where it does not fit."""

from dataclasses import fields

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vkd_pyro.data.batch import Batch, collate
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading import device_cache
from vkd_pyro.data.loading.dataset import (
    ALONE,
    HalfLabelledSampler,
    ShuffledSampler,
    StudyBatches,
    StudyDataset,
    TrainingBatches,
)
from vkd_pyro.data.loading.device_cache import CachedLoader, needed
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.store import Store, prepare
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.utils.errors import UserError

DEVICES = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(min(torch.cuda.device_count(), 1)))]
SIZE, N, K, E = 12, 23, 3, 4


class Uneven(Corpus):
    """One to three images a study; every fourth study has no report."""

    name, findings = "uneven", ("A", "B", "C")

    def studies(self):
        return [self._study(number, 1 + number % 3) for number in range(N)]

    def _study(self, number, count):
        generator = np.random.default_rng(number)
        return Study(
            study_id=f"study-{number}",
            patient_id=str(number),
            images=tuple(generator.integers(0, 256, (SIZE + i, SIZE), dtype=np.uint8) for i in range(count)),
            views=("frontal",) * count,
            report={"findings": "clear " * (1 + number % 5)} if number % 4 else {},
            labels=generator.choice(np.array([1, 0, np.nan], np.float32), K),
            split="train",
        )


REPORTS = {
    "token ids": [torch.arange(1, 2 + number % 7) for number in range(N)],
    "embeddings": [torch.randn(1 + number % 7, E).half() for number in range(N)],
    "none": None,
}
OBSERVED = {
    "token ids": [torch.arange(number % 5) for number in range(N)],
    "embeddings": [torch.randn(1, E) for _ in range(N)],
    "none": None,
}


def dataset_of(reports="token ids", augmentation=None):
    studies = Uneven().studies()
    targets = np.stack([study.labels for study in studies])
    has_report = [number % 4 > 0 for number in range(N)]
    transform, observed = ImageTransform(SIZE), OBSERVED[reports]
    return StudyDataset(studies, targets, REPORTS[reports], has_report, transform, augmentation, 5, observed=observed)


def assert_same_batches(loader, dataset, batches, tolerance=0.0):
    """As the `DataLoader`'s, field by field, in value, type and shape, and on the loader's device."""
    expected, found = list(DataLoader(dataset, batch_sampler=batches, collate_fn=collate)), list(loader)
    assert len(expected) == len(found) == len(loader) > 1
    for one, other in zip(expected, found, strict=True):
        assert one.study_ids == other.study_ids
        assert torch.allclose(one.images, other.images.cpu(), rtol=0, atol=tolerance)
        for name in (field.name for field in fields(Batch) if field.name != "study_ids"):
            here, there = getattr(one, name), getattr(other, name)
            if here is None or there is None:
                assert (name, here, there) == ("observed", None, None)
                continue
            assert (here.dtype, here.shape, loader.device) == (there.dtype, there.shape, there.device), name
            assert name == "images" or torch.equal(here, there.cpu()), name


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(device_cache, "PART", 7)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("reports", REPORTS)
def test_evaluation_batches_are_those_of_the_usual_loader(reports, device, small_parts):
    dataset = dataset_of(reports, Augmentation())
    batches = StudyBatches(dataset.rows, batch_size=5)
    assert_same_batches(CachedLoader(dataset, batches, device), dataset, batches)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("reports", REPORTS)
def test_training_batches_are_those_of_the_usual_loader(reports, device, small_parts):
    dataset = dataset_of(reports, Augmentation())
    batches = TrainingBatches(ShuffledSampler(len(dataset), seed=3), 4, ALONE)
    loader = CachedLoader(dataset, batches, device)
    for epoch in range(3):
        loader.batch_sampler.set_epoch(epoch)
        # On a CPU to the bit, so that an epoch does not depend on where its images are held.
        assert_same_batches(loader, dataset, batches, tolerance=0.0 if device.type == "cpu" else 1e-5)


def test_batches_without_augmentation_are_those_of_the_usual_loader():
    dataset = dataset_of()
    halves = HalfLabelledSampler(range(10), range(10, 20), half=3, num_batches=4, seed=0)
    batches = TrainingBatches(halves, halves.batch_size, ALONE)
    assert_same_batches(CachedLoader(dataset, batches, DEVICES[0]), dataset, batches)


def test_batches_from_a_store_are_those_of_the_usual_loader(tmp_path):
    words = WordEncoder(64, E)
    prepare(Selection(Uneven(), SIZE), words, tmp_path / "store", progress=False)
    store = Store(tmp_path / "store")
    numbers = list(range(N))[::-2]  # some of them, in another order
    studies = store.some(numbers)
    dataset = StudyDataset(
        studies,
        np.stack([study.labels for study in studies]),
        store.reports(words, numbers),
        [store.has_report[number] for number in numbers],
        ImageTransform(SIZE),
        Augmentation(),
    )
    for batches in (
        StudyBatches(dataset.rows, batch_size=5),
        TrainingBatches(ShuffledSampler(len(dataset), seed=3), 4, ALONE),
    ):
        assert_same_batches(CachedLoader(dataset, batches, DEVICES[0]), dataset, batches)


def test_a_batch_of_training_and_evaluation_is_refused():
    loader = CachedLoader(dataset_of(augmentation=Augmentation()), [[(0, 1), (-1, 2)]], DEVICES[0])
    with pytest.raises(ValueError, match="a batch is of training or of evaluation"):
        next(iter(loader))


def test_images_are_read_once_and_kept_on_the_device_only(monkeypatch):
    readings = []
    read = ImageTransform.__call__
    monkeypatch.setattr(ImageTransform, "__call__", lambda self, image: readings.append(1) or read(self, image))
    dataset = dataset_of()
    loader = CachedLoader(dataset, StudyBatches(dataset.rows, 5), DEVICES[0])
    assert [sum(map(len, loader)) for _ in range(2)] == [len(dataset)] * 2
    assert len(readings) == len(dataset)
    assert not dataset._pixels


# -------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("reports", REPORTS)
def test_needed_is_what_is_held(reports):
    dataset = dataset_of(reports)
    loader = CachedLoader(dataset, StudyBatches(dataset.rows, 5), DEVICES[0])
    lengths = [len(report) for report in REPORTS[reports] or [[0]] * N]
    token = 2 * E if reports == "embeddings" else 8
    observed = {"token ids": 8 * sum(n % 5 for n in range(N)) + 16 * N, "embeddings": (4 * E + 16) * N, "none": 0}
    # An image is 1 byte a pixel; a study has a start and a length, labels and which of them are known, and a flag.
    expected = len(dataset) * SIZE**2 + sum(lengths) * token + N * (16 + 4 * K + K + 1) + observed[reports]
    ragged = [part for part in (loader._reports, loader._observed) if part is not None]
    held = [*loader._cached.values(), *(t for part in ragged for t in (part.tokens, part.starts, part.on_device))]
    assert needed(dataset) == expected == sum(tensor.nbytes for tensor in held)


def test_a_dataset_that_does_not_fit_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**25, 2**40))
    monkeypatch.setattr(ImageTransform, "__call__", lambda *_: pytest.fail("an image was read"))
    dataset = dataset_of()
    dataset.rows *= 2**14
    with pytest.raises(
        UserError,
        match=r"reports and labels need 0.1 GiB, cuda:0 has 0.0 GiB free; set data.loading.cache_on_device to",
    ):
        CachedLoader(dataset, StudyBatches([], 5), torch.device("cuda", 0))


# ------------------------------------------------------------------------------------------- trainer


class Reader(lightning.LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(())), {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).append(batch)
        self.log("loss", self.weight.detach(), batch_size=len(batch))
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        self.seen.setdefault("validation", []).append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:(?s).*treespec, LeafSpec", "ignore:The `srun` command is available")
def test_a_trainer_draws_each_epoch_in_its_order(tmp_path):
    dataset = dataset_of(augmentation=Augmentation())
    batches = TrainingBatches(ShuffledSampler(len(dataset), seed=3), 4, ALONE)
    loader, evaluation = (
        CachedLoader(dataset, sampler, DEVICES[0]) for sampler in (batches, StudyBatches(dataset.rows, 8))
    )
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    reader = Reader()
    trainer.fit(reader, loader, evaluation)
    assert sum(map(len, reader.seen["validation"])) == 3 * len(dataset)
    for epoch in range(3):
        batches.set_epoch(epoch)
        expected = list(loader)
        assert [batch.study_ids for batch in reader.seen[epoch]] == [batch.study_ids for batch in expected]
        for seen, batch in zip(reader.seen[epoch], expected, strict=True):
            assert torch.equal(seen.images, batch.images)
