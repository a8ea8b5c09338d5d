"""Distributions over z and over labels, each a network from features to a Pyro distribution; divergences."""

from vkd_pyro.distributions.base import MIN_SCALE, Distribution, Family, NetworkFamily, mlp
from vkd_pyro.distributions.correlated import LowRankProbit, LowRankProbitLikelihood
from vkd_pyro.distributions.divergences import (
    KL,
    MMD,
    BalancedKL,
    Divergence,
    FreeBits,
    JensenShannon,
    Renyi,
    ReverseKL,
    Wasserstein2,
)
from vkd_pyro.distributions.draws import common_draws, draw, noise_of_places, seeded
from vkd_pyro.distributions.families import (
    DiagonalNormal,
    FullNormal,
    Laplace,
    LowRankNormal,
    StandardNormal,
    StudentT,
    product,
)
from vkd_pyro.distributions.flows import Flow
from vkd_pyro.distributions.imbalance import FocalBernoulliLikelihood, WeightedBernoulliLikelihood
from vkd_pyro.distributions.likelihoods import BernoulliLikelihood, Likelihood, NetworkLikelihood, SoftBernoulli
from vkd_pyro.distributions.mixtures import NormalMixture, VampPrior
from vkd_pyro.distributions.outcomes import CategoricalLikelihood, ThreeOutcomeLikelihood

__all__ = [
    "KL",
    "MIN_SCALE",
    "MMD",
    "BalancedKL",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "DiagonalNormal",
    "Distribution",
    "Divergence",
    "Family",
    "Flow",
    "FocalBernoulliLikelihood",
    "FreeBits",
    "FullNormal",
    "JensenShannon",
    "Laplace",
    "Likelihood",
    "LowRankNormal",
    "LowRankProbit",
    "LowRankProbitLikelihood",
    "NetworkFamily",
    "NetworkLikelihood",
    "NormalMixture",
    "Renyi",
    "ReverseKL",
    "SoftBernoulli",
    "StandardNormal",
    "StudentT",
    "ThreeOutcomeLikelihood",
    "VampPrior",
    "Wasserstein2",
    "WeightedBernoulliLikelihood",
    "common_draws",
    "draw",
    "mlp",
    "noise_of_places",
    "product",
    "seeded",
]
