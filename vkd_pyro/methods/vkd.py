"""Variational Knowledge Distillation: the report's posterior teaches the image's prior through a KL."""

from collections.abc import Callable
from typing import Literal, cast

from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import BernoulliLikelihood, DiagonalNormal, Family, Likelihood, ReportLikelihood
from vkd_pyro.distributions.particles import check_bound
from vkd_pyro.elbo import Terms, TraceVKD_ELBO
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.guide import Guide
from vkd_pyro.methods.base import Method
from vkd_pyro.model import Model
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import UserError, check_count

LikelihoodInputs = Literal["image+z", "z"]


class VKD(Method):
    """Model and guide under one parent, which keeps the names of their parameters apart in Pyro's store.

        Model   p(z | x_I) p(y | x_I, z) p(x_T | z)   Guide   q(z | x_T), with auxiliary q(y | z)

    van Sonsbeek et al. 2021, arXiv 2103.10825, which has no p(x_T | z).
    Under `pyro.infer.SVI`: `SVI(vkd.model, vkd.guide, optim, objective)`.

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
        report_likelihood: makes p(x_T | z) from (latent_dim, features_dim); None, as in the paper, does not observe it.
        report_inputs: what it sees, likewise.
        tied: one head for p(y | z) and q(y | z): the likelihood is the auxiliary, which is then not made. Wants a
            likelihood that can do without the image's features: `likelihood_inputs` "z", or `head.residual`. Then
            KL(q(y | x_T) || p(y | x_I)) <= KL(q(z | x_T) || p(z | x_I)) where it sees z alone, by data processing.
        keep_report_likelihood: leave it in the bundle; it is dropped there else. What it kept of the training reports
            goes with it: of words, hashes that can be guessed, and how frequent each is.
        objective: what is minimised; `TraceVKD_ELBO()`, the paper's Eq. 8, by default.

    Raises:
        UserError: parts that do not go together.
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
        report_likelihood: Callable[[int, int], ReportLikelihood] | None = None,
        report_inputs: LikelihoodInputs = "z",
        tied: bool = False,
        keep_report_likelihood: bool = False,
        objective: TraceVKD_ELBO | None = None,
    ) -> None:
        model = latent_model(len(findings), image_encoder, latent_dim, prior, likelihood, likelihood_inputs)
        if report_likelihood is not None:
            seen = features_seen(image_encoder, report_inputs, "report_inputs")
            model.report_likelihood = report_likelihood(latent_dim, seen)
        if tied and not getattr(model.likelihood, "reads_z_alone", False):
            raise UserError(
                "method.tied: one head for p(y | z) and q(y | z) wants a likelihood that can read z alone; set "
                "method.likelihood_inputs to z, or method.likelihood.init_args.head.residual to true"
            )
        classifier = model.likelihood if tied else auxiliary(latent_dim, len(findings))
        guide = Guide(report_encoder, posterior(report_encoder.features_dim, latent_dim), classifier, tied)
        super().__init__(findings, model, guide)
        self.latent_dim, self.tied, self.keep_report_likelihood = latent_dim, tied, keep_report_likelihood
        self.likelihood_inputs, self.report_inputs = likelihood_inputs, report_inputs
        self.objective = objective or TraceVKD_ELBO()
        for part in (model.likelihood, classifier) if self.fills_unknown_labels else ():
            if not part.takes_soft:
                raise UserError(
                    "method.objective.unknown_labels: 'from_report' wants likelihoods of labels between 0 and 1, found "
                    f"{type(part).__name__}; use ignored, or BernoulliLikelihood as method.likelihood and auxiliary"
                )
        sites = {"y"} | ({"report"} if report_likelihood is not None else set())
        if strange := sorted(set(self.objective.sites) - sites):
            raise UserError(
                f"method.objective.sites: found {strange[0]!r}, but the model observes {', '.join(sorted(sites))}; "
                "'report' wants a method.report_likelihood"
            )
        check_bound({name: self.objective.how(name) for name in sites})

    @property
    def fills_unknown_labels(self) -> bool:  # type: ignore[override]  # a choice of the objective
        """Whether the report's classifier stands in for labels that are not known."""
        return self.objective.unknown_labels == "from_report"

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The objective: `TraceVKD_ELBO.terms`."""
        return self.objective.terms(self.model, self.guide, batch, beta)

    @property
    def image_model(self) -> Model:
        """What a bundle keeps: without the report likelihood, unless that is asked for."""
        model = cast(Model, self.model)
        return model if self.keep_report_likelihood else model.without_report()

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
    check_count("method.latent_dim", latent_dim)
    seen = features_seen(image_encoder, likelihood_inputs, "likelihood_inputs")
    return Model(
        image_encoder, prior(image_encoder.features_dim, latent_dim), likelihood(latent_dim, num_findings, seen)
    )


def features_seen(image_encoder: ImageEncoder, inputs: LikelihoodInputs, argument: str) -> int:
    """Width of the image's features that a likelihood sees beside z; 0 is z alone."""
    if inputs not in ("image+z", "z"):
        raise UserError(f"method.{argument}: found {inputs!r}, expected 'image+z' or 'z'")
    return image_encoder.features_dim if inputs == "image+z" else 0
