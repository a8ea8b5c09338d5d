"""What the data must have for a method to be trained on it, checked before the first step."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vkd_pyro.artifacts.bundle import check_rebuildable
from vkd_pyro.data.loading.dataset import StudyDataset
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import Likelihood
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.methods.base import Method
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

MAX_SEED = 2**63 - 1
NAMES = {"train": "training", "validation": "validation"}


def check_settings(method: Method, training: Training, seed: int, fresh: bool = True) -> None:
    """Raises `UserError` for what needs no data to be found wrong.

    Args:
        method: to be trained.
        training: how.
        seed: of order and noise.
        fresh: whether the training is to begin with weights that nothing has trained.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed: found {seed}, expected a whole number from 0 to {MAX_SEED}")
    training.check_optimizer()
    warn_of_slow_precision(training)
    kinds = {str(p.dtype) for p in method.parameters() if p.is_floating_point()} - {"torch.float32"}
    if kinds:
        raise UserError(
            f"method: found parameters of {', '.join(sorted(kinds))}, expected float32; build it under "
            "torch.set_default_dtype(torch.float32), and leave the rest to training.precision"
        )
    if (default := torch.get_default_device().type) not in ("cpu", training.device.type):
        raise UserError(
            f"torch.set_default_device: found {default}, but this training is on {training.device.type}; leave it at "
            "cpu, and choose by training.accelerator"
        )
    if fresh and (found := next((m.fitted_in for m in method.modules() if hasattr(m, "fitted_in")), None)):
        raise UserError(
            f"method: found weights that were trained before, for {found}, so this training would go on from them; "
            "build it and its encoders anew, and to go on from trained weights name their run as start_from"
        )


def warn_of_slow_precision(training: Training) -> None:
    """Warns of bf16-mixed on a processor that has no instructions for bfloat16, and would imitate them."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # unknown before torch 2.10
    native = [name for name in capabilities if name.startswith("bf16") or name.endswith("_bf16")]
    slow = bool(native) and not any(capabilities[name] for name in native)
    if training.precision == "bf16-mixed" and training.device.type == "cpu" and slow:
        warnings.warn(
            "training.precision: bf16-mixed on a processor without instructions for bfloat16 takes several times as "
            "long as 32-true; use 32-true here",
            stacklevel=3,
        )


def mark_fitted(method: Method, run: Path) -> None:
    """Remembers in what is trained that it was, also in what it shares with another method, or is copied to."""
    for module in method.modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            module.__dict__["fitted_in"] = str(run)


def check_trainable(method: Method, data: StudyData) -> None:
    """Raises `UserError` for what these data could not train, or what no bundle could rebuild.

    Whether a store's features are the image encoder's is for `StudyData.check_features`, once it has its weights.
    """
    check_rebuildable(method.image_model)
    check_labels_fit(method, data)
    if method.report_encoder is not None and not data.count("train")["with a report"]:
        raise UserError(
            f"{data.corpus.name}: no training study has a report, so {type(method).__name__} has nothing to learn from "
            "them; use NoReport or ImageOnly, or check data.selection.report and where the reports are"
        )
    check_known_labels(data)
    data.check_pictures()


def check_labels_fit(method: Method, data: StudyData) -> None:
    """Raises `UserError` where labels stay uncertain, or become soft, and a likelihood does not model that."""
    model: list[Any] = likelihoods(method.model) or [method.model]  # without z, it is a Bernoulli itself
    if method.fills_unknown_labels:
        check_teachable(data)
    for part in [*model, *likelihoods(method.guide)]:
        name = type(part).__name__
        if data.task.policy("train").takes("keep") and not getattr(part, "takes_uncertain", False):
            raise UserError(
                f"data.task.train_policy: 'keep' wants a likelihood with an outcome 'uncertain', found {name}; "
                "use ignore, zeros, ones or soft, or ThreeOutcomeLikelihood as likelihood and auxiliary"
            )
        if data.task.policy("train").takes("soft") and not getattr(part, "takes_soft", True):
            raise UserError(
                f"data.task.train_policy.uncertain: 'soft' wants a likelihood of labels between 0 and 1, found {name}; "
                "use ignore, zeros or ones, or BernoulliLikelihood as method.likelihood and method.auxiliary"
            )


def check_teachable(data: StudyData) -> None:
    """Raises `UserError` where unknown labels could not be taken from the report."""
    targets = data.targets("train")
    without = [f for f, n in zip(data.findings, (targets == 0).sum(axis=0), strict=True) if n == 0]
    if without:  # the report's classifier would stay as it began, or say that all have it
        raise UserError(
            "method.objective.unknown_labels: 'from_report' wants studies known to be without a finding, found none "
            f"of {', '.join(without)}; use ignored, leave those out of data.task.findings, or count blanks as zeros"
        )


def likelihoods(network: torch.nn.Module | None) -> list[Likelihood]:
    """The likelihoods that are parts of a network; none of None."""
    if network is None:
        return []
    return [part for part in network.modules() if isinstance(part, Likelihood)]


def observe_labels(method: Method, data: StudyData) -> None:
    """Lets each likelihood refuse labels that it has no outcome for, and take what it needs of the training labels."""
    train = torch.from_numpy(data.targets("train"))
    validation = torch.from_numpy(data.targets("validation"))
    for part in likelihoods(method):
        part.check_labels(train)
        part.check_labels(validation)
        part.observe_labels(train)


def observe_reports(method: Method, dataset: StudyDataset) -> None:
    """Lets what reads and what observes reports learn from the training reports as they were prepared.

    A training that goes on learns the same from them again, before its checkpoint is read.
    """
    for part, prepared in ((method.report_encoder, dataset.reports), (method.report_likelihood, dataset.observed)):
        if part is not None and prepared is not None:
            part.observe_reports(report for report, has in zip(prepared, dataset.has_report, strict=True) if has)


def observe_training(method: Method, data: StudyData) -> None:
    """`observe_labels` and `observe_reports` of the training split, as a training does them before its first step."""
    observe_labels(method, data)
    data = StudyData(data.selection, data.task, replace(data.loading, cache_on_device=False))
    loader = data.train_loader(method.report_encoder, 0, observation=method.report_likelihood)
    observe_reports(method, cast(StudyDataset, loader.dataset))


def check_known_labels(data: StudyData) -> None:
    """Raises `UserError` where there is nothing to learn from, or no epoch could be told from another."""
    for split, policy in (("train", "train_policy"), ("validation", "eval_policy")):
        if np.isnan(data.targets(split)).all():
            raise UserError(
                f"{data.corpus.name}: no label of the {len(data.studies(split)):,} {NAMES[split]} studies is "
                f"known; check that the label table names the same studies, or that data.task.{policy} keeps some label"
            )


def warn_of_a_free_posterior(method: Method, beta_schedule: BetaSchedule, steps_per_epoch: int) -> None:
    """Warns where the posterior has no weight of the KL for an epoch or more, and nothing else keeps its scale."""
    objective = getattr(method, "objective", None)
    if not isinstance(objective, TraceVKD_ELBO) or objective.anchor_weight or method.guide is None:
        return
    remedy = "; set method.objective.anchor_weight, e.g. to 0.01"
    if not objective.kl_scale:
        setting, when = "method.objective.kl_scale: 0", ""
    elif not getattr(objective.divergence, "posterior_weight", 1):
        setting, when = "method.objective.divergence.posterior_weight: 0", ""
    elif not any(beta_schedule(step, steps_per_epoch) for step in range(1, steps_per_epoch + 1)):
        setting, when = f"beta_schedule: {type(beta_schedule).__name__} keeps beta at 0 in the first epoch", " then"
        remedy += ", or let the report's branch learn first by training.report_warm_up in place of the schedule"
    else:
        return
    warnings.warn(
        f"{setting}, so nothing holds the scale of the posterior q(z | x_T){when}{remedy}",
        stacklevel=2,
    )


def warn_of_absent_findings(data: StudyData) -> None:
    """Warns of each finding that is never known, positive or absent in training: nothing can be learned of it."""
    targets = data.targets("train")
    known, positive = ~np.isnan(targets), targets > 0
    absent = (targets >= 0) & (targets < 1)
    ever = known.any(axis=0)
    for word, found in (
        ("known", ever),
        ("positive", ~ever | positive.any(axis=0)),
        ("absent", ~ever | absent.any(axis=0)),
    ):
        if names := [data.findings[number] for number in np.flatnonzero(~found)]:
            warnings.warn(f"never {word} in training, so not learnt: {', '.join(names)}", stacklevel=3)
