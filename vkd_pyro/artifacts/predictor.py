"""What predicts: a trained model with all that it takes to ask it, whatever computes it. Without PyTorch, whose import
takes seconds, so that an export is asked at once."""

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.posthoc.calibration import Calibration

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Sampled:
    """What a model says of N images.

    Attributes:
        samples: p(y_k = 1 | x_I, z^(s)), float [S, N, K] in [0, 1]; without z they are all alike.
        features: of the images, float [N, F].
        latents: the means of p(z | x_I), float [N, D]; None without z.
        z: its draws, float [S, N, D]; None without z, or where what computes it keeps none.
        independent: whether findings are, given z.
    """

    samples: Array
    features: Array
    latents: NDArray[np.floating] | None = None
    z: Array | None = None
    independent: bool = True


@dataclass(frozen=True)
class Predictor(abc.ABC):
    """A bundle, or an export of one.

    Attributes:
        model: in eval mode, on the CPU.
        findings: names of the K labels.
        transform: what images must pass before the model.
        weights_hash: sha256 of the bundle's weights file.
        views: of the images that it learned from.
        calibration: what was fitted on the validation split; None where nothing was.
        bundle_hash: sha256 over everything in the bundle.
        card: its model card, in Markdown.
    """

    model: Any
    findings: tuple[str, ...]
    transform: ImageTransform
    weights_hash: str
    views: tuple[str, ...] = ("frontal", "lateral")
    calibration: Calibration | None = None
    bundle_hash: str = ""
    card: str = ""

    @abc.abstractmethod
    def sample(self, images: Array, num_samples: int, seed: int = 0) -> Sampled:
        """The model at draws of z ~ p(z | x_I); what is drawn for an image depends on it and the seed alone.

        Args: float [N, 1, size, size] in [0, 1]; S; seed of the draws.
        """
