"""The random variables of model and guide: what they are, and whether they go together."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import Distribution
from vkd_pyro.training.check.inspection import Site
from vkd_pyro.utils.errors import UserError, one_line

NAMES = {
    "SoftBernoulli": "Bernoulli",
    "ExactNormal": "Normal of full covariance",
    "ExactLowRankNormal": "Normal of low rank",
    "DiagonalNormalMixture": "mixture of Normals",
    "CouplingFlow": "flow",
    "TermPresence": "Bernoulli of terms",
    "TermCounts": "multinomial of terms",
    "Facts": "categorical facts",
}
"""Names of distributions, in place of their classes'."""


UNITS = {"report": "outcomes"}
"""What an observed site has several of, where it is no findings."""

SUPPORTS = {
    "Real()": "all numbers",
    "GreaterThan(lower_bound=0.0)": "positive numbers",
    "Interval(lower_bound=0.0, upper_bound=1.0)": "numbers between 0 and 1",
}


def trace_of(name: str, program: PyroModule, batch: Batch, latent_dim: int) -> Any:
    """One run of a program, with the log-probability of each site."""
    tracer = poutine.trace(program)
    with in_one_line(f"the {name} cannot be run"), torch.no_grad():
        try:
            trace = tracer.get_trace(batch)
        except RuntimeError as error:
            for z, site in variables(tracer.trace, observed=False).items():
                if site["fn"].event_shape != (latent_dim,):
                    raise UserError(
                        f"the {name} cannot be run: {z}, {name_of(site['fn'])}, has event shape "
                        f"{list(site['fn'].event_shape)}, and method.latent_dim is {latent_dim}"
                    ) from error
            raise
        trace.compute_log_prob()
        return trace


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Runs programs apart from Pyro's global store; whatever a part raises becomes a `UserError`."""
    try:
        with pyro.get_param_store().scope(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*requires_grad=False")  # Pyro's, of each frozen parameter
            yield
    except UserError:
        raise
    except Exception as error:  # of code that is the user's own
        first = str(error).strip().splitlines()[:1]  # Pyro puts the shapes of all sites behind it
        cause = error.__cause__  # what the distribution of a site said, which Pyro hides
        why = " " + one_line(cause).split(", but found invalid values")[0] if isinstance(cause, ValueError) else ""
        raise UserError(f"{what}: {type(error).__name__}: {''.join(first)}{why}") from error


def variables(trace: Any, observed: bool) -> dict[str, Any]:
    """The random variables of a trace; none of None."""
    nodes = trace.nodes.items() if trace else ()
    samples = {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}
    return {name: site for name, site in samples.items() if site["is_observed"] == observed}


def mismatches(model: Any, guide: Any) -> list[str]:
    """Why the prior and the posterior of a latent variable do not go together."""
    priors, posteriors = variables(model, observed=False), variables(guide, observed=False)
    found = []
    for name, site in posteriors.items():
        if name not in priors:
            others = ", ".join(priors) or "none"
            found.append(f"the guide draws {name}, which is no latent variable of the model; it has {others}")
            continue
        q, p = site["fn"], priors[name]["fn"]
        if q.event_shape != p.event_shape:
            scalar = "is .to_event(1) missing in a family?" if () in (q.event_shape, p.event_shape) else ""
            found.append(
                f"{name}: the posterior, {name_of(q)}, has event shape {list(q.event_shape)}, the prior, {name_of(p)}, "
                f"{list(p.event_shape)}; {scalar or 'give both method.latent_dim dimensions'}"
            )
        elif (ours := _support(q)) != (theirs := _support(p)):
            found.append(
                f"{name}: the posterior, {name_of(q)}, lies on {ours} and the prior, {name_of(p)}, on {theirs}; "
                "both must lie on the same: swap method.posterior or method.prior"
            )
    for part, sites in (("prior", priors), ("posterior", posteriors)):
        for name, site in sites.items():
            if not site["fn"].has_rsample:
                found.append(
                    f"{name}: the {part}, {name_of(site['fn'])}, has no reparametrised draws (rsample), without which "
                    "it cannot learn from them; swap method." + part
                )
    return found


def _support(distribution: Distribution) -> str:
    """In words."""
    constraint: Any = distribution.support
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    text = repr(constraint).replace("GreaterThanEq", "GreaterThan")  # but for a single point the same
    return SUPPORTS.get(text, text)


def _layers(distribution: Any) -> Iterator[Any]:
    """A distribution, and what it makes independent dimensions or a masked one of."""
    yield distribution
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
        yield distribution


def name_of(distribution: Distribution) -> str:
    """The name of what independent dimensions follow, without its masks."""
    name = type([*_layers(distribution)][-1]).__name__
    return NAMES.get(name, name)


def sites_of(trace: Any) -> tuple[Site, ...]:
    found = []
    for observed in (False, True):
        for name, site in variables(trace, observed).items():
            fn = site["fn"]
            size, what = fn.event_shape.numel(), UNITS.get(name, "findings") if observed else "dimensions"
            plates = tuple(frame.name for frame in site["cond_indep_stack"])
            shapes = tuple(fn.batch_shape), tuple(fn.event_shape)
            found.append(Site(name, observed, f"{name_of(fn)}, {size} {what}", *shapes, plates, _masked(site)))
    return tuple(found)


def _masked(site: dict[str, Any]) -> str:
    """What of a site takes no part: studies by the program, values by the distribution."""
    found = []
    if isinstance(site["mask"], Tensor) and (absent := int((~site["mask"]).sum())):
        found.append(f"{absent} of {site['mask'].numel()} studies")
    for layer in _layers(site["fn"]):
        mask = getattr(layer, "_mask", None)
        if isinstance(mask, Tensor) and (absent := int((~mask).sum())):
            found.append(f"{absent} of {mask.numel()} values")
    return " and ".join(found)
