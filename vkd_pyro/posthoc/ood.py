"""How far an X-ray is from what the model was trained on: a lateral view, an inverted image, a photograph.

A Gaussian is fitted to the image features of training images, another to the means of z (Lee et al. 2018, "A simple
unified framework for detecting out-of-distribution samples", with one class, since findings are not exclusive). How
large a distance is usual is learned from held-out images: those of training images are too small, the more so the
fewer there are. A study that is unlike the training images need not be wrongly read, nor one that is like them rightly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.utils.errors import UserError

FLAGGED_SHARE = 0.05
"""At most this share, or little more, of images like the held-out ones is flagged (`OODScores.p_values`)."""

ROUNDING = 1e-3
"""Differences that count as rounding, relative to the values themselves (TF32, half precision), or absolute where a
spread is in standard deviations or nats."""

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Signals:
    """What the model says of N images, as far as an `OODDetector` looks at it.

    Attributes:
        features: [N, F], of the image encoder.
        latents: [N, D], the means of p(z | x_I); None, or NaN, where there is no z.
        uncertainty: [N], total uncertainty in nats, over all findings; None, or NaN, where it is not known.

    Raises:
        UserError: the shapes do not fit.
    """

    features: Floats
    latents: Floats | None = None
    uncertainty: Floats | None = None

    def __post_init__(self) -> None:
        for name, axes in (("features", "NF"), ("latents", "ND"), ("uncertainty", "N")):
            if (given := getattr(self, name)) is None:
                continue
            array = np.asarray(given, float)
            if array.ndim != len(axes) or len(array) != len(self.features):
                expected = ", ".join((str(len(self.features)), *axes[1:]))
                raise UserError(f"ood: {name} has shape {list(array.shape)}, expected [{expected}]")
            object.__setattr__(self, name, array)


@dataclass(frozen=True)
class OODScores:
    """How far N images are from those the model was trained on. NaN is undefined: an image-only model has no z.

    Attributes:
        feature_distance: [N], Mahalanobis distance of the features to the training images', over sqrt(F).
        latent_distance: [N], the same of the means of z, over sqrt(D).
        uncertainty: [N], as given, in nats.
        score: [N], the largest of the three, each put on the scale of held-out images: 0 at their median, 1 where 5 %
            of them are above. The largest, since one that is blind to an image does not hide what another sees,
            and since they need not be independent.
        p_values: [N, 4], of the four above in this order: (1 + held-out images at least as far) / (1 + held-out
            images), in (0, 1]. Of images like those held out, at most a share a is at a or below (Bates et al. 2023,
            "Testing for outliers with conformal p-values"); of the score a little more, since held-out images set its
            scale too: for a = 5 %, 5.3 % with 299 of them, 5.8 % with 99 (simulated, all three independent).
        flagged: bool [N], the score's p-value is at most `FLAGGED_SHARE`.
    """

    feature_distance: Floats
    latent_distance: Floats
    uncertainty: Floats
    score: Floats
    p_values: Floats
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Gaussian:
    """A fitted normal distribution.

    Attributes:
        mean: [F].
        whitening: [F, F]; (x - mean) @ whitening has the identity as its covariance.
    """

    mean: Floats
    whitening: Floats

    @classmethod
    def fit(cls, rows: Floats) -> "Gaussian":
        """Mean and covariance of rows, [N, F].

        N may be below F: the covariance, in units of `_scales`, is shrunk (Ledoit & Wolf 2004).
        """
        from sklearn.covariance import ledoit_wolf

        mean, scales = rows.mean(axis=0), _scales(rows)
        variances, directions = np.linalg.eigh(ledoit_wolf((rows - mean) / scales, assume_centered=True)[0])
        return cls(mean, directions / scales[:, None] / np.sqrt(np.maximum(variances, ROUNDING**2)))

    def distance(self, rows: Floats) -> Floats:
        """Mahalanobis distance over sqrt(F), [N]: about 1 for a row of the same distribution."""
        return np.sqrt(np.square((rows - self.mean) @ self.whitening).mean(axis=1))


@dataclass(frozen=True)
class OODDetector:
    """What is kept of the training images and of the held-out ones, to tell how far an image is from them.

    Attributes:
        features: of the training images.
        latents: of their means of z; None where there is no z.
        held_out: [V, 3], the components of the V held-out images; NaN undefined.
    """

    features: Gaussian
    latents: Gaussian | None
    held_out: Floats

    @classmethod
    def fit(cls, training: Signals, held_out: Signals) -> "OODDetector":
        """Fits to training images (some thousands at random are enough), then to held-out ones of the same kind.

        The uncertainty of the training images is not looked at.

        Raises:
            UserError: fewer than two training images, or no held-out one; or features that are not finite.
        """
        if len(training.features) < 2 or not len(held_out.features):
            found = f"{len(training.features)} training and {len(held_out.features)} held-out images"
            raise UserError(f"ood: found {found}, expected at least 2 and 1; give it more studies")
        if not np.isfinite(training.features).all():
            raise UserError("ood: features of training images are not finite; the network has diverged")
        latents = _finite(training.latents)
        of_latents = None if len(latents) < 2 else Gaussian.fit(latents)
        reference = cls(Gaussian.fit(training.features), of_latents, held_out=np.empty((0, 3)))
        return replace(reference, held_out=reference._components(held_out))

    def score(self, images: Signals) -> OODScores:
        """How far images are from the training images; each is judged for itself, whatever others there are.

        Raises:
            UserError: features or latents of another width than the training images'.
        """
        components = self._components(images)
        features, latents, uncertainty = components.T
        score = self._largest(components)
        pairs = zip([*self.held_out.T, self._held_out_scores], [*components.T, score], strict=True)
        p_values = np.column_stack([_p_values(usual, values) for usual, values in pairs])
        return OODScores(features, latents, uncertainty, score, p_values, p_values[:, -1] <= FLAGGED_SHARE)

    @property
    def threshold(self) -> float:
        """A score above it is flagged; infinite where fewer than 19 held-out images cannot say what is rare."""
        scores = np.sort(self._held_out_scores[~np.isnan(self._held_out_scores)])[::-1]
        above = int(FLAGGED_SHARE * (len(scores) + 1) + 1e-9) - 1  # how many may be as far as what is flagged
        return float(scores[above]) if above >= 0 else float("inf")

    @cached_property
    def _held_out_scores(self) -> Floats:
        return self._largest(self.held_out)

    def _components(self, images: Signals) -> Floats:
        """[N, 3]: both distances and the uncertainty."""
        latents = uncertainty = np.full(len(images.features), np.nan)
        if self.latents is not None and images.latents is not None and len(_finite(images.latents)):
            latents = _distance(self.latents, images.latents, "latents")
        if images.uncertainty is not None:
            uncertainty = images.uncertainty
        return np.column_stack([_distance(self.features, images.features, "features"), latents, uncertainty])

    def _largest(self, components: Floats) -> Floats:
        """The score, [N], of components [N, 3]; one that does not vary between held-out images is left out."""
        scaled = np.full(components.shape, np.nan)
        for number, usual in enumerate(self.held_out.T):
            if not np.isnan(usual).all():
                median, upper = np.nanquantile(usual, [0.5, 1 - FLAGGED_SHARE])
                if upper - median > ROUNDING:
                    scaled[:, number] = (components[:, number] - median) / (upper - median)
        return np.fmax.reduce(scaled, axis=1)

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """By name, to be stored; F^2 + D^2 numbers, and three a held-out image."""
        gaussians = {"feature": self.features} | ({} if self.latents is None else {"latent": self.latents})
        arrays = {f"{name}_{key}": value for name, one in gaussians.items() for key, value in vars(one).items()}
        return {name: np.ascontiguousarray(a, np.float32) for name, a in (arrays | {"held_out": self.held_out}).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> "OODDetector":
        """What `to_arrays` gave.

        Raises:
            UserError: an array is missing, or shapes do not fit.
        """
        a = {name: np.asarray(array, float) for name, array in arrays.items()}
        try:
            features = Gaussian(a["feature_mean"], a["feature_whitening"])
            latents = Gaussian(a["latent_mean"], a["latent_whitening"]) if "latent_mean" in a else None
            reference = cls(features, latents, a["held_out"])
        except KeyError as error:
            raise UserError(f"ood: no array {error} among {', '.join(a) or 'none'}; copy the bundle again") from error
        for one in (features, latents):
            if one is not None and one.whitening.shape != 2 * one.mean.shape:
                found = f"{list(one.mean.shape)} and {list(one.whitening.shape)}"
                raise UserError(f"ood: mean and whitening have shapes {found}; copy the bundle again")
        return reference


def _scales(rows: Floats) -> Floats:
    """Standard deviations, [F]; where a feature never varies, those of the others: a rounding error is no long way."""
    scales, sizes = rows.std(axis=0), np.sqrt(np.square(rows).mean(axis=0))
    varies = scales > ROUNDING * sizes
    others = scales[varies] if varies.any() else sizes
    return np.where(varies, scales, np.sqrt(np.square(others).mean()) or 1.0)


def _finite(latents: Floats | None) -> Floats:
    return np.empty((0, 0)) if latents is None else latents[np.isfinite(latents).all(axis=1)]


def _distance(gaussian: Gaussian, rows: Floats, name: str) -> Floats:
    if rows.shape[1] != len(gaussian.mean):
        raise UserError(
            f"ood: {name} have width {rows.shape[1]}, expected {len(gaussian.mean)}; give those of the same model"
        )
    return gaussian.distance(rows)


def _p_values(held_out: Floats, values: Floats) -> Floats:
    """The share of held-out images, [V], at least as far as each value, [N], itself counted; NaN undefined."""
    usual = np.sort(held_out[~np.isnan(held_out)])
    at_least = len(usual) - np.searchsorted(usual, values, side="left")
    return np.where(np.isnan(values) | (len(usual) == 0), np.nan, (1 + at_least) / (1 + len(usual)))
