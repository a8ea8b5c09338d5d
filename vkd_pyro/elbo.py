"""The objective of VKD, as a Pyro ELBO."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import KL, Divergence, Particles, particles
from vkd_pyro.distributions.divergences.base import check_shape
from vkd_pyro.utils.errors import UserError, check_choice, check_count, check_number, check_probability
from vkd_pyro.utils.param_store import check_param_store


@dataclass(frozen=True)
class Terms:
    """The parts of the objective for B studies; each is float [B], in nats, zero where masked.

    Attributes:
        log_likelihood: E log p(y | x_I, z), summed over known findings; of a program without a site "y", of all that
            it observes.
        auxiliary: E_q log q(y | z), summed over known findings; zero without a report.
        alignment: what draws image and report together; for VKD the divergence of the posterior from the prior. Zero
            without a report.
        auxiliary_weight: w_MI.
        alignment_weight: what multiplies the alignment: beta times a constant.
        tightening: what the log of a mean over M draws has above the mean of their logs, at least 0; zero without
            `log_mean_exp`. Under posterior samples, with beta = 1, it vanishes where q is the exact posterior.
        alignment_name: what the alignment is, for logs: "kl" for nothing but a KL.
        others: E log-probability of what else is observed, by the site's name, e.g. "report".
        weights: of the observed sites, by name; 1 where it is not said.
    """

    log_likelihood: Tensor
    auxiliary: Tensor
    alignment: Tensor
    auxiliary_weight: float
    alignment_weight: float
    tightening: Tensor | float = 0.0
    alignment_name: str = "alignment"
    others: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The scalar that is minimised: the mean over studies of the weighted parts."""
        gains = self.weights.get("y", 1.0) * self.log_likelihood + self.tightening
        gains = gains + self.auxiliary_weight * self.auxiliary
        for name, log_prob in self.others.items():
            gains = gains + self.weights.get(name, 1.0) * log_prob
        return (self.alignment_weight * self.alignment - gains).mean()

    def means(self) -> dict[str, Tensor]:
        """The loss, and the mean over studies of each part before it is weighted, by name; scalars."""
        parts = {
            "loss": self.loss,
            "log_likelihood": self.log_likelihood.mean(),
            "auxiliary": self.auxiliary.mean(),
            self.alignment_name: self.alignment.mean(),
            **{name: log_prob.mean() for name, log_prob in self.others.items()},
        }
        tightening = {"tightening": self.tightening.mean()} if isinstance(self.tightening, Tensor) else {}
        return parts | tightening


Samples = Literal["prior", "posterior", "mixture"]


@dataclass(frozen=True)
class Site:
    """How an observed site of the model enters the objective, where not as the labels do.

    Attributes:
        weight: of its log-probability; a report of many words wants less than 1.
        samples: where its z comes from; None is `likelihood_samples`.
        log_mean_exp: the log of the mean over draws instead of the mean of logs; None is as the objective says.
    """

    weight: float = 1.0
    samples: Samples | None = None
    log_mean_exp: bool | None = None

    def __post_init__(self) -> None:
        check_number("objective.sites: weight", self.weight)
        if self.samples is not None:
            check_choice("objective.sites: samples", self.samples, get_args(Samples))


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

    The report is one more observed site, where the model has a report likelihood, with a weight w_R, a source of z and
    a mean of its own (`sites`):

        - w_R E_{z ~ s_R}[log p(x_T | z)]

    At w_R = beta = 1, under the posterior, the loss bounds - log p(y, x_T | x_I) (without the auxiliary term). Sites
    that have their log of a mean over the same draws share one, which is that of their product, jointly:

        - E log 1/M sum_m p(y | x_I, z_m) p(x_T | z_m)^w_R

    so that a draw must explain labels and report together; with `joint` false each has its own. Under the posterior the
    importance-weighted bound holds all of them.

    A label that is not known takes no part. With `unknown_labels` "from_report" the likelihood observes in its place,
    where there is a report, what the auxiliary makes of it: the soft target q(y | x_T) = E_{z ~ q(z | x_T)} q(y | z),
    from the same L draws, without gradient: the report teaches and is not taught. It bounds nothing, as a
    semi-supervised ELBO would, whose q(y | x_T) keeps its entropy (Kingma et al. 2014, arXiv 1406.5298, Eq. 7).

    It sees traces only: observed sites of the model are likelihoods, those of the guide the auxiliary classifier.
    Latent distributions need `rsample`: there is no score-function estimator.

    Use it as a module, with any torch optimiser, `TraceVKD_ELBO()(model, guide)(batch, kl_weight=0.5)`, or under
    `pyro.infer.SVI`, `svi.step(batch, kl_weight=0.5)`.

    .. warning:: Under the posterior, more draws of a log of a mean teach the posterior less: its gradient's
       signal-to-noise ratio falls as M^-1/2, while the model's rises as M^1/2 (Rainforth et al. 2018, "Tighter
       variational bounds are not necessarily better", arXiv 1802.04537). Keep M small, or compare with M = 1.

    Args:
        num_particles: M, samples of z for the likelihood.
        num_auxiliary_particles: L, samples of z for the auxiliary term.
        likelihood_samples: "prior", "posterior", or "mixture".
        alpha: the posterior's share of a mixture, in [0, 1].
        log_mean_exp: log of the mean over M instead of the mean of logs.
        auxiliary_weight: w_MI; 0 is the paper's "without L_MI".
        kl_scale: multiplies every `kl_weight`.
        divergence: in place of KL(q || p); importance weights know no other.
        unknown_labels: "ignored", or "from_report": what the auxiliary classifier makes of them, where it can.
        auxiliary_mean: over all "studies", or over those "labelled" that have a report, whatever share they are.
        sites: what differs for an observed site of the model, by its name: "y", the labels, or "report".
        joint: one log of a mean for all sites of the same source, instead of one for each.
        anchor_weight: of KL(q(z | x_T) || Normal(0, I)) besides, which keeps the posterior's scale where beta is 0.
    """

    def __init__(
        self,
        num_particles: int = 1,
        num_auxiliary_particles: int = 1,
        likelihood_samples: Samples = "prior",
        alpha: float = 0.5,
        log_mean_exp: bool = False,
        auxiliary_weight: float = 1.0,
        kl_scale: float = 1.0,
        divergence: Divergence | None = None,
        unknown_labels: Literal["ignored", "from_report"] = "ignored",
        auxiliary_mean: Literal["studies", "labelled"] = "studies",
        sites: dict[str, Site] | None = None,
        joint: bool = True,
        anchor_weight: float = 0.0,
    ) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
        check_count("objective.num_particles", num_particles)
        check_count("objective.num_auxiliary_particles", num_auxiliary_particles)
        check_number("objective.auxiliary_weight", auxiliary_weight)
        check_number("objective.kl_scale", kl_scale)
        check_probability("objective.alpha", alpha)
        check_number("objective.anchor_weight", anchor_weight)
        check_choice("objective.likelihood_samples", likelihood_samples, get_args(Samples))
        check_choice("objective.unknown_labels", unknown_labels, ("ignored", "from_report"))
        check_choice("objective.auxiliary_mean", auxiliary_mean, ("studies", "labelled"))
        if unknown_labels == "from_report" and auxiliary_weight == 0:
            raise UserError(
                "objective.unknown_labels: 'from_report' wants an auxiliary classifier that learns, and "
                "objective.auxiliary_weight is 0; use ignored, or set auxiliary_weight to 1"
            )
        self.num_auxiliary_particles = num_auxiliary_particles
        self.shares, self.alpha = {"prior": 0.0, "posterior": 1.0, "mixture": alpha}, alpha
        self.likelihood_samples, self.posterior_share = likelihood_samples, self.shares[likelihood_samples]
        self.sites, self.joint = dict(sites or {}), joint
        self.log_mean_exp, self.auxiliary_weight = log_mean_exp, auxiliary_weight
        self.kl_scale, self.divergence = kl_scale, divergence or KL()
        self.unknown_labels, self.auxiliary_mean = unknown_labels, auxiliary_mean
        self.anchor_weight = anchor_weight
        weighted = {self.how(name)[1:] for name in ("y", *self.sites) if self._importance_weighted(name)}
        self.importance_weighted = bool(weighted)
        if len(weighted) > 1:
            raise UserError(
                "objective.sites: with log_mean_exp, sites under the posterior share one importance-weighted bound; "
                "give them the same samples"
            )
        if self.importance_weighted and not isinstance(self.divergence, KL):
            raise UserError(
                f"objective.divergence: found {type(self.divergence).__name__}, but with log_mean_exp under posterior "
                "samples each draw is weighed by p / q, which is the KL; leave divergence or log_mean_exp out"
            )

    def terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        """The parts of the objective for one batch, with the beta of this step; `guide` None is none.

        Model and guide run without being called: a call registers each parameter with Pyro's store, which is for `SVI`.
        """
        guide = _no_guide if guide is None else getattr(guide, "forward", guide)
        return self._terms(getattr(model, "forward", model), guide, batch, kl_weight)

    def how(self, name: str) -> tuple[float, float, bool]:
        """Of an observed site: its weight, the posterior's share of its z, whether it has a log of a mean."""
        site = self.sites.get(name, Site())
        share = self.shares[site.samples or self.likelihood_samples]
        return site.weight, share, self.log_mean_exp if site.log_mean_exp is None else site.log_mean_exp

    def _terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        num_p, num_q = self.num_particles, self.num_auxiliary_particles
        shares = [self.how(name)[1] for name in ("y", *self.sites)]
        posterior = Particles(max(num_q, num_p) if max(shares) > 0 else num_q)
        with posterior:
            guide_trace = poutine.trace(guide).get_trace(batch)
        given = particles.given_samples(posterior, guide_trace, num_p) if max(shares) > 0 else {}
        prior = Particles(num_p if min(shares) < 1 else 0, given)
        with prior:
            same_rows = particles.with_rows_of(guide_trace, model)
            model_trace = poutine.trace(same_rows).get_trace(self._completed(batch, guide_trace))

        observed = particles.observed_log_probs(model_trace, len(batch))
        particles.check_bound({name: self.how(name) for name in observed})
        auxiliaries = particles.observed_log_probs(guide_trace, len(batch))
        weight = self.kl_scale * kl_weight
        divergence = self._divergence(guide_trace, model_trace, posterior, prior, batch)
        means = {name: self._mean(name, log_probs) for name, log_probs in observed.items()}
        nothing = batch.images.new_zeros(len(batch))
        labels = means.pop("y") if "y" in means else sum(means.values(), nothing)
        others = means if "y" in observed else {}
        if self.anchor_weight:
            others = others | {"anchor": -particles.standard_kl(guide_trace, posterior)}
        return Terms(
            log_likelihood=labels,
            tightening=self._tightening(observed, weight * divergence),
            auxiliary=sum((log_probs[:num_q].mean(0) for log_probs in auxiliaries.values()), nothing),
            alignment=divergence.mean(0),
            auxiliary_weight=self.auxiliary_weight * self._auxiliary_scale(batch, guide_trace),
            alignment_weight=weight,
            alignment_name="kl" if type(self.divergence) is KL else "divergence",
            others=others,
            weights={name: self.how(name)[0] for name in observed} | {"anchor": self.anchor_weight},
        )

    def _auxiliary_scale(self, batch: Batch, guide_trace: Any) -> float:
        """What makes of a mean over all studies one over those with a report and a label that takes part."""
        if self.auxiliary_mean == "studies":
            return 1.0
        return len(batch) / max(1, particles.num_labelled(guide_trace, batch.has_report & batch.known.any(-1)))

    def _importance_weighted(self, name: str) -> bool:
        _, share, log_mean_exp = self.how(name)
        return log_mean_exp and share > 0

    def _mean(self, name: str, log_probs: Tensor) -> Tensor:
        """The mean over the draws that a site takes, [particles, B] -> [B]."""
        share, num = self.how(name)[1], self.num_particles
        return (1 - share) * log_probs[:num].mean(0) + share * log_probs[-num:].mean(0)

    def _tightening(self, observed: Mapping[str, Tensor], divergence: Tensor) -> Tensor | float:
        """What logs of means have above means of logs, float [B]; 0 where none is asked for.

        Args: log-probabilities of the observed sites, [particles, B] each; the weighted divergence, [1 or M, B].
        """
        groups: dict[Any, Tensor] = {}
        for name, log_probs in observed.items():
            weight, share, log_mean_exp = self.how(name)
            if log_mean_exp:
                group = (share, None if self.joint or share > 0 else name)
                groups[group] = groups.get(group, 0.0) + weight * log_probs
        total: Tensor | float = 0.0
        for (share, _), log_probs in groups.items():
            if share < 1:
                total = total + (1 - share) * particles.tightened(log_probs[: self.num_particles])
            if share > 0:
                total = total + share * particles.tightened(log_probs[-self.num_particles :] - divergence)
        return total

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
        check_param_store(model, guide)
        return loss.item()

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("TraceVKD_ELBO draws the model's z by its own rule; use terms(model, guide, batch)")

    def _completed(self, batch: Batch, guide_trace: Any) -> Batch:
        """The batch as the model observes it: unknown labels as the auxiliary expects them, if that is asked for."""
        auxiliary = particles.observed_sites(guide_trace)
        if self.unknown_labels == "ignored" or not auxiliary:
            return batch
        expected = auxiliary[0]["fn"].mean.detach()[: self.num_auxiliary_particles].mean(0)
        filled = batch.has_report[:, None] & ~batch.known
        return replace(batch, labels=torch.where(filled, expected, batch.labels), known=batch.known | filled)

    def _divergence(
        self, guide_trace: Any, model_trace: Any, posterior: Particles, prior: Particles, batch: Batch
    ) -> Tensor:
        """Divergence of each study, float [1, B]; with importance weights log q - log p at each draw, float [M, B]."""
        total = batch.images.new_zeros(1, len(batch))
        for name, q in posterior.distributions.items():
            particles.check_counterpart(name, prior, guide_trace, model_trace)
            p, z, site = prior.distributions[name], posterior.samples[name], guide_trace.nodes[name]
            if self.importance_weighted:
                divergence = particles.log_ratio(q, p, z, self.num_particles)
            elif max(len(q.batch_shape), len(p.batch_shape)) > 1:
                particles.check_conditional(name, self.divergence, [self.how(one)[1] for one in ("y", *self.sites)])
                divergence = particles.log_ratio(q, p, z, self.num_particles).mean(0)
            else:
                divergence = self.divergence.of_batch(q, p, z, batch.has_report)
                check_shape(self.divergence, divergence, len(batch))
            total = total + scale_and_mask(divergence, scale=site["scale"], mask=site["mask"])
        return total


def _no_guide(batch: Batch) -> None:
    """The guide of a model that learns without reports: no site at all."""
