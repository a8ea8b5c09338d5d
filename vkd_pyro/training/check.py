"""What a training would be, in words, from one batch and before it begins: sites, parts, objective, mismatches."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from vkd_pyro.artifacts.run import start_with
from vkd_pyro.data.batch import Batch
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import Distribution, Divergence, seeded
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods import Rival
from vkd_pyro.methods.arms import Arm, ready_for_arm, show_labels, warn_of_absent_findings
from vkd_pyro.model import VKD, ImageOnly
from vkd_pyro.schedules import Cyclical, KLSchedule
from vkd_pyro.training.callbacks import BestCheckpoint
from vkd_pyro.training.module import make_trainer, quiet
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import describe

NAMES = {
    "SoftBernoulli": "Bernoulli",
    "ExactNormal": "Normal of full covariance",
    "ExactLowRankNormal": "Normal of low rank",
    "DiagonalNormalMixture": "mixture of Normals",
    "CouplingFlow": "flow",
}
"""Of distributions, in place of their classes'."""

SUPPORTS = {
    "Real()": "all numbers",
    "GreaterThan(lower_bound=0.0)": "positive numbers",
    "Interval(lower_bound=0.0, upper_bound=1.0)": "numbers between 0 and 1",
}


@dataclass(frozen=True)
class Site:
    """A random variable of a program.

    Attributes:
        name: of the site.
        observed: or latent.
        distribution: e.g. "Normal, 128 dimensions".
        batch_shape, event_shape: of the distribution.
        plates: the names of those it is in.
        masked: what takes no part, e.g. "3 of 32 studies"; empty for nothing.
    """

    name: str
    observed: bool
    distribution: str
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    plates: tuple[str, ...]
    masked: str

    def __str__(self) -> str:
        kind = "observed" if self.observed else "latent"
        shapes = f"batch {list(self.batch_shape)}, event {list(self.event_shape)}"
        plates = f", plate {', '.join(self.plates)}" if self.plates else ", in no plate"
        masked = f", masked: {self.masked}" if self.masked else ""
        return f"{self.name:<12}{kind:<10}{self.distribution:<35} {shapes}{plates}{masked}"


@dataclass(frozen=True)
class Part:
    """A network within model or guide.

    Attributes:
        name: e.g. "image encoder".
        kind: its class.
        trainable, frozen: numbers of parameters.
        untrained: names of the trainable ones that get no gradient.
        trains: whether any of it does.
        reason: why some do not; empty where all do.
        note: e.g. which language model is frozen; or empty.
    """

    name: str
    kind: str
    trainable: int
    frozen: int
    untrained: tuple[str, ...] = ()
    trains: bool = True
    reason: str = ""
    note: str = ""

    def __str__(self) -> str:
        note = f"  {self.note}" if self.note else ""
        return f"{self.name:<18}{self.kind:<27} {self.trainable:>12,}{self.frozen:>14,}{note}"


@dataclass(frozen=True)
class Inspection:
    """What a training would be. `str` of it is what `vkd check` prints.

    Attributes:
        title: the arm and the corpus.
        data: lines about the studies and the batch.
        model, guide: their sites.
        objective: lines about its terms, the schedule and the optimiser.
        parts: of model and guide.
        terms: their means over the studies of the batch, by name, at the schedule's largest beta; empty where there
            are problems.
        warnings: what training would warn of.
        problems: why it would not train; none where it would.
    """

    title: str
    data: tuple[str, ...]
    model: tuple[Site, ...]
    guide: tuple[Site, ...]
    objective: tuple[str, ...]
    parts: tuple[Part, ...]
    terms: dict[str, float]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{'':<46}{'trainable':>12}{'frozen':>14}"
        total = Part("all", "", sum(p.trainable for p in self.parts), sum(p.frozen for p in self.parts))
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        sections = {
            "data": self.data,
            "model": self.model or ("no site",),
            "guide": self.guide or ("no site",),
            "objective": self.objective,
            "parameters": (head, *self.parts, total),
            "on this batch, the mean over its studies": (terms,) if terms else (),
            "trained": self._trained(),
            "warnings": self.warnings,
            "would not train": self.problems,
        }
        texts = [
            "\n".join([name, *(f"  {line}".rstrip() for line in lines)]) for name, lines in sections.items() if lines
        ]
        return "\n\n".join([self.title, *texts])

    def _trained(self) -> tuple[str, ...]:
        if self.problems:
            return ()
        idle = [part for part in self.parts if part.untrained]
        lines = []
        for part in idle:
            first, more = ", ".join(part.untrained[:3]), len(part.untrained) - 3
            names = f", of which {first}{f' and {more} more' if more > 0 else ''}" if part.trains else ""
            lines.append(f"not the {part.name}{names}: {part.reason}")
        others = "every other" if idle else "every"
        return (*lines, f"{others} trainable parameter gets a gradient from the objective")


def inspect_training(
    vkd: VKD,
    data: StudyData,
    arm: Arm = "vkd",
    objective: TraceVKD_ELBO | None = None,
    kl_schedule: KLSchedule | None = None,
    training: Training | None = None,
    seed: int = 0,
    start_from: str | Path | None = None,
    rival: Rival | None = None,
) -> Inspection:
    """Looks at what `fit` would do with the same arguments, on its first batch; nothing is written.

    The network is used up: its gradients and running averages change.

    Raises:
        UserError: `fit` would refuse these arguments, or model or guide cannot be run. What only shows once both have
            run is among the `problems`.
    """
    training = training or Training()
    with _kept_warnings() as warned:
        network, method, use_reports = ready_for_arm(arm, vkd, data, objective or TraceVKD_ELBO(), rival)
        if start_from is not None:
            start_with(network, Path(start_from))
        show_labels(network, data)
        warn_of_absent_findings(data)
        encoder = cast(ReportEncoder, _Lazy(vkd.guide.report_encoder.to(training.device))) if use_reports else None
        # Only one batch is looked at, so nothing is moved to a device.
        data = StudyData(data.selection, data.task, replace(data.loading, cache_on_device=False))
        loader = data.train_loader(encoder, seed)
        steps = math.ceil(len(loader) / training.accumulate_batches)
        schedule = (kl_schedule or Cyclical()) if use_reports else None
        if schedule:
            schedule.validate(steps)
        with quiet():
            make_trainer(training, Path(), BestCheckpoint(Path()), progress=False)
    plan = _Plan(network, method, use_reports, schedule, steps, training)
    batch = _first_batch(loader).to(training.device)
    network.to(training.device).train()
    with seeded(seed, batch.images.device):
        model, guide = _trace("model", network.model, batch, vkd.latent_dim), None
        if isinstance(method, TraceVKD_ELBO):  # a rival reads reports without random variables, in its own way
            guide = _trace("guide", network.guide, batch, vkd.latent_dim)
        terms: dict[str, float] = {}
        reached = {id(p) for p in network.parameters()}  # until a step shows which
        problems = _mismatches(model, guide)
        lines = plan.term_lines(latent=bool(_variables(model, observed=False)))
        try:
            if not problems:
                terms, reached = plan.step(batch)
                lines += plan.divergence_lines(model, guide)
        except UserError as error:
            problems.append(str(error))
    return Inspection(
        title=f"{arm} on {data.corpus.name}, {len(data.findings)} findings",
        data=_data_lines(data, batch),
        model=_sites(model),
        guide=_sites(guide),
        objective=(*lines, *plan.schedule_lines()),
        parts=_parts(plan, arm, reached, bool(batch.has_report.any())),
        terms=terms,
        warnings=tuple(dict.fromkeys(warned)),
        problems=tuple(problems),
    )


# --------------------------------------------------------------------------------- what is prepared


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Warnings meant for the user are put into the list, and not shown."""
    kept: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield kept
    kept += [str(warning.message) for warning in found if issubclass(warning.category, UserWarning)]


class _OneByOne(Sequence[Tensor]):
    """Reports, each prepared when it is asked for: a look at one batch need not wait for all."""

    def __init__(self, encoder: ReportEncoder, reports: Sequence[str]) -> None:
        self.encoder, self.reports = encoder, reports

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, index: Any) -> Any:
        return self.encoder.prepare([self.reports[index]])[0]


class _Lazy:
    """A report encoder, as far as a loader knows it."""

    def __init__(self, encoder: ReportEncoder) -> None:
        self.encoder = encoder

    @property
    def preparation(self) -> dict[str, Any]:
        return self.encoder.preparation

    def prepare(self, reports: Sequence[str]) -> _OneByOne:
        return _OneByOne(self.encoder, reports)


def _first_batch(loader: Any) -> Batch:
    """In this process, and no batch more."""
    return loader.collate_fn([loader.dataset[draw] for draw in next(iter(loader.batch_sampler))])


def _trace(name: str, program: PyroModule, batch: Batch, latent_dim: int) -> Any:
    """One run of a program, with the log-probability of each site."""
    tracer = poutine.trace(program)
    with _in_one_line(f"the {name} cannot be run"), torch.no_grad():
        try:
            trace = tracer.get_trace(batch)
        except RuntimeError as error:
            for z, site in _variables(tracer.trace, observed=False).items():
                if site["fn"].event_shape != (latent_dim,):
                    raise UserError(
                        f"the {name} cannot be run: {z}, {_name(site['fn'])}, has event shape "
                        f"{list(site['fn'].event_shape)}, and model.latent_dim is {latent_dim}"
                    ) from error
            raise
        trace.compute_log_prob()
        return trace


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Runs programs apart from Pyro's global store; whatever a part raises becomes a `UserError`."""
    try:
        with pyro.get_param_store().scope(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*requires_grad=False")  # Pyro's, of each frozen parameter
            yield
    except UserError:
        raise
    except Exception as error:  # of code that is the user's own
        first = str(error).strip().splitlines()[:1]  # Pyro puts the shapes of all sites behind it
        raise UserError(f"{what}: {type(error).__name__}: {''.join(first)}") from error


def _variables(trace: Any, observed: bool) -> dict[str, Any]:
    """The random variables of a trace; none of None."""
    nodes = trace.nodes.items() if trace else ()
    samples = {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}
    return {name: site for name, site in samples.items() if site["is_observed"] == observed}


# ------------------------------------------------------------------------------- what would be done


@dataclass(frozen=True)
class _Plan:
    """A training as it would be; `schedule` is None where no report is used."""

    network: VKD | ImageOnly
    method: TraceVKD_ELBO | Rival
    use_reports: bool
    schedule: KLSchedule | None
    steps: int
    training: Training

    @cached_property
    def betas(self) -> list[float]:
        """Of each step; 1 where no schedule is followed."""
        total = self.steps * self.training.max_epochs
        return [self.schedule(step, self.steps) for step in range(1, total + 1)] if self.schedule else [1.0]

    def term_lines(self, latent: bool) -> list[str]:
        """The objective in words, but for its divergence."""
        method = self.method
        if isinstance(method, Rival):
            arguments = ", ".join(f"{name} {value}" for name, value in describe(method)["init_args"].items())
            lines = [f"rival         {type(method).__name__}: {arguments}"]
        elif not latent:
            lines = ["likelihood    log p(y | x_I), without z"]
        else:
            alpha, mean = method.posterior_share, ", the log of their mean" if method.log_mean_exp else ""
            source = {0.0: "the prior p(z | x_I)", 1.0: "the posterior q(z | x_T), or the prior without a report"}
            where = source.get(alpha, f"both: {alpha:g} of the posterior, {1 - alpha:g} of the prior")
            lines = [f"likelihood    E log p(y | x_I, z), {_draws(method.num_particles)} of z from {where}{mean}"]
            if self.use_reports:
                lines.append(
                    f"auxiliary     E log q(y | z), {_draws(method.num_auxiliary_particles)} of z from the posterior "
                    f"q(z | x_T), weight {method.auxiliary_weight:g}"
                )
            if self.use_reports and method.unknown_labels == "from_report":
                lines.append("labels        those unknown as q(y | x_T) expects them, where there is a report")
        return lines

    def schedule_lines(self) -> list[str]:
        """beta, steps and optimiser."""
        lines, epochs = [], self.training.max_epochs
        if self.schedule:
            low, high, mean = min(self.betas), max(self.betas), sum(self.betas) / len(self.betas)
            course = f"{high:.2f}" if low == high else f"from {low:.2f} to {high:.2f}, on average {mean:.2f}"
            scale = f", times kl_scale {self.method.kl_scale:g}" if isinstance(self.method, TraceVKD_ELBO) else ""
            lines.append(f"beta          {type(self.schedule).__name__}: {course}{scale}")
        lines.append(f"steps         {self.steps:,} an epoch (T), at most {epochs:,} epochs")
        optimizer = self.training.optimizer([p for p in self.network.parameters() if p.requires_grad])
        rate = optimizer.param_groups[0]["lr"]
        schedule = self.training.learning_rate_schedule
        return [*lines, f"optimiser     {type(optimizer).__name__}, learning rate {rate:g}, {schedule}"]

    def divergence_lines(self, model: Any, guide: Any) -> list[str]:
        """How q is kept to p, for each latent variable of the guide."""
        method, priors = self.method, _variables(model, observed=False)
        if not self.use_reports or isinstance(method, Rival):
            return []
        lines = []
        for name, site in _variables(guide, observed=False).items():
            q, p = site["fn"], priors[name]["fn"]
            if method.importance_weighted:
                how = "within the likelihood's log of a mean, by importance weights p / q"
            elif _in_closed_form(method.divergence, q, p, method.num_auxiliary_particles):
                how = "in closed form"
            else:
                how = f"by Monte Carlo, {_draws(method.num_auxiliary_particles)}"
            kind = type(method.divergence).__name__
            lines.append(f"divergence    {kind} of {name}, {_name(q)} from {_name(p)}: {how}; weight beta")
        return lines

    def step(self, batch: Batch) -> tuple[dict[str, float], set[int]]:
        """The terms at the largest beta; and the ids of the parameters that get a gradient, there or at the smallest.

        Raises:
            UserError: the objective refuses what model and guide are, or is not a number.
        """
        reached: set[int] = set()
        for beta in sorted({min(self.betas), max(self.betas)}):
            self.network.zero_grad()
            with _in_one_line("the objective cannot be computed"):
                terms = self.method.terms(self.network.model, self.network.guide, batch, kl_weight=beta)
            if not terms.loss.isfinite():
                raise UserError(f"the loss of the first batch is {terms.loss.item()}, at beta {beta:g}")
            terms.loss.backward()
            reached |= {id(p) for p in self.network.parameters() if p.grad is not None and p.grad.any()}
        values = {"log-likelihood": terms.log_likelihood, "auxiliary": terms.auxiliary, "divergence": terms.kl}
        return {name: value.mean().item() for name, value in values.items()} | {"loss": terms.loss.item()}, reached


def _in_closed_form(divergence: Divergence, q: Distribution, p: Distribution, draws: int) -> bool:
    """Whether its value is the same for other draws; of one that is clamped, its inner one's."""
    divergence = getattr(divergence, "inner", divergence)
    one, other = (divergence(q, p, q.expand((draws, *q.batch_shape)).sample()) for _ in range(2))
    return torch.equal(one, other)


def _mismatches(model: Any, guide: Any) -> list[str]:
    """Why the prior and the posterior of a latent variable do not go together."""
    priors, posteriors = _variables(model, observed=False), _variables(guide, observed=False)
    found = []
    for name, site in posteriors.items():
        if name not in priors:
            others = ", ".join(priors) or "none"
            found.append(f"the guide draws {name}, which is no latent variable of the model; it has {others}")
            continue
        q, p = site["fn"], priors[name]["fn"]
        if q.event_shape != p.event_shape:
            found.append(
                f"{name}: the posterior, {_name(q)}, has event shape {list(q.event_shape)} and the prior, {_name(p)}, "
                f"{list(p.event_shape)}; give both model.latent_dim dimensions"
            )
        elif (ours := _support(q)) != (theirs := _support(p)):
            found.append(
                f"{name}: the posterior, {_name(q)}, lies on {ours} and the prior, {_name(p)}, on {theirs}; "
                "both must lie on the same: swap model.posterior or model.prior"
            )
    for part, sites in (("prior", priors), ("posterior", posteriors)):
        for name, site in sites.items():
            if not site["fn"].has_rsample:
                found.append(
                    f"{name}: the {part}, {_name(site['fn'])}, has no reparametrised draws (rsample), without which "
                    "it cannot learn from them; swap model." + part
                )
    return found


def _support(distribution: Distribution) -> str:
    """In words."""
    constraint: Any = distribution.support
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    text = repr(constraint).replace("GreaterThanEq", "GreaterThan")  # but for a single point the same
    return SUPPORTS.get(text, text)


# ------------------------------------------------------------------------------------------ in words


def _draws(number: int) -> str:
    return f"{number} draw{'s' if number > 1 else ''}"


def _layers(distribution: Any) -> Iterator[Any]:
    """A distribution, and what it makes independent dimensions or a masked one of."""
    yield distribution
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
        yield distribution


def _name(distribution: Distribution) -> str:
    """Of what independent dimensions follow, without its masks."""
    name = type([*_layers(distribution)][-1]).__name__
    return NAMES.get(name, name)


def _data_lines(data: StudyData, batch: Batch) -> tuple[str, ...]:
    lines = []
    for split in ("train", "validation"):
        n = data.count(split)
        lines.append(
            f"{split:<14}{n['studies']:,} studies, {n['images']:,} images, {n['with a report']:,} with a report, "
            f"{n['without any label']:,} without any label"
        )
    known, pairs = int(batch.known.sum()), batch.known.numel()
    height, width = batch.images.shape[-2:]
    lines.append(
        f"{'a batch':<14}{len(batch)} images of {height} x {width}, {int(batch.has_report.sum())} with a report, "
        f"{known} of {pairs} labels known"
    )
    return tuple(lines)


def _sites(trace: Any) -> tuple[Site, ...]:
    found = []
    for observed in (False, True):
        for name, site in _variables(trace, observed).items():
            fn = site["fn"]
            size, what = fn.event_shape.numel(), "findings" if observed else "dimensions"
            plates = tuple(frame.name for frame in site["cond_indep_stack"])
            shapes = tuple(fn.batch_shape), tuple(fn.event_shape)
            found.append(Site(name, observed, f"{_name(fn)}, {size} {what}", *shapes, plates, _masked(site)))
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


def _parts(plan: _Plan, arm: Arm, reached: set[int], has_report: bool) -> tuple[Part, ...]:
    """Of model and guide, in their order; what both hold is counted where it comes first."""
    parts, seen = [], set()
    for side in ("model", "guide"):
        for name, module in getattr(plan.network, side).named_children():
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
                    reason=_reason(plan, arm, side, name, has_report) if untrained else "",
                    note=f"frozen: {module.language_model}" if frozen_model else "",
                )
            )
    return tuple(parts)


def _reason(plan: _Plan, arm: Arm, side: str, part: str, has_report: bool) -> str:
    """Why parameters of a part get no gradient."""
    if side == "guide" and not plan.use_reports:
        return f"{arm} does not train the guide"
    if side == "guide" and not has_report:
        return "no study of this batch has a report"
    if part == "auxiliary" and getattr(plan.method, "auxiliary_weight", 1.0) == 0:
        return "vkd_without_mi has no auxiliary term" if arm == "vkd_without_mi" else "objective.auxiliary_weight is 0"
    if part in ("prior", "posterior", "report_encoder") and getattr(plan.method, "kl_scale", 1.0) == 0:
        return "objective.kl_scale is 0, and nothing else trains it"
    return "the objective does not reach it on this batch"
