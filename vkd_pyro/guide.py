"""The guide: the part of the program that reads reports, for training only.

q(z | x_T), with auxiliary q(y | z)

     x_T
      |
      v
      z ---> y
"""

from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor
from torch.distributions import Normal

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import Distribution, Family, Likelihood, draw
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.sampling import PosteriorPredictive, sample_predictive
from vkd_pyro.utils.errors import UserError

WARM_UP_KL, WARM_UP_DRAWS = 0.01, 4


class Guide(PyroModule):
    """z ~ q(z | x_T), with the auxiliary classifier q(y | z) that stands for the mutual information I(z; y).

    The labels are observed here as well: `TraceVKD_ELBO` adds that site to the objective; Pyro's own ELBOs would
    subtract it. Studies without a report are masked out of both sites.

    Args:
        report_encoder: x_T to features.
        posterior: features to q(z | x_T).
        auxiliary: z to q(y | z).
        tied: the auxiliary is the model's own likelihood, one head for p(y | z) and q(y | z). It is then no part of the
            guide, so that there is one parameter, with one name, and it makes one step.
    """

    def __init__(
        self, report_encoder: ReportEncoder, posterior: Family, auxiliary: Likelihood, tied: bool = False
    ) -> None:
        super().__init__()
        if posterior.prior_only:
            raise UserError(
                f"method.posterior: {type(posterior).__name__} does not depend on the report, so it is a prior only; "
                "take e.g. DiagonalNormal, NormalMixture or Flow"
            )
        self.report_encoder, self.posterior, self.tied = report_encoder, posterior, tied
        if tied:
            self.__dict__["auxiliary"] = auxiliary  # past torch, which would take it for a child
        else:
            self.auxiliary = auxiliary

    def forward(self, batch: Batch) -> Tensor:
        """The program, its labels observed. Returns: z, float [..., B, D]."""
        features = self.encode(batch)
        with pyro.plate("studies", len(batch), dim=-1), poutine.mask(mask=cast(torch.BoolTensor, batch.has_report)):
            z = pyro.sample("z", self.posterior(features))
            pyro.sample("y_given_z", self.auxiliary(z, known=batch.known), obs=batch.labels)
            return z

    def program(self, features: Tensor, has_report: Tensor | None = None, prior: Distribution | None = None) -> Tensor:
        """z ~ q(z | x_T) alone, the counterpart of `Model.program`, for Pyro's own algorithms.

        A study without a report has no posterior: its z is drawn from the prior, whose log-probability is then the
        model's own, so the two cancel.

        Args:
            features: of reports, float [B, F].
            has_report: bool [B]; None is all.
            prior: p(z | x_I), `Model.latent` of the images' features; wanted where a report is missing.
        Returns: z, float [..., B, D].
        """
        posterior = self.posterior(features)
        if has_report is not None and not has_report.all():
            if prior is None:
                raise UserError("guide.program: prior: found None, but a study has no report; give model.latent(...)")
            posterior = dist.MaskedMixture(has_report, prior, posterior)
        with pyro.plate("studies", len(features), dim=-1):
            return pyro.sample("z", posterior)

    def encode(self, batch: Batch) -> Tensor:
        """Features of the reports of a batch, float [B, F]; of a study without one they are read nowhere."""
        return self.report_encoder(batch.report, batch.report_mask)

    def report_loss(self, batch: Batch) -> Tensor:
        """- E log q(y | z) + 0.01 KL(q(z | x_T) || Normal(0, 1)), scalar: of the report branch alone, to warm it up.

        The small KL keeps the scale of z from falling freely, and z in a range that a prior can follow.
        """
        posterior = self.posterior(self.encode(batch))
        z = draw(posterior, WARM_UP_DRAWS)
        log_probs = self.auxiliary(z, known=batch.known).log_prob(batch.labels)
        kl = posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(-1)
        return ((WARM_UP_KL * kl - log_probs).mean(0) * batch.has_report).mean()

    def posterior_predictive(self, features: Tensor, num_samples: int, seed: int = 0) -> PosteriorPredictive:
        """q(y_k = 1 | z) at draws of z ~ q(z | x_T), the same noise for every report.

        Args: features of reports, float [B, F]; S; seed of the draws.
        """
        return sample_predictive(self.posterior, self.auxiliary, features, num_samples, seed)
