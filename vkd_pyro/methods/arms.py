"""The arms of a comparison: which network, which objective, and what data they can be trained on."""

import warnings
from copy import copy
from typing import Any, Literal

import numpy as np
import torch

from vkd_pyro.artifacts.bundle import check_rebuildable
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import Likelihood
from vkd_pyro.elbo import TraceVKD_ELBO
from vkd_pyro.methods import Rival
from vkd_pyro.model import VKD, ImageOnly
from vkd_pyro.utils.errors import UserError

Arm = Literal["vkd", "vkd_without_mi", "no_report", "image_only", "rival"]


def ready_for_arm(
    arm: Arm, vkd: VKD, data: StudyData, objective: TraceVKD_ELBO, rival: Rival | None = None
) -> tuple[VKD | ImageOnly, TraceVKD_ELBO | Rival, bool]:
    """As `for_arm`; raises `UserError` for what these data could not train, or what no bundle could rebuild."""
    network, method, use_reports = for_arm(arm, vkd, objective, rival)
    check_rebuildable(network.model)
    check_labels_fit(network, method, data)
    if use_reports and not data.count("train")["with a report"]:
        raise UserError(
            f"{data.corpus.name}: no training study has a report, so the arm {arm} has nothing to learn from them; "
            "use no_report or image_only, or check data.selection.report and where the reports are"
        )
    check_validation_labels(data)
    return network, method, use_reports


def for_arm(
    arm: Arm, vkd: VKD, objective: TraceVKD_ELBO, rival: Rival | None = None
) -> tuple[VKD | ImageOnly, TraceVKD_ELBO | Rival, bool]:
    """Network, objective, and whether reports are used, of an arm."""
    if (arm == "rival") != (rival is not None):
        raise UserError(
            f"arm: found {arm!r} and {'a' if rival else 'no'} rival; "
            "a rival, e.g. vkd_pyro.methods.LogitDistillation, is trained by the arm 'rival', and by no other"
        )
    if rival is not None:
        return rival.network(vkd), rival, True
    if arm == "image_only":
        return ImageOnly(vkd.findings, vkd.model.image_encoder), objective, False
    if arm == "vkd_without_mi":
        objective = copy(objective)
        objective.auxiliary_weight, objective.unknown_labels = 0.0, "ignored"  # no classifier to fill them in
    return vkd, objective, arm != "no_report"


def check_labels_fit(network: VKD | ImageOnly, method: TraceVKD_ELBO | Rival, data: StudyData) -> None:
    """Raises `UserError` where labels stay uncertain, or become soft, and a likelihood does not model that."""
    model: list[Any] = likelihoods(network.model) or [network.model]  # without z, it is a Bernoulli itself
    if getattr(method, "unknown_labels", "ignored") == "from_report":
        check_teachable([*model, *likelihoods(network.guide)], data)
    for part in [*model, *likelihoods(network.guide)]:
        name = type(part).__name__
        if data.task.policy("train").takes("keep") and not getattr(part, "takes_uncertain", False):
            raise UserError(
                f"data.task.train_policy: 'keep' wants a likelihood with an outcome 'uncertain', found {name}; "
                "use ignore, zeros, ones or soft, or ThreeOutcomeLikelihood as model.likelihood and model.auxiliary"
            )
        if data.task.policy("train").takes("soft") and not getattr(part, "takes_soft", True):
            raise UserError(
                f"data.task.train_policy.uncertain: 'soft' wants a likelihood of labels between 0 and 1, found {name}; "
                "use ignore, zeros or ones, or BernoulliLikelihood as model.likelihood and model.auxiliary"
            )


def check_teachable(likelihoods: list[Any], data: StudyData) -> None:
    """Raises `UserError` where unknown labels could not be taken from the report."""
    for part in likelihoods:
        if not getattr(part, "takes_soft", True):
            raise UserError(
                f"objective.unknown_labels: 'from_report' wants likelihoods of labels between 0 and 1, found "
                f"{type(part).__name__}; use ignored, or BernoulliLikelihood as model.likelihood and model.auxiliary"
            )
    targets = data.targets("train")
    without = [f for f, n in zip(data.findings, (targets == 0).sum(axis=0), strict=True) if n == 0]
    if without:  # the report's classifier would stay as it began, or say that all have it
        raise UserError(
            "objective.unknown_labels: 'from_report' wants studies known to be without a finding, and there are none "
            f"of {', '.join(without)}; use ignored, leave those out of data.task.findings, or count blanks as zeros"
        )


def likelihoods(network: torch.nn.Module) -> list[Likelihood]:
    """Those that are parts of a network."""
    return [part for part in network.modules() if isinstance(part, Likelihood)]


def show_labels(network: VKD | ImageOnly, data: StudyData) -> None:
    """Lets each likelihood refuse labels that it has no outcome for, and take what it needs of the training labels."""
    train = torch.from_numpy(data.targets("train"))
    validation = torch.from_numpy(data.targets("validation"))
    for part in likelihoods(network):
        part.check_labels(train)
        part.check_labels(validation)
        part.observe_labels(train)


def check_validation_labels(data: StudyData) -> None:
    """Raises `UserError` where no epoch could be told from another."""
    if np.isnan(data.targets("validation")).all():
        raise UserError(
            f"{data.corpus.name}: no label of the {len(data.studies('validation')):,} validation studies is known; "
            "check that the label table names the same studies, or that data.task.eval_policy keeps some label"
        )


def warn_of_absent_findings(data: StudyData) -> None:
    """Warns of each finding that is never positive in training: nothing can be learned of it."""
    positive = (data.targets("train") > 0).sum(axis=0)
    absent = [finding for finding, n in zip(data.findings, positive, strict=True) if n == 0]
    if absent:
        warnings.warn(f"never positive in training, so not learnt: {', '.join(absent)}", stacklevel=3)
