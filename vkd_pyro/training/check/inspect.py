"""What a training would be, from one batch and before it begins."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from vkd_pyro.artifacts.run import start_with
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.loading.dataset import StudyDataset
from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import seeded
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule, Cyclical
from vkd_pyro.training.callbacks import BestCheckpoint
from vkd_pyro.training.check.inspection import Inspection
from vkd_pyro.training.check.plan import Plan, parts_of
from vkd_pyro.training.check.sites import mismatches, sites_of, trace_of
from vkd_pyro.training.requirements import (
    check_trainable,
    observe_labels,
    observe_reports,
    warn_of_a_free_posterior,
    warn_of_absent_findings,
)
from vkd_pyro.training.settings import Training
from vkd_pyro.training.trainer import make_trainer, quiet
from vkd_pyro.utils.errors import UserError


def inspect_training(
    method: Method,
    data: StudyData,
    beta_schedule: BetaSchedule | None = None,
    training: Training | None = None,
    seed: int = 0,
    start_from: str | Path | None = None,
) -> Inspection:
    """Looks at what `fit` would do with the same arguments, on its first batch; nothing is written.

    The network is used up: its gradients and running averages change.

    Raises:
        UserError: `fit` would refuse these arguments, or model or guide cannot be run. What only shows once both have
            run is among the `problems`.
    """
    training = training or Training()
    with _kept_warnings() as warned:
        check_trainable(method, data)
        if start_from is not None:
            start_with(method, Path(start_from))
        data.check_features(method.model.image_encoder)
        observe_labels(method, data)
        warn_of_absent_findings(data)
        reader = method.report_encoder
        encoder = None if reader is None else _Lazy(reader.to(training.device))
        # Only one batch is looked at, so nothing is moved to a device.
        data = StudyData(data.selection, data.task, replace(data.loading, cache_on_device=False))
        observation = None if method.report_likelihood is None else _Lazy(method.report_likelihood)
        loader = data.train_loader(encoder, seed, observation=observation)
        observe_reports(method, cast(StudyDataset, loader.dataset))
        steps = math.ceil(len(loader) / training.accumulate_batches)
        schedule = (beta_schedule or Cyclical()) if reader is not None else None
        if schedule:
            schedule.validate(steps)
            warn_of_a_free_posterior(method, schedule, steps)
        with quiet():
            make_trainer(training, Path(), BestCheckpoint(Path()), progress=False)
    plan = Plan(method, schedule, steps, training)
    batch = _first_batch(loader).to(training.device)
    method.to(training.device).train()
    with seeded(seed, batch.images.device):
        latent_dim = getattr(method, "latent_dim", 0)
        model, guide = trace_of("model", method.model, batch, latent_dim), None
        if plan.objective is not None and method.guide is not None:  # else it reads reports without random variables
            guide = trace_of("guide", method.guide, batch, latent_dim)
        terms: dict[str, float] = {}
        reached = {id(p) for p in method.parameters()}  # until a step shows which
        problems = mismatches(model, guide)
        lines = plan.term_lines()
        try:
            if not problems:
                terms, reached = plan.step(batch)
                lines += plan.divergence_lines(model, guide)
        except UserError as error:
            problems.append(str(error))
    return Inspection(
        title=f"{type(method).__name__} on {data.corpus.name}, {len(data.findings)} findings",
        data=_data_lines(data, batch),
        model=sites_of(model),
        guide=sites_of(guide),
        objective=(*lines, *plan.schedule_lines()),
        parts=parts_of(plan, reached, bool(batch.has_report.any())),
        terms=terms,
        warnings=tuple(dict.fromkeys(warned)),
        problems=tuple(problems),
    )


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Warnings meant for the user are put into the list, and not shown."""
    kept: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield kept
    kept += [str(warning.message) for warning in found if issubclass(warning.category, UserWarning)]


class _OneByOne(Sequence[Tensor]):
    """Reports, each prepared when it is asked for: a look at one batch need not wait for all."""

    def __init__(self, preparation: Preparation, reports: Sequence[str]) -> None:
        self._prepare, self.reports = preparation.prepare, reports

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, index: Any) -> Any:
        return self._prepare([self.reports[index]])[0]

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._prepare(self.reports)  # all at once, and only when the first is asked for


class _Lazy:
    """What reads or observes reports, as far as a loader knows it."""

    def __init__(self, preparation: Preparation) -> None:
        self._whole = preparation

    @property
    def preparation(self) -> dict[str, Any]:
        return self._whole.preparation

    def prepare(self, reports: Sequence[str]) -> _OneByOne:
        return _OneByOne(self._whole, reports)


def _first_batch(loader: Any) -> Batch:
    """In this process, and no batch more."""
    return loader.collate_fn([loader.dataset[draw] for draw in next(iter(loader.batch_sampler))])


def _data_lines(data: StudyData, batch: Batch) -> tuple[str, ...]:
    lines = []
    for split in ("train", "validation"):
        n = data.count(split)
        lines.append(
            f"{split:<14}{n['studies']:,} studies, {n['images']:,} images, {n['with a report']:,} with a report, "
            f"{n['without any label']:,} without any label"
        )
    known, pairs = int(batch.known.sum()), batch.known.numel()
    height, width = batch.images.shape[-2:]
    lines.append(
        f"{'a batch':<14}{len(batch)} images of {height} x {width}, {int(batch.has_report.sum())} with a report, "
        f"{known} of {pairs} labels known"
    )
    return tuple(lines)
