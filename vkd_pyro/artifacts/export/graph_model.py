"""An image model whose two graphs another engine computes; what it gives is PyTorch's, but for rounding."""

from dataclasses import dataclass

import numpy as np

from vkd_pyro.artifacts.export.engine import Array, Compute
from vkd_pyro.artifacts.export.noise import Part, drawn
from vkd_pyro.artifacts.predictor import Sampled
from vkd_pyro.utils.at_once import DRAWS_AT_ONCE, images_at_once
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class GraphModel:
    """Encodes images and predicts as `ImageModel` does, by graphs, of arrays.

    Attributes:
        encoder, head: ready to compute, as `vkd_pyro.artifacts.export` describes them.
        noise: that the head takes; none without z.
    """

    encoder: Compute
    head: Compute
    noise: tuple[Part, ...]

    def check(self, size: int, num_findings: int) -> tuple[int, int | None]:
        """Computes two images, black, at three draws, by graphs that were read from files.

        Args: side of the images; K.
        Returns: widths of features and of z, F and D; D is None without z.

        Raises:
            UserError: the graphs do not give what they should.
        """
        said = self.posterior_predictive(self.encode(np.zeros((2, 1, size, size), np.float32)), 3)
        p = said.samples
        if said.features.ndim != 2 or p.shape != (3, 2, num_findings) or not ((p >= 0) & (p <= 1)).all():
            raise UserError(
                f"the graphs give features {list(said.features.shape)} and probabilities {list(p.shape)} of two images "
                f"at three draws, expected [2, F] and [3, 2, {num_findings}] in [0, 1]"
            )
        if said.latents is None:
            return said.features.shape[1], None
        if (found := self.noise[-1].width) != said.latents.shape[1]:  # one column would do for all, and wrongly
            raise UserError(f"noise: found a width of {found}, expected that of z, {said.latents.shape[1]}")
        return said.features.shape[1], said.latents.shape[1]

    def encode(self, images: Array) -> Array:
        """Features. Args: float [B, 1, size, size] in [0, 1]. Returns: float [B, F]."""
        at_once = images_at_once(*images.shape[2:])
        return np.concatenate([self.encoder(images[row : row + at_once])[0] for row in range(0, len(images), at_once)])

    def posterior_predictive(self, features: Array, num_samples: int, seed: int = 0) -> Sampled:
        """p(y_k = 1 | x_I, z) at draws of z, as `ImageModel` gives it; of p(z | x_I) only the mean is known.

        Args: float [B, F]; S; seed of the draws.
        """
        if not self.noise:
            (probabilities,) = self.head(features)
            return Sampled(np.broadcast_to(probabilities, (num_samples, *probabilities.shape)), features)
        noise, at_once = drawn(self.noise, num_samples, seed), max(1, DRAWS_AT_ONCE // num_samples)
        said = [self.head(features[row : row + at_once], noise) for row in range(0, len(features), at_once)]
        samples, means = zip(*said, strict=True)
        return Sampled(np.concatenate(samples, axis=1), features, np.concatenate(means))
