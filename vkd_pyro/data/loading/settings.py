"""How studies are fed: batches, their order, workers, memory."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from vkd_pyro.data.batch import Example, collate
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.loading.dataset import (
    ALONE,
    HalfLabelledSampler,
    Share,
    ShuffledSampler,
    StudyBatches,
    StudyDataset,
    TrainingBatches,
)
from vkd_pyro.data.loading.device_cache import CachedLoader
from vkd_pyro.utils.errors import UserError

CPU = torch.device("cpu")
Loader = DataLoader[Example] | CachedLoader
"""What yields batches; its `batch_sampler` is what they are drawn by."""


@dataclass(frozen=True)
class Loading:
    """How batches are made.

    Attributes:
        batch_size: images a batch, on each device; an incomplete last training step is dropped.
        augmentation: of training images; None for none.
        num_workers: processes that read images; 0 reads them in the training process.
        cache_images: keep resized images in memory (size^2 bytes each); only with num_workers 0, without a store.
        cache_on_device: keep the training split whole in the memory of the training's device, and augment there; for a
            GPU.
        store: a folder that `vkd prepare` has written from the same selection, read in place of the corpus's files;
            it changes speed only.
        features: give the features that the store holds, `vkd prepare --features`, in place of images; for an image
            encoder whose first part is frozen. Of an image's augmented versions training draws one, and
            `augmentation` is not used.
        timeout: seconds that a process of `num_workers` may take for a batch; one that is killed or stopped is an error
            then, and not waited for for ever.
        labelled_half: where labels are kept of a share of the patients and reports are read, the first half of each
            batch is labelled; false draws all studies alike, for methods that learn as much from the others.

    Raises:
        UserError: a number out of range.
    """

    batch_size: int = 32
    augmentation: Augmentation | None = None
    num_workers: int = 0
    cache_images: bool = True
    cache_on_device: bool = False
    store: Path | None = None
    features: bool = False
    timeout: int = 600
    labelled_half: bool = True

    def __post_init__(self) -> None:
        if self.features and (self.store is None or self.cache_on_device):
            raise UserError(
                "data.loading.features: wants data.loading.store, which holds them, and cache_on_device false"
            )
        for name, least in (("batch_size", 1), ("num_workers", 0), ("timeout", 1)):
            if getattr(self, name) < least:
                raise UserError(f"data.loading.{name}: found {getattr(self, name)}, expected at least {least}")

    @property
    def caches_images(self) -> bool:
        """Whether resized images stay in the memory of this process."""
        return self.cache_images and self.num_workers == 0 and self.store is None

    def training(
        self, dataset: StudyDataset, label_share: float, seed: int, share: Share = ALONE, device: torch.device = CPU
    ) -> Loader:
        """Augmented, shuffled by (seed, epoch).

        Several processes have the same order; each reads its share of a step. With `cache_on_device`, all rows are
        moved to the device first. With a label share below 1 the first half of each batch is labelled, the other not;
        see `labelled_half`.

        Raises:
            UserError: fewer images than a step has; or no label is known.
        """
        if len(dataset) < self.batch_size * share.world:
            devices = f" on each of {share.world} devices" if share.world > 1 else ""
            raise UserError(
                f"data.loading.batch_size: {self.batch_size}{devices} is more than the {len(dataset)} training images; "
                "set it lower"
            )
        if label_share < 1 and (self.labelled_half or dataset.reports is None):
            halves = self._half_labelled(dataset, label_share, seed, share.world)
            batches = TrainingBatches(halves, halves.batch_size // share.world, share)
        else:
            batches = TrainingBatches(ShuffledSampler(len(dataset), seed), self.batch_size, share)
        if self.cache_on_device:
            return CachedLoader(dataset, batches, device)
        return self._loader(dataset, batch_sampler=batches)

    def evaluation(
        self, dataset: StudyDataset, max_images: int | None = None, share: Share = ALONE
    ) -> DataLoader[Example]:
        """In order, not augmented, the images of a study in one batch.

        With `max_images` only every so many batches, so that about that many images are left.
        """
        every = math.ceil(len(dataset) / max_images) if max_images else 1
        return self._loader(dataset, batch_sampler=StudyBatches(dataset.rows, self.batch_size, every, share))

    def _half_labelled(self, dataset: StudyDataset, label_share: float, seed: int, devices: int) -> HalfLabelledSampler:
        """For all devices together. Unlabelled studies without a report would teach nothing, and are not drawn."""
        known = [not np.isnan(targets).all() for targets in dataset.targets]
        reads = [dataset.reports is not None and has_report for has_report in dataset.has_report]
        labelled = [row for row, (study, _) in enumerate(dataset.rows) if known[study]]
        unlabelled = [row for row, (study, _) in enumerate(dataset.rows) if reads[study] and not known[study]]
        if not labelled:
            raise UserError(f"data.task.label_share: {label_share:g} leaves no training label known; set it higher")
        num_batches = len(dataset) // (self.batch_size * devices)
        return HalfLabelledSampler(labelled, unlabelled, self.batch_size // 2 * devices, num_batches, seed)

    def _loader(self, dataset: StudyDataset, **batches: Any) -> DataLoader[Example]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            timeout=self.timeout if self.num_workers else 0,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **batches,
        )
