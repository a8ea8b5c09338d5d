"""Several draws of every latent variable of a program at once, and what its trace says of them."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences import KL
from vkd_pyro.distributions.draws import draw


class Particles(Messenger):
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
        if msg["is_observed"] or msg["done"] or site_is_subsample(msg):  # conditioned or replayed: not ours to draw
            return
        name, distribution = msg["name"], msg["fn"]
        parts = [draw(distribution, self.num_particles)] if self.num_particles else []
        if name in self.given:
            z, holds = self.given[name]
            parts.append(torch.where(holds[:, None], z, draw(distribution, len(z))))
        self.distributions[name] = distribution
        self.samples[name] = msg["value"] = torch.cat(parts)
        msg["done"] = True


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
