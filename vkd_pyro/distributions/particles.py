"""Several draws of every latent variable of a program at once, and what its trace says of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.divergences import KL, Divergence
from vkd_pyro.distributions.draws import draw
from vkd_pyro.utils.errors import UserError


class Particles(Messenger):
    """Draws every latent variable several times at once, in a new leftmost axis; keeps the distributions as stated.

    Only what depends on z is repeated, so a program that encodes its inputs before it draws z encodes them once. A
    variable that depends on one drawn before has that axis already, and is drawn once for each of its particles. Of
    Pyro's autoguides the auxiliary variable is what is drawn and kept, under the name of the variable made of it.

    Args:
        num_particles: draws from the program's own distribution.
        given: samples put behind those, by site name, float [N, B, D], and where they hold, bool [B]; elsewhere
            (a study without a report has no posterior) the program's own distribution is drawn from.
    """

    def __init__(self, num_particles: int, given: dict[str, tuple[Tensor, Tensor]] | None = None) -> None:
        super().__init__()
        self.num_particles = num_particles
        self.given = given or {}
        self.distributions: dict[str, Distribution] = {}
        self.auxiliary: dict[str, Distribution] = {}
        self.samples: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or site_is_subsample(msg):  # conditioned or replayed: not ours to draw
            return
        _unmask(msg)
        name, distribution = msg["name"], msg["fn"]
        plates = sum(frame.vectorized for frame in msg["cond_indep_stack"])
        depends = len(distribution.batch_shape) > plates
        if msg["infer"].get("is_auxiliary"):
            _check_of_studies(name, plates)
            msg["value"] = draw(distribution, self.num_particles)
            self.auxiliary[name.removesuffix("_unconstrained")] = distribution
        elif isinstance(distribution, dist.Delta) and name in self.auxiliary:
            _check_unconstrained(name, distribution)
            msg["value"] = distribution.v
            self.distributions[name], self.samples[name] = self.auxiliary[name], msg["value"]
        else:
            _check_in_plate(name, plates)
            msg["value"] = distribution.rsample() if depends else self._drawn(name, distribution)
            if depends and name in self.given:
                z, holds = self.given[name]
                msg["value"] = torch.where(_rows(holds, distribution), z, msg["value"][-len(z) :])
            self.distributions[name], self.samples[name] = distribution, msg["value"]
        msg["done"] = True

    def _drawn(self, name: str, distribution: Distribution) -> Tensor:
        parts = [draw(distribution, self.num_particles)] if self.num_particles else []
        if name in self.given:
            z, holds = self.given[name]
            parts.append(torch.where(_rows(holds, distribution), z, draw(distribution, len(z))))
        elif self.given or not parts:
            raise UserError(
                f"{name}: the model draws it and the guide does not, so it has no samples of the posterior; give the "
                "guide a site of that name, or set objective.likelihood_samples to prior"
            )
        return torch.cat(parts)


def _unmask(msg: Any) -> None:
    """A mask of the distribution, `q.mask(...)`, becomes one of its site, `poutine.mask`."""
    while isinstance(msg["fn"], MaskedDistribution):
        mask = msg["fn"]._mask
        msg["mask"] = mask if msg["mask"] is None else torch.as_tensor(mask) & msg["mask"]
        msg["fn"] = msg["fn"].base_dist


def _rows(holds: Tensor, distribution: Distribution) -> Tensor:
    """Whether it holds, bool [B], beside draws of a study's variable, [..., B, *event]."""
    return holds.view(-1, *[1] * len(distribution.event_shape))


def _check_in_plate(name: str, plates: int) -> None:
    """Raises `UserError` where a variable is not one of each study."""
    if not plates:
        raise UserError(
            f"{name}: is drawn in no plate, and the objective is of each study; draw it in pyro.plate('studies', "
            "len(batch), dim=-1), or use Pyro's Trace_ELBO for what studies share"
        )


def _check_of_studies(name: str, plates: int) -> None:
    """Raises `UserError` where one variable stands for z of all studies together."""
    if not plates:
        raise UserError(
            f"guide: {name} stands for all studies together, and the objective is of each study; use AutoNormal, or "
            "Pyro's Trace_ELBO with model.program"
        )


def _check_unconstrained(name: str, distribution: Any) -> None:
    if bool((distribution.log_density != 0).any()):
        raise UserError(f"guide: {name} is constrained, so its density is none that can be compared; use Trace_ELBO")


def given_samples(posterior: Particles, guide_trace: Any, num_particles: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The posterior's samples for the model, with the guide's mask."""
    given = {}
    for name, z in posterior.samples.items():
        mask = guide_trace.nodes[name]["mask"]
        holds = torch.as_tensor(True if mask is None else mask, device=z.device)
        given[name] = z[:num_particles], holds.expand(z.shape[1])
    return given


def with_rows_of(guide_trace: Any, model: Any) -> Any:
    """The model, whose plates take the rows that those of the guide have drawn (`pyro.plate(..., subsample_size=)`)."""
    drawn = poutine.Trace()
    for name, site in guide_trace.nodes.items():
        if site["type"] == "sample" and site_is_subsample(site) and site["fn"].subsample_size != site["fn"].size:
            drawn.add_node(name, **site)
    return poutine.replay(model, trace=drawn) if drawn.nodes else model


def check_counterpart(name: str, prior: Particles, guide_trace: Any, model_trace: Any) -> None:
    """Raises `UserError` where what the guide draws is not what the model draws, of as much weight."""
    if name not in prior.distributions:
        raise UserError(
            f"{name}: the guide draws it and the model does not, where it is missing or has been given a value "
            "(condition, replay, reparam, block); do the same to the guide, or give None as the guide"
        )
    ours, theirs = (torch.as_tensor(trace.nodes[name]["scale"]) for trace in (guide_trace, model_trace))
    if ours.numel() * theirs.numel() == 1 and ours.item() != theirs.item():
        raise UserError(f"{name}: scaled by {ours:g} in the guide and by {theirs:g} in the model; scale both alike")


def check_bound(how: Mapping[str, tuple[float, float, bool]]) -> None:
    """Raises `UserError` for observed sites whose terms under the posterior would together bound nothing.

    Args: of each its weight, the posterior's share of its z, whether it has the log of a mean.
    """
    if len({log_mean_exp for _, share, log_mean_exp in how.values() if share > 0}) > 1:
        raise UserError(
            f"objective.sites: {', '.join(sorted(how))} take z from the posterior, some with log_mean_exp and some "
            "without; the KL would be in the first alone, and the loss no bound. Give them the same"
        )


def num_labelled(guide_trace: Any, labelled: Tensor) -> int:
    """How many studies the auxiliary classifier learns from, of those that have a known label, bool [B]."""
    for site in observed_sites(guide_trace):
        whole = getattr(site["fn"], "known", labelled)  # of `KnownOneHot`: a study counts with all its labels alone
        labelled = labelled & whole if whole.shape == labelled.shape else labelled
    return int(labelled.sum())


def observed_sites(trace: Any) -> list[Any]:
    """The observed random variables of a trace."""
    return [site for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"]]


def observed_log_probs(trace: Any, studies: int) -> dict[str, Tensor]:
    """Log-probability of each observed site, masked, float [particles, B], by name; [1, B] without z.

    Raises:
        UserError: a site that is not of the studies of the batch, one value each.
    """
    found = {}
    for site in observed_sites(trace):
        log_probs = scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])
        found[site["name"]] = torch.atleast_2d(log_probs)
        if (rows := found[site["name"]].shape[-1]) != studies:
            raise UserError(
                f"{site['name']}: has a log-probability for {rows} studies, expected one for each of the {studies} of "
                "the batch; let a plate that takes some of many take as many"
            )
    return found


def tightened(log_weights: Tensor) -> Tensor:
    """The log of the mean less the mean of logs, [M, B] -> [B]."""
    return log_weights.logsumexp(0) - math.log(len(log_weights)) - log_weights.mean(0)


def standard_kl(guide_trace: Any, posterior: Particles) -> Tensor:
    """KL(q(z | x_T) || Normal(0, I)) of each study, summed over latent sites, float [B]."""
    found = []
    for name, q in posterior.distributions.items():
        z, site = posterior.samples[name], guide_trace.nodes[name]
        standard = dist.Normal(torch.zeros_like(z[0]), 1.0).to_event(z.dim() - 2)
        found.append(scale_and_mask(KL()(q, standard, z), scale=site["scale"], mask=site["mask"]))
    return torch.stack(found).sum(0)


def log_ratio(q: Distribution, p: Distribution, z: Tensor, number: int) -> Tensor:
    """log q(z) - log p(z) at the first so many draws of z ~ q, float [number, B]."""
    return q.log_prob(z)[:number] - p.log_prob(z[:number])


def check_conditional(name: str, divergence: Divergence, posterior_shares: Sequence[float]) -> None:
    """Raises `UserError` where the divergence of a variable that depends on another cannot be estimated from draws.

    That wants a KL, and the model at the posterior's draws of the other: of every observed site a share of 1.
    """
    if type(divergence) is not KL or min(posterior_shares) < 1:
        raise UserError(
            f"{name}: depends on another latent variable, so its KL wants the model at the posterior's draws of that; "
            "set objective.likelihood_samples to posterior, for every site, and leave objective.divergence out"
        )
