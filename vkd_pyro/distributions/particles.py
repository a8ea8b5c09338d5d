"""Several draws of every latent variable of a program at once."""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
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
