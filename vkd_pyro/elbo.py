"""The objective of VKD, as a Pyro ELBO."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import KL, Distribution, Divergence, draw
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class Terms:
    """The parts of the objective for B studies; each is float [B], in nats, zero where masked.

    Attributes:
        log_likelihood: E log p(y | x_I, z), summed over known findings.
        auxiliary: E_q log q(y | z), summed over known findings; zero without a report.
        alignment: what draws image and report together; for VKD the divergence of the posterior from the prior. Zero
            without a report.
        auxiliary_weight: w_MI.
        alignment_weight: what multiplies the alignment: beta times a constant.
        tightening: what the log of a mean over M draws has above the mean of their logs, at least 0; zero without
            `log_mean_exp`. Under posterior samples, with beta = 1, it vanishes where q is the exact posterior.
        alignment_name: what the alignment is, for logs: "kl" for nothing but a KL.
    """

    log_likelihood: Tensor
    auxiliary: Tensor
    alignment: Tensor
    auxiliary_weight: float
    alignment_weight: float
    tightening: Tensor | float = 0.0
    alignment_name: str = "alignment"

    @property
    def loss(self) -> Tensor:
        """The scalar that is minimised: the mean over studies of the weighted parts."""
        gains = self.log_likelihood + self.tightening + self.auxiliary_weight * self.auxiliary
        return (self.alignment_weight * self.alignment - gains).mean()

    def means(self) -> dict[str, Tensor]:
        """The loss, and the mean over studies of each part before it is weighted, by name; scalars."""
        parts = {
            "loss": self.loss,
            "log_likelihood": self.log_likelihood.mean(),
            "auxiliary": self.auxiliary.mean(),
            self.alignment_name: self.alignment.mean(),
        }
        tightening = {"tightening": self.tightening.mean()} if isinstance(self.tightening, Tensor) else {}
        return parts | tightening


class TraceVKD_ELBO(ELBO):
    r"""The objective of Variational Knowledge Distillation (paper Eq. 8 with its printed signs corrected; Algorithm 1).

        loss = - E_{z ~ s}[log p(y | x_I, z)]
               - w_MI E_{z ~ q(z | x_T)}[log q(y | z)]
               + beta KL(q(z | x_T) || p(z | x_I))

    where

    * s is the prior p(z | x_I) (Eq. 8: training meets what inference does), the posterior q(z | x_T) (the ELBO of
      Eq. 5), or both: alpha times the posterior's expectation plus 1 - alpha times the prior's (Sohn et al. 2015);
      a study without a report always takes the prior;
    * the first term is estimated with M samples, the second with L; the encoders run once whatever M and L are;
    * beta is `kl_weight`, given with each call, times the constant `kl_scale`;
    * terms are summed over findings and latent dimensions, then averaged over studies. KL and auxiliary terms are zero
      for studies without a report, and unknown labels take no part.

    With `log_mean_exp`, the log of a mean over the M draws z_m ~ s stands in place of the mean of logs. Under the
    prior it is that of the likelihood alone (Eq. 2, what prediction averages), beside the KL. Under the posterior it
    holds the KL as well, and first and last term together are the importance-weighted bound:

        - E log 1/M sum_m p(y | x_I, z_m) (p(z_m | x_I) / q(z_m | x_T))^beta

    At beta = 1 this is never below - log p(y | x_I), falls to it as M grows, and equals it for any M where q is the
    exact posterior (Burda et al. 2016, "Importance weighted autoencoders", arXiv 1509.00519); at M = 1 it is the ELBO
    with the KL estimated from its one draw. A mixture is alpha times this plus 1 - alpha times the prior's with its KL.

    A label that is not known takes no part. With `unknown_labels` "from_report" the likelihood observes in its place,
    where there is a report, what the auxiliary makes of it: the soft target q(y | x_T) = E_{z ~ q(z | x_T)} q(y | z),
    from the same L draws. The report teaches and is not taught: the target gets no gradient. This is distillation of
    q(y | x_T) into p(y | x_I, z), within the program; it bounds nothing, as a semi-supervised ELBO would, whose
    q(y | x_T) is trained by the bound and keeps its entropy (Kingma et al. 2014, arXiv 1406.5298, Eq. 7). Targets are
    those of the auxiliary as it is, under dropout and from the first step on.

    It sees traces only. Every sample site that is not observed is a latent variable; the observed sites of the model
    are the likelihood, those of the guide the auxiliary classifier.

    Use it as a module, with any torch optimiser, `TraceVKD_ELBO()(model, guide)(batch, kl_weight=0.5)`, or under
    `pyro.infer.SVI`, `svi.step(batch, kl_weight=0.5)`.

    .. warning:: Latent distributions need reparametrised samples (`rsample`): there is no score-function estimator.

    .. warning:: Under the posterior, more draws of a log of a mean teach the posterior less: its gradient's
       signal-to-noise ratio falls as M^-1/2, while the model's rises as M^1/2 (Rainforth et al. 2018, "Tighter
       variational bounds are not necessarily better", arXiv 1802.04537). Keep M small, or compare with M = 1.

    Args:
        num_particles: M, samples of z for the likelihood.
        num_auxiliary_particles: L, samples of z for the auxiliary term.
        likelihood_samples: "prior", "posterior", or "mixture".
        alpha: the posterior's share of a mixture, in [0, 1].
        log_mean_exp: log of the mean over M instead of the mean of logs: under the prior what prediction averages,
            under the posterior the importance-weighted bound.
        auxiliary_weight: w_MI; 0 is the paper's "without L_MI".
        kl_scale: a constant that multiplies every `kl_weight`.
        divergence: in place of KL(q || p); importance weights know no other.
        unknown_labels: "ignored", or "from_report": what the auxiliary classifier makes of them, where it can.
    """

    def __init__(
        self,
        num_particles: int = 1,
        num_auxiliary_particles: int = 1,
        likelihood_samples: Literal["prior", "posterior", "mixture"] = "prior",
        alpha: float = 0.5,
        log_mean_exp: bool = False,
        auxiliary_weight: float = 1.0,
        kl_scale: float = 1.0,
        divergence: Divergence | None = None,
        unknown_labels: Literal["ignored", "from_report"] = "ignored",
    ) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
        if min(num_particles, num_auxiliary_particles) < 1:
            raise UserError("objective: num_particles and num_auxiliary_particles must be at least 1")
        if likelihood_samples not in ("prior", "posterior", "mixture"):
            raise UserError(
                f"objective.likelihood_samples: found {likelihood_samples!r}, expected prior, posterior or mixture"
            )
        if unknown_labels not in ("ignored", "from_report"):
            raise UserError(f"objective.unknown_labels: found {unknown_labels!r}, expected ignored or from_report")
        if unknown_labels == "from_report" and auxiliary_weight == 0:
            raise UserError(
                "objective.unknown_labels: 'from_report' wants an auxiliary classifier that learns, and "
                "objective.auxiliary_weight is 0; use ignored, or set auxiliary_weight to 1"
            )
        if not 0 <= alpha <= 1:
            raise UserError(f"objective.alpha: found {alpha}, expected a share between 0 and 1")
        self.num_auxiliary_particles = num_auxiliary_particles
        self.posterior_share = {"prior": 0.0, "posterior": 1.0, "mixture": alpha}[likelihood_samples]
        self.log_mean_exp = log_mean_exp
        self.auxiliary_weight = auxiliary_weight
        self.kl_scale = kl_scale
        self.divergence = divergence or KL()
        self.unknown_labels = unknown_labels
        self.importance_weighted = log_mean_exp and self.posterior_share > 0
        if self.importance_weighted and not isinstance(self.divergence, KL):
            raise UserError(
                f"objective.divergence: found {type(self.divergence).__name__}, but with log_mean_exp under posterior "
                "samples each draw is weighed by p / q, which is the KL; leave divergence or log_mean_exp out"
            )

    def terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        """The parts of the objective for one batch, with the beta of this step; `guide` None is none.

        Model and guide run without being called, as a call of a `PyroModule` registers each parameter of its networks
        with Pyro's store: for `SVI`, which calls `loss_and_grads`, and in vain for a torch optimiser.
        """
        guide = _no_guide if guide is None else getattr(guide, "forward", guide)
        return self._terms(getattr(model, "forward", model), guide, batch, kl_weight)

    def _terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        alpha, num_p, num_q = self.posterior_share, self.num_particles, self.num_auxiliary_particles
        posterior = _Particles(max(num_q, num_p) if alpha > 0 else num_q)
        with posterior:
            guide_trace = poutine.trace(guide).get_trace(batch)
        given = _given(posterior, guide_trace, num_p) if alpha > 0 else {}
        prior = _Particles(num_p if alpha < 1 else 0, given)
        with prior:
            model_trace = poutine.trace(model).get_trace(self._completed(batch, guide_trace))

        weight = self.kl_scale * kl_weight
        likelihood = _observed_log_prob(model_trace, batch)
        from_prior, from_posterior = likelihood[:num_p], likelihood[-num_p:]
        divergence = self._divergence(guide_trace, posterior, prior, batch)
        log_weights = from_posterior - weight * divergence
        return Terms(
            log_likelihood=(1 - alpha) * from_prior.mean(0) + alpha * from_posterior.mean(0),
            tightening=(1 - alpha) * self._tightening(from_prior) + alpha * self._tightening(log_weights),
            auxiliary=_observed_log_prob(guide_trace, batch)[:num_q].mean(0),
            alignment=divergence.mean(0),
            auxiliary_weight=self.auxiliary_weight,
            alignment_weight=weight,
            alignment_name="kl" if type(self.divergence) is KL else "divergence",
        )

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The scalar loss; arguments as of `terms`."""
        return self._terms(model, guide, *args, **kwargs).loss

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number, without gradients; called by `SVI.evaluate_loss`."""
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number, its gradients left on the parameters; called by `SVI.step`."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("TraceVKD_ELBO draws the model's z by its own rule; use terms(model, guide, batch)")

    def _completed(self, batch: Batch, guide_trace: Any) -> Batch:
        """The batch as the model observes it: unknown labels as the auxiliary expects them, if that is asked for."""
        auxiliary = _observed_sites(guide_trace)
        if self.unknown_labels == "ignored" or not auxiliary:
            return batch
        expected = auxiliary[0]["fn"].mean.detach()[: self.num_auxiliary_particles].mean(0)
        filled = batch.has_report[:, None] & ~batch.known
        return replace(batch, labels=torch.where(filled, expected, batch.labels), known=batch.known | filled)

    def _tightening(self, log_weights: Tensor) -> Tensor | float:
        """The log of the mean less the mean of logs, [M, B] -> [B]; zero where it is not asked for."""
        if not self.log_mean_exp:
            return 0.0
        return log_weights.logsumexp(0) - math.log(len(log_weights)) - log_weights.mean(0)

    def _divergence(self, guide_trace: Any, posterior: "_Particles", prior: "_Particles", batch: Batch) -> Tensor:
        """Divergence of each study, float [1, B]; with importance weights log q - log p at each draw, float [M, B]."""
        total = batch.images.new_zeros(1, len(batch))
        for name, q in posterior.distributions.items():
            p, z = prior.distributions[name], posterior.samples[name]
            if self.importance_weighted:
                z = z[: self.num_particles]
                divergence = q.log_prob(z) - p.log_prob(z)
            else:
                divergence = self.divergence(q, p, z)
                if divergence.shape != (len(batch),):
                    raise UserError(
                        f"objective.divergence: {type(self.divergence).__name__} gave shape {list(divergence.shape)}, "
                        f"expected [{len(batch)}], one value a study"
                    )
            total = total + scale_and_mask(divergence, mask=guide_trace.nodes[name]["mask"])
        return total


class _Particles(Messenger):
    """Draws every latent variable several times at once, in a new leftmost axis; keeps the distributions as stated.

    Only what depends on z is repeated, so a program that encodes its inputs before it draws z encodes them once.

    Args:
        num_particles: draws from the program's own distribution.
        given: samples put behind those, by site name, float [N, B, D], and where they hold, bool [B]; elsewhere
            (a study without a report has no posterior) the program's own distribution is drawn from.
    """

    def __init__(self, num_particles: int, given: dict[str, tuple[Tensor, Tensor]] | None = None) -> None:
        super().__init__()
        self.num_particles = num_particles
        self.given = given or {}
        self.distributions: dict[str, Distribution] = {}
        self.samples: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        name, distribution = msg["name"], msg["fn"]
        parts = [draw(distribution, self.num_particles)] if self.num_particles else []
        if name in self.given:
            z, holds = self.given[name]
            parts.append(torch.where(holds[:, None], z, draw(distribution, len(z))))
        self.distributions[name] = distribution
        self.samples[name] = msg["value"] = torch.cat(parts)
        msg["done"] = True


def _no_guide(batch: Batch) -> None:
    """The guide of a model that learns without reports: no site at all."""


def _given(posterior: _Particles, guide_trace: Any, num_particles: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The posterior's samples for the model, with the guide's mask."""
    given = {}
    for name, z in posterior.samples.items():
        mask = guide_trace.nodes[name]["mask"]
        given[name] = z[:num_particles], z.new_ones(z.shape[1], dtype=torch.bool) if mask is None else mask
    return given


def _observed_sites(trace: Any) -> list[Any]:
    return [site for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"]]


def _observed_log_prob(trace: Any, batch: Batch) -> Tensor:
    """Log-probability of the observed sites, masked, float [particles, B]; zeros [1, B] where there is none."""
    total = batch.images.new_zeros(1, len(batch))
    for site in _observed_sites(trace):
        total = total + scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])
    return total
