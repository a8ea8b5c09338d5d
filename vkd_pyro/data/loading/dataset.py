"""From studies to examples, and the order in which they are drawn, which can be resumed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vkd_pyro.data.batch import Example
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.study import Study

Draw = tuple[int, int]
"""(epoch, row): what a sampler asks of a dataset; the epoch decides the augmentation. Evaluation uses epoch -1, and
`HalfLabelledSampler` the number of its pass over the rows, so that a row is never augmented twice alike."""

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
        observed: what the report likelihood prepared, one a study, or None where the report is not observed.
        features: of the images of each study, float16 [V, F] each, to be given in place of images; of the V versions
            that an image has, training draws one and evaluation takes the first. None gives images.
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
        observed: Sequence[Tensor] | None = None,
        features: Sequence[Sequence[NDArray[np.float16]]] | None = None,
    ) -> None:
        self.studies, self.targets, self.reports, self.has_report = studies, targets, reports, has_report
        self.transform, self.augmentation, self.seed = transform, augmentation, seed
        self.observed, self.features = observed, features
        self.rows = [(i, j) for i, study in enumerate(studies) for j in range(len(study.images))]
        self._pixels: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Example:
        epoch, row = draw
        number, place = self.rows[row]
        study = self.studies[number]
        if self.features is not None:
            versions = self.features[number][place]
            version = derive_seed(self.seed, epoch, study.study_id, row) % len(versions) if epoch >= 0 else 0
            image = torch.from_numpy(np.array(versions[version], np.float32))
        else:
            image = self._read(row).float() / 255
            if self.augmentation is not None and epoch >= 0:
                image = self.augmentation(image, derive_seed(self.seed, epoch, study.study_id, row))
        return Example(
            image=image,
            report=NO_REPORT if self.reports is None else self.reports[number],
            has_report=self.reports is not None and self.has_report[number],
            labels=torch.from_numpy(self.targets[number]),
            study_id=study.study_id,
            observed=None if self.observed is None else self.observed[number],
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


class HalfLabelledSampler(Sampler[Draw]):
    """Batches that begin with a labelled half, the same whatever the other half is; the trainer calls `set_epoch`.

    Rows come in the order of batches: those of all devices together.

    The rows of a half are drawn in passes: all of them in a new order, then again. Passes go on from one epoch to the
    next, so at any time no row has come more than once more often than another of its half. The order is a pure
    function of (seed, epoch).

    Args:
        labelled: rows of the first half.
        unlabelled: rows of the second; where there is none, a batch is its labelled half.
        half: rows of a batch from each.
        num_batches: of an epoch.
        seed: of the order.
    """

    def __init__(
        self, labelled: Sequence[int], unlabelled: Sequence[int], half: int, num_batches: int, seed: int
    ) -> None:
        self.halves = {name: rows for name, rows in (("labelled", labelled), ("unlabelled", unlabelled)) if rows}
        self.half, self.num_batches, self.seed, self.epoch = half, num_batches, seed, 0

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self.half * len(self.halves)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        halves = [self._draws(name, rows) for name, rows in self.halves.items()]
        return (draw for _ in range(self.num_batches) for draws in halves for draw in islice(draws, self.half))

    def _draws(self, name: str, rows: Sequence[int]) -> Iterator[Draw]:
        """(pass, row) from the first draw of the epoch on, without end."""
        first, done = divmod(self.epoch * self.num_batches * self.half, len(rows))
        for number in count(first):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, name, number))
            order = torch.randperm(len(rows), generator=generator).tolist()
            yield from ((number, rows[place]) for place in order[done if number == first else 0 :])


@dataclass(frozen=True)
class Share:
    """Which of several processes this is: it takes every `world`-th from number `rank` on."""

    rank: int = 0
    world: int = 1


ALONE = Share()


class TrainingBatches(Sampler[list[Draw]]):
    """The batches of one process: its share of the rows that a step has on all devices together.

    An incomplete last step is dropped.

    Args:
        sampler: the rows of an epoch, in order; a pure function of its `epoch`.
        batch_size: rows a batch, on one device.
        share: of which process.
    """

    def __init__(self, sampler: "ShuffledSampler | HalfLabelledSampler", batch_size: int, share: Share) -> None:
        self.sampler, self.batch_size, self.share = sampler, batch_size, share
        self._begins = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the sampler."""
        self.sampler.set_epoch(epoch)

    def resume_at(self, epoch: int, batch: int) -> None:
        """Begins that epoch with that batch, as if those before had been drawn."""
        self.sampler.set_epoch(epoch)
        self._begins = (epoch, batch)

    def __len__(self) -> int:
        return len(self.sampler) // (self.batch_size * self.share.world)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, batch = self._begins
        first, rows = batch if epoch == self.sampler.epoch else 0, self.batch_size * self.share.world
        draws = islice(self.sampler, first * rows, None)
        return (list(islice(draws, rows))[self.share.rank :: self.share.world] for _ in range(first, len(self)))


class StudyBatches(Sampler[list[Draw]]):
    """Every row once, in order, without augmentation; a batch holds whole studies.

    Args:
        rows: (study, image) of each row, studies together.
        batch_size: rows a batch; more where a single study has more images.
        every: only the first of so many batches, the next of the next so many, and so on.
        share: of which process, where several share the batches; one for which none is left has the last as well.
    """

    def __init__(self, rows: Sequence[tuple[int, int]], batch_size: int, every: int = 1, share: Share = ALONE) -> None:
        self.batches: list[list[Draw]] = []
        for _, group in groupby(range(len(rows)), key=lambda row: rows[row][0]):
            study = [(-1, row) for row in group]
            if self.batches and len(self.batches[-1]) + len(study) <= batch_size:
                self.batches[-1] += study
            else:
                self.batches.append(study)
        chosen = self.batches[::every]
        self.batches = chosen[share.rank :: share.world] or chosen[-1:]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)
