"""The objective of VKD, as a Pyro ELBO, and the schedules of its KL weight."""

import abc
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import KL, Distribution, Divergence
from vkd_pyro.errors import UserError


@dataclass(frozen=True)
class Terms:
    """The parts of the objective for B studies; each is float [B], in nats, zero where masked.

    Attributes:
        log_likelihood: E log p(y | x_I, z), summed over known findings.
        auxiliary: E_q log q(y | z), summed over known findings; zero without a report.
        kl: the divergence of the posterior from the prior; zero without a report.
        auxiliary_weight: w_MI.
        kl_weight: what multiplies the divergence: beta times the constant scale.
    """

    log_likelihood: Tensor
    auxiliary: Tensor
    kl: Tensor
    auxiliary_weight: float
    kl_weight: float

    @property
    def loss(self) -> Tensor:
        """The scalar that is minimised: the mean over studies of the weighted parts."""
        return (-self.log_likelihood - self.auxiliary_weight * self.auxiliary + self.kl_weight * self.kl).mean()


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

    It sees traces only. Every sample site that is not observed is a latent variable; the observed sites of the model
    are the likelihood, those of the guide the auxiliary classifier.

    Use it as a module, with any torch optimiser, `TraceVKD_ELBO()(model, guide)(batch, kl_weight=0.5)`, or under
    `pyro.infer.SVI`, `svi.step(batch, kl_weight=0.5)`.

    .. warning:: Latent distributions need reparametrised samples (`rsample`): there is no score-function estimator.

    Args:
        num_particles: M, samples of z for the likelihood.
        num_auxiliary_particles: L, samples of z for the auxiliary term.
        likelihood_samples: "prior", "posterior", or "mixture".
        alpha: the posterior's share of a mixture, in [0, 1].
        log_mean_exp: log of the mean over M instead of the mean of logs (Eq. 2, what prediction averages).
        auxiliary_weight: w_MI; 0 is the paper's "without L_MI".
        kl_scale: a constant that multiplies every `kl_weight`.
        divergence: in place of KL(q || p).
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
    ) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
        if min(num_particles, num_auxiliary_particles) < 1:
            raise UserError("objective: num_particles and num_auxiliary_particles must be at least 1")
        if likelihood_samples not in ("prior", "posterior", "mixture"):
            raise UserError(
                f"objective.likelihood_samples: found {likelihood_samples!r}, expected prior, posterior or mixture"
            )
        if not 0 <= alpha <= 1:
            raise UserError(f"objective.alpha: found {alpha}, expected a share between 0 and 1")
        self.num_auxiliary_particles = num_auxiliary_particles
        self.posterior_share = {"prior": 0.0, "posterior": 1.0, "mixture": alpha}[likelihood_samples]
        self.log_mean_exp = log_mean_exp
        self.auxiliary_weight = auxiliary_weight
        self.kl_scale = kl_scale
        self.divergence = divergence or KL()

    def terms(self, model: Any, guide: Any, batch: Batch, kl_weight: float = 1.0) -> Terms:
        """The parts of the objective for one batch, with the beta of this step."""
        alpha, num_p, num_q = self.posterior_share, self.num_particles, self.num_auxiliary_particles
        posterior = _Particles(max(num_q, num_p) if alpha > 0 else num_q)
        with posterior:
            guide_trace = poutine.trace(guide).get_trace(batch)
        given = _given(posterior, guide_trace, num_p) if alpha > 0 else {}
        prior = _Particles(num_p if alpha < 1 else 0, given)
        with prior:
            model_trace = poutine.trace(model).get_trace(batch)

        likelihood = _observed_log_prob(model_trace, batch)
        from_prior, from_posterior = self._reduce(likelihood[:num_p]), self._reduce(likelihood[-num_p:])
        return Terms(
            log_likelihood=(1 - alpha) * from_prior + alpha * from_posterior,
            auxiliary=_observed_log_prob(guide_trace, batch)[:num_q].mean(0),
            kl=self._divergence(guide_trace, posterior, prior, batch),
            auxiliary_weight=self.auxiliary_weight,
            kl_weight=self.kl_scale * kl_weight,
        )

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The scalar loss; arguments as of `terms`."""
        return self.terms(model, guide, *args, **kwargs).loss

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

    def _reduce(self, log_probs: Tensor) -> Tensor:
        """Over particles: [M, B] -> [B]."""
        return log_probs.logsumexp(0) - math.log(len(log_probs)) if self.log_mean_exp else log_probs.mean(0)

    def _divergence(self, guide_trace: Any, posterior: "_Particles", prior: "_Particles", batch: Batch) -> Tensor:
        total = batch.images.new_zeros(len(batch))
        for name, q in posterior.distributions.items():
            divergence = self.divergence(q, prior.distributions[name], posterior.samples[name])
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
        parts = [_draw(distribution, self.num_particles)] if self.num_particles else []
        if name in self.given:
            z, holds = self.given[name]
            parts.append(torch.where(holds[:, None], z, _draw(distribution, len(z))))
        self.distributions[name] = distribution
        self.samples[name] = msg["value"] = torch.cat(parts)
        msg["done"] = True


def _draw(distribution: Distribution, num_particles: int) -> Tensor:
    return distribution.expand((num_particles, *distribution.batch_shape)).rsample()


def _given(posterior: _Particles, guide_trace: Any, num_particles: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The posterior's samples for the model, with the guide's mask."""
    given = {}
    for name, z in posterior.samples.items():
        mask = guide_trace.nodes[name]["mask"]
        given[name] = z[:num_particles], z.new_ones(z.shape[1], dtype=torch.bool) if mask is None else mask
    return given


def _observed_log_prob(trace: Any, batch: Batch) -> Tensor:
    """Log-probability of the observed sites, masked, float [particles, B]; zeros [1, B] where there is none."""
    total = batch.images.new_zeros(1, len(batch))
    for site in trace.nodes.values():
        if site["type"] == "sample" and site["is_observed"]:
            total = total + scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])
    return total


# --------------------------------------------------------------------------------------- schedules


class KLSchedule(abc.ABC):
    """beta as a pure function of the step."""

    @abc.abstractmethod
    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """beta in [0, 1].

        Args:
            step: t, optimiser steps done + 1; counted over the whole training, never reset.
            steps_per_epoch: T, optimiser steps an epoch, after accumulation and over all devices.
        """

    def validate(self, steps_per_epoch: int) -> None:  # noqa: B027 - most schedules can do with any T
        """Raises `UserError` where beta could never leave 0 with this T; warns where cycles are very short."""


RAMPS = {
    "linear": lambda u: u,
    "cosine": lambda u: (1 - math.cos(math.pi * u)) / 2,
    "sigmoid": lambda u: (math.tanh(6 * (u - 0.5)) / math.tanh(3) + 1) / 2,  # a sigmoid of 12 (u - 1/2), rescaled
}
"""g(u) for u in [0, 1], each from 0 to 1."""

Ramp = Literal["linear", "cosine", "sigmoid"]


class Constant(KLSchedule):
    """beta = value."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """See `KLSchedule`."""
        return self.value


class Monotonic(KLSchedule):
    """beta rises once, from 0 to 1, over the first `epochs` epochs."""

    def __init__(self, epochs: float = 1.0, ramp: Ramp = "linear") -> None:
        if epochs <= 0:
            raise UserError(f"kl_schedule.epochs: found {epochs}, expected more than 0")
        self.epochs, self.ramp = epochs, ramp

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """See `KLSchedule`."""
        return RAMPS[self.ramp](min(1.0, (step - 1) / (self.epochs * steps_per_epoch)))


class Cyclical(KLSchedule):
    """Cyclical annealing (paper Eq. 9; Fu et al. 2019).

        tau = mod(t - 1, ceil(T / C)) / (T / C);   beta = g(tau / R) for tau <= R, else 1

    Args:
        cycles: C, cycles an epoch.
        rising: R, the part of a cycle in which beta rises.
        ramp: g.
    """

    def __init__(self, cycles: int = 4, rising: float = 0.5, ramp: Ramp = "linear") -> None:
        if cycles < 1 or not 0 < rising <= 1:
            raise UserError(
                f"kl_schedule: found cycles {cycles} and rising {rising}, expected at least 1, and in (0, 1]"
            )
        self.cycles, self.rising, self.ramp = cycles, rising, ramp

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """See `KLSchedule`."""
        cycle = steps_per_epoch / self.cycles
        tau = ((step - 1) % math.ceil(cycle)) / cycle
        return RAMPS[self.ramp](tau / self.rising) if tau <= self.rising else 1.0

    def validate(self, steps_per_epoch: int) -> None:
        """Raises where T <= C, since beta would be 0 for ever; warns where T < 4 C."""
        if steps_per_epoch <= self.cycles:
            raise UserError(
                f"kl_schedule: {self.cycles} cycles in an epoch of {steps_per_epoch} steps would keep beta at 0; "
                "set kl_schedule.init_args.cycles lower, or data.batch_size lower"
            )
        if steps_per_epoch < 4 * self.cycles:
            warnings.warn(
                f"kl_schedule: a cycle has only {steps_per_epoch / self.cycles:.1f} steps; "
                "beta takes few values. Consider fewer cycles.",
                stacklevel=2,
            )
