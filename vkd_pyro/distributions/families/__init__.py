"""Families of z, each a network from features to a Pyro distribution. To add one: a file like `diagonal_normal.py`.

=================  =======================================  =====================================================
family             z given the features                     parameters a dimension, beside the network
=================  =======================================  =====================================================
`DiagonalNormal`   Normal, independent dimensions           2
`LowRankNormal`    Normal, covariance of rank r + diagonal  2 + r
`FullNormal`       Normal, any covariance (D <= 64)         1 + (D + 1) / 2
`Laplace`          Laplace, independent dimensions          2
`StudentT`         Student's t, independent dimensions      2, or 3 with learned degrees of freedom
`NormalMixture`    K modes, each a diagonal normal          2 K
`Flow`             a diagonal normal, bent by couplings     2, and the couplings
`SplineFlow`       the same, bent by splines                2, and the couplings
`StandardNormal`   Normal(0, 1), whatever the features      0; for a prior
`VampPrior`        C modes, whatever the features           0, and C pseudo-features; for a prior
=================  =======================================  =====================================================
"""

from vkd_pyro.distributions.families.base import MLP, Family, NetworkFamily
from vkd_pyro.distributions.families.diagonal_normal import DiagonalNormal
from vkd_pyro.distributions.families.flow import Flow
from vkd_pyro.distributions.families.full_normal import FullNormal
from vkd_pyro.distributions.families.laplace import Laplace
from vkd_pyro.distributions.families.low_rank_normal import LowRankNormal
from vkd_pyro.distributions.families.normal_mixture import NormalMixture
from vkd_pyro.distributions.families.spline_flow import SplineFlow
from vkd_pyro.distributions.families.standard_normal import StandardNormal
from vkd_pyro.distributions.families.student_t import StudentT
from vkd_pyro.distributions.families.vamp_prior import VampPrior

__all__ = [
    "MLP",
    "DiagonalNormal",
    "Family",
    "Flow",
    "FullNormal",
    "Laplace",
    "LowRankNormal",
    "NetworkFamily",
    "NormalMixture",
    "SplineFlow",
    "StandardNormal",
    "StudentT",
    "VampPrior",
]
