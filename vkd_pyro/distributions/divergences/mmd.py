"""A distance of draws, without densities."""

from typing import Literal

import torch
from torch import Tensor

from vkd_pyro.distributions.base import Distribution, no_autocast
from vkd_pyro.distributions.divergences.base import Divergence, draws_of
from vkd_pyro.utils.errors import UserError, check_number


class MMD(Divergence):
    """The squared maximum mean discrepancy, E k(z, z') + E k(w, w') - 2 E k(z, w), with z ~ q and w ~ p.

    Unbiased, so below 0 now and then (Gretton et al. 2012, "A kernel two-sample test", Lemma 6); not in nats. The
    kernel is the inverse multiquadratic c / (c + |z - w|^2), c = 2 D bandwidth^2, whose tails still pull from afar
    (Tolstikhin et al. 2018, "Wasserstein auto-encoders", arXiv 1711.01558).

    Args:
        over: "study" compares q(z | x_T) with p(z | x_I) of each study, from its own draws, of which it needs two.
            "batch" compares all studies' draws pooled, as a Wasserstein auto-encoder does, and gives each study its
            share, whose mean over studies is the batch's discrepancy. It asks for the same z on the whole, not for
            the same study, so only draws of different studies are compared. A study without a report is not in the
            pool; a batch with one report alone says nothing, 0. By itself it distils nothing.
        bandwidth: the scale of z on which differences count.
    """

    def __init__(self, over: Literal["study", "batch"] = "study", bandwidth: float = 1.0) -> None:
        if over not in ("study", "batch"):
            raise UserError(f"MMD.over: found {over!r}, expected 'study' or 'batch'")
        check_number("MMD.bandwidth", bandwidth, above=0)
        self.over, self.bandwidth = over, bandwidth

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Squared discrepancy of each study, not in nats; float [B]."""
        return self.of_batch(q, p, z, z.new_ones(z.shape[1], dtype=torch.bool))

    def of_batch(self, q: Distribution, p: Distribution, z: Tensor, counted: Tensor) -> Tensor:
        """The same; studies that do not count, bool [B], are left out of the pool and have 0. Float [B]."""
        if not q.event_shape:
            raise UserError("MMD: compares whole vectors z, not one dimension; in FreeBits, set per_dimension: false")
        draws, studies = z.shape[:2]
        if draws * (studies if self.over == "batch" else 1) < 2:
            raise UserError("MMD: needs two draws of z to compare; set objective.num_auxiliary_particles to 2 or more")
        w = draws_of(p, draws)
        with no_autocast(z):
            if self.over == "study":
                other = ~torch.eye(draws, dtype=torch.bool, device=z.device)
                return self._shares(z.transpose(0, 1), w.transpose(0, 1), other).mean(-1)
            study = torch.arange(studies, device=z.device).expand(draws, -1)[:, counted].flatten()
            shares = self._shares(z[:, counted].flatten(0, 1), w[:, counted].flatten(0, 1), study[:, None] != study)
            found = shares.new_zeros(studies)
            return found.masked_scatter(counted, shares.view(draws, -1).mean(0))

    def _shares(self, z: Tensor, w: Tensor, compared: Tensor) -> Tensor:
        """Each draw's share of the discrepancy, their mean. Args: float [..., n, D], both; bool [n, n] -> [..., n]."""
        center = torch.cat([z, w], -2).mean(-2, keepdim=True).detach()  # what is far from 0 would lose its digits
        z, w = z - center, w - center
        same = self._kernel(z, z) + self._kernel(w, w)
        cross = self._kernel(z, w)
        pairs = (same - cross - cross.mT) * compared
        return pairs.sum(-1) / compared.sum(-1).clamp(min=1)

    def _kernel(self, z: Tensor, w: Tensor) -> Tensor:
        """k of every pair, float [..., n, D], both -> [..., n, n]."""
        c = 2 * z.shape[-1] * self.bandwidth**2
        squares = z.square().sum(-1).unsqueeze(-1) + w.square().sum(-1).unsqueeze(-2) - 2 * z @ w.mT
        return c / (c + squares.clamp(min=0))
