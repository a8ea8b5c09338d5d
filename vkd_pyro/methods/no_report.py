"""The network of VKD without reports: the paper's "no EHR"."""

from collections.abc import Callable

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import BernoulliLikelihood, DiagonalNormal, Family, Likelihood
from vkd_pyro.elbo import Terms, TraceVKD_ELBO
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.methods.base import Method
from vkd_pyro.methods.vkd import LikelihoodInputs, latent_model


class NoReport(Method):
    """p(z | x_I) p(y | x_I, z) learned from X-rays and labels alone: no guide, no KL, no auxiliary term.

        loss = - E_{z ~ p(z | x_I)}[log p(y | x_I, z)]

    Args:
        findings: names of the K labels.
        image_encoder: reads X-rays.
        latent_dim: D, the width of z.
        prior: makes p(z | x_I) from (in_features, latent_dim).
        likelihood: makes p(y | x_I, z) from (latent_dim, num_findings, features_dim).
        likelihood_inputs: what the likelihood sees: "image+z" (the paper), or "z" alone.
        num_particles: M, samples of z.
        log_mean_exp: log of the mean over M instead of the mean of logs.
    """

    reads_reports = False

    def __init__(
        self,
        findings: tuple[str, ...],
        image_encoder: ImageEncoder,
        latent_dim: int = 512,
        prior: Callable[[int, int], Family] = DiagonalNormal,
        likelihood: Callable[[int, int, int], Likelihood] = BernoulliLikelihood,
        likelihood_inputs: LikelihoodInputs = "image+z",
        num_particles: int = 1,
        log_mean_exp: bool = False,
    ) -> None:
        model = latent_model(len(findings), image_encoder, latent_dim, prior, likelihood, likelihood_inputs)
        super().__init__(findings, model)
        self.latent_dim, self.likelihood_inputs = latent_dim, likelihood_inputs
        self.objective = TraceVKD_ELBO(num_particles=num_particles, log_mean_exp=log_mean_exp)

    def terms(self, batch: Batch, beta: float = 1.0) -> Terms:
        """The log-likelihood; beta weighs nothing."""
        return self.objective.terms(self.model, None, batch, beta)
