"""What a training would do: its objective, its schedule, and what it trains, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import nn

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import Distribution, Divergence
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.check.inspection import Part
from vkd_pyro.training.check.sites import in_one_line, name_of, variables
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError


@dataclass(frozen=True)
class Plan:
    """A training as it would be; `schedule` is None where no report is used."""

    method: Method
    schedule: BetaSchedule | None
    steps: int
    training: Training

    @cached_property
    def betas(self) -> list[float]:
        """beta of each step; 1 where no schedule is followed."""
        total = self.steps * self.training.max_epochs
        return [self.schedule(step, self.steps) for step in range(1, total + 1)] if self.schedule else [1.0]

    @property
    def objective(self) -> TraceVKD_ELBO | None:
        """The ELBO of a method whose objective is one."""
        found = getattr(self.method, "objective", None)
        return found if isinstance(found, TraceVKD_ELBO) else None

    def term_lines(self) -> list[str]:
        """The objective in words, but for its divergence."""
        objective, reads = self.objective, self.method.report_encoder is not None
        if objective is None:
            settings = _settings(self.method)
            return [f"method        {type(self.method).__name__}{f': {settings}' if settings else ''}"]
        alpha, mean = objective.posterior_share, ", the log of their mean" if objective.log_mean_exp else ""
        source = {0.0: "the prior p(z | x_I)", 1.0: "the posterior q(z | x_T), or the prior without a report"}
        where = source.get(alpha, f"both: {alpha:g} of the posterior, {1 - alpha:g} of the prior")
        lines = [f"likelihood    E log p(y | x_I, z), {_draws(objective.num_particles)} of z from {where}{mean}"]
        if reads:
            lines.append(
                f"auxiliary     E log q(y | z), {_draws(objective.num_auxiliary_particles)} of z from the posterior "
                f"q(z | x_T), weight {objective.auxiliary_weight:g}"
            )
        if self.method.report_likelihood is not None:
            lines.append(self._report_line(objective))
        if reads and objective.unknown_labels == "from_report":
            lines.append("labels        those unknown as q(y | x_T) expects them, where there is a report")
        return lines

    def _report_line(self, objective: TraceVKD_ELBO) -> str:
        weight, share, log_mean_exp = objective.how("report")
        same = (share, log_mean_exp) == objective.how("y")[1:]
        where = "the prior" if not share else "the posterior" if share == 1 else f"both, {share:g} of the posterior"
        jointly = " jointly with the labels" if same and log_mean_exp and (objective.joint or share) else ""
        mean = f", the log of their mean{jointly}" if log_mean_exp else ""
        draws = _draws(objective.num_particles)
        return f"report        E log p(x_T | z), {draws} of z from {where}{mean}, weight {weight:g}"

    def schedule_lines(self) -> list[str]:
        """beta, steps and optimiser."""
        lines, epochs = [], self.training.max_epochs
        if self.schedule:
            low, high, mean = min(self.betas), max(self.betas), sum(self.betas) / len(self.betas)
            course = f"{high:.2f}" if low == high else f"from {low:.2f} to {high:.2f}, on average {mean:.2f}"
            scale = f", times kl_scale {self.objective.kl_scale:g}" if self.objective else ""
            lines.append(f"beta          {type(self.schedule).__name__}: {course}{scale}")
        lines.append(f"steps         {self.steps:,} an epoch (T), at most {epochs:,} epochs")
        optimizer = self.training.optimizer([p for p in self.method.parameters() if p.requires_grad])
        rate = optimizer.param_groups[0]["lr"]
        schedule = self.training.learning_rate_schedule
        return [*lines, f"optimiser     {type(optimizer).__name__}, learning rate {rate:g}, {schedule}"]

    def divergence_lines(self, model: Any, guide: Any) -> list[str]:
        """How q is kept to p, for each latent variable of the guide."""
        objective, priors = self.objective, variables(model, observed=False)
        if objective is None:
            return []
        lines = []
        for name, site in variables(guide, observed=False).items():
            q, p = site["fn"], priors[name]["fn"]
            if objective.importance_weighted:
                how = "within the likelihood's log of a mean, by importance weights p / q"
            elif _in_closed_form(objective.divergence, q, p, objective.num_auxiliary_particles):
                how = "in closed form"
            else:
                how = f"by Monte Carlo, {_draws(objective.num_auxiliary_particles)}"
            kind = type(objective.divergence).__name__
            lines.append(f"divergence    {kind} of {name}, {name_of(q)} from {name_of(p)}: {how}; weight beta")
        return lines

    def step(self, batch: Batch) -> tuple[dict[str, float], set[int]]:
        """The terms at the largest beta; and the ids of the parameters that get a gradient, there or at the smallest.

        Raises:
            UserError: the objective refuses what model and guide are, or is not a number.
        """
        reached: set[int] = set()
        for beta in sorted({min(self.betas), max(self.betas)}):
            self.method.zero_grad()
            with in_one_line("the objective cannot be computed"):
                terms = self.method.terms(batch, beta)
            if not terms.loss.isfinite():
                raise UserError(f"the loss of the first batch is {terms.loss.item()}, at beta {beta:g}")
            terms.loss.backward()
            reached |= {id(p) for p in self.method.parameters() if p.grad is not None and p.grad.any()}
        return {name.replace("_", "-"): value.item() for name, value in terms.means().items()}, reached


def _in_closed_form(divergence: Divergence, q: Distribution, p: Distribution, draws: int) -> bool:
    """Whether its value is the same for other draws; of one that is clamped, its inner one's."""
    divergence = getattr(divergence, "inner", divergence)
    one, other = (divergence(q, p, q.expand((draws, *q.batch_shape)).sample()) for _ in range(2))
    return torch.equal(one, other)


def _draws(number: int) -> str:
    return f"{number} draw{'s' if number > 1 else ''}"


def _settings(method: Method) -> str:
    """The arguments of a method that are numbers or words, as it keeps them."""
    kept = {name: getattr(method, name, None) for name in signature(type(method)).parameters}
    return ", ".join(f"{name} {value}" for name, value in kept.items() if isinstance(value, bool | int | float | str))


def _children(network: nn.Module | None) -> Iterator[tuple[str, nn.Module]]:
    return iter(()) if network is None else network.named_children()


def parts_of(plan: Plan, reached: set[int], has_report: bool) -> tuple[Part, ...]:
    """Of model and guide, in their order; what both hold is counted where it comes first."""
    parts, seen = [], set()
    for side in ("model", "guide"):
        for name, module in _children(getattr(plan.method, side)):
            own = {key: p for key, p in module.named_parameters() if id(p) not in seen}
            seen |= {id(p) for p in own.values()}
            frozen_model = [p for frozen in getattr(module, "_frozen", ()) for p in frozen.parameters()]
            trainable = {key: p for key, p in own.items() if p.requires_grad}
            untrained = tuple(key for key, p in trainable.items() if id(p) not in reached)
            parts.append(
                Part(
                    name=name.replace("_", " "),
                    kind=type(module).__name__,
                    trainable=sum(p.numel() for p in trainable.values()),
                    frozen=sum(p.numel() for p in [*own.values(), *frozen_model] if not p.requires_grad),
                    untrained=untrained,
                    trains=len(untrained) < len(trainable),
                    reason=_reason(plan, side, name, has_report, untrained) if untrained else "",
                    note=f"frozen: {module.language_model}" if frozen_model else "",
                )
            )
    return tuple(parts)


def _reason(plan: Plan, side: str, part: str, has_report: bool, untrained: tuple[str, ...]) -> str:
    """Why parameters of a part get no gradient."""
    if all(".lora_A." in name for name in untrained):
        return "B of LoRA begins as 0, so A has a gradient from the second step on"
    if side == "guide" and not has_report:
        return "no study of this batch has a report"
    if part == "auxiliary" and plan.objective and plan.objective.auxiliary_weight == 0:
        return "method.objective.auxiliary_weight is 0"
    if part in ("prior", "posterior", "report_encoder") and plan.objective and plan.objective.kl_scale == 0:
        return "method.objective.kl_scale is 0, and nothing else trains it"
    return "the objective does not reach it on this batch"
