"""The probabilistic program: a model that reads the X-ray, a guide that reads the report.

    Model   p(z | x_I) p(y | x_I, z)              Guide   q(z | x_T), with auxiliary q(y | z)

         x_I --.                                      x_T
          |     \\                                      |
          v      v                                     v
          z ---> y                                     z ---> y

Variational Knowledge Distillation (van Sonsbeek et al. 2021, arXiv 2103.10825): while learning, the posterior of z
knows the report and the prior learns to follow it; afterwards the model alone reads X-rays.
"""

from collections.abc import Callable
from typing import Literal, cast

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import (
    BernoulliLikelihood,
    DiagonalNormal,
    Distribution,
    Family,
    Likelihood,
    SoftBernoulli,
    common_draws,
)
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.utils.errors import UserError

DRAWS_AT_ONCE = 8192
"""Draws of z, over all images, for which a likelihood is asked at once: some 50 MB at a width of 1,536."""


class Model(PyroModule):
    """z ~ p(z | x_I);  y ~ p(y | x_I, z).

    Args:
        image_encoder: x_I to features.
        prior: features to p(z | x_I).
        likelihood: z, and the features if it looks at them, to p(y | x_I, z).
    """

    def __init__(self, image_encoder: ImageEncoder, prior: Family, likelihood: Likelihood) -> None:
        super().__init__()
        self.image_encoder, self.prior, self.likelihood = image_encoder, prior, likelihood

    def forward(self, batch: Batch) -> Tensor:
        """The program, its labels observed. Returns: labels, float [B, K]."""
        return self.program(self.image_encoder(batch.images), batch.labels, batch.known)

    def program(self, features: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """The program from features on, so that they can be computed once whatever the number of samples.

        Args:
            features: float [B, F].
            labels: float [B, K] to observe, or None to draw them.
            known: bool [B, K]; unknown labels are masked out.
        Returns: labels, float [..., B, K].
        """
        with pyro.plate("studies", len(features), dim=-1):
            z = pyro.sample("z", self.prior(features))
            return pyro.sample("y", self.likelihood(z, features, known), obs=labels)

    def draw(self, features: Tensor, num_samples: int, seed: int, prior: Distribution | None = None) -> Tensor:
        """z ~ p(z | x_I), or of the prior given, the same noise for every image; float [num_samples, B, D]."""
        given = self.prior(features) if prior is None else prior
        return common_draws(given, lambda rows: self.prior(features[rows]), num_samples, seed, features.device)

    def probabilities(self, features: Tensor, num_samples: int, seed: int = 0) -> Tensor:
        """p(y_k = 1 | x_I, z) at draws of z ~ p(z | x_I); of an image they depend on it and the seed alone.

        Args: float [B, F]. Returns: float [num_samples, B, K] in [0, 1].
        """
        return probabilities_given(self.likelihood, self.draw(features, num_samples, seed), features)


def probabilities_given(likelihood: Likelihood, z: Tensor, features: Tensor | None = None) -> Tensor:
    """p(y_k = 1 | z, features), so many rows at once as memory bears however many the draws.

    Args: float [S, B, D]; float [B, F]. Returns: float [S, B, K] in [0, 1].
    """
    rows = max(1, DRAWS_AT_ONCE // len(z))
    if features is None:
        return torch.cat([likelihood.probabilities(part) for part in z.split(rows, 1)], 1)
    parts = zip(z.split(rows, 1), features.split(rows), strict=True)
    return torch.cat([likelihood.probabilities(one, of_image) for one, of_image in parts], 1)


class Guide(PyroModule):
    """z ~ q(z | x_T), with the auxiliary classifier q(y | z) that stands for the mutual information I(z; y).

    The labels are observed here as well: `TraceVKD_ELBO` adds that site to the objective; Pyro's own ELBOs would
    subtract it. Studies without a report are masked out of both sites.

    Args:
        report_encoder: x_T to features.
        posterior: features to q(z | x_T).
        auxiliary: z to q(y | z).
    """

    def __init__(self, report_encoder: ReportEncoder, posterior: Family, auxiliary: Likelihood) -> None:
        super().__init__()
        if posterior.prior_only:
            raise UserError(
                f"model.posterior: {type(posterior).__name__} does not depend on the report, so it is a prior only; "
                "take e.g. DiagonalNormal, NormalMixture or Flow"
            )
        self.report_encoder, self.posterior, self.auxiliary = report_encoder, posterior, auxiliary

    def forward(self, batch: Batch) -> Tensor:
        """The program, its labels observed. Returns: z, float [..., B, D]."""
        features = self.report_encoder(batch.report, batch.report_mask)
        with pyro.plate("studies", len(batch), dim=-1), poutine.mask(mask=cast(torch.BoolTensor, batch.has_report)):
            z = pyro.sample("z", self.posterior(features))
            pyro.sample("y_given_z", self.auxiliary(z, known=batch.known), obs=batch.labels)
            return z

    def draw(self, features: Tensor, num_samples: int, seed: int, posterior: Distribution | None = None) -> Tensor:
        """z ~ q(z | x_T), the same noise for every report; float [num_samples, B, D]."""
        given = self.posterior(features) if posterior is None else posterior
        return common_draws(given, lambda rows: self.posterior(features[rows]), num_samples, seed, features.device)


class ImageClassifier(PyroModule):
    """y ~ p(y | x_I): the image encoder and a linear head, no z. The arm `image_only`."""

    def __init__(self, image_encoder: ImageEncoder, num_findings: int) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.num_findings = num_findings
        self.head = nn.Linear(image_encoder.features_dim, num_findings)

    def forward(self, batch: Batch) -> Tensor:
        """The program, its labels observed. Returns: labels, float [B, K]."""
        return self.program(self.image_encoder(batch.images), batch.labels, batch.known)

    def program(self, features: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """As `Model.program`, without z."""
        bernoulli = SoftBernoulli(logits=self.head(features))
        with pyro.plate("studies", len(features), dim=-1):
            masked = bernoulli if known is None else bernoulli.mask(known)
            return pyro.sample("y", masked.to_event(1), obs=labels)

    def probabilities(self, features: Tensor, num_samples: int, seed: int = 0) -> Tensor:
        """As `Model.probabilities`; there is nothing to draw, so all samples are the same."""
        return self.head(features).sigmoid().expand(num_samples, -1, -1)


class NoGuide(PyroModule):
    """The guide of a model without latent variables: no site at all."""

    def forward(self, batch: Batch) -> None:
        return None


class VKD(PyroModule):
    """Model and guide under one parent, which keeps the names of their parameters apart in Pyro's store.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        report_encoder: reads reports.
        latent_dim: D, the width of z.
        prior: makes p(z | x_I) from (in_features, latent_dim).
        posterior: makes q(z | x_T) from (in_features, latent_dim).
        likelihood: makes p(y | x_I, z) from (latent_dim, num_findings, features_dim).
        auxiliary: makes q(y | z) from (latent_dim, num_findings).
        likelihood_inputs: what the likelihood sees: "image+z" (the paper), or "z" alone.
    """

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        latent_dim: int = 512,
        prior: Callable[[int, int], Family] = DiagonalNormal,
        posterior: Callable[[int, int], Family] = DiagonalNormal,
        likelihood: Callable[[int, int, int], Likelihood] = BernoulliLikelihood,
        auxiliary: Callable[[int, int], Likelihood] = BernoulliLikelihood,
        likelihood_inputs: Literal["image+z", "z"] = "image+z",
    ) -> None:
        super().__init__()
        if likelihood_inputs not in ("image+z", "z"):
            raise UserError(f"model.likelihood_inputs: found {likelihood_inputs!r}, expected 'image+z' or 'z'")
        self.findings, self.latent_dim = tuple(findings), latent_dim
        features_dim = image_encoder.features_dim if likelihood_inputs == "image+z" else 0
        self.model: Model | ImageClassifier = Model(
            image_encoder,
            prior(image_encoder.features_dim, latent_dim),
            likelihood(latent_dim, len(self.findings), features_dim),
        )
        self.guide: Guide | NoGuide = Guide(
            report_encoder,
            posterior(report_encoder.features_dim, latent_dim),
            auxiliary(latent_dim, len(self.findings)),
        )


class ImageOnly(PyroModule):
    """The baseline without z, with the attributes of `VKD`, so that it trains and predicts the same way.

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        guide: what only training needs, where reports help in another way than VKD's (`vkd_pyro.methods`).
    """

    def __init__(self, findings: tuple[str, ...], image_encoder: ImageEncoder, guide: PyroModule | None = None) -> None:
        super().__init__()
        self.findings = tuple(findings)
        self.model = ImageClassifier(image_encoder, len(self.findings))
        self.guide = guide or NoGuide()


class ImageBranch(PyroModule):
    """A trained model without its guide, with the attributes of `VKD`: what a bundle holds, to be evaluated."""

    def __init__(self, findings: tuple[str, ...], model: Model | ImageClassifier) -> None:
        super().__init__()
        self.findings, self.model, self.guide = tuple(findings), model, NoGuide()
