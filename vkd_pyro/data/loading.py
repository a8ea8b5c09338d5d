"""From studies to batches: examples, a sampler that can be resumed, loaders."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vkd_pyro.data.batch import Example, collate
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.transforms import Augmentation, ImageTransform
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.errors import UserError

Draw = tuple[int, int]
"""(epoch, row): what a sampler asks of a dataset; the epoch decides the augmentation. Evaluation uses epoch -1."""

NO_REPORT = torch.zeros(1, dtype=torch.long)
"""Stands in a batch where reports are not read: one token, which `has_report` masks out."""


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that is a pure function of its parts, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class StudyDataset(Dataset[Example]):
    """One row an image; a study with several images has several rows.

    Args:
        studies: of one split.
        reports: what the report encoder prepared, one a study; None is as if no report had been written.
        transform: reads and resizes an image.
        augmentation: for rows drawn in an epoch of training, or None.
        seed: of the augmentation.
        cache: keep resized images in memory after the first reading.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        reports: Sequence[Tensor] | None,
        transform: ImageTransform,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        self.studies, self.reports, self.transform = studies, reports, transform
        self.augmentation, self.seed = augmentation, seed
        self.rows = [(i, j) for i, study in enumerate(studies) for j in range(len(study.images))]
        self._pixels: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Example:
        epoch, row = draw
        number, _ = self.rows[row]
        study = self.studies[number]
        image = self._read(row).float() / 255
        if self.augmentation is not None and epoch >= 0:
            image = self.augmentation(image, derive_seed(self.seed, epoch, study.study_id, row))
        return Example(
            image=image,
            report=NO_REPORT if self.reports is None else self.reports[number],
            has_report=self.reports is not None and study.report is not None,
            labels=torch.from_numpy(study.labels),
            study_id=study.study_id,
        )

    def _read(self, row: int) -> Tensor:
        """uint8 [1, size, size]."""
        if self._pixels is not None and row in self._pixels:
            return self._pixels[row]
        number, image = self.rows[row]
        pixels = self.transform(self.studies[number].images[image])
        if self._pixels is not None:
            self._pixels[row] = pixels
        return pixels


class ShuffledSampler(Sampler[Draw]):
    """Every row once an epoch, in an order that is a pure function of (seed, epoch); the trainer calls `set_epoch`."""

    def __init__(self, num_rows: int, seed: int) -> None:
        self.num_rows, self.seed, self.epoch = num_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        return ((self.epoch, row) for row in torch.randperm(self.num_rows, generator=generator).tolist())


class SequentialSampler(Sampler[Draw]):
    """Every row once, in order, without augmentation."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[Draw]:
        return ((-1, row) for row in range(self.num_rows))


class StudyData:
    """A corpus made ready for training: its splits, transformed, batched.

    Args:
        corpus: where the studies come from.
        image_size: side of the images, in pixels.
        batch_size: images a batch; an incomplete last training batch is dropped.
        augmentation: of training images; None for none.
        num_workers: processes that read images; 0 reads them in the training process.
        cache_images: keep resized images in memory (size^2 bytes each); only with num_workers 0.
        max_train_studies: train on the first so many studies only; None for all.
    """

    def __init__(
        self,
        corpus: Corpus,
        image_size: int = 224,
        batch_size: int = 32,
        augmentation: Augmentation | None = None,
        num_workers: int = 0,
        cache_images: bool = True,
        max_train_studies: int | None = None,
    ) -> None:
        if min(image_size, batch_size, num_workers + 1) < 1:
            raise UserError("data: image_size and batch_size must be at least 1, num_workers at least 0")
        self.corpus, self.batch_size, self.num_workers = corpus, batch_size, num_workers
        self.transform, self.augmentation = ImageTransform(image_size), augmentation
        self.cache_images = cache_images and num_workers == 0
        self.max_train_studies = max_train_studies
        self._studies: dict[str, list[Study]] | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        return self.corpus.findings

    def studies(self, split: str) -> list[Study]:
        """The studies of a split; no patient is in two of them."""
        if self._studies is None:
            self._studies = self._split()
        return self._studies[split]

    def labels(self, split: str) -> NDArray[np.float32]:
        """float32 [N, K]; 1, 0, NaN unknown."""
        return np.stack([study.labels for study in self.studies(split)])

    def train_loader(self, encoder: ReportEncoder | None, seed: int) -> DataLoader[Example]:
        """Augmented, shuffled by (seed, epoch)."""
        dataset = self._dataset("train", encoder, seed)
        if len(dataset) < self.batch_size:
            raise UserError(
                f"data.batch_size: {self.batch_size} is more than the {len(dataset)} training images; set it lower"
            )
        return self._loader(dataset, ShuffledSampler(len(dataset), seed), drop_last=True)

    def evaluation_loader(self, split: str, encoder: ReportEncoder | None) -> DataLoader[Example]:
        """In order, not augmented. Without an encoder no report is read."""
        dataset = self._dataset(split, encoder, seed=0)
        return self._loader(dataset, SequentialSampler(len(dataset)), drop_last=False)

    def _dataset(self, split: str, encoder: ReportEncoder | None, seed: int) -> StudyDataset:
        studies = self.studies(split)
        reports = None if encoder is None else encoder.prepare([study.report or "" for study in studies])
        return StudyDataset(studies, reports, self.transform, self.augmentation, seed, self.cache_images)

    def _loader(self, dataset: StudyDataset, sampler: Sampler[Draw], drop_last: bool) -> DataLoader[Example]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _split(self) -> dict[str, list[Study]]:
        splits: dict[str, list[Study]] = {"train": [], "validation": [], "test": []}
        for study in self.corpus.studies():
            if study.split not in splits:
                raise UserError(f"{self.corpus.name}: {study.split!r} is no split; expected train, validation or test")
            if not study.images:
                raise UserError(f"{self.corpus.name}: study {study.study_id} has no image; leave it out of the corpus")
            splits[study.split].append(study)
        patients = {split: {study.patient_id for study in studies} for split, studies in splits.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if shared := len(patients[one] & patients[other]):
                raise UserError(
                    f"{self.corpus.name}: {shared} patients are in both {one} and {other}; split by patient"
                )
        splits["train"] = splits["train"][: self.max_train_studies]
        if len({study.study_id for studies in splits.values() for study in studies}) < sum(map(len, splits.values())):
            raise UserError(f"{self.corpus.name}: two studies have the same study_id; give each its own")
        for split, studies in splits.items():
            if not studies:
                raise UserError(f"{self.corpus.name}: the {split} split is empty; more studies are needed")
        return splits
