"""An image model whose two graphs another engine computes; what it gives is PyTorch's, but for rounding."""

from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from vkd_pyro.artifacts.export.graphs import Compute
from vkd_pyro.artifacts.export.noise import Part, drawn
from vkd_pyro.encoders.image import images_at_once
from vkd_pyro.sampling import DRAWS_AT_ONCE, PosteriorPredictive
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class GraphModel:
    """Encodes images and predicts as `ImageModel` does, by graphs.

    Attributes:
        encoder, head: ready to compute, as `vkd_pyro.artifacts.export` describes them.
        noise: that the head takes; none without z.
    """

    encoder: Compute
    head: Compute
    noise: tuple[Part, ...]

    def check(self, size: int, num_findings: int) -> tuple[int, int | None]:
        """Computes one image, black, by graphs that were read from files.

        Args: side of the images; K.
        Returns: widths of features and of z, F and D; D is None without z.

        Raises:
            UserError: the graphs do not give what they should.
        """
        features = self.encode(torch.zeros(1, 1, size, size))
        said = self.posterior_predictive(features, 1)
        if features.ndim != 2 or said.samples.shape != (1, 1, num_findings) or not torch.isfinite(said.samples).all():
            raise UserError(
                f"the graphs give features {list(features.shape)} and probabilities {list(said.samples.shape)} of an "
                f"image, expected [1, F] and [1, 1, {num_findings}], finite"
            )
        return features.shape[1], None if said.latent is None else said.latent.event_shape[0]

    def encode(self, images: Tensor) -> Tensor:
        """Features. Args: float [B, 1, size, size] in [0, 1]. Returns: float [B, F]."""
        parts = images.split(images_at_once(*images.shape[2:]))
        return torch.from_numpy(np.concatenate([self.encoder(part.numpy())[0] for part in parts]))

    def posterior_predictive(self, features: Tensor, num_samples: int, seed: int = 0) -> PosteriorPredictive:
        """p(y_k = 1 | x_I, z) at draws of z, as `ImageModel` gives it; of p(z | x_I) only the mean is known.

        Args: float [B, F]; S; seed of the draws.
        """
        rows = features.numpy()
        if not self.noise:
            (probabilities,) = self.head(rows)
            return PosteriorPredictive(torch.from_numpy(probabilities).expand(num_samples, -1, -1))
        noise, at_once = drawn(self.noise, num_samples, seed).numpy(), max(1, DRAWS_AT_ONCE // num_samples)
        said = [self.head(rows[row : row + at_once], noise) for row in range(0, len(rows), at_once)]
        samples, means = zip(*said, strict=True)
        latent = dist.Delta(torch.from_numpy(np.concatenate(means)), event_dim=1)
        return PosteriorPredictive(torch.from_numpy(np.concatenate(samples, axis=1)), latent)
