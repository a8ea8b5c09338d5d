"""The guide of a method among draws of its own program: `simulation_based_calibration` of q(z | x_T).

    x_I of the data,  z ~ p(z | x_I),  y ~ p(y | x_I, z),  x_T ~ p(x_T | z);   then z^(1..L) ~ q(z | x_T)

It wants a report likelihood whose draws the report encoder can read: `ReportEncoder.read_observed`.
"""

import math
from typing import Any, cast

import torch
from pyro import poutine
from torch import Tensor

from vkd_pyro.data.batch import Batch
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import KL, ReportLikelihood, seeded
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.evaluation.simulation import PosteriorCheck, simulation_based_calibration
from vkd_pyro.methods.base import Method
from vkd_pyro.model import Model
from vkd_pyro.schedules import BetaSchedule, Constant
from vkd_pyro.utils.errors import UserError

OTHERWISE = (
    "of any program and posterior, it can be done from Python: "
    "vkd_pyro.evaluation.simulation.simulation_based_calibration(simulate, posterior_draws)"
)

SEES_THE_REPORT_ALONE = (
    "q(z | x_T) sees neither image nor labels: ranks are uniform only where it is p(z | x_T), a mean over these "
    "images. The best q of the ELBO is the geometric mean of p(z | x_I, y, x_T), which is narrower as a rule."
)


def simulate(model: Model, features: Tensor) -> dict[str, Tensor]:
    """z, y and report, drawn under the program of a model with a report likelihood.

    Args: features of images, float [B, F]. Returns: "z", float [B, D]; "y", float [B, K]; "report", what is observed of
    each.
    """
    size = len(features)
    some, every = features.new_zeros(size, 1), torch.ones(size, dtype=torch.bool, device=features.device)
    nothing = Batch(features, some, every[:, None], every, some, every[:, None], ("",) * size, observed=some)
    with torch.no_grad():
        trace = poutine.trace(poutine.uncondition(model.program)).get_trace(features, nothing)
    return {name: cast(Tensor, trace.nodes[name]["value"]) for name in ("z", "y", "report")}


def check_guide(
    method: Method,
    features: Tensor,
    num_simulations: int = 500,
    num_draws: int = 99,
    seed: int = 0,
    beta_schedule: BetaSchedule | None = None,
) -> PosteriorCheck:
    """Ranks of z of the program among draws of the guide, each given a report that the program drew.

    Ranked are the dimensions of z and, where the report likelihood reads z alone, log p(x_T | z).

    Args:
        method: in eval mode afterwards.
        features: of images, float [B, F], of which each simulation takes one.
        num_simulations, num_draws: N and L of `simulation_based_calibration`.
        seed: of all that is drawn; the generators are left as they were.
        beta_schedule: that the method was trained with.

    Raises:
        UserError: there is no report likelihood, or the guide's encoder reads more of a report than that draws.
    """
    check_can_simulate(method)
    model, guide, likelihood = method.model, method.guide, cast(ReportLikelihood, method.report_likelihood)
    method.eval()

    def draw_program(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows = features[torch.randint(len(features), (number,), device=features.device)]
        drawn = simulate(cast(Model, model), rows)
        return drawn["z"].cpu(), drawn | {"features": rows}

    def draw_guide(data: dict[str, Tensor], number: int) -> Tensor:
        read = guide.report_encoder(*guide.report_encoder.read_observed(data["report"], likelihood))
        return guide.posterior(read).expand((number, len(read))).sample().cpu()

    def log_likelihood(z: Tensor, data: dict[str, Tensor]) -> Tensor:
        parts = [likelihood(one.to(data["z"])).log_prob(data["report"]) for one in (z if z.dim() > 2 else z[None])]
        return torch.stack(parts).cpu() if z.dim() > 2 else parts[0].cpu()

    quantities = {} if likelihood.features_dim else {"log p(x_T | z)": log_likelihood}
    with seeded(seed, features.device), torch.no_grad():
        return simulation_based_calibration(
            draw_program, draw_guide, num_simulations, num_draws, quantities, caveats_of(method, beta_schedule), seed
        )


def check_can_simulate(method: Method) -> None:
    """Raises `UserError` where the program draws no report that the guide could read, in one line that says why."""
    guide, likelihood = method.guide, method.report_likelihood
    name = type(method).__name__
    if not hasattr(guide, "posterior") or not isinstance(method.model, Model):
        raise UserError(f"sbc: {name} has no posterior q(z | x_T) to be checked; {OTHERWISE}")
    if likelihood is None:
        raise UserError(
            "sbc: method.report_likelihood: found None, so the program draws no report for the guide to read; give one "
            f"that its encoder can read, WordPresence for LatentSemanticEncoder; {OTHERWISE}"
        )
    guide.report_encoder.check_reads(likelihood)


def features_for(method: Method, data: StudyData, split: str, max_images: int) -> Tensor:
    """Features of at most about so many images of a split, spread over it, float [B, F]."""
    device = next(method.parameters()).device
    method.eval()
    with torch.random.fork_rng(devices=[]):  # a loader draws its own seed from the caller's generator
        loader = data.evaluation_loader(split, None, max_images)
        return torch.cat([method.model.encode(cast(Batch, batch).images.to(device)) for batch in loader])


def caveats_of(method: Method, beta_schedule: BetaSchedule | None = None) -> tuple[str, ...]:
    """Why the guide need not be the posterior of its program, a sentence each: what it sees, what it was trained for.

    It is trained to be one only by posterior samples, no auxiliary, beta = 1, and each site with weight 1.
    """
    objective: Any = getattr(method, "objective", None)
    if not isinstance(objective, TraceVKD_ELBO):
        return (SEES_THE_REPORT_ALONE, f"{type(method).__name__} is not trained by an ELBO.")
    named = [(name, *objective.how(name)[:2]) for name in ("y", "report")]
    beta = beta_schedule is None or (isinstance(beta_schedule, Constant) and beta_schedule.value == 1)
    departures = {
        f"z of {' and '.join(n for n, _, share in named if share < 1)} from the prior": any(
            share < 1 for _, _, share in named
        ),
        f"an auxiliary term of weight {objective.auxiliary_weight:g}": objective.auxiliary_weight > 0,
        f"a KL of weight {objective.kl_scale:g}": not math.isclose(objective.kl_scale, 1),
        f"beta by {type(beta_schedule).__name__}": not beta,
        f"{type(objective.divergence).__name__} for the KL": type(objective.divergence) is not KL,
        ", ".join(f"weight {w:g} of {n}" for n, w, _ in named if w != 1): any(w != 1 for _, w, _ in named),
        f"an anchor of weight {objective.anchor_weight:g}": objective.anchor_weight > 0,
        "unknown labels filled from the report": objective.unknown_labels != "ignored",
    }
    found = [name for name, there in departures.items() if there]
    if not found:
        return (SEES_THE_REPORT_ALONE,)
    return (
        SEES_THE_REPORT_ALONE,
        f"Its objective has {', '.join(found)}. q approximates the posterior only with posterior samples, no "
        "auxiliary, beta 1 and weight 1 of every site; this check says how far q is from it, not that something is "
        "broken.",
    )
