"""A dataset held whole in the memory of a device: a step moves row numbers and augmentation parameters only."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import Sampler

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.data.loading.dataset import NO_REPORT, Draw, StudyDataset, derive_seed
from vkd_pyro.data.store import StoredReports
from vkd_pyro.utils.errors import UserError

PART = 256
"""Images, or reports, that are on the host at a time while a dataset is moved."""


class CachedLoader:
    """The batches that a `DataLoader` with `collate` gives of a dataset, made on a device from what it holds.

    The images are read once, here. Where several processes share the batches, each holds the whole dataset.

    Args:
        dataset: N studies with R images, of one size.
        batches: what to draw; a batch is of training throughout, or of evaluation.
        device: that holds all, and gives all.

    Attributes:
        dataset: as given.
        batch_sampler: `batches`, as a trainer looks for it that calls `batch_sampler.sampler.set_epoch`.

    Raises:
        UserError: the device, a GPU, has less memory free than is needed; or an image cannot be read.
    """

    def __init__(self, dataset: StudyDataset, batches: Sampler[list[Draw]], device: torch.device) -> None:
        self.dataset, self.batch_sampler, self.device = dataset, batches, device
        self._studies = torch.tensor([number for number, _ in dataset.rows])
        _check_fits(needed(dataset), device)
        self._cached = {name: torch.empty_like(tensor, device=device) for name, tensor in _layout(dataset).items()}
        _fill_images(self._cached["images"], dataset)
        for name, tensor in _by_study(dataset).items():
            self._cached[name].copy_(tensor)
        self._reports = _Ragged(_reports(dataset), device)
        self._observed = None if dataset.observed is None else _Ragged(dataset.observed, device)
        self._white = torch.tensor(255.0, device=device)

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]  # a Sampler need not have a length; ours do

    def __iter__(self) -> Iterator[Batch]:
        return map(self._batch, self.batch_sampler)

    def _batch(self, draws: list[Draw]) -> Batch:
        rows = torch.tensor([row for _, row in draws])
        numbers = self._studies[rows]
        names = tuple(self.dataset.studies[number].study_id for number in numbers.tolist())
        images, studies = self._moved(torch.stack((rows, numbers)))
        report, mask = self._reports.padded(numbers, studies, fill=0)
        report = report.float() if report.is_floating_point() else report
        observed = None if self._observed is None else self._observed.padded(numbers, studies, fill=-1)[0]
        return Batch(
            images=self._augmented(self._pictures(images), draws, names),
            report=report,
            report_mask=mask,
            **{name: self._cached[name].index_select(0, studies) for name in ("has_report", "labels", "known")},
            study_ids=names,
            observed=observed,
        )

    def _pictures(self, rows: Tensor) -> Tensor:
        # By a tensor: a GPU divides by a number as it multiplies by 1 / 255, and rounds otherwise than a CPU.
        return self._cached["images"].index_select(0, rows).float().div_(self._white)

    def _augmented(self, images: Tensor, draws: list[Draw], names: Sequence[str]) -> Tensor:
        """As `StudyDataset` does it, row by row."""
        augmentation, seed = self.dataset.augmentation, self.dataset.seed
        epochs = [epoch for epoch, _ in draws]
        if augmentation is None or max(epochs) < 0:
            return images
        if min(epochs) < 0:
            raise ValueError("a batch is of training or of evaluation; found rows of both in one")
        seeds = (derive_seed(seed, epoch, name, row) for (epoch, row), name in zip(draws, names, strict=True))
        parameters = torch.stack([augmentation.parameters(seed) for seed in seeds])
        return augmentation.apply(images, self._moved(parameters))

    def _moved(self, tensor: Tensor) -> Tensor:
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)


class _Ragged:
    """What was prepared of reports, one after another in the memory of a device.

    Args:
        reports: [T] or [T, E] each.
        device: that holds them.
    """

    def __init__(self, reports: Sequence[Tensor], device: torch.device) -> None:
        self.lengths = torch.tensor(_lengths(reports))  # on the host, as the longest of a batch is asked for there
        self.on_device, self.starts = self.lengths.to(device), (self.lengths.cumsum(0) - self.lengths).to(device)
        self.tokens = torch.empty_like(_tokens(reports), device=device)
        end = 0
        for part in _parts(len(reports)):
            tokens = torch.cat([reports[number] for number in part])
            self.tokens[end : end + len(tokens)] = tokens
            end += len(tokens)

    def padded(self, numbers: Tensor, studies: Tensor, fill: int) -> tuple[Tensor, Tensor]:
        """Those of the studies with these numbers, given on the host and on the device; and their mask.

        Returns: [B, T] or [B, T, E]; bool [B, T].
        """
        starts, lengths = (values.index_select(0, studies)[:, None] for values in (self.starts, self.on_device))
        places = torch.arange(int(self.lengths[numbers].max()), device=studies.device)
        mask = places < lengths
        tokens = self.tokens[torch.where(mask, starts + places, 0)]
        return tokens.masked_fill_(~mask.view(*mask.shape, *[1] * (tokens.dim() - 2)), fill), mask


def needed(dataset: StudyDataset) -> int:
    """Bytes that `CachedLoader` holds of a dataset: images, reports, labels."""
    prepared = [reports for reports in (_reports(dataset), dataset.observed) if reports is not None]
    ragged = sum(_tokens(reports).nbytes + 16 * len(reports) for reports in prepared)
    return ragged + sum(tensor.nbytes for tensor in _layout(dataset).values())


def _tokens(reports: Sequence[Tensor]) -> Tensor:
    """All of them in one, in shape and type, without its memory."""
    return reports[0].new_empty((sum(_lengths(reports)), *reports[0].shape[1:]), device="meta")


def _check_fits(wanted: int, device: torch.device) -> None:
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if wanted > free:
        raise UserError(
            f"data.loading.cache_on_device: the images, reports and labels need {wanted / 2**30:.1f} GiB, {device} has "
            f"{free / 2**30:.1f} GiB free; set data.loading.cache_on_device to false, or image_size lower"
        )


def _layout(dataset: StudyDataset) -> dict[str, Tensor]:
    """What is held beside reports, in shape and type, without its memory."""
    size = dataset.transform.size
    rows, (studies, findings) = len(dataset), dataset.targets.shape
    with torch.device("meta"):
        return {
            "images": torch.empty(rows, 1, size, size, dtype=torch.uint8),
            "has_report": torch.empty(studies, dtype=torch.bool),
            "labels": torch.empty(studies, findings),
            "known": torch.empty(studies, findings, dtype=torch.bool),
        }


def _reports(dataset: StudyDataset) -> Sequence[Tensor]:
    return [NO_REPORT] * len(dataset.studies) if dataset.reports is None else dataset.reports


def _lengths(reports: Sequence[Tensor]) -> list[int]:
    return reports.lengths() if isinstance(reports, StoredReports) else [len(report) for report in reports]


def _by_study(dataset: StudyDataset) -> dict[str, Tensor]:
    targets = torch.from_numpy(dataset.targets)
    read = dataset.reports is not None
    return {
        "has_report": torch.tensor([read and has_report for has_report in dataset.has_report]),
        "labels": targets.nan_to_num(0.0),
        "known": ~targets.isnan(),
    }


def _fill_images(held: Tensor, dataset: StudyDataset) -> None:
    """Without the dataset's own cache, which would keep them on the host too."""

    def read(row: int) -> Tensor:
        number, image = dataset.rows[row]
        return dataset.transform(dataset.studies[number].images[image])

    with ThreadPoolExecutor() as pool, quiet_readers():  # decoding releases the interpreter's lock
        for part in _parts(len(dataset)):
            held[part.start : part.stop] = torch.stack(list(pool.map(read, part)))


def _parts(count: int) -> Iterator[range]:
    return (range(start, min(start + PART, count)) for start in range(0, count, PART))
