"""Posterior predictive sampling (paper Algorithm 2): p(y | x_I) = mean over z ~ p(z | x_I) of p(y | x_I, z)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Independent

from vkd_pyro import metrics
from vkd_pyro.bundle import Bundle
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.dicom import is_dicom, mismatches, read_header
from vkd_pyro.distributions import KL, Distribution, product
from vkd_pyro.errors import UserError
from vkd_pyro.model import VKD, Guide, ImageClassifier, ImageOnly, Model
from vkd_pyro.rivals import ReportClassifier

Fusion = Literal["mean", "product"]
"""Of the images of a study: the mean of their probabilities, with z from each one's prior, or from their product."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws inside are a function of the seed; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Prediction:
    """What the model says of N images.

    Attributes:
        samples: p(y_k = 1 | x_I, z^(s)), float [S, N, K] in [0, 1].
        findings: names of the K labels.
    """

    samples: NDArray[np.float32]
    findings: tuple[str, ...]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """p(y_k = 1 | x_I), float [N, K]: the mean over samples."""
        return self.samples.mean(axis=0)


@torch.no_grad()
def predict(
    model: Model | ImageClassifier,
    images: Tensor,
    findings: tuple[str, ...],
    num_samples: int = 100,
    seed: int = 0,
) -> Prediction:
    """Findings of a batch of X-rays; each image is encoded once, whatever the number of samples.

    Args:
        model: in eval mode.
        images: float [N, 1, height, width] in [0, 1].
        findings: names of the K labels.
        num_samples: S, draws of z.
        seed: of the draws.
    """
    with seeded(seed, images.device):
        samples = model.probabilities(model.image_encoder(images), num_samples)
    return Prediction(samples.float().cpu().numpy(), findings)


def predict_files(
    bundle: Bundle,
    images: Sequence[Path],
    num_samples: int = 100,
    seed: int = 0,
    batch_size: int = 32,
    on_mismatch: Literal["error", "warn"] = "error",
) -> NDArray[np.float32]:
    """p(y_k = 1 | x_I) of image files, float [N, K]; each file is read before any is predicted.

    Raises:
        UserError: a file is missing, unreadable or not an image, or its DICOM header says that it is no chest X-ray
            of a view the model knows, unless `on_mismatch` is "warn".
    """
    for image in images:
        check_header(Path(image), bundle.views, on_mismatch)
    pixels = torch.stack([bundle.transform(image) for image in images])
    batches = (rows.float() / 255 for rows in pixels.split(batch_size))
    parts = [predict(bundle.model, batch, bundle.findings, num_samples, seed).probabilities for batch in batches]
    return np.concatenate(parts)


def check_header(image: Path, views: tuple[str, ...], on_mismatch: Literal["error", "warn"]) -> None:
    """Compares what a DICOM header says with what the model learned from; other files say nothing."""
    if image.is_file() and is_dicom(image) and (reasons := mismatches(read_header(image), views)):
        message = f"{image}: {'; '.join(reasons)}"
        if on_mismatch == "error":
            raise UserError(f"{message}; to predict all the same, --on_mismatch warn")
        warnings.warn(message, stacklevel=2)


# ------------------------------------------------------------------- both branches, for evaluation


@dataclass(frozen=True)
class StudyOutputs:
    """What model and guide say of N rows, to be evaluated. NaN where there is no report, or no z.

    Attributes:
        study_ids: str [N]; a study with several images has several rows, until `mean_over_images`.
        labels: [N, K]; 1, 0, NaN unknown.
        probabilities: [N, K], from the image.
        report_probabilities: [N, K], from the report, by q(y | z); or by the teacher of a rival.
        report_log_probs: [N, K], E log q(y_k | z) of the label as it is, z ~ q(z | x_T); NaN where it is unknown.
        kl: [N], KL(q(z | x_T) || p(z | x_I)) in nats.
        kl_per_dimension: [N, D], its parts; NaN where dimensions of z depend on each other.
        prior_locs, posterior_locs: [N, D], the means of z given the image, and given the report.
        z_variance: [N, K], of p(y_k = 1 | x_I, z) over draws of z ~ p(z | x_I); NaN for a single draw.
        z_change: [N, K], the squared change of p(y_k = 1 | x_I) when z is drawn for another study, with no bias from
            the number of draws, so below 0 now and then; NaN for a single draw, or without another study in the batch.
    """

    study_ids: NDArray[np.str_]
    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    report_probabilities: NDArray[np.float64]
    report_log_probs: NDArray[np.float64]
    kl: NDArray[np.float64]
    kl_per_dimension: NDArray[np.float64]
    prior_locs: NDArray[np.float64]
    posterior_locs: NDArray[np.float64]
    z_variance: NDArray[np.float64]
    z_change: NDArray[np.float64]

    @classmethod
    def concatenate(cls, parts: Sequence["StudyOutputs"]) -> "StudyOutputs":
        """All rows of the parts, in their order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def mean_over_images(self) -> "StudyOutputs":
        """One row a study, in the order of first appearance: everything averaged over the study's images."""
        names, group = pd.unique(self.study_ids), pd.factorize(self.study_ids)[0]
        arrays = (getattr(self, f.name) for f in fields(self)[1:])
        means = (pd.DataFrame(array).groupby(group).mean().to_numpy().reshape(-1, *array.shape[1:]) for array in arrays)
        return StudyOutputs(names, *means)

    def mean_kl(self) -> float:
        """Mean over the rows with a report, in nats; NaN without any."""
        return float(pd.Series(self.kl).mean())

    def active_units(self) -> dict[str, float]:
        """Active units of prior and posterior; NaN where there is no such distribution."""
        locs = {"prior": self.prior_locs, "posterior": self.posterior_locs}
        with_z = {name: array[~np.isnan(array).any(axis=1)] for name, array in locs.items()}
        return {name: float(metrics.active_units(rows)) if len(rows) else float("nan") for name, rows in with_z.items()}


@torch.no_grad()
def study_outputs(
    network: VKD | ImageOnly, batch: Batch, num_samples: int, seed: int, fusion: Fusion = "mean"
) -> StudyOutputs:
    """Predictions of both classifiers, and both distributions of z, for one batch; the network in eval mode.

    With fusion "product", all images of a study share the product of their priors; the batch holds whole studies.
    """
    model, guide = network.model, network.guide
    device, rows = batch.images.device, len(batch)
    features = model.image_encoder(batch.images)
    prior = model.prior(features) if isinstance(model, Model) else None
    if fusion == "product":
        if prior is None:
            raise UserError("fusion: 'product' is of the priors of z, and image_only has none; use mean")
        prior = product(prior, torch.as_tensor(pd.factorize(np.array(batch.study_ids))[0], device=device))
    with seeded(seed, device):
        samples = model.probabilities(features, num_samples, *([] if prior is None else [prior]))
    labels = batch.labels.masked_fill(~batch.known, torch.nan)
    by_finding = torch.full_like(batch.labels, torch.nan)
    by_dimension = by_finding.new_full((rows, network.latent_dim if isinstance(network, VKD) else 1), torch.nan)
    outputs = dict.fromkeys(("report_probabilities", "report_log_probs", "z_variance", "z_change"), by_finding)
    outputs |= dict.fromkeys(("kl_per_dimension", "prior_locs", "posterior_locs"), by_dimension)
    outputs |= {"labels": labels, "probabilities": samples.mean(0), "kl": by_dimension[:, 0]}
    if prior is not None and isinstance(model, Model):
        outputs["prior_locs"] = prior.mean
        if num_samples > 1:
            outputs |= _moved_by_z(model, features, prior, samples, batch.study_ids, seed)
        if isinstance(guide, Guide) and batch.has_report.any():
            outputs |= _of_report(guide, batch, prior, labels, num_samples, seed)
    if isinstance(guide, ReportClassifier) and batch.has_report.any():
        teacher = guide(batch, features)[1].sigmoid()
        outputs["report_probabilities"] = teacher.masked_fill(~batch.has_report[:, None], torch.nan)
    arrays = {name: tensor.double().cpu().numpy() for name, tensor in outputs.items()}
    return StudyOutputs(study_ids=np.array(batch.study_ids), **arrays)


def _moved_by_z(
    model: Model, features: Tensor, prior: Distribution, samples: Tensor, study_ids: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """How much p(y | x_I, z), float [S, B, K], owes to z: to its draws, and to whether it is another study's."""
    draws, rows = samples.shape[:2]
    shift = rows // 2
    with seeded(seed, features.device):  # the same draws of z, beside the features of the other study
        others = model.probabilities(features.roll(shift, 0), draws, prior).roll(-shift, 1)
    variance = samples.var(0)
    squares = (samples.mean(0) - others.mean(0)).square() - (variance + others.var(0)) / draws
    same = [study_ids[row] == study_ids[(row + shift) % rows] for row in range(rows)]
    change = squares.masked_fill(torch.tensor(same, device=squares.device)[:, None], torch.nan)
    return {"z_variance": variance, "z_change": change}


def _of_report(
    guide: Guide, batch: Batch, prior: Distribution, labels: Tensor, num_samples: int, seed: int
) -> dict[str, Tensor]:
    """What of `StudyOutputs` comes from reports; NaN in the rows that have none."""
    with seeded(seed, batch.images.device):
        posterior = guide.posterior(guide.report_encoder(batch.report, batch.report_mask))
        samples = guide.probabilities(posterior, num_samples)
        total, parts = _kl(posterior, prior)
    p = samples.clamp(1e-7, 1 - 1e-7)
    log_probs = torch.where(labels == 1, p.log(), (1 - p).log()).mean(0).masked_fill(labels.isnan(), torch.nan)
    found = {
        "report_probabilities": samples.mean(0),
        "report_log_probs": log_probs,
        "kl": total,
        "kl_per_dimension": parts,
        "posterior_locs": posterior.mean,
    }
    absent = ~batch.has_report
    return {
        name: tensor.masked_fill(absent.view(-1, *[1] * (tensor.dim() - 1)), torch.nan)
        for name, tensor in found.items()
    }


def _kl(posterior: Distribution, prior: Distribution, draws: int = 16) -> tuple[Tensor, Tensor]:
    """KL(q || p) of each study, [B], and its dimensions, [B, D], NaN where they depend on each other."""
    z = posterior.sample((draws,))  # read where there is no closed form
    if all(isinstance(one, Independent) and not one.base_dist.event_shape for one in (posterior, prior)):
        parts = KL()(posterior.base_dist, prior.base_dist, z)
        return parts.sum(-1), parts
    return KL()(posterior, prior, z), torch.full_like(z[0], torch.nan)
