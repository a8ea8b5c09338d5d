"""The model: the part of the probabilistic program that reads X-rays, and stays after training.

    p(z | x_I) p(y | x_I, z) p(x_T | z)

         x_I --.
          |     \\
          v      v
          z ---> y
          |
          v
         x_T

The report is observed where a report likelihood is given, while learning, of the studies that have one.

Variational Knowledge Distillation (van Sonsbeek et al. 2021, arXiv 2103.10825): while learning, the posterior of z
(`vkd_pyro.guide`) knows the report and this prior learns to follow it; afterwards the model alone reads X-rays.
"""

from typing import cast

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import Distribution, Family, Likelihood, ReportLikelihood, SoftBernoulli
from vkd_pyro.encoders.image import ImageEncoder, encode
from vkd_pyro.sampling import PosteriorPredictive, sample_predictive


class ImageModel(PyroModule):
    """What reads an X-ray and says its findings, with z or without. One with z has a `prior` and a `likelihood`.

    A subclass keeps its constructor's arguments as attributes, so that a bundle can build it again.

    Args:
        image_encoder: x_I to features.
    """

    def __init__(self, image_encoder: ImageEncoder) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, batch: Batch) -> Tensor:
        """The program, its labels observed. Returns: labels, float [B, K]."""
        return self.program(self.image_encoder(batch.images), batch)

    def program(self, features: Tensor, batch: Batch | None = None) -> Tensor:
        """The program from features on, so that they can be computed once whatever the number of samples.

        Of images, by Pyro: `Predictive(model.program, num_samples=100, parallel=True)(model.encode(images))`.

        Args:
            features: float [B, F].
            batch: what is observed: labels, of which those that are not known are masked out; None draws them.
        Returns: labels, float [..., B, K].
        """
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Features of X-rays, without gradients, on the device of the model.

        Args: float [B, 1, height, width] in [0, 1]. Returns: float [B, F].
        """
        return encode(self.image_encoder, images.to(next(self.parameters()).device))

    def latent(self, features: Tensor) -> Distribution | None:
        """p(z | x_I) of features, float [B, F]: batch shape [B], event shape [D]; None without z."""
        return None

    def posterior_predictive(
        self, features: Tensor, num_samples: int, seed: int = 0, latent: Distribution | None = None
    ) -> PosteriorPredictive:
        """p(y_k = 1 | x_I, z) at draws of z; of an image they depend on it and the seed alone.

        Args:
            features: float [B, F].
            num_samples: S.
            seed: of the draws.
            latent: a distribution of z in place of p(z | x_I); without z of no matter.
        """
        raise NotImplementedError


class Model(ImageModel):
    """z ~ p(z | x_I);  y ~ p(y | x_I, z);  x_T ~ p(x_T | z).

    Args:
        image_encoder: x_I to features.
        prior: features to p(z | x_I).
        likelihood: z, and the features if it looks at them, to p(y | x_I, z).
        report_likelihood: the same to p(x_T | z), for training; None does not observe the report.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        prior: Family,
        likelihood: Likelihood,
        report_likelihood: ReportLikelihood | None = None,
    ) -> None:
        super().__init__(image_encoder)
        self.prior, self.likelihood, self.report_likelihood = prior, likelihood, report_likelihood

    def program(self, features: Tensor, batch: Batch | None = None) -> Tensor:
        """z ~ p(z | x_I);  y ~ p(y | x_I, z);  report ~ p(x_T | z) where one is observed; as `ImageModel.program`."""
        labels, known = (None, None) if batch is None else (batch.labels, batch.known)
        with pyro.plate("studies", len(features), dim=-1):
            z = pyro.sample("z", self.prior(features))
            y = pyro.sample("y", self.likelihood(z, features, known), obs=labels)
            if self.report_likelihood is not None and batch is not None and batch.observed is not None:
                with poutine.mask(mask=cast(torch.BoolTensor, batch.has_report)):
                    pyro.sample("report", self.report_likelihood(z, features), obs=batch.observed)
            return y

    def without_report(self) -> "Model":
        """The model that reads X-rays alone, of the same parts."""
        return Model(self.image_encoder, self.prior, self.likelihood)

    def latent(self, features: Tensor) -> Distribution:
        """p(z | x_I), batch shape [B], event shape [D]."""
        return self.prior(features)

    def posterior_predictive(
        self, features: Tensor, num_samples: int, seed: int = 0, latent: Distribution | None = None
    ) -> PosteriorPredictive:
        """p(y_k = 1 | x_I, z) at draws of z ~ p(z | x_I), or of `latent`; as `ImageModel.posterior_predictive`."""
        return sample_predictive(self.prior, self.likelihood, features, num_samples, seed, latent, features)


class ImageClassifier(ImageModel):
    """y ~ p(y | x_I): the image encoder and a linear head, no z.

    Args:
        image_encoder: x_I to features.
        num_findings: K.
    """

    def __init__(self, image_encoder: ImageEncoder, num_findings: int) -> None:
        super().__init__(image_encoder)
        self.num_findings = num_findings
        self.head = nn.Linear(image_encoder.features_dim, num_findings)

    def program(self, features: Tensor, batch: Batch | None = None) -> Tensor:
        """y ~ p(y | x_I), as `ImageModel.program`."""
        bernoulli = SoftBernoulli(logits=self.head(features))
        with pyro.plate("studies", len(features), dim=-1):
            if batch is None:
                return pyro.sample("y", bernoulli.to_event(1))
            return pyro.sample("y", bernoulli.mask(batch.known).to_event(1), obs=batch.labels)

    def posterior_predictive(
        self, features: Tensor, num_samples: int, seed: int = 0, latent: Distribution | None = None
    ) -> PosteriorPredictive:
        """p(y_k = 1 | x_I); there is nothing to draw, so all samples are the same."""
        return PosteriorPredictive(self.head(features).sigmoid().expand(num_samples, -1, -1))
