"""What to try where reports or z are ignored: the known cures that a method does not have already."""

from typing import Any

from vkd_pyro.distributions import KL
from vkd_pyro.elbo import TraceVKD_ELBO

FEWEST_EPOCHS = 3
"""Before so many are done, nothing is judged: z is not used in the first steps of any training."""


def cures(method: Any) -> list[str]:
    """Settings that make z, or reports, be used (docs/method.md), in the order of what they were worth on Open-I."""
    objective = getattr(method, "objective", None)
    if not isinstance(objective, TraceVKD_ELBO) or getattr(method, "guide", None) is None:
        return []
    residual = getattr(getattr(method.model.likelihood, "head", None), "residual", False)
    known = {
        "method.report_likelihood WordPresence": method.report_likelihood is None,
        "method.tied true": not getattr(method, "tied", True),
        "method.objective.log_mean_exp true with num_particles 4": not objective.log_mean_exp,
        "method.likelihood_inputs z, or method.likelihood.init_args.head.residual true": (
            getattr(method, "likelihood_inputs", "z") == "image+z" and not residual
        ),
        "method.objective.divergence BalancedKL": type(objective.divergence) is KL and objective.kl_scale > 0.1,
    }
    return [name for name, missing in known.items() if missing]
