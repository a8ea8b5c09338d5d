"""The interface of a divergence, and what divergences ask of a distribution."""

import abc

from torch import Tensor
from torch.distributions import Independent

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.draws import repeated
from vkd_pyro.utils.errors import UserError


class Divergence(abc.ABC):
    """How far the posterior q(z | x_T) is from the prior p(z | x_I)."""

    @abc.abstractmethod
    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """Args: batch shape [B], event shape [D], both; samples z ~ q, float [L, B, D]. Returns: nats, float [B]."""

    def of_batch(self, q: Distribution, p: Distribution, z: Tensor, counted: Tensor) -> Tensor:
        """The same for a batch of which only some studies count, bool [B]; what compares studies leaves the others out.

        What is returned for those is not used.
        """
        return self(q, p, z)


def check_shape(divergence: Divergence, found: Tensor, studies: int) -> None:
    """Raises `UserError` where what it gave is not one value a study."""
    if found.shape != (studies,):
        raise UserError(
            f"objective.divergence: {type(divergence).__name__} gave shape {list(found.shape)}, expected [{studies}], "
            "one value a study"
        )


def base_of(distribution: Distribution) -> Distribution:
    """What independent dimensions follow, batch shape [B, D]; anything else as it is."""
    return distribution.base_dist if isinstance(distribution, Independent) else distribution


def draws_of(p: Distribution, number: int) -> Tensor:
    """Reparametrised draws of p, float [number, B, D]."""
    return repeated(p, number).rsample()


def name_of(distribution: Distribution) -> str:
    """The name of its class, for errors."""
    return type(base_of(distribution)).__name__
