"""How far the posterior q(z | x_T) is from the prior p(z | x_I): what the objective charges for knowing the report.

================  =====================================  ============================================================
divergence        closed form                            otherwise, by Monte Carlo
================  =====================================  ============================================================
`KL`              normals, Laplace; any q with an        unbiased, draws of q
                  entropy to a diagonal normal p
`ReverseKL`       the same, q and p exchanged            unbiased, draws of p
`BalancedKL`      as `KL`                                as `KL`
`FreeBits`        as its inner divergence                as its inner divergence; a dimension each needs independent
                                                         dimensions
`JensenShannon`   none                                   unbiased, draws of both
`Renyi`           diagonal normals                       biased towards `KL` with few draws
`Wasserstein2`    diagonal normals                       refused
`MMD`             none                                   unbiased, draws of both, at least two
================  =====================================  ============================================================

Draws are as many as the objective's `num_auxiliary_particles`; all gradients go through reparametrised draws.
"""

import abc
import math
from typing import Literal

import torch
from pyro.distributions.util import detach, sum_rightmost
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vkd_pyro.distributions.base import Distribution, no_autocast
from vkd_pyro.utils.errors import UserError


class Divergence(abc.ABC):
    """How far the posterior q(z | x_T) is from the prior p(z | x_I)."""

    @abc.abstractmethod
    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Args: batch shape [B], event shape [D], both; samples z ~ q, float [L, B, D]. Returns: nats, float [B]."""


class KL(Divergence):
    """KL(q || p), summed over dimensions: analytic where known, else the mean over z ~ q of log q(z) - log p(z)."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        with no_autocast(z):
            for closed_form in (kl_divergence, _kl_to_diagonal_normal):
                try:
                    return closed_form(q, p)
                except NotImplementedError:
                    continue
            return (q.log_prob(z) - p.log_prob(z)).mean(0)


def _kl_to_diagonal_normal(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) = - H(q) - log p(E_q z) + sum Var_q z / (2 Var p), for any q whose entropy H is known."""
    if not isinstance(_base(p), Normal):
        raise NotImplementedError
    entropy = q.entropy()  # first: where there is none, the moments may be dear
    return sum_rightmost(q.variance / (2 * p.variance), len(p.event_shape)) - p.log_prob(q.mean) - entropy


class ReverseKL(Divergence):
    """KL(p || q): the posterior covers the prior, rather than settle within it. Draws are of p."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        return KL()(p, q, _draws(p, len(z)))


class BalancedKL(Divergence):
    """KL balancing: w_prior KL(stop(q) || p) + w_posterior KL(q || stop(p)).

    Its value is (w_prior + w_posterior) KL(q || p); the two weights say how hard the prior is pulled to the posterior
    and the posterior to the prior (Hafner et al. 2021, "Mastering Atari with discrete world models", Sec. 2.2).
    A stopped distribution is one whose every tensor is detached, so a distribution must hold tensors, not networks.
    """

    def __init__(self, prior_weight: float = 0.8, posterior_weight: float = 0.2) -> None:
        self.prior_weight, self.posterior_weight = prior_weight, posterior_weight

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        kl = KL()
        pull_prior = kl(detach(q), p, z.detach())
        pull_posterior = kl(q, detach(p), z)
        return self.prior_weight * pull_prior + self.posterior_weight * pull_posterior


class FreeBits(Divergence):
    """max(lambda, divergence): below lambda it is free, so that a latent variable is not given up early in training.

    Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow", App. C.8. Theirs is the
    maximum with a mean over the batch; ours is a study's own, since some have no report.

    Args:
        free_bits: lambda, in nats.
        per_dimension: lambda for each dimension, then summed (their form), or once for their sum.
        inner: the divergence; `KL` if None.
    """

    def __init__(self, free_bits: float = 0.05, per_dimension: bool = True, inner: Divergence | None = None) -> None:
        if free_bits < 0:
            raise UserError(f"FreeBits.free_bits: found {free_bits}, expected at least 0")
        self.free_bits, self.per_dimension, self.inner = free_bits, per_dimension, inner or KL()

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        if not self.per_dimension:
            return self.inner(q, p, z).clamp(min=self.free_bits)
        for family in (q, p):
            if not isinstance(family, Independent):
                raise UserError(
                    f"FreeBits: {_name(family)} has no divergence a dimension, since its dimensions depend on each "
                    "other; set per_dimension: false"
                )
        return self.inner(_base(q), _base(p), z).clamp(min=self.free_bits).sum(-1)


class JensenShannon(Divergence):
    """(1 - w) KL(q || m) + w KL(p || m), with m = (1 - w) q + w p: bounded, and defined wherever q and p lie.

    By Monte Carlo, for any two families (Lin 1991, "Divergence measures based on the Shannon entropy"). At most log 2
    for w = 1/2, and flat near that: where q and p lie far apart, as they soon do in many dimensions, it hardly pulls.

    Args:
        weight: w, the share of the prior.
    """

    def __init__(self, weight: float = 0.5) -> None:
        if not 0 < weight < 1:
            raise UserError(f"JensenShannon.weight: found {weight}, expected a share between 0 and 1")
        self.weight = weight

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        from_q, from_p = self._log_ratios(q, p, z)[0], self._log_ratios(q, p, _draws(p, len(z)))[1]
        return ((1 - self.weight) * from_q + self.weight * from_p).mean(0)

    def _log_ratios(self, q: Distribution, p: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
        """log q/m and log p/m at z, float [L, B]."""
        log_q, log_p = q.log_prob(z), p.log_prob(z)
        log_m = torch.logaddexp(log_q + math.log(1 - self.weight), log_p + math.log(self.weight))
        return log_q - log_m, log_p - log_m


class Renyi(Divergence):
    """D_alpha(q || p) = log E_q[(q / p)^(alpha - 1)] / (alpha - 1), which is KL(q || p) as alpha goes to 1.

    A smaller alpha forgives a posterior that is wider than the prior (Li & Turner 2016, "Renyi divergence variational
    inference", arXiv 1602.02311). Closed form for diagonal normals (Gil et al. 2013), else the logarithm of a mean
    over the draws, which is biased: with one draw it is the estimate of the KL.

    Args:
        alpha: in (0, 1).
    """

    def __init__(self, alpha: float = 0.5) -> None:
        if not 0 < alpha < 1:
            raise UserError(
                f"Renyi.alpha: found {alpha}, expected between 0 and 1; at 1 it is KL, and above it is infinite where "
                "the posterior is wider than the prior"
            )
        self.alpha = alpha

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        alpha, q_base, p_base = self.alpha, _base(q), _base(p)
        if isinstance(q_base, Normal) and isinstance(p_base, Normal):
            variance = alpha * p_base.variance + (1 - alpha) * q_base.variance
            log_scales = (1 - alpha) * q_base.scale.log() + alpha * p_base.scale.log() - variance.log() / 2
            squares = (q_base.loc - p_base.loc).square() / variance
            return sum_rightmost(alpha * squares / 2 + log_scales / (alpha - 1), len(q.event_shape))
        log_ratios = (alpha - 1) * (q.log_prob(z) - p.log_prob(z))
        return (log_ratios.logsumexp(0) - math.log(len(z))) / (alpha - 1)


class Wasserstein2(Divergence):
    """The squared 2-Wasserstein distance of diagonal normals, |loc_q - loc_p|^2 + |scale_q - scale_p|^2.

    Not in nats, so `kl_scale` means something else. Dowson & Landau 1982, "The Frechet distance between multivariate
    normal distributions".
    """

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B]."""
        q_base, p_base = _base(q), _base(p)
        for family, base in ((q, q_base), (p, p_base)):
            if not isinstance(base, Normal):
                raise UserError(
                    f"Wasserstein2: known for diagonal normals only, found {_name(family)}; take DiagonalNormal, or MMD"
                )
        squares = (q_base.loc - p_base.loc).square() + (q_base.scale - p_base.scale).square()
        return sum_rightmost(squares, len(q.event_shape))


class MMD(Divergence):
    """The squared maximum mean discrepancy, E k(z, z') + E k(w, w') - 2 E k(z, w), with z ~ q and w ~ p.

    Unbiased, so below 0 now and then (Gretton et al. 2012, "A kernel two-sample test", Lemma 6); not in nats. The
    kernel is the inverse multiquadratic c / (c + |z - w|^2), c = 2 D bandwidth^2, whose tails still pull from afar
    (Tolstikhin et al. 2018, "Wasserstein auto-encoders", arXiv 1711.01558).

    Args:
        over: "study" compares q(z | x_T) with p(z | x_I) of each study, from its own draws, of which it needs two.
            "batch" compares all studies' draws pooled, as a Wasserstein auto-encoder does, and gives each study its
            share, whose mean over studies is the batch's discrepancy. It asks for the same z on the whole, not for
            the same study; a study without a report is in the pool as well. By itself it distils nothing.
        bandwidth: the scale of z on which differences count.
    """

    def __init__(self, over: Literal["study", "batch"] = "study", bandwidth: float = 1.0) -> None:
        if over not in ("study", "batch"):
            raise UserError(f"MMD.over: found {over!r}, expected 'study' or 'batch'")
        if bandwidth <= 0:
            raise UserError(f"MMD.bandwidth: found {bandwidth}, expected more than 0")
        self.over, self.bandwidth = over, bandwidth

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """See `Divergence`: float [B], not in nats."""
        if not q.event_shape:
            raise UserError("MMD: compares whole vectors z, not one dimension; in FreeBits, set per_dimension: false")
        draws, studies = z.shape[:2]
        if draws * (studies if self.over == "batch" else 1) < 2:
            raise UserError("MMD: needs two draws of z to compare; set objective.num_auxiliary_particles to 2 or more")
        w = _draws(p, draws)
        with no_autocast(z):
            if self.over == "study":
                return self._shares(z.transpose(0, 1), w.transpose(0, 1)).mean(-1)
            return self._shares(z.flatten(0, 1), w.flatten(0, 1)).view(draws, studies).mean(0)

    def _shares(self, z: Tensor, w: Tensor) -> Tensor:
        """Each draw's share of the discrepancy, which is their mean; float [..., n, D], both -> [..., n]."""
        same = self._kernel(z, z) + self._kernel(w, w)
        cross = self._kernel(z, w)
        pairs = same - cross - cross.mT
        return (pairs.sum(-1) - pairs.diagonal(dim1=-2, dim2=-1)) / (pairs.shape[-1] - 1)

    def _kernel(self, z: Tensor, w: Tensor) -> Tensor:
        """k of every pair, float [..., n, D], both -> [..., n, n]."""
        c = 2 * z.shape[-1] * self.bandwidth**2
        squares = z.square().sum(-1).unsqueeze(-1) + w.square().sum(-1).unsqueeze(-2) - 2 * z @ w.mT
        return c / (c + squares.clamp(min=0))


def _base(distribution: Distribution) -> Distribution:
    """What independent dimensions follow, batch shape [B, D]; anything else as it is."""
    return distribution.base_dist if isinstance(distribution, Independent) else distribution


def _draws(p: Distribution, number: int) -> Tensor:
    """Reparametrised draws of p, float [number, B, D]."""
    return p.expand((number, *p.batch_shape)).rsample()


def _name(distribution: Distribution) -> str:
    return type(_base(distribution)).__name__
