"""Variational Knowledge Distillation: the report's posterior teaches the image's prior through a KL."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import BernoulliLikelihood, DiagonalNormal, Family, Likelihood
from vkd_pyro.elbo import Terms, TraceVKD_ELBO
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.guide import Guide
from vkd_pyro.methods.base import Method
from vkd_pyro.model import Model
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import UserError

LikelihoodInputs = Literal["image+z", "z"]


class VKD(Method):
    """Model and guide under one parent, which keeps the names of their parameters apart in Pyro's store.

        Model   p(z | x_I) p(y | x_I, z)              Guide   q(z | x_T), with auxiliary q(y | z)

    van Sonsbeek et al. 2021, arXiv 2103.10825. Under `pyro.infer.SVI`: `SVI(vkd.model, vkd.guide, optim, objective)`.

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
        objective: what is minimised; `TraceVKD_ELBO()`, the paper's Eq. 8, by default.
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
        likelihood_inputs: LikelihoodInputs = "image+z",
        objective: TraceVKD_ELBO | None = None,
    ) -> None:
        model = latent_model(len(findings), image_encoder, latent_dim, prior, likelihood, likelihood_inputs)
        guide = Guide(
            report_encoder,
            posterior(report_encoder.features_dim, latent_dim),
            auxiliary(latent_dim, len(findings)),
        )
        super().__init__(findings, model, guide)
        self.latent_dim, self.objective = latent_dim, objective or TraceVKD_ELBO()

    @property
    def fills_unknown_labels(self) -> bool:  # type: ignore[override]  # a choice of the objective
        """Whether the report's classifier stands in for labels that are not known."""
        return self.objective.unknown_labels == "from_report"

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The objective: `TraceVKD_ELBO.terms`."""
        return self.objective.terms(self.model, self.guide, batch, beta)

    def report_predictive(self, batch: Batch, features: Tensor, num_samples: int, seed: int) -> PosteriorPredictive:
        """q(y | z) at draws of z ~ q(z | x_T); the images are not looked at."""
        return self.guide.posterior_predictive(self.guide.encode(batch), num_samples, seed)


def latent_model(
    num_findings: int,
    image_encoder: ImageEncoder,
    latent_dim: int,
    prior: Callable[[int, int], Family],
    likelihood: Callable[[int, int, int], Likelihood],
    likelihood_inputs: LikelihoodInputs,
) -> Model:
    """p(z | x_I) p(y | x_I, z) of these parts; arguments as of `VKD`."""
    if likelihood_inputs not in ("image+z", "z"):
        raise UserError(f"method.likelihood_inputs: found {likelihood_inputs!r}, expected 'image+z' or 'z'")
    features_dim = image_encoder.features_dim if likelihood_inputs == "image+z" else 0
    return Model(
        image_encoder,
        prior(image_encoder.features_dim, latent_dim),
        likelihood(latent_dim, num_findings, features_dim),
    )
