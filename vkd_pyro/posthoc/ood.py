"""How far an X-ray is from what the model was trained on: a lateral view, an inverted image, a photograph.

A Gaussian is fitted to the image features of training images, another to the means of z (Lee et al. 2018, "A simple
unified framework for detecting out-of-distribution samples", with one class, since findings are not exclusive). How
large a distance is usual is learned from held-out images: those of training images are too small, the more so the
fewer there are. Quantiles are kept of them, and of no image its own numbers, so that whoever has a bundle and an image
cannot tell whether it was one of them. A study that is unlike the training images need not be wrongly read, nor one
that is like them rightly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.posthoc.quantiles import ROUNDING, Floats, Quantiles
from vkd_pyro.utils.errors import UserError

FLAGGED_SHARE = 0.05
"""At most this share, or little more, of images like the held-out ones is flagged (`OODScores.p_values`)."""

COMPONENTS = ("features", "latents", "uncertainty")


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
            images), in (0, 1], the held-out images counted by quantiles: within 1 %, or 5 images, and a rounding step
            of counting each (`Quantiles`). Of images like those held out, at most a share a is at a or below (Bates et
            al. 2023, "Testing for outliers with conformal p-values"), but for that, and for the score, whose scale the
            held-out images set too: for a = 5 %, 5.0 % with 299 of them, 4.7 % with 99 (simulated, all three
            independent).
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
        held_out: of both distances and the uncertainty, how they are for held-out images.
        held_out_scores: the same of their score.
    """

    features: Gaussian
    latents: Gaussian | None
    held_out: tuple[Quantiles, Quantiles, Quantiles]
    held_out_scores: Quantiles

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
        gaussians = Gaussian.fit(training.features), None if len(latents) < 2 else Gaussian.fit(latents)
        return cls.of_held_out(*gaussians, _components(*gaussians, held_out))

    @classmethod
    def of_held_out(cls, features: Gaussian, latents: Gaussian | None, components: Floats) -> "OODDetector":
        """From the components of held-out images: both distances and the uncertainty, [V, 3], NaN undefined."""
        usual = Quantiles.of(components[:, 0]), Quantiles.of(components[:, 1]), Quantiles.of(components[:, 2])
        return cls(features, latents, usual, Quantiles.of(_largest(components, usual)))

    def refitted(self, held_out: Signals) -> "OODDetector":
        """The same training images, and what is usual by other held-out ones, such as those of a site.

        Raises:
            UserError: no image, or features of another width.
        """
        if not len(held_out.features):
            raise UserError("ood: found no image, expected at least 1")
        components = _components(self.features, self.latents, held_out)
        return type(self).of_held_out(self.features, self.latents, components)

    def score(self, images: Signals) -> OODScores:
        """How far images are from the training images; each is judged for itself, whatever others there are.

        Raises:
            UserError: features or latents of another width than the training images'.
        """
        components = _components(self.features, self.latents, images)
        features, latents, uncertainty = components.T
        score = _largest(components, self.held_out)
        pairs = zip([*self.held_out, self.held_out_scores], [*components.T, score], strict=True)
        p_values = np.column_stack([usual.p_values(values) for usual, values in pairs])
        return OODScores(features, latents, uncertainty, score, p_values, p_values[:, -1] <= FLAGGED_SHARE)

    @property
    def threshold(self) -> float:
        """A score above it is flagged; infinite where fewer than 19 held-out images cannot say what is rare."""
        as_far = FLAGGED_SHARE * (self.held_out_scores.size + 1) - 1  # how many may be as far as what is flagged
        return self.held_out_scores.value(max(as_far, 0.0)) if as_far >= -1e-9 else float("inf")

    def to_arrays(self) -> dict[str, NDArray[np.floating]]:
        """By name, to be stored: F^2 + D^2 numbers, and some hundreds."""
        gaussians = {"feature": self.features} | ({} if self.latents is None else {"latent": self.latents})
        arrays: dict[str, NDArray[np.floating]] = {
            f"{name}_{key}": np.asarray(value, np.float32)
            for name, one in gaussians.items()
            for key, value in vars(one).items()
        }
        usual = dict(zip((*COMPONENTS, "score"), (*self.held_out, self.held_out_scores), strict=True))
        arrays |= {f"held_out_{name}": quantiles.to_array() for name, quantiles in usual.items()}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> "OODDetector":
        """What `to_arrays` gave.

        Raises:
            UserError: an array is missing or too many, shapes do not fit, or numbers are not finite.
        """
        a = {name: np.asarray(array, float) for name, array in arrays.items()}
        names = [f"held_out_{name}" for name in (*COMPONENTS, "score")]
        wanted, of_latents = {"feature_mean", "feature_whitening", *names}, {"latent_mean", "latent_whitening"}
        wanted |= of_latents if a.keys() & of_latents else set()
        if a.keys() != wanted:
            other = ", ".join(sorted(map(repr, a.keys() ^ wanted)))[:200]
            raise UserError(f"ood: missing, or not expected, among its arrays: {other}; copy the bundle again")
        features = _gaussian(a["feature_mean"], a["feature_whitening"])
        latents = _gaussian(a["latent_mean"], a["latent_whitening"]) if "latent_mean" in a else None
        first, second, third, score = (Quantiles.from_array(a[name], name) for name in names)
        return cls(features, latents, (first, second, third), score)


def study_p_values(p_values: Floats, study: NDArray[np.integer]) -> NDArray[np.float64]:
    """Of each study, n times the smallest p-value of its n images, at most 1 (Bonferroni); NaN where none is known.

    Args: of the images, [N], NaN unknown; which study each is of, int [N], numbered from 0 on.
    """
    known = ~np.isnan(p_values)
    images = np.bincount(study[known], minlength=int(study.max()) + 1)
    least = np.full(len(images), np.nan)
    np.fmin.at(least, study, p_values)
    return np.minimum(1.0, images * least)


def _gaussian(mean: Floats, whitening: Floats) -> Gaussian:
    if mean.ndim != 1 or whitening.shape != 2 * mean.shape:
        found = f"{list(mean.shape)} and {list(whitening.shape)}"
        raise UserError(f"ood: mean and whitening have shapes {found}; copy the bundle again")
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
        raise UserError("ood: mean or whitening has values that are not finite; copy the bundle again")
    return Gaussian(mean, whitening)


def _components(features: Gaussian, of_latents: Gaussian | None, images: Signals) -> Floats:
    """[N, 3]: both distances and the uncertainty."""
    latents = uncertainty = np.full(len(images.features), np.nan)
    if of_latents is not None and images.latents is not None and len(_finite(images.latents)):
        latents = _distance(of_latents, images.latents, "latents")
    if images.uncertainty is not None:
        uncertainty = images.uncertainty
    return np.column_stack([_distance(features, images.features, "features"), latents, uncertainty])


def _largest(components: Floats, usual: tuple[Quantiles, Quantiles, Quantiles]) -> Floats:
    """The score, [N], of components [N, 3]; one that does not vary between held-out images is left out."""
    scaled = np.full(components.shape, np.nan)
    for number, quantiles in enumerate(usual):
        median, upper = (quantiles.value(share * quantiles.size) for share in (0.5, FLAGGED_SHARE))
        if upper - median > ROUNDING:
            scaled[:, number] = (components[:, number] - median) / (upper - median)
    return np.fmax.reduce(scaled, axis=1)


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
