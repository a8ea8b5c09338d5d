"""A divergence that costs nothing while it is small."""

from torch import Tensor
from torch.distributions import Independent

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences.base import Divergence, base_of, name_of
from vkd_pyro.distributions.divergences.kl import KL
from vkd_pyro.utils.errors import UserError, check_number


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
        check_number("FreeBits.free_bits", free_bits)
        self.free_bits, self.per_dimension, self.inner = free_bits, per_dimension, inner or KL()

    def of_batch(self, q: Distribution, p: Distribution, z: Tensor, counted: Tensor) -> Tensor:
        """As the inner divergence sees a batch, float [B]."""
        if self.per_dimension:
            return self(q, p, z)
        return self.inner.of_batch(q, p, z, counted).clamp(min=self.free_bits)

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Nats of each study, float [B]."""
        if not self.per_dimension:
            return self.inner(q, p, z).clamp(min=self.free_bits)
        for family in (q, p):
            if not isinstance(family, Independent):
                raise UserError(
                    f"FreeBits: {name_of(family)} has no divergence a dimension, since its dimensions depend on each "
                    "other; set per_dimension: false"
                )
        return self.inner(base_of(q), base_of(p), z).clamp(min=self.free_bits).sum(-1)
