"""From studies to batches: examples, a sampler that can be resumed, loaders."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vkd_pyro.data.batch import Example, collate
from vkd_pyro.data.policy import LabelPolicy
from vkd_pyro.data.report_text import ReportText
from vkd_pyro.data.selection import BadImages, Selection, Views, reindex_labels
from vkd_pyro.data.source import RawSource, Source
from vkd_pyro.data.store import Store
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.transforms import Augmentation, ImageTransform
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.errors import UserError
from vkd_pyro.parts import describe

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
        targets: float32 [N, K], what a policy made of their labels; NaN unknown.
        reports: what the report encoder prepared, one a study, or None where reports are not read.
        has_report: of each study.
        transform: reads and resizes an image.
        augmentation: for rows drawn in an epoch of training, or None.
        seed: of the augmentation.
        cache: keep resized images in memory after the first reading.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        targets: NDArray[np.float32],
        reports: Sequence[Tensor] | None,
        has_report: Sequence[bool],
        transform: ImageTransform,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        self.studies, self.targets, self.reports, self.has_report = studies, targets, reports, has_report
        self.transform, self.augmentation, self.seed = transform, augmentation, seed
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
            has_report=self.reports is not None and self.has_report[number],
            labels=torch.from_numpy(self.targets[number]),
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


class StudyBatches(Sampler[list[Draw]]):
    """Every row once, in order, without augmentation; a batch holds whole studies.

    Args:
        rows: (study, image) of each row, studies together.
        batch_size: rows a batch; more where a single study has more images.
    """

    def __init__(self, rows: Sequence[tuple[int, int]], batch_size: int) -> None:
        self.batches: list[list[Draw]] = []
        for _, group in groupby(range(len(rows)), key=lambda row: rows[row][0]):
            study = [(-1, row) for row in group]
            if self.batches and len(self.batches[-1]) + len(study) <= batch_size:
                self.batches[-1] += study
            else:
                self.batches.append(study)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)


class StudyData:
    """A corpus made ready for training: its studies selected, split, transformed, batched.

    Args:
        corpus: where the studies come from.
        image_size: side of the images, in pixels.
        batch_size: images a batch; an incomplete last training batch is dropped.
        augmentation: of training images; None for none.
        num_workers: processes that read images; 0 reads them in the training process.
        cache_images: keep resized images in memory (size^2 bytes each); only with num_workers 0, without a store.
        max_train_studies: train on the first so many studies only; None for all.
        views: which images of a study: "frontal", "lateral", or "all".
        unknown_views: "keep" or "drop" images whose view is unknown.
        report: which text of a report is read.
        findings: the labels to learn, in this order; None for those of the corpus. One that the corpus does not have
            is unknown throughout.
        labels: a CSV file of labels to use in place of the corpus's own: `vkd label`'s, the CheXpert labeller's.
        train_policy: what uncertain and blank labels become in training.
        eval_policy: the same in validation and evaluation.
        bad_images: what to do with images that cannot be read.
        store: a folder that `vkd prepare` has written from the same settings, read in place of the corpus's files;
            it changes speed only.
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
        views: Views = "frontal",
        unknown_views: Literal["keep", "drop"] = "drop",
        report: ReportText = ReportText(),
        findings: tuple[str, ...] | None = None,
        labels: Path | None = None,
        train_policy: LabelPolicy | None = None,
        eval_policy: LabelPolicy | None = None,
        bad_images: BadImages = BadImages(),
        store: Path | None = None,
    ) -> None:
        if min(image_size, batch_size, num_workers + 1) < 1:
            raise UserError("data: image_size and batch_size must be at least 1, num_workers at least 0")
        self.corpus, self.batch_size, self.num_workers = corpus, batch_size, num_workers
        self.transform, self.augmentation = ImageTransform(image_size), augmentation
        self.selection = Selection(corpus, self.transform, views, unknown_views, report, labels)
        self.cache_images = cache_images and num_workers == 0 and store is None
        self.max_train_studies, self.bad_images, self.store = max_train_studies, bad_images, store
        self.findings: tuple[str, ...] = tuple(findings or corpus.findings)
        self.train_policy, self.eval_policy = train_policy or LabelPolicy(), eval_policy or LabelPolicy()
        if self.eval_policy.takes("keep") or self.eval_policy.takes("soft"):
            raise UserError("data.eval_policy.uncertain: 'keep' and 'soft' give nothing to measure; use ignore")
        if not set(self.findings) & set(corpus.findings):
            raise UserError(f"data.findings: {corpus.name} has none of them; it has {', '.join(corpus.findings)}")

    def studies(self, split: str) -> list[Study]:
        """The studies of a split; no patient is in two of them. Their labels are as the corpus gives them."""
        return [self._source.studies[i] for i in self._splits[split]]

    def targets(self, split: str) -> NDArray[np.float32]:
        """float32 [N, K], what the policy of the split makes of its labels; NaN unknown."""
        studies = self.studies(split)
        policy = self.train_policy if split == "train" else self.eval_policy
        labels = reindex_labels(studies, self.corpus.findings, self.findings)
        return policy(labels, self.findings, [study.study_id for study in studies])

    def summary(self) -> dict[str, Any]:
        """What there is in each split, what was left out and why, and the policies; for JSON."""
        return {
            "corpus": self.corpus.name,
            "splits": {split: self._count(split) for split in self._splits},
            "left_out": dict(self._source.left_out),
            "train_policy": describe(self.train_policy),
            "eval_policy": describe(self.eval_policy),
        }

    def description(self) -> dict[str, Any]:
        """What a bundle keeps of the data: how studies were chosen and labels understood; for JSON."""
        return self.selection.identity() | {
            "train_policy": describe(self.train_policy),
            "eval_policy": describe(self.eval_policy),
        }

    @property
    def bad_list(self) -> list[tuple[str, str]]:
        """(study, what is wrong) of each image that was skipped."""
        return self._source.bad

    def train_loader(self, encoder: ReportEncoder | None, seed: int) -> DataLoader[Example]:
        """Augmented, shuffled by (seed, epoch)."""
        dataset = self._dataset("train", encoder, seed)
        if len(dataset) < self.batch_size:
            raise UserError(
                f"data.batch_size: {self.batch_size} is more than the {len(dataset)} training images; set it lower"
            )
        sampler = ShuffledSampler(len(dataset), seed)
        return self._loader(dataset, batch_size=self.batch_size, sampler=sampler, drop_last=True)

    def evaluation_loader(self, split: str, encoder: ReportEncoder | None) -> DataLoader[Example]:
        """In order, not augmented, the images of a study in one batch. Without an encoder no report is read."""
        dataset = self._dataset(split, encoder, seed=0)
        return self._loader(dataset, batch_sampler=StudyBatches(dataset.rows, self.batch_size))

    def _dataset(self, split: str, encoder: ReportEncoder | None, seed: int) -> StudyDataset:
        rows = self._splits[split]
        return StudyDataset(
            self._source.some(rows),
            self.targets(split),
            None if encoder is None else self._source.reports(encoder, rows),
            [self._source.has_report[i] for i in rows],
            self.transform,
            self.augmentation,
            seed,
            self.cache_images,
        )

    def _loader(self, dataset: StudyDataset, **batches: Any) -> DataLoader[Example]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **batches,
        )

    def _count(self, split: str) -> dict[str, Any]:
        studies, targets = self.studies(split), self.targets(split)
        return {
            "patients": len({study.patient_id for study in studies}),
            "studies": len(studies),
            "images": sum(len(study.images) for study in studies),
            "with a report": sum(self._source.has_report[i] for i in self._splits[split]),
            "without any label": int(np.isnan(targets).all(axis=1).sum()),
            "positive": dict(zip(self.findings, (targets == 1).sum(axis=0).tolist(), strict=True)),
        }

    @cached_property
    def _source(self) -> Source:
        if self.store is None:
            return RawSource.read(self.selection, self.bad_images)
        store = Store(self.store)
        store.check(self.selection)
        return store

    @cached_property
    def _splits(self) -> dict[str, list[int]]:
        """Numbers of the studies of each split."""
        name, studies = self.corpus.name, self._source.studies
        splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for number, study in enumerate(studies):
            if study.split not in splits:
                raise UserError(f"{name}: {study.split!r} is no split; expected train, validation or test")
            splits[study.split].append(number)
        if len({study.study_id for study in studies}) < len(studies):
            raise UserError(f"{name}: two studies have the same study_id; give each its own")
        patients = {split: {studies[i].patient_id for i in rows} for split, rows in splits.items()}
        for one, other in combinations(splits, 2):
            if shared := len(patients[one] & patients[other]):
                raise UserError(f"{name}: {shared} patients are in both {one} and {other}; split by patient")
        splits["train"] = splits["train"][: self.max_train_studies]
        for split, rows in splits.items():
            if not rows:
                raise UserError(f"{name}: the {split} split is empty; more studies are needed")
        return splits
