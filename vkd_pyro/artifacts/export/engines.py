"""What computes a model: PyTorch, or an engine that reads graphs. All give the same, but for rounding."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vkd_pyro.artifacts.bundle import Bundle
from vkd_pyro.artifacts.export.graphs import Array, Compute
from vkd_pyro.artifacts.export.noise import Part, drawn
from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.encoders.image import encode, images_at_once
from vkd_pyro.model import DRAWS_AT_ONCE, ImageClassifier, Model, probabilities_given
from vkd_pyro.posthoc.calibration import Calibration


@dataclass(frozen=True)
class Computed:
    """Of N images.

    Attributes:
        features: float [N, F].
        latents: the means of p(z | x_I), [N, D]; None without z.
        samples: p(y_k = 1 | x_I, z^(s)), float32 [S, N, K] in [0, 1].
    """

    features: NDArray[np.floating]
    latents: NDArray[np.floating] | None
    samples: Array


class Engine(Protocol):
    """Computes a model."""

    def __call__(self, images: Tensor, num_samples: int, seed: int) -> Computed:
        """Args: float [N, 1, size, size] in [0, 1]; S; of the draws, which are the same whatever the batch."""


@dataclass(frozen=True)
class TorchEngine:
    """A model of PyTorch, where it is.

    Attributes:
        model: in eval mode.
    """

    model: Model | ImageClassifier

    @torch.no_grad()
    def __call__(self, images: Tensor, num_samples: int, seed: int) -> Computed:
        """See `Engine`."""
        model = self.model
        features = encode(model.image_encoder, images.to(next(model.parameters()).device))
        kept, latents = features.float().cpu().numpy(), None
        if isinstance(model, ImageClassifier):
            samples = model.probabilities(features, num_samples)
        else:
            prior = model.prior(features)
            latents = prior.mean.double().cpu().numpy()
            samples = probabilities_given(model.likelihood, model.draw(features, num_samples, seed, prior), features)
        return Computed(kept, latents, samples.float().cpu().numpy())


@dataclass(frozen=True)
class GraphEngine:
    """The two graphs of `vkd_pyro.artifacts.export`.

    Attributes:
        encoder, head: ready to compute.
        noise: of the head; none without z.
    """

    encoder: Compute
    head: Compute
    noise: tuple[Part, ...]

    def __call__(self, images: Tensor, num_samples: int, seed: int) -> Computed:
        """See `Engine`."""
        parts = images.split(images_at_once(*images.shape[2:]))
        features = np.concatenate([self.encoder(part.numpy())[0] for part in parts])
        if not self.noise:
            (probabilities,) = self.head(features)
            return Computed(features, None, np.repeat(probabilities[None], num_samples, axis=0))
        noise, rows = drawn(self.noise, num_samples, seed).numpy(), max(1, DRAWS_AT_ONCE // num_samples)
        said = [self.head(features[row : row + rows], noise) for row in range(0, len(features), rows)]
        samples, latents = zip(*said, strict=True)
        return Computed(features, np.concatenate(latents), np.concatenate(samples, axis=1))


@dataclass(frozen=True)
class Export:
    """A bundle's model as graphs, ready to predict. What has the name of an attribute of `Bundle` is the bundle's.

    Attributes:
        engine: what computes it.
    """

    engine: Engine
    findings: tuple[str, ...]
    transform: ImageTransform
    weights_hash: str
    views: tuple[str, ...]
    calibration: Calibration | None
    bundle_hash: str


def engine_of(predictor: Bundle | Export) -> Engine:
    """What computes a bundle, which is PyTorch, or an export."""
    return predictor.engine if isinstance(predictor, Export) else TorchEngine(predictor.model)
