"""What is said of images: samples of the posterior predictive (paper Algorithm 2), p(y | x_I) their mean, and how sure.

Draws of z are one source of uncertainty. Others, by choice, are networks that could have been learned as well: the
members of an ensemble (Lakshminarayanan et al. 2017) or masks of dropout (Gal & Ghahramani 2016); and images that could
have been taken as well: augmented ones.

    total      H(E p)                       of a finding, in nats
    aleatoric  E H(p)                       what stays when z and network are known
    latent     E_v [H(E_s p) - E_s H(p)]    mutual information of y and z: what z carries
    epistemic  H(E p) - E_v H(E_s p)        mutual information of y and network (or augmented image) v

so that total = aleatoric + latent + epistemic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro import metrics
from vkd_pyro.artifacts.predictor import Sampled
from vkd_pyro.prediction.inference_data import inference_data
from vkd_pyro.prediction.queries import Answer, Query, parse
from vkd_pyro.utils.errors import UserError, check_count, check_seed
from vkd_pyro.utils.notebook import notebook_html

Array = NDArray[np.float32]

MOST_DRAWS = 1_000_000
"""Of z, of masks, of augmented images: more would fill the memory, and say no more."""

SHOWN = 6
"""Images that a notebook shows of a prediction."""


@dataclass(frozen=True)
class Summary:
    """What is said of N images without their samples; all [N, K].

    Attributes:
        probabilities: p(y_k = 1 | x_I) in [0, 1].
        low, high: the interval that holds p(y_k = 1 | x_I, z, network) with the probability asked for.
        total, aleatoric, latent, epistemic: uncertainty in nats, see above; NaN without its source.
    """

    probabilities: Array
    low: Array
    high: Array
    total: Array
    aleatoric: Array
    latent: Array
    epistemic: Array

    @classmethod
    def concatenate(cls, parts: Sequence["Summary"]) -> "Summary":
        """All images of the parts, in their order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True, repr=False)  # a repr of its own, without the samples
class Prediction:
    """What the model says of N images.

    Attributes:
        samples: p(y_k = 1 | x_I, z^(s)) by V networks (or of V versions of an image), float [V, S, N, K] in [0, 1].
        findings: names of the K labels.
        sources: what differs between samples: "z", "ensemble", "dropout", "augmentation".
        z: its draws, float [V, S, N, D]; None without z, of a mean over images, or where networks differ in D.
        independent: whether findings are, given z.
        has_z: whether draws differ in z, were there several.
    """

    samples: Array
    findings: tuple[str, ...]
    sources: tuple[str, ...] = ("z",)
    z: Array | None = None
    independent: bool = True
    has_z: bool = True

    def __repr__(self) -> str:
        networks, draws, images, findings = self.samples.shape
        sources = " and ".join(self.sources) or "nothing"
        return (
            f"Prediction({images:,} images, {findings} findings, {networks} x {draws} samples that differ in {sources})"
        )

    def _repr_html_(self) -> str:
        """Probabilities and their 95 % intervals, of the first images, for a notebook."""
        said, (low, high), shown = self.probabilities, self.interval(), min(self.samples.shape[2], SHOWN)

        def cell(n: int, k: int) -> str:
            interval = "" if np.isnan(low[n, k]) else f" [{low[n, k]:.3f}, {high[n, k]:.3f}]"
            return f"{said[n, k]:.3f}{interval}"

        rows = [{"finding": f} | {f"image {n}": cell(n, k) for n in range(shown)} for k, f in enumerate(self.findings)]
        rest = [f"and {len(said) - shown:,} more images"] if shown < len(said) else []
        return notebook_html(repr(self), rows, *rest)

    @property
    def probabilities(self) -> Array:
        """p(y_k = 1 | x_I), float [N, K]: the mean over samples."""
        return self.samples.mean(axis=(0, 1))

    def probability(self, query: str) -> Answer:
        """What is said of several findings at once, such as "Pleural Effusion & ~Edema", [N]: see `queries`.

        Raises:
            UserError: the question cannot be read, or names what is no finding; or as `answer`.
        """
        return self.answer(parse(query, self.findings))

    def answer(self, query: Query) -> Answer:
        """What is said of a question that was parsed, [N].

        Raises:
            UserError: it is of several findings, which depend on each other given z: samples have each one's alone.
        """
        if not self.independent and query.num_findings > 1:
            raise UserError(
                f"query {query.text[:60]!r}: names {query.num_findings} findings, which depend on each other given z "
                "in this model, so draws of their probabilities do not say it; ask of one"
            )
        return query.answer(self.samples, self.has_z)

    def mean_over(self, study: ArrayLike) -> "Prediction":
        """Of studies in place of images: the mean over the images of each, sample by sample, as they share their draws.

        Args: which study each image is of, int [N], numbered from 0 on.

        Raises:
            UserError: another number of images, or a study without one.
        """
        study = np.asarray(study)
        images, numbers = self.samples.shape[2], np.unique(study)
        if study.shape != (images,) or not np.array_equal(numbers, np.arange(len(numbers))):
            raise UserError(
                f"study: found {list(study.shape)} numbers, expected one for each of {images} images: 0, 1, 2 ... of "
                "studies of which each has an image"
            )
        member = np.zeros((study.max() + 1, len(study)), self.samples.dtype)
        member[study, np.arange(len(study))] = 1
        means = np.einsum("nb,vsbk->vsnk", member / member.sum(1, keepdims=True), self.samples)
        return replace(self, samples=means.clip(0, 1), z=None)

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Quantiles of the samples, [N, K] each: where p(y_k = 1 | x_I, z, network) lies with this probability.

        It is about the probability, given what may differ between samples; not about the label. NaN without a source.
        """
        if not 0 < level < 1:
            raise UserError(f"level: found {level:g}, expected between 0 and 1, e.g. 0.95")
        if not self.sources:
            nothing = np.full_like(self.samples[0, 0], np.nan)
            return nothing, nothing
        flat = self.samples.reshape(-1, *self.samples.shape[2:])
        low, high = np.quantile(flat, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low.astype(np.float32), high.astype(np.float32)

    def uncertainty(self) -> dict[str, Array]:
        """Total uncertainty and its parts in nats, [N, K] each, of the sources that there are."""
        found = {"total": metrics.total_uncertainty, "aleatoric": metrics.expected_entropy}
        if "z" in self.sources:
            found["latent"] = metrics.latent_uncertainty
        if set(self.sources) - {"z"}:
            found["epistemic"] = metrics.epistemic_uncertainty
        return {name: function(self.samples).astype(np.float32) for name, function in found.items()}

    def summary(self, level: float = 0.95) -> Summary:
        """Without the samples, which are S times as large."""
        absent = dict.fromkeys(("latent", "epistemic"), np.full_like(self.samples[0, 0], np.nan))
        return Summary(self.probabilities, *self.interval(level), **(absent | self.uncertainty()))

    def to_inference_data(
        self, labels: ArrayLike | None = None, studies: Sequence[str] | None = None, seed: int = 0
    ) -> Any:
        """The samples for ArviZ, in the groups of `utils.inference_groups`, as `vkd evaluate --samples` writes them.

        Args:
            labels: [N, K], 1, 0, NaN unknown; without, nothing is observed, and there is no likelihood.
            studies: names of the N images; by default their numbers.
            seed: of the labels drawn.

        Returns: an `arviz.InferenceData`, or from ArviZ 1.0 on an `xarray.DataTree`.

        Raises:
            UserError: ArviZ is not installed; labels or names of another shape.
        """
        return inference_data(self.samples, self.findings, self.z, labels, studies, seed)


@dataclass(frozen=True)
class UncertaintySources:
    """Which sources of uncertainty are asked, and how much of each.

    Attributes:
        num_samples: S, draws of z by each network.
        num_masks: masks of dropout, each a network; 0 for none.
        num_augmentations: augmented versions of each image; 0 for the image itself.
        seed: of all draws.
    """

    num_samples: int = 100
    num_masks: int = 0
    num_augmentations: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 1), ("num_masks", 0), ("num_augmentations", 0)):
            check_count(name, getattr(self, name), least, MOST_DRAWS)
        check_seed(self.seed)


def joined(said: Sequence[Sampled], findings: tuple[str, ...], **sources: bool) -> Prediction:
    """What one network, or several, of one image, or of versions of it, say together.

    Args:
        said: V of them, of the same N images and as many draws.
        findings: names of the K labels.
        sources: whether what they differ in, besides z, is a source of uncertainty.
    """
    samples = np.stack([one.samples for one in said])
    has_z = any(one.latents is not None for one in said)
    found = {"z": samples.shape[1] > 1 and has_z, **sources}
    drawn = [one.z for one in said if one.z is not None]
    alike = len(drawn) == len(said) and len({z.shape for z in drawn}) == 1
    z = np.stack(drawn) if alike else None
    named = tuple(name for name, there in found.items() if there)
    return Prediction(samples, tuple(findings), named, z, all(one.independent for one in said), has_z)
