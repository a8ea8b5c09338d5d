"""Likelihoods of y given z and the image's features or not. To add one: a file like `bernoulli.py`.

=============================  ==========================================================  ====================
likelihood                     labels given z                                              also takes
=============================  ==========================================================  ====================
`BernoulliLikelihood`          present or absent, independent                              soft targets
`WeightedBernoulliLikelihood`  the same, a positive label counts several times             soft targets
`FocalBernoulliLikelihood`     the same, labels that are right already count less          soft targets
`LowRankProbitLikelihood`      present or absent, dependent: they share causes
`ThreeOutcomeLikelihood`       present, absent or uncertain, independent                   uncertain labels
`CategoricalLikelihood`        exactly one finding is present
=============================  ==========================================================  ====================
"""

from vkd_pyro.distributions.likelihoods.base import Head, Likelihood, NetworkLikelihood
from vkd_pyro.distributions.likelihoods.bernoulli import BernoulliLikelihood, SoftBernoulli
from vkd_pyro.distributions.likelihoods.categorical import CategoricalLikelihood
from vkd_pyro.distributions.likelihoods.focal_bernoulli import FocalBernoulliLikelihood
from vkd_pyro.distributions.likelihoods.low_rank_probit import LowRankProbit, LowRankProbitLikelihood
from vkd_pyro.distributions.likelihoods.three_outcome import ThreeOutcomeLikelihood
from vkd_pyro.distributions.likelihoods.weighted_bernoulli import WeightedBernoulliLikelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "FocalBernoulliLikelihood",
    "Head",
    "Likelihood",
    "LowRankProbit",
    "LowRankProbitLikelihood",
    "NetworkLikelihood",
    "SoftBernoulli",
    "ThreeOutcomeLikelihood",
    "WeightedBernoulliLikelihood",
]
