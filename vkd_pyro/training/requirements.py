"""What the data must have for a method to be trained on it, checked before the first step."""

import warnings
from typing import Any

import numpy as np
import torch

from vkd_pyro.artifacts.bundle import check_rebuildable
from vkd_pyro.data.loading.dataset import StudyDataset
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.distributions import Likelihood
from vkd_pyro.methods.base import Method
from vkd_pyro.utils.errors import UserError


def check_trainable(method: Method, data: StudyData) -> None:
    """Raises `UserError` for what these data could not train, or what no bundle could rebuild."""
    check_rebuildable(method.image_model)
    data.check_features(method.model.image_encoder)
    check_labels_fit(method, data)
    if method.report_encoder is not None and not data.count("train")["with a report"]:
        raise UserError(
            f"{data.corpus.name}: no training study has a report, so {type(method).__name__} has nothing to learn from "
            "them; use NoReport or ImageOnly, or check data.selection.report and where the reports are"
        )
    check_validation_labels(data)
    data.check_pictures()


def check_labels_fit(method: Method, data: StudyData) -> None:
    """Raises `UserError` where labels stay uncertain, or become soft, and a likelihood does not model that."""
    model: list[Any] = likelihoods(method.model) or [method.model]  # without z, it is a Bernoulli itself
    if method.fills_unknown_labels:
        check_teachable([*model, *likelihoods(method.guide)], data)
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


def check_teachable(parts: list[Any], data: StudyData) -> None:
    """Raises `UserError` where unknown labels could not be taken from the report."""
    for part in parts:
        if not getattr(part, "takes_soft", True):
            raise UserError(
                f"method.objective.unknown_labels: 'from_report' wants likelihoods of labels between 0 and 1, found "
                f"{type(part).__name__}; use ignored, or BernoulliLikelihood as method.likelihood and method.auxiliary"
            )
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
