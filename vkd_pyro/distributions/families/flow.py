"""Families of any shape: normalising flows."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import linear, silu, softplus

from vkd_pyro.distributions.base import Distribution, full_precision, no_autocast
from vkd_pyro.distributions.families.base import MIN_SCALE, MLP, NetworkFamily
from vkd_pyro.utils.errors import UserError

MAX_LOG_SCALE = 2.0


MEAN_DRAWS = 256


class Coupling:
    """One affine coupling: half of z stays, and says by how much the other half is scaled and shifted.

        z_kept -> z_kept;   z_moved -> z_moved exp(s) + t,   (s, t) = W_2 silu(W_1 z_kept + context) + b_2

    The inverse and the determinant's logarithm, sum s, cost as much as the map itself (Dinh et al. 2017, "Density
    estimation using Real NVP", arXiv 1605.08803). |s| <= 2, or a stack of them overflows early in training. It holds
    tensors alone, and no dropout: the density must be the same function for each sample.

    Args:
        kept: 1 for the dimensions that stay, 0 for those that move, float [D].
        context: what the features say, float [B, width].
        weight_in, weight_out, bias_out: W_1 [width, D], W_2 [2 D, width], b_2 [2 D].
    """

    def __init__(self, kept: Tensor, context: Tensor, weight_in: Tensor, weight_out: Tensor, bias_out: Tensor) -> None:
        self.kept, self.context = kept, context
        self.weight_in, self.weight_out, self.bias_out = weight_in, weight_out, bias_out

    def forward(self, z: Tensor) -> Tensor:
        """Args: float [..., B, D]. Returns: the same shape."""
        log_scale, shift = self._log_scale_and_shift(z)
        return z * log_scale.exp() + shift

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Args: float [..., B, D]. Returns: what `forward` made z of, and the determinant's logarithm, [..., B]."""
        log_scale, shift = self._log_scale_and_shift(z)
        return (z - shift) * (-log_scale).exp(), log_scale.sum(-1)

    def _log_scale_and_shift(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Both zero in the dimensions that stay, of which alone they are functions."""
        hidden = silu(linear(self.kept * z, self.weight_in) + self.context)
        raw, shift = linear(hidden, self.weight_out, self.bias_out).chunk(2, dim=-1)
        moved = 1 - self.kept
        return moved * MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE), moved * shift


class CouplingFlow(TorchDistribution):
    """z = c_T(... c_1(e)), e ~ base;  log q(z) = log base(e) - sum_t log |det dc_t|.

    The batch shape is the base's: each study has its own, and `expand` repeats the base alone.

    Args:
        base: batch shape [..., B], event shape [D].
        couplings: c_1 to c_T.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, couplings: Sequence[Coupling], validate_args: bool | None = None) -> None:
        self.base, self.couplings = base, tuple(couplings)
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CouplingFlow":
        """The same flow with another batch shape, whose last axis stays B; nothing is copied."""
        return CouplingFlow(self.base.expand(batch_shape), self.couplings, validate_args=False)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - as torch.distributions has it
        """Reparametrised samples, float [*sample_shape, ..., B, D]."""
        return self._push(self.base.rsample(Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Args: float [..., B, D]. Returns: float [..., B]."""
        z, log_det = value, value.new_zeros(value.shape[:-1])
        with no_autocast(value):
            for coupling in reversed(self.couplings):
                z, log_scale = coupling.inverse(z)
                log_det = log_det + log_scale
        return self.base.log_prob(z) - log_det

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
        noise = torch.randn(MEAN_DRAWS // 2, *self.event_shape, generator=torch.Generator().manual_seed(0))
        loc, scale = self.base.mean, self.base.variance.sqrt()
        noise = torch.cat([noise, -noise]).to(loc)
        return self._push(loc + scale * noise.reshape(MEAN_DRAWS, *[1] * len(self.batch_shape), -1))

    def _push(self, z: Tensor) -> Tensor:
        with no_autocast(z):
            for coupling in self.couplings:
                z = coupling.forward(z)
        return z


class Flow(NetworkFamily):
    """z = c_T(... c_1(e)), e ~ Normal(loc(features), scale(features)): a diagonal normal, bent by affine couplings.

    The couplings see the features as well. Even and odd dimensions move in turn, so with latent_dim 1 there is nothing
    for them to look at but the features. Sampling and density each cost T small networks; `mean` is an estimate.

    Args:
        in_features: width of the features.
        latent_dim: D.
        mlp: settings of the network of the features; the couplings have no dropout.
        num_couplings: T.
        coupling_width: of the hidden layer of a coupling.
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        mlp: MLP = MLP(),
        num_couplings: int = 4,
        coupling_width: int = 128,
    ) -> None:
        super().__init__(in_features, latent_dim, mlp)
        if num_couplings < 1:
            raise UserError(f"Flow.num_couplings: found {num_couplings}, expected at least 1; without, DiagonalNormal")
        self.num_couplings, self.coupling_width = num_couplings, coupling_width
        self.loc_and_scale = nn.Linear(mlp.out_features, 2 * latent_dim)
        self.contexts = nn.ModuleList(nn.Linear(mlp.out_features, coupling_width) for _ in range(num_couplings))
        self.inputs = nn.ModuleList(nn.Linear(latent_dim, coupling_width, bias=False) for _ in range(num_couplings))
        self.outputs = nn.ModuleList(nn.Linear(coupling_width, 2 * latent_dim) for _ in range(num_couplings))

    def forward(self, features: Tensor) -> Distribution:
        """Args: float [B, in_features]. Returns: a flow, batch shape [B], event shape [latent_dim]."""
        hidden = self.network(features)
        loc, raw_scale = full_precision(self.loc_and_scale(hidden)).chunk(2, dim=-1)
        base = dist.Normal(loc, softplus(raw_scale) + MIN_SCALE).to_event(1)
        odd = torch.arange(self.latent_dim, device=loc.device) % 2
        layers = zip(self.contexts, self.inputs, self.outputs, strict=True)
        couplings = [
            Coupling((odd + t) % 2, *map(full_precision, (context(hidden), inner.weight, outer.weight, outer.bias)))
            for t, (context, inner, outer) in enumerate(layers)
        ]
        return CouplingFlow(base, couplings)
