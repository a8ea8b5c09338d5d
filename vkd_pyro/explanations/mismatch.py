"""Which report disagrees with its image.

    KL(q(z | x_T) || p(z | x_I))                                           how far a report is from its image
    KL(q(z | x_T) || p(z | x_I)) - mean_j KL(q(z | x_T) || p(z | x_Ij))    the same, less how far it is from any

The first is large for every report that says something rare, whosever image it is beside; the second, the mismatch
score, asks whether the report is nearer to its own image than to others, and is below 0 where it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import KL
from vkd_pyro.methods.base import Method
from vkd_pyro.metrics import auroc

Array = NDArray[np.float64]
BLOCK = 512
"""Pairs of report and image at once."""

DRAWS = 16
"""Of z for a KL without a closed form."""


@dataclass(frozen=True, eq=False)
class Mismatch:
    """How far the reports of N studies are from their own image and from those of others.

    Attributes:
        study_ids: N names; of studies that have a report.
        own: KL(q(z | x_T) || p(z | x_I)) in nats, [N].
        others: the same with the images of M other studies, [N, M].
    """

    study_ids: tuple[str, ...]
    own: Array
    others: Array

    @cached_property
    def score(self) -> Array:
        """[N], in nats: the largest first are worth a second look."""
        return self.own - self.others.mean(axis=1)

    @property
    def order(self) -> NDArray[np.int64]:
        """Rows by their score, the largest first, [N]."""
        return np.argsort(-self.score, kind="stable")

    def auroc(self, kind: str = "score") -> float:
        """How well the mismatch score, or the KL itself ("own"), tells reports beside others' images from true pairs.

        The share of pairs in the right order; 0.5 is chance, NaN is no study, or no other.
        """
        number = self.others.shape[1]
        if kind == "own":
            return mismatch_auroc(self.own, self.others.ravel())
        if number < 2:
            return float("nan")
        rest = (self.others.sum(axis=1, keepdims=True) - self.others) / (number - 1)  # each judged by the rest
        return mismatch_auroc(self.score, (self.others - rest).ravel())


def mismatch_auroc(matched: ArrayLike, exchanged: ArrayLike) -> float:
    """How well a score tells a report of another study from a study's own: the share of pairs in the right order.

    Args: of studies with their own report, [N], and with another's, [M]; NaN without a report.
    Returns: in [0, 1]; 0.5 is chance, NaN where either has no report.
    """
    one, other = np.asarray(matched, float), np.asarray(exchanged, float)
    return auroc(np.concatenate([one, other]), np.repeat([0.0, 1.0], [len(one), len(other)]))


@torch.no_grad()
def mismatch(method: Method, batches: Iterable[Batch], num_others: int = 32, seed: int = 0) -> Mismatch:
    """Compares each report with its own study's first image and with those of other studies.

    Args:
        method: with z, whose guide has a posterior of it; in eval mode, on the device of the batches.
        batches: with reports; a study is in one of them.
        num_others: M, other studies whose images each report is compared with; fewer where there are fewer.
        seed: of which, and of the draws of z where the KL has no closed form.
    """
    names: list[str] = []
    rows: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        first = [i for i, name in enumerate(batch.study_ids) if name not in batch.study_ids[:i] and batch.has_report[i]]
        rows.append((method.model.image_encoder(batch.images)[first], method.guide.encode(batch)[first]))
        names += [batch.study_ids[i] for i in first]
    images, reports = (torch.cat(parts) for parts in zip(*rows, strict=True))
    shifts = np.random.default_rng(seed).permutation(np.arange(1, len(names)))[:num_others]
    kls = [_kl(method, images.roll(-int(shift), 0), reports, seed) for shift in (0, *shifts)]
    return Mismatch(tuple(names), kls[0], np.stack(kls[1:], axis=1) if len(kls) > 1 else np.empty((len(names), 0)))


def _kl(method: Any, images: Tensor, reports: Tensor, seed: int) -> Array:
    """KL(q(z | x_T) || p(z | x_I)) of features of images and of reports, [N, F] each, row by row: [N]."""
    parts = []
    for of_images, of_reports in zip(images.split(BLOCK), reports.split(BLOCK), strict=True):
        read = method.guide.posterior_predictive(of_reports, DRAWS, seed)
        prior = method.model.posterior_predictive(of_images, 1, seed).latent
        parts.append(KL()(read.latent, prior, read.z))
    return torch.cat(parts).double().cpu().numpy()
