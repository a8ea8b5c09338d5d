"""A corpus made ready for training: what is chosen of it, what is asked, and how it is fed."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from vkd_pyro.data.batch import Example
from vkd_pyro.data.controls import labels_as_report, prepare_once, shuffled_reports
from vkd_pyro.data.images.levels import is_flat
from vkd_pyro.data.loading.dataset import ALONE, Share, StudyDataset
from vkd_pyro.data.loading.settings import CPU, Loader, Loading
from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import Selection, check_flat, spread
from vkd_pyro.data.source import Kind, RawSource, Source
from vkd_pyro.data.splits import inner_part
from vkd_pyro.data.store import Store
from vkd_pyro.data.study import Study
from vkd_pyro.data.task import Task
from vkd_pyro.utils.errors import UserError, check_choice

PICTURES = 100
"""So many are looked at before training."""


class StudyData:
    """A corpus made ready for training: its studies selected, split, transformed, batched.

    Args:
        selection: what is chosen: the corpus, its images, its reports.
        task: what is asked: findings, labels, splits, controls.
        loading: how it is fed: batches, workers, memory.
    """

    def __init__(self, selection: Selection, task: Task = Task(), loading: Loading = Loading()) -> None:
        if task.label_share < 1 and loading.batch_size < 2:
            raise UserError("data.loading.batch_size: found 1, expected at least 2 with data.task.label_share below 1")
        self.selection, self.task, self.loading = selection, task, loading
        self.corpus, self.transform = selection.corpus, selection.transform
        self.findings = task.findings_of(selection.corpus)

    def studies(self, split: str) -> list[Study]:
        """The studies of a split; no patient is in two of them. Labels and `split` are as the corpus gives them.

        Raises:
            UserError: there are none.
        """
        check_choice("split", split, tuple(self._splits))
        if not self._splits[split]:
            raise UserError(f"{self.corpus.name}: the {split} split is empty; more studies are needed")
        return [self._source.studies[i] for i in self._splits[split]]

    def has(self, split: str) -> bool:
        """Whether a split has any studies."""
        return bool(self._splits[split])

    def without_test(self) -> "StudyData":
        """The same data with an empty test split, for what must not see it: whoever asks for it gets an error."""
        kept = StudyData(self.selection, self.task, self.loading)
        vars(kept).update(_source=self._source, _splits=self._splits | {"test": []})
        return kept

    def inner_folds(self, num_folds: int) -> "list[StudyData]":
        """Cross-validation within training and validation, by patient; the test split is empty in all of them.

        Each patient of the two splits is in the validation split of one, and in the training split of the others.

        Raises:
            UserError: a part has no study.
        """
        parts: list[list[int]] = [[] for _ in range(num_folds)]
        for number in sorted(self._splits["train"] + self._splits["validation"]):
            patient = self._source.studies[number].patient_id
            parts[inner_part(self.corpus.name, patient, num_folds)].append(number)
        if not all(parts):
            raise UserError(f"{self.corpus.name}: too few patients for {num_folds} folds; take fewer")
        folds = []
        for held_out in parts:
            rest = sorted(number for part in parts if part is not held_out for number in part)
            fold = self.without_test()
            vars(fold).update(_splits={"train": rest, "validation": held_out, "test": []})
            folds.append(fold)
        return folds

    def targets(self, split: str) -> NDArray[np.float32]:
        """What the task makes of the labels of a split, float32 [N, K]; NaN unknown: `Task.targets`."""
        return self.task.targets(self.corpus, self.studies(split), split)

    def summary(self) -> dict[str, Any]:
        """What there is in each split, what was left out and why, and the policies; for JSON."""
        return {
            "corpus": self.corpus.name,
            "splits": {split: self.count(split) for split, rows in self._splits.items() if rows},
            "left_out": dict(self._source.left_out),
            "sha256": self._fingerprint(),
        } | self.task.description()

    def description(self) -> dict[str, Any]:
        """What a bundle keeps of the data: how studies were chosen and labels understood; for JSON."""
        return self.selection.identity() | self.task.description()

    def count(self, split: str) -> dict[str, Any]:
        """How much there is of what in a split; raises `UserError` where it is empty."""
        studies, targets = self.studies(split), self.targets(split)
        return {
            "patients": len({study.patient_id for study in studies}),
            "studies": len(studies),
            "images": sum(len(study.images) for study in studies),
            "with a report": sum(self._has_report(split)),
            "without any label": int(np.isnan(targets).all(axis=1).sum()),
            "positive": dict(zip(self.findings, (targets == 1).sum(axis=0).tolist(), strict=True)),
        }

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(study, what is wrong) of each image that was skipped."""
        return self._source.bad

    def train_loader(
        self,
        preparation: Preparation | None,
        seed: int,
        share: Share = ALONE,
        device: torch.device = CPU,
        observation: Preparation | None = None,
    ) -> Loader:
        """Batches of the training split: `Loading.training`.

        Args: what prepares reports for an encoder, or None to read none; seed of order and augmentation; which share of
            the rows; where they go; what prepares reports to be observed, or None.
        """
        dataset = self._dataset("train", preparation, seed, observation)
        return self.loading.training(dataset, self.task.label_share, seed, share, device)

    def evaluation_loader(
        self,
        split: str,
        preparation: Preparation | None,
        max_images: int | None = None,
        share: Share = ALONE,
        observation: Preparation | None = None,
    ) -> DataLoader[Example]:
        """Batches of a split as it is: `Loading.evaluation`. Without a preparation no report is read."""
        return self.loading.evaluation(self._dataset(split, preparation, 0, observation), max_images, share)

    def with_images(self) -> "StudyData":
        """The same data, whose batches hold images even where they held features."""
        return StudyData(self.selection, self.task, replace(self.loading, features=False))

    def check_pictures(self) -> None:
        """Looks at images of training and validation, at most 100, evenly spaced, for gray levels: `check_flat`."""
        images = [image for split in ("train", "validation") for study in self.studies(split) for image in study.images]
        chosen = spread(len(images), PICTURES)
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            flat = sum(pool.map(lambda number: is_flat(self.transform(images[number]).numpy()), chosen))
        check_flat(flat, len(chosen), self.selection.bad_images)

    def check_features(self, encoder: object) -> None:
        """Raises `UserError` where batches hold features, and not those that this image encoder takes."""
        if not self.loading.features:
            return
        preparation = getattr(encoder, "feature_preparation", None)
        if preparation is None:
            raise UserError(
                f"data.loading.features: {type(encoder).__name__} takes images; set it to false, or take an image "
                "encoder whose first part is frozen, FrozenImageEncoder or LastBlocksEncoder"
            )
        self._source.check_features(preparation)

    def _dataset(
        self, split: str, preparation: Preparation | None, seed: int, observation: Preparation | None
    ) -> StudyDataset:
        return StudyDataset(
            self._source.some(self._splits[split]),
            self.targets(split),
            None if preparation is None else self._reports(split, preparation, "reports"),
            self._has_report(split),
            self.transform,
            self.loading.augmentation,
            seed,
            self.loading.caches_images,
            None if observation is None else self._reports(split, observation, "observed"),
            self._source.features(self._splits[split]) if self.loading.features else None,
        )

    def _reports(self, split: str, preparation: Preparation, kind: Kind) -> Sequence[Tensor]:
        """What was prepared of the report of each study of a split."""
        rows = self._splits[split]
        if self.task.control == "labels_as_report":
            return prepare_once(preparation, labels_as_report(self.targets(split), self.findings))
        if self.task.control == "shuffled_reports":
            rows = shuffled_reports(rows, self._has_report(split), self.corpus.name, split)
        return self._source.reports(preparation, rows, kind)

    def _has_report(self, split: str) -> list[bool]:
        if self.task.control == "labels_as_report":
            return [text is not None for text in labels_as_report(self.targets(split), self.findings)]
        return [self._source.has_report[i] for i in self._splits[split]]

    def _fingerprint(self) -> str:
        """sha256 over what is trained on and chosen by: studies, labels, and which have a report."""
        digest = hashlib.sha256()
        for split in [split for split in ("train", "validation") if self._splits[split]]:
            names = [study.study_id for study in self.studies(split)]
            digest.update(json.dumps([split, names, self._has_report(split)]).encode())
            digest.update(self.targets(split).tobytes())
        return digest.hexdigest()

    @cached_property
    def _source(self) -> Source:
        if self.loading.store is None:
            return RawSource.read(self.selection)
        store = Store(self.loading.store)
        store.check(self.selection)
        return store

    @cached_property
    def _splits(self) -> dict[str, list[int]]:
        return self.task.splits(self.corpus, self._source.studies)
