"""What model and guide say of studies, from images and from reports, to be evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Independent

from vkd_pyro import metrics
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.labels.findings import abnormalities
from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import KL, Distribution, Likelihood, product
from vkd_pyro.evaluation.joint import (
    answer_information,
    at_least_one,
    dependent_at_least_one,
    dependent_log_prob,
    joint_log_prob,
    marginal_log_prob,
)
from vkd_pyro.evaluation.replicas import replicate
from vkd_pyro.methods.base import Method
from vkd_pyro.model import ImageModel
from vkd_pyro.posthoc.calibration import Fit
from vkd_pyro.posthoc.ood import Signals
from vkd_pyro.sampling import PosteriorPredictive, mean_over_studies, probabilities_given
from vkd_pyro.utils.errors import UserError

Fusion = Literal["mean", "product", "none"]
"""How images of a study are joined: mean of probabilities, z from each prior, or from the product of priors; or
none, each image apart."""

KL_DRAWS = 16
"""Draws of z for a KL without a closed form."""

LEVEL = 0.95
"""Probability that the intervals hold."""


@dataclass(frozen=True)
class StudyOutputs:
    """What model and guide say of N rows, to be evaluated. NaN where there is no report, or no z.

    Attributes:
        study_ids: str [N]; a study with several images has several rows, until `mean_over_images`.
        labels: [N, K]; 1, 0, NaN unknown.
        probabilities: [N, K], from the image.
        low, high: [N, K], the interval that holds p(y_k = 1 | x_I, z) for 95 % of z; NaN for a single draw.
        yes_share: [N, K], the share of draws of z that say yes, by a calibration; NaN without, or for a single draw.
        latent_uncertainty: [N, K], I(y_k; z | x_I) in nats: the uncertainty that z carries; NaN for a single draw.
        report_probabilities: [N, K], from the report, by q(y | z); or by a teacher.
        report_log_probs: [N, K], E log q(y_k | z) of the label as it is, z ~ q(z | x_T); NaN where it is unknown.
        kl: [N], KL(q(z | x_T) || p(z | x_I)) in nats; under fusion "product" p is the product.
        kl_per_dimension: [N, D], its parts; NaN where dimensions of z depend on each other.
        prior_locs, posterior_locs: [N, D], the means of z given the image alone, and given the report.
        z_variance: [N, K], of p(y_k = 1 | x_I, z) over draws of z ~ p(z | x_I); NaN for a single draw.
        z_change: [N, K], the squared change of p(y_k = 1 | x_I) when z is drawn for another study, with no bias from
            the number of draws, so below 0 now and then; NaN for a single draw, or without another study in the batch.
        features: float32 [N, F], of the image encoder.
        image_uncertainty: [N], total uncertainty of each image alone, over all findings, in nats.
        joint_log_prob, marginal_log_prob: [N], log p(y | x_I) of the known labels of a study together, and as if they
            were independent, in nats; NaN where none is known.
        answer_information: [N], at least I(z; y | x_I) in nats; NaN for a single draw, or where labels depend on each
            other given z.
        any_joint, any_marginal: [N], p(at least one abnormality | x_I), jointly and as if findings were independent.
        replicas: label vectors drawn from p(y | x_I), packed as `vkd_pyro.evaluation.replicas` has them, [N, ...]; NaN
            where they were not asked for, or labels depend on each other given z.
    """

    study_ids: NDArray[np.str_] = field(repr=False)
    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    yes_share: NDArray[np.float64]
    latent_uncertainty: NDArray[np.float64]
    report_probabilities: NDArray[np.float64]
    report_log_probs: NDArray[np.float64]
    kl: NDArray[np.float64]
    kl_per_dimension: NDArray[np.float64]
    prior_locs: NDArray[np.float64]
    posterior_locs: NDArray[np.float64]
    z_variance: NDArray[np.float64]
    z_change: NDArray[np.float64]
    features: NDArray[np.float32]
    image_uncertainty: NDArray[np.float64]
    joint_log_prob: NDArray[np.float64]
    marginal_log_prob: NDArray[np.float64]
    answer_information: NDArray[np.float64]
    any_joint: NDArray[np.float64]
    any_marginal: NDArray[np.float64]
    replicas: NDArray[np.float64]

    @classmethod
    def concatenate(cls, parts: Sequence["StudyOutputs"]) -> "StudyOutputs":
        """All rows of the parts, in their order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def some(self, chosen: NDArray[np.bool_]) -> "StudyOutputs":
        """The rows that are chosen, bool [N]."""
        return StudyOutputs(*(getattr(self, f.name)[chosen] for f in fields(self)))

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
    method: Method,
    batch: Batch,
    num_samples: int,
    seed: int,
    fusion: Fusion = "mean",
    replicated: bool = False,
    fit: Fit | None = None,
) -> StudyOutputs:
    """Predictions of both classifiers, and both distributions of z, for one batch; the method in eval mode.

    With fusion "product", all images of a study share the product of their priors. Fused, the batch holds whole
    studies, whose rows are alike in what is said of the study. No row depends on the other studies of the batch, but
    for `z_change`. With `replicated`, label vectors are drawn too; with a fit, draws are judged by its thresholds.
    """
    model, device = method.model, batch.images.device
    group = torch.as_tensor(pd.factorize(np.array(batch.study_ids))[0], device=device)
    features = model.encode(batch.images)
    latent = own = model.latent(features)
    if fusion == "product":
        if latent is None:
            raise UserError("fusion: 'product' is of the priors of z, and this model has none; use mean")
        latent = product(latent, group)
    draws = 1 if latent is None else num_samples
    said = model.posterior_predictive(features, draws, seed, latent)
    alone = said if fusion != "product" else model.posterior_predictive(features, draws, seed)
    labels = batch.labels.masked_fill(~batch.known, torch.nan)
    outputs = _unknown(labels, latent) | {"labels": labels, "features": features}
    if own is not None:
        outputs["prior_locs"] = own.mean
        if num_samples > 1:
            outputs |= _moved_by_z(model, features, said, group)
    if batch.has_report.any():
        read = method.report_predictive(batch, features, max(num_samples, KL_DRAWS), seed)
        outputs |= _of_report(read, said, batch, labels, num_samples) if read else {}
    samples = said.samples if fusion == "none" else mean_over_studies(said.samples, group)
    abnormal = abnormalities(method.findings)
    outputs |= _of_samples(samples) | _of_marginals(samples, labels, abnormal)
    likelihood: Any = getattr(model, "likelihood", None)
    independent = likelihood is None or likelihood.independent_given_z
    if independent:
        outputs |= _of_independent(samples, labels, abnormal, seed)
    else:
        z, joined = cast(Tensor, said.z), None if fusion == "none" else group
        outputs |= _of_dependent(likelihood, z, features, labels, abnormal, joined)
    arrays = {name: tensor.double().cpu().numpy() for name, tensor in outputs.items()}
    arrays |= {"replicas": np.full((len(batch), 1), np.nan), "yes_share": np.full(labels.shape, np.nan)}
    arrays["image_uncertainty"] = metrics.entropy(alone.probabilities.double().cpu().numpy()).sum(-1)
    if fit is not None and len(samples) > 1:
        arrays["yes_share"] = fit.yes_share(samples.float().cpu().numpy())
    if replicated and independent:
        arrays["replicas"] = replicate(samples.double().cpu().numpy(), batch.study_ids, seed)
    return StudyOutputs(study_ids=np.array(batch.study_ids), **arrays | {"features": features.float().cpu().numpy()})


def _unknown(labels: Tensor, latent: Distribution | None) -> dict[str, Tensor]:
    """What a batch may lack: NaN of each in its shape."""
    by_finding = torch.full_like(labels, torch.nan)
    by_dimension = by_finding.new_full((len(labels), 1 if latent is None else latent.event_shape[0]), torch.nan)
    return {
        **dict.fromkeys(("report_probabilities", "report_log_probs", "z_variance", "z_change"), by_finding),
        **dict.fromkeys(("kl_per_dimension", "prior_locs", "posterior_locs"), by_dimension),
        "kl": by_dimension[:, 0],
    }


def outputs_of_images(
    method: Method,
    data: StudyData,
    split: str,
    num_samples: int,
    preparation: Preparation | None = None,
    fusion: Fusion = "none",
    seed: int = 0,
    max_images: int | None = None,
    replicated: bool = False,
    fit: Fit | None = None,
) -> StudyOutputs:
    """What model and guide say of a split, not augmented, a row an image; fused, the rows of a study are alike.

    Args:
        method: in eval mode.
        preparation: of reports; without, none is read.
        max_images: about how many at most, spread over the split; None for all.
        replicated: whether label vectors are drawn, for posterior predictive checks.
        fit: of the rows, by whose thresholds each draw is judged.
    """
    device = next(method.model.parameters()).device
    loader = data.evaluation_loader(split, preparation, max_images)
    how = num_samples, seed, fusion, replicated, fit
    parts = [study_outputs(method, cast(Batch, batch).to(device), *how) for batch in loader]
    return StudyOutputs.concatenate(parts)


def _of_samples(samples: Tensor) -> dict[str, Tensor]:
    """Mean, interval and what z carries, over draws; [S, B, K] -> [B, K] each."""
    samples = samples.float()
    found = {"probabilities": samples.mean(0)}
    if len(samples) == 1:
        return found | dict.fromkeys(("low", "high", "latent_uncertainty"), torch.full_like(samples[0], torch.nan))
    found["latent_uncertainty"] = torch.as_tensor(metrics.latent_uncertainty(samples.cpu().numpy()[None]))
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], device=samples.device)
    return found | dict(zip(("low", "high"), samples.quantile(tails, dim=0), strict=True))


def _of_marginals(samples: Tensor, labels: Tensor, abnormal: list[int]) -> dict[str, Tensor]:
    """What the product of the marginals says of all findings of a study; [S, B, K], [B, K] -> [B] each."""
    return {
        "marginal_log_prob": marginal_log_prob(samples, labels),
        "any_marginal": at_least_one(samples[..., abnormal], joint=False),
    }


def _of_independent(samples: Tensor, labels: Tensor, abnormal: list[int], seed: int) -> dict[str, Tensor]:
    """What is said of them together where they are independent given z, [B] each."""
    return {
        "joint_log_prob": joint_log_prob(samples, labels),
        "answer_information": answer_information(samples, seed),
        "any_joint": at_least_one(samples[..., abnormal]),
    }


def _of_dependent(
    likelihood: Likelihood, z: Tensor, features: Tensor, labels: Tensor, abnormal: list[int], group: Tensor | None
) -> dict[str, Tensor]:
    """The same where they depend on each other given z, [B] each."""
    return {
        "joint_log_prob": dependent_log_prob(likelihood, z, features, labels, group),
        "answer_information": torch.full_like(labels[:, 0], torch.nan),
        "any_joint": dependent_at_least_one(likelihood, z, features, abnormal, group),
    }


def _moved_by_z(model: ImageModel, features: Tensor, said: PosteriorPredictive, group: Tensor) -> dict[str, Tensor]:
    """How much p(y | x_I, z), float [S, B, K], owes to z: to its draws, and to whether it is another study's."""
    shift = len(features) // 2
    z = cast(Tensor, said.z)
    others = probabilities_given(model.likelihood.probabilities, z, features.roll(shift, 0)).roll(-shift, 1)
    moved = said.samples - others  # draw by draw, which share their noise
    squares = moved.mean(0).square() - moved.var(0) / len(moved)
    same = group == group.roll(-shift)
    return {"z_variance": said.samples.var(0), "z_change": squares.masked_fill(same[:, None], torch.nan)}


def _of_report(
    read: PosteriorPredictive, said: PosteriorPredictive, batch: Batch, labels: Tensor, num_samples: int
) -> dict[str, Tensor]:
    """What of `StudyOutputs` comes from reports; NaN in the rows that have none."""
    samples = read.samples[:num_samples]
    found = {"report_probabilities": samples.mean(0)}
    if read.z is not None and read.latent is not None and said.latent is not None:
        p = samples.clamp(1e-7, 1 - 1e-7)
        log_probs = torch.where(labels == 1, p.log(), (1 - p).log()).mean(0).masked_fill(labels.isnan(), torch.nan)
        total, parts = _kl(read.latent, said.latent, read.z[:KL_DRAWS])
        found |= {"report_log_probs": log_probs, "kl": total, "kl_per_dimension": parts}
        found["posterior_locs"] = read.latent.mean
    absent = ~batch.has_report
    return {
        name: tensor.masked_fill(absent.view(-1, *[1] * (tensor.dim() - 1)), torch.nan)
        for name, tensor in found.items()
    }


def _kl(posterior: Distribution, prior: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p) of each study, [B], and its dimensions, [B, D], NaN where they depend on each other.

    Draws of the posterior, [S, B, D], are read where there is no closed form.
    """
    if all(isinstance(one, Independent) and not one.base_dist.event_shape for one in (posterior, prior)):
        parts = KL()(posterior.base_dist, prior.base_dist, z)
        return parts.sum(-1), parts
    return KL()(posterior, prior, z), torch.full_like(z[0], torch.nan)


def signals(outputs: StudyOutputs) -> Signals:
    """What an `OODDetector` looks at: features, means of z, and the uncertainty over all findings; of each image alone,
    whatever study it is of."""
    latents = None if np.isnan(outputs.prior_locs).all() else outputs.prior_locs
    return Signals(outputs.features, latents, outputs.image_uncertainty)
