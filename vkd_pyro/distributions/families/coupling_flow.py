"""Coupling flows: zuko's, as a distribution that has moments and that autocast leaves alone."""

from typing import Any

import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions.util import validation_enabled
from torch import Size, Tensor, nn
from torch.distributions import constraints

from vkd_pyro.distributions.base import no_autocast

with validation_enabled():  # importing zuko turns it off in the whole process: NaN would no longer be refused
    import zuko

MEAN_DRAWS, DRAWS_AT_ONCE = 256, 32


class Couplings(zuko.flows.Flow):
    """z = loc + scale c_1(... c_T(e)), e ~ Normal(0, 1), everything given a context.

    A coupling c_t leaves every other dimension as it is, and these say, by a network of one hidden layer that also sees
    the context, how each dimension between them is mapped; even and odd dimensions move in turn. loc and log scale are
    linear in the context.

    Args:
        latent_dim: D.
        context_dim: width of the context.
        num_couplings: T.
        coupling_width: of the hidden layer of a coupling. It has no dropout: the density must be one function.
        univariate: how a dimension is mapped, as of `zuko.flows.coupling.GeneralCouplingTransform`; affine by default.
    """

    def __init__(
        self, latent_dim: int, context_dim: int, num_couplings: int, coupling_width: int, **univariate: Any
    ) -> None:
        layers = {"hidden_features": (coupling_width,), "activation": nn.SiLU}
        nice = zuko.flows.NICE(latent_dim, context_dim, num_couplings, **layers, **univariate)
        affine = zuko.flows.gaussianization.ElementWiseTransform(latent_dim, context_dim, hidden_features=())
        super().__init__([affine.inv, *nice.transform.transforms], nice.base)

    def forward(self, context: Tensor) -> "CouplingFlow":
        """Args: float [B, context_dim]. Returns: batch shape [B], event shape [latent_dim]."""
        base = self.base(context).expand(context.shape[:-1])
        return CouplingFlow(_NormalizingFlow(self.transform(context), base))


class _NormalizingFlow(zuko.distributions.NormalizingFlow):
    """zuko's, which lacks what torch asks for where arguments are validated."""

    arg_constraints: dict[str, constraints.Constraint] = {}


class CouplingFlow(ZukoToPyro):
    """A flow given features: log q(z) = log Normal(e; 0, 1) + log |det de/dz|, exact; draws have gradients.

    The batch shape is that of the base, one normal a study, and `expand` repeats the base alone.

    Args:
        dist: zuko's flow, batch shape [..., B], event shape [D].
    """

    dist: zuko.distributions.NormalizingFlow
    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector

    def __call__(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """Samples; Pyro's own keeps their log-probability, without its gradient where they were drawn without."""
        return self.rsample(sample_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CouplingFlow":
        """The same flow with another batch shape, whose last axis stays B; nothing is copied."""
        return CouplingFlow(self.dist.expand(Size(batch_shape)))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Reparametrised samples, float [*sample_shape, ..., B, D]."""
        with no_autocast(self.dist.base.mean):
            return self.dist.rsample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Args: float [..., B, D]. Returns: float [..., B]."""
        with no_autocast(value):
            return self.dist.log_prob(value)

    @property
    def mean(self) -> Tensor:
        """A Monte Carlo estimate, from 256 draws that are the same each time (there is no closed form)."""
        return self._fixed_draws().mean(0)

    @property
    def variance(self) -> Tensor:
        """A Monte Carlo estimate, as `mean` is."""
        return self._fixed_draws().var(0)

    def _fixed_draws(self) -> Tensor:
        """Samples whose noise is antithetic, from a seed of its own: no other draw is changed by them."""
        half = torch.randn(MEAN_DRAWS // 2, *self.event_shape, generator=torch.Generator().manual_seed(0))
        noise = torch.cat([half, -half]).to(self.dist.base.mean)
        rows = noise.view(MEAN_DRAWS, *[1] * len(self.batch_shape), -1).expand(-1, *self.batch_shape, -1)
        with no_autocast(rows):
            return torch.cat([self.dist.transform.inv(some) for some in rows.split(DRAWS_AT_ONCE)])
