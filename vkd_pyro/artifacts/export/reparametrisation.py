"""z as a function of noise, for the families where it is one: what a graph without a random generator can draw.

================  ====================================  =======================================
family            z                                     noise
================  ====================================  =======================================
`DiagonalNormal`  loc + scale e                         e normal [D]
`LowRankNormal`   loc + W e_1 + scale e_2               e_1 normal [r], e_2 normal [D]
`Laplace`         loc - scale sign(e) log(1 - |e|)      e uniform in (-1, 1) [D]
================  ====================================  =======================================

A mixture chooses a component, and Student's t rejects: of those z is no such function. `FullNormal` and flows have
steps that OpenVINO does not know (a matrix filled by index; a mean from draws of its own).
"""

import torch
from pyro.distributions import LowRankMultivariateNormal
from torch import Tensor
from torch.distributions import Laplace

from vkd_pyro.artifacts.export.noise import Part
from vkd_pyro.distributions import DiagonalNormal, Distribution, Family, LowRankNormal
from vkd_pyro.distributions import Laplace as LaplaceFamily
from vkd_pyro.utils.errors import UserError


def parts_of(prior: Family) -> tuple[Part, ...]:
    """What noise z is made of, in the order in which it is drawn.

    Raises:
        UserError: a prior whose z is no function of such noise, or none that a graph can hold.
    """
    match prior:
        case DiagonalNormal():
            return (Part("normal", prior.latent_dim),)
        case LowRankNormal():
            return Part("normal", prior.rank), Part("normal", prior.latent_dim)
        case LaplaceFamily():
            return (Part("uniform", prior.latent_dim),)
    raise UserError(
        f"export: found the prior {type(prior).__name__}, of which no graph can draw; expected DiagonalNormal, "
        "LowRankNormal or Laplace; predict with the bundle itself"
    )


def from_noise(z: Distribution, noise: Tensor) -> Tensor:
    """z of its noise. Args: p(z | x_I) of one of these families, batch shape [B]; float [S, E]. Returns: [S, B, D]."""
    e = noise.unsqueeze(1)
    if isinstance(z, LowRankMultivariateNormal):
        shared, own = e.split([z.cov_factor.shape[-1], z.event_shape[-1]], dim=-1)
        factor, scale = z.cov_factor.to(e.dtype), z.cov_diag.sqrt().to(e.dtype)  # they are in float64
        return z.loc.to(e.dtype) + (factor @ shared.unsqueeze(-1)).squeeze(-1) + scale * own
    loc, scale = z.base_dist.loc, z.base_dist.scale
    return loc - scale * e.sign() * torch.log1p(-e.abs()) if isinstance(z.base_dist, Laplace) else loc + scale * e
