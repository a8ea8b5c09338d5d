"""Whether model and guide go together: found from a few studies, before the first step of a training."""

from dataclasses import replace
from typing import Any

import torch
from pyro import poutine

from vkd_pyro.data.batch import Batch, collate
from vkd_pyro.data.loading.dataset import StudyDataset
from vkd_pyro.distributions import seeded
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.methods.base import Method
from vkd_pyro.training.check.sites import in_one_line, mismatches, trace_of, variables
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.modes import in_eval_mode

FEW = 4
"""So many images are looked at."""


def check_programs(method: Method, dataset: StudyDataset, device: torch.device) -> None:
    """Raises `UserError` where model and guide cannot be run, do not go together, or count labels that are not known.

    Neither weights, nor running averages, nor the global generators change.
    """
    batch = few(dataset).to(device)
    latent_dim = getattr(method, "latent_dim", 0)
    with seeded(0, device), in_eval_mode(method.to(device)):
        model, guide = trace_of("model", method.model, batch, latent_dim), None
        if method.guide is not None and isinstance(getattr(method, "objective", None), TraceVKD_ELBO):
            guide = trace_of("guide", method.guide, batch, latent_dim)
        if problems := mismatches(model, guide):
            raise UserError("; ".join(problems))
        for name, program, trace in (("model", method.model, model), ("guide", method.guide, guide)):
            if trace is not None:
                check_unknown(name, program, trace, batch)


def check_unknown(name: str, program: Any, trace: Any, batch: Batch) -> None:
    """Raises `UserError` where a label that is not known changes a log-probability.

    Args: "model" or "guide"; the program; its trace on the batch; the batch.
    """
    known = batch.known.clone()
    known[:, 0] = False
    z = {site: node["value"] for site, node in variables(trace, observed=False).items()}
    found = []
    for other in (0.0, 1.0):
        changed = replace(batch, labels=batch.labels.masked_fill(~known, other), known=known)
        with in_one_line(f"the {name} cannot be run"), torch.no_grad():
            run = poutine.trace(poutine.condition(program, data=z)).get_trace(changed)
            run.compute_log_prob()
        found.append({site: node["log_prob"] for site, node in variables(run, observed=True).items() if site not in z})
    for site, log_prob in found[0].items():
        if not torch.equal(log_prob, found[1][site]):
            raise UserError(
                f"{site}: its log-probability depends on labels that are not known; a likelihood masks them, as by "
                "Bernoulli(logits=...).mask(known).to_event(1)"
            )


def few(dataset: StudyDataset) -> Batch:
    """The first images, not augmented, one with a report among them if there is any."""
    rows = list(range(min(FEW, len(dataset))))
    reported = (row for row, (study, _) in enumerate(dataset.rows) if dataset.has_report[study])
    if dataset.reports is not None and (first := next(reported, None)) is not None and first not in rows:
        rows[-1] = first
    return collate([dataset[-1, row] for row in rows])
