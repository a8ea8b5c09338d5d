"""A corpus made ready for training."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from vkd_pyro.data.batch import Example, collate
from vkd_pyro.data.controls import Control, labels_as_report, prepare_once, shuffled_reports
from vkd_pyro.data.dataset import (
    ALONE,
    HalfLabelledSampler,
    Share,
    ShuffledSampler,
    StudyBatches,
    StudyDataset,
    TrainingBatches,
)
from vkd_pyro.data.device_cache import CachedLoader
from vkd_pyro.data.images.transforms import Augmentation, ImageTransform
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.report_text import ReportText
from vkd_pyro.data.selection import BadImages, Selection, Views, reindex_labels
from vkd_pyro.data.source import RawSource, Source
from vkd_pyro.data.splits import Folds, keeps_labels
from vkd_pyro.data.store import Store
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import describe

CPU = torch.device("cpu")
Loader = DataLoader[Example] | CachedLoader
"""What yields batches; its `batch_sampler` is what they are drawn by."""


class StudyData:
    """A corpus made ready for training: its studies selected, split, transformed, batched.

    Args:
        corpus: where the studies come from.
        image_size: side of the images, in pixels.
        batch_size: images a batch, on each device; an incomplete last training step is dropped.
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
        hold: keep the training split whole in the memory of the training's device, and augment there; for a GPU.
        store: a folder that `vkd prepare` has written from the same settings, read in place of the corpus's files;
            it changes speed only.
        folds: cross-fitting by patient, in place of the corpus's own splits.
        label_share: the labels of this share of the training patients are kept, and every training batch has them in
            its first half: `batch_size // 2` labelled images, then as many unlabelled ones whose report is read. Where
            no report is read it has the same first half, and no other.
        control: "shuffled_reports" exchanges the reports within each split; "labels_as_report" reads the known labels,
            in words, in place of reports.
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
        cache_on_device: bool = False,
        folds: Folds | None = None,
        label_share: float = 1.0,
        control: Control = "none",
    ) -> None:
        if min(image_size, batch_size, num_workers + 1) < 1:
            raise UserError("data: image_size and batch_size must be at least 1, num_workers at least 0")
        if not 0 < label_share <= 1:
            raise UserError(f"data.label_share: found {label_share:g}, expected more than 0, at most 1")
        if label_share < 1 and batch_size < 2:
            raise UserError("data.batch_size: found 1, expected at least 2 with data.label_share below 1")
        if control not in get_args(Control):
            raise UserError(f"data.control: found {control!r}, expected one of {', '.join(get_args(Control))}")
        self.folds, self.label_share, self.control = folds, label_share, control
        self.corpus, self.batch_size, self.num_workers = corpus, batch_size, num_workers
        self.transform, self.augmentation = ImageTransform(image_size), augmentation
        self.selection = Selection(corpus, self.transform, views, unknown_views, report, labels and Path(labels))
        self.cache_images = cache_images and num_workers == 0 and store is None
        self.max_train_studies, self.bad_images, self.store, self.cache_on_device = (
            max_train_studies,
            bad_images,
            store,
            cache_on_device,
        )
        self.findings: tuple[str, ...] = tuple(findings or corpus.findings)
        self.train_policy, self.eval_policy = train_policy or LabelPolicy(), eval_policy or LabelPolicy()
        if self.eval_policy.takes("keep") or self.eval_policy.takes("soft"):
            raise UserError("data.eval_policy.uncertain: 'keep' and 'soft' give nothing to measure; use ignore")
        if not set(self.findings) & set(corpus.findings):
            raise UserError(f"data.findings: {corpus.name} has none of them; it has {', '.join(corpus.findings)}")

    def studies(self, split: str) -> list[Study]:
        """The studies of a split; no patient is in two of them. Labels and `split` are as the corpus gives them.

        Raises:
            UserError: there are none.
        """
        if not self._splits[split]:
            raise UserError(f"{self.corpus.name}: the {split} split is empty; more studies are needed")
        return [self._source.studies[i] for i in self._splits[split]]

    def targets(self, split: str, policy: LabelPolicy) -> NDArray[np.float32]:
        """float32 [N, K], what a policy makes of the labels of a split; NaN unknown, or not in `label_share`."""
        studies = self.studies(split)
        labels = reindex_labels(studies, self.corpus.findings, self.findings)
        targets = policy(labels, self.findings, [study.study_id for study in studies])
        if len(strange := targets[((targets < 0) | (targets > 1)) & (targets != -1)]):  # -1: an uncertain one, kept
            raise UserError(f"{self.corpus.name}: found a label {strange[0]:g}; expected 0, 1, -1, a share, or unknown")
        if split == "train" and self.label_share < 1:
            kept = [keeps_labels(self.corpus.name, study.patient_id, self.label_share) for study in studies]
            targets[~np.array(kept)] = np.nan
        return targets

    def summary(self) -> dict[str, Any]:
        """What there is in each split, what was left out and why, and the policies; for JSON."""
        return {
            "corpus": self.corpus.name,
            "splits": {split: self.count(split) for split, rows in self._splits.items() if rows},
            "left_out": dict(self._source.left_out),
            "sha256": self._fingerprint(),
            "train_policy": describe(self.train_policy),
            "eval_policy": describe(self.eval_policy),
        } | self._experiment()

    def _fingerprint(self) -> str:
        """Of what is trained on and chosen by: studies, labels, and which have a report."""
        digest = hashlib.sha256()
        for split in [split for split in ("train", "validation") if self._splits[split]]:
            names = [study.study_id for study in self.studies(split)]
            digest.update(json.dumps([split, names, self._has_report(split)]).encode())
            digest.update(self.targets(split, self._policy(split)).tobytes())
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """What a bundle keeps of the data: how studies were chosen and labels understood; for JSON."""
        policies = {"train_policy": describe(self.train_policy), "eval_policy": describe(self.eval_policy)}
        return self.selection.identity() | policies | self._experiment()

    def _experiment(self) -> dict[str, Any]:
        """Folds, label share and control, as far as they are set; for JSON."""
        unset = {"folds": None, "label_share": 1.0, "control": "none"}
        found = {"folds": self.folds and asdict(self.folds), "label_share": self.label_share, "control": self.control}
        return {name: value for name, value in found.items() if value != unset[name]}

    @property
    def bad_list(self) -> list[tuple[str, str]]:
        """(study, what is wrong) of each image that was skipped."""
        return self._source.bad

    def train_loader(
        self, encoder: ReportEncoder | None, seed: int, share: Share = ALONE, device: torch.device = CPU
    ) -> Loader:
        """Augmented, shuffled by (seed, epoch). Without an encoder no report is read.

        Several processes have the same order; each reads its share of a step. With `cache_on_device`, all rows
        are moved to the device first.
        """
        dataset = self._dataset("train", encoder, self.train_policy, seed)
        if len(dataset) < self.batch_size * share.world:
            devices = f" on each of {share.world} devices" if share.world > 1 else ""
            raise UserError(
                f"data.batch_size: {self.batch_size}{devices} is more than the {len(dataset)} training images; "
                "set it lower"
            )
        if self.label_share < 1:
            halves = self._half_labelled(dataset, seed, share.world)
            batches = TrainingBatches(halves, halves.batch_size // share.world, share)
        else:
            batches = TrainingBatches(ShuffledSampler(len(dataset), seed), self.batch_size, share)
        return (
            CachedLoader(dataset, batches, device)
            if self.cache_on_device
            else self._loader(dataset, batch_sampler=batches)
        )

    def _half_labelled(self, dataset: StudyDataset, seed: int, devices: int) -> HalfLabelledSampler:
        """Of all devices together. Unlabelled studies without a report would teach nothing, and are not drawn."""
        known = [not np.isnan(targets).all() for targets in dataset.targets]
        reads = [dataset.reports is not None and has_report for has_report in dataset.has_report]
        labelled = [row for row, (study, _) in enumerate(dataset.rows) if known[study]]
        unlabelled = [row for row, (study, _) in enumerate(dataset.rows) if reads[study] and not known[study]]
        if not labelled:
            raise UserError(f"data.label_share: {self.label_share:g} leaves no training label known; set it higher")
        num_batches = len(dataset) // (self.batch_size * devices)
        return HalfLabelledSampler(labelled, unlabelled, self.batch_size // 2 * devices, num_batches, seed)

    def evaluation_loader(
        self, split: str, encoder: ReportEncoder | None, max_images: int | None = None, share: Share = ALONE
    ) -> DataLoader[Example]:
        """In order, not augmented, the images of a study in one batch. Without an encoder no report is read.

        With `max_images` only every so many batches, so that about that many images are left.
        """
        dataset = self._dataset(split, encoder, self.eval_policy, seed=0)
        every = math.ceil(len(dataset) / max_images) if max_images else 1
        return self._loader(dataset, batch_sampler=StudyBatches(dataset.rows, self.batch_size, every, share))

    def _dataset(self, split: str, encoder: ReportEncoder | None, policy: LabelPolicy, seed: int) -> StudyDataset:
        rows = self._splits[split]
        return StudyDataset(
            self._source.some(rows),
            self.targets(split, policy),
            None if encoder is None else self._reports(split, encoder),
            self._has_report(split),
            self.transform,
            self.augmentation,
            seed,
            self.cache_images,
        )

    def _reports(self, split: str, encoder: ReportEncoder) -> Sequence[Tensor]:
        """What the encoder prepared of the report of each study of a split."""
        rows = self._splits[split]
        if self.control == "labels_as_report":
            return prepare_once(encoder, self._labels_as_report(split))
        if self.control == "shuffled_reports":
            rows = shuffled_reports(rows, self._has_report(split), self.corpus.name, split)
        return self._source.reports(encoder, rows)

    def _has_report(self, split: str) -> list[bool]:
        if self.control == "labels_as_report":
            return [text is not None for text in self._labels_as_report(split)]
        return [self._source.has_report[i] for i in self._splits[split]]

    def _labels_as_report(self, split: str) -> list[str | None]:
        return labels_as_report(self.targets(split, self._policy(split)), self.findings)

    def _policy(self, split: str) -> LabelPolicy:
        return self.train_policy if split == "train" else self.eval_policy

    def _loader(self, dataset: StudyDataset, **batches: Any) -> DataLoader[Example]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **batches,
        )

    def count(self, split: str) -> dict[str, Any]:
        """How much there is of what in a split; raises `UserError` where it is empty."""
        studies = self.studies(split)
        targets = self.targets(split, self._policy(split))
        return {
            "patients": len({study.patient_id for study in studies}),
            "studies": len(studies),
            "images": sum(len(study.images) for study in studies),
            "with a report": sum(self._has_report(split)),
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
            split = self.folds.split_of(name, study.patient_id) if self.folds else study.split
            if split not in splits:
                raise UserError(f"{name}: {split!r} is no split; expected train, validation or test")
            splits[split].append(number)
        if len({study.study_id for study in studies}) < len(studies):
            raise UserError(f"{name}: two studies have the same study_id; give each its own")
        patients = {split: {studies[i].patient_id for i in rows} for split, rows in splits.items()}
        for one, other in combinations(splits, 2):
            if shared := len(patients[one] & patients[other]):
                raise UserError(f"{name}: {shared} patients are in both {one} and {other}; split by patient")
        splits["train"] = splits["train"][: self.max_train_studies]
        return splits
