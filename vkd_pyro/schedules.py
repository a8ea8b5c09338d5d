"""Schedules of beta, the weight of what draws image and report together; of VKD's KL: paper Eq. 9."""

import abc
import math
import warnings
from typing import Literal

from vkd_pyro.utils.errors import UserError, check_count, check_number


class BetaSchedule(abc.ABC):
    """beta as a pure function of the step."""

    @abc.abstractmethod
    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """beta in [0, 1].

        Args:
            step: t, optimiser steps done + 1; counted over the whole training, never reset.
            steps_per_epoch: T, optimiser steps an epoch, after accumulation and over all devices.
        """

    def validate(self, steps_per_epoch: int) -> None:  # noqa: B027 - most schedules can do with any T
        """Raises `UserError` where beta could never leave 0 with this T; warns where cycles are very short."""


RAMPS = {
    "linear": lambda u: u,
    "cosine": lambda u: (1 - math.cos(math.pi * u)) / 2,
    "sigmoid": lambda u: (math.tanh(6 * (u - 0.5)) / math.tanh(3) + 1) / 2,  # a sigmoid of 12 (u - 1/2), rescaled
}
"""g(u) for u in [0, 1], each from 0 to 1."""


Ramp = Literal["linear", "cosine", "sigmoid"]


class Constant(BetaSchedule):
    """beta = value."""

    def __init__(self, value: float = 1.0) -> None:
        check_number("beta_schedule.value", value)
        self.value = value

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """`value` at every step."""
        return self.value


class Monotonic(BetaSchedule):
    """beta rises once, from 0 to 1, over the first `epochs` epochs."""

    def __init__(self, epochs: float = 1.0, ramp: Ramp = "linear") -> None:
        check_number("beta_schedule.epochs", epochs, above=0)
        self.epochs, self.ramp = epochs, ramp

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """beta of a step: g of the share of the rise that is done."""
        return RAMPS[self.ramp](min(1.0, (step - 1) / (self.epochs * steps_per_epoch)))


class Switch(BetaSchedule):
    """beta = before for the first `epochs` epochs, then after: from 0 to 1, the report's branch learns first."""

    def __init__(self, epochs: float = 5.0, before: float = 0.0, after: float = 1.0) -> None:
        check_number("beta_schedule.epochs", epochs, above=0)
        check_number("beta_schedule.before", before)
        check_number("beta_schedule.after", after)
        self.epochs, self.before, self.after = epochs, before, after

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """`before` for the first epochs, then `after`."""
        return self.before if step - 1 < self.epochs * steps_per_epoch else self.after


class Cyclical(BetaSchedule):
    """Cyclical annealing (paper Eq. 9; Fu et al. 2019).

        tau = mod(t - 1, ceil(T / C)) / (T / C);   beta = g(tau / R) for tau <= R, else 1

    Args:
        cycles: C, cycles an epoch.
        rising: R, the part of a cycle in which beta rises.
        ramp: g.
    """

    def __init__(self, cycles: int = 4, rising: float = 0.5, ramp: Ramp = "linear") -> None:
        check_count("beta_schedule.cycles", cycles)
        if not 0 < rising <= 1:
            raise UserError(f"beta_schedule.rising: found {rising}, expected a share above 0, at most 1")
        self.cycles, self.rising, self.ramp = cycles, rising, ramp

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """beta of a step, by Eq. 9."""
        cycle = steps_per_epoch / self.cycles
        tau = ((step - 1) % math.ceil(cycle)) / cycle
        return RAMPS[self.ramp](tau / self.rising) if tau <= self.rising else 1.0

    def validate(self, steps_per_epoch: int) -> None:
        """Raises where T <= C, since beta would be 0 for ever; warns where T < 4 C."""
        if steps_per_epoch <= self.cycles:
            raise UserError(
                f"beta_schedule: {self.cycles} cycles in an epoch of {steps_per_epoch} steps would keep beta at 0; "
                "set beta_schedule.init_args.cycles lower, or data.loading.batch_size lower"
            )
        if steps_per_epoch < 4 * self.cycles:
            warnings.warn(
                f"beta_schedule: a cycle has only {steps_per_epoch / self.cycles:.1f} steps; "
                "beta takes few values. Consider fewer cycles.",
                stacklevel=2,
            )
