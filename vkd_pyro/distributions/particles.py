"""Several draws of every latent variable of a program at once, and what its trace says of them."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences import KL, Divergence
from vkd_pyro.distributions.draws import draw
from vkd_pyro.utils.errors import UserError


class Particles(Messenger):
    """Draws every latent variable several times at once, in a new leftmost axis; keeps the distributions as stated.

    Only what depends on z is repeated, so a program that encodes its inputs before it draws z encodes them once. A
    variable that depends on one drawn before has that axis already, and is drawn once for each of its particles. Of
    Pyro's autoguides the auxiliary variable is what is drawn and kept, under the name of the variable made of it.

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
        self.auxiliary: dict[str, Distribution] = {}
        self.samples: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or site_is_subsample(msg):  # conditioned or replayed: not ours to draw
            return
        name, distribution = msg["name"], msg["fn"]
        plates = sum(frame.vectorized for frame in msg["cond_indep_stack"])
        depends = len(distribution.batch_shape) > plates
        if msg["infer"].get("is_auxiliary"):
            _check_of_studies(name, plates)
            msg["value"] = draw(distribution, self.num_particles)
            self.auxiliary[name.removesuffix("_unconstrained")] = distribution
        elif isinstance(distribution, dist.Delta) and name in self.auxiliary:
            _check_unconstrained(name, distribution)
            msg["value"] = distribution.v
            self.distributions[name], self.samples[name] = self.auxiliary[name], msg["value"]
        else:
            msg["value"] = distribution.rsample() if depends else self._drawn(name, distribution)
            if depends and name in self.given:
                z, holds = self.given[name]
                msg["value"] = torch.where(holds[:, None], z, msg["value"][-len(z) :])
            self.distributions[name], self.samples[name] = distribution, msg["value"]
        msg["done"] = True

    def _drawn(self, name: str, distribution: Distribution) -> Tensor:
        parts = [draw(distribution, self.num_particles)] if self.num_particles else []
        if name in self.given:
            z, holds = self.given[name]
            parts.append(torch.where(holds[:, None], z, draw(distribution, len(z))))
        return torch.cat(parts)


def _check_of_studies(name: str, plates: int) -> None:
    """Raises `UserError` where one variable stands for z of all studies together."""
    if not plates:
        raise UserError(
            f"guide: {name} stands for all studies together, and the objective is of each study; use AutoNormal, or "
            "Pyro's Trace_ELBO with model.program"
        )


def _check_unconstrained(name: str, distribution: Any) -> None:
    if bool((distribution.log_density != 0).any()):
        raise UserError(f"guide: {name} is constrained, so its density is none that can be compared; use Trace_ELBO")


def given_samples(posterior: Particles, guide_trace: Any, num_particles: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The posterior's samples for the model, with the guide's mask."""
    given = {}
    for name, z in posterior.samples.items():
        mask = guide_trace.nodes[name]["mask"]
        given[name] = z[:num_particles], z.new_ones(z.shape[1], dtype=torch.bool) if mask is None else mask
    return given


def observed_sites(trace: Any) -> list[Any]:
    """The observed random variables of a trace."""
    return [site for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"]]


def observed_log_probs(trace: Any) -> dict[str, Tensor]:
    """Log-probability of each observed site, masked, float [particles, B], by name; [1, B] without z."""
    sites = {site["name"]: site for site in observed_sites(trace)}
    return {
        name: torch.atleast_2d(scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"]))
        for name, site in sites.items()
    }


def tightened(log_weights: Tensor) -> Tensor:
    """The log of the mean less the mean of logs, [M, B] -> [B]."""
    return log_weights.logsumexp(0) - math.log(len(log_weights)) - log_weights.mean(0)


def standard_kl(guide_trace: Any, posterior: Particles) -> Tensor:
    """KL(q(z | x_T) || Normal(0, I)) of each study, summed over latent sites, float [B]."""
    found = []
    for name, q in posterior.distributions.items():
        z, site = posterior.samples[name], guide_trace.nodes[name]
        standard = dist.Normal(torch.zeros_like(z[0]), 1.0).to_event(z.dim() - 2)
        found.append(scale_and_mask(KL()(q, standard, z), scale=site["scale"], mask=site["mask"]))
    return torch.stack(found).sum(0)


def log_ratio(q: Distribution, p: Distribution, z: Tensor, number: int) -> Tensor:
    """log q(z) - log p(z) at the first so many draws of z ~ q, float [number, B]."""
    return q.log_prob(z)[:number] - p.log_prob(z[:number])


def check_conditional(name: str, divergence: Divergence, posterior_shares: Sequence[float]) -> None:
    """Raises `UserError` where the divergence of a variable that depends on another cannot be estimated from draws.

    That wants a KL, and the model at the posterior's draws of the other: of every observed site a share of 1.
    """
    if type(divergence) is not KL or min(posterior_shares) < 1:
        raise UserError(
            f"{name}: depends on another latent variable, so its KL wants the model at the posterior's draws of that; "
            "set objective.likelihood_samples to posterior, for every site, and leave objective.divergence out"
        )
