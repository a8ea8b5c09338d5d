"""Evaluates a trained method, or a run, on a split."""

import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from vkd_pyro import __version__
from vkd_pyro.artifacts.run import Run
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.subgroups import subgroups
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.evaluation.outputs import Fusion, StudyOutputs, outputs_of_images, signals
from vkd_pyro.methods.base import Method
from vkd_pyro.posthoc.calibration import Calibration, Fit, Unit
from vkd_pyro.posthoc.ood import study_p_values
from vkd_pyro.utils.errors import UserError, check_seed


def evaluate(
    method: Method,
    data: StudyData,
    split: str = "test",
    num_samples: int = 100,
    level: Literal["study", "image"] = "study",
    fusion: Literal["mean", "product"] = "mean",
    seed: int = 0,
    calibration: Calibration | None = None,
) -> Evaluation:
    """Predicts every study of a split.

    Args:
        method: trained; in eval mode afterwards. Of a bundle, its `method`.
        data: the corpus.
        split: "train", "validation" or "test".
        num_samples: S, draws of z for each image.
        level: a row a study, its images averaged in probability; or a row an image.
        fusion: whether z of a study's images is drawn from each one's prior, or from the product of their priors.
        seed: of the draws.
        calibration: of the bundle, of which what was fitted to studies, or to images, is taken by the level; without,
            nothing is recalibrated, answered or called out-of-distribution.
    """
    fit = _fit_of(calibration, level)
    images = outputs_of_split(method, data, split, num_samples, level, fusion, seed, replicated=True, fit=fit)
    how = {"split": split, "level": level, "fusion": fusion, "num_samples": num_samples, "seed": seed}
    return evaluation_of(images, data, how, method.findings, calibration)


def evaluate_run(
    run: Run,
    split: str = "test",
    num_samples: int = 100,
    level: Literal["study", "image"] = "study",
    fusion: Literal["mean", "product"] = "mean",
    seed: int = 0,
) -> tuple[Evaluation, StudyOutputs]:
    """A run on a split, as its bundle was calibrated, and the outputs it was made of; args as of `evaluate`."""
    calibration = run.bundle.calibration
    fit = _fit_of(calibration, level)
    images = outputs_of_split(run.method, run.data, split, num_samples, level, fusion, seed, replicated=True, fit=fit)
    how = {"split": split, "level": level, "fusion": fusion, "num_samples": num_samples, "seed": seed}
    how["bundle"] = run.bundle.bundle_hash
    rows = images if level == "image" else images.mean_over_images()
    return evaluation_of(images, run.data, how, run.method.findings, calibration), rows


def outputs_of_split(
    method: Method,
    data: StudyData,
    split: str,
    num_samples: int,
    level: Literal["study", "image"] = "study",
    fusion: Literal["mean", "product"] = "mean",
    seed: int = 0,
    replicated: bool = False,
    fit: Fit | None = None,
) -> StudyOutputs:
    """What a method says of a split, a row an image; args as of `evaluate` and `outputs_of_images`."""
    if tuple(data.findings) != method.findings:
        raise UserError(f"{data.corpus.name}: its findings are not those of the model: {', '.join(method.findings)}")
    check_seed(seed)
    data.check_features(method.model.image_encoder)
    method.eval()
    fused: Fusion = "none" if level == "image" else fusion
    with torch.random.fork_rng(devices=[]):  # a loader draws its own seed from the caller's generator
        encoder = method.report_encoder
        return outputs_of_images(method, data, split, num_samples, encoder, fused, seed, replicated=replicated, fit=fit)


def evaluation_of(
    images: StudyOutputs,
    data: StudyData,
    how: dict[str, Any],
    findings: tuple[str, ...],
    calibration: Calibration | None = None,
) -> Evaluation:
    """The evaluation of what a network said of images: a row a study, or, at that level, an image."""
    unit: Unit = "image" if how["level"] == "image" else "study"
    rows = images if unit == "image" else images.mean_over_images()
    fit = _fit_of(calibration, unit)
    if fit is not None and how["fusion"] == "product":
        warnings.warn(
            "fusion product: what was fitted on the validation split is of means over images, so recalibrated numbers, "
            "answers and sets need not hold",
            stacklevel=3,
        )
    studies = {study.study_id: study for study in data.studies(how["split"])}
    of_rows = [studies[study] for study in rows.study_ids]
    return Evaluation(
        data=data.summary(),
        how=how | {"version": __version__} | _calibration_of(calibration, unit),
        findings=findings,
        study_ids=tuple(map(str, rows.study_ids)),
        patient_ids=tuple(study.patient_id for study in of_rows),
        labels=rows.labels,
        probabilities=rows.probabilities,
        low=rows.low,
        high=rows.high,
        latent_uncertainty=rows.latent_uncertainty,
        report_probabilities=rows.report_probabilities,
        kl_per_study=rows.kl,
        subgroups=subgroups(of_rows),
        latent_use=LatentUse.of(rows),
        joint_log_prob=rows.joint_log_prob,
        marginal_log_prob=rows.marginal_log_prob,
        answer_information=rows.answer_information,
        any_joint=rows.any_joint,
        any_marginal=rows.any_marginal,
        replicas=rows.replicas,
        ood=_ood(images, rows, calibration),
        **_said(rows, fit),
    )


def _fit_of(calibration: Calibration | None, unit: Unit) -> Fit | None:
    return None if calibration is None else calibration.of(unit)


def _calibration_of(calibration: Calibration | None, unit: Unit) -> dict[str, Any]:
    """What an evaluation says of it; what is usual is for `vkd monitor`."""
    if calibration is None:
        return {}
    fit = {name: part for name, part in calibration.of(unit).to_json().items() if name != "usual"}
    return {"calibration": {"unit": unit, "fitted_on": calibration.fitted_on} | fit}


def _said(rows: StudyOutputs, fit: Fit | None) -> dict[str, Any]:
    """What a calibration makes of probabilities: honest ones, answers and sets."""
    if fit is None:
        nothing, unknown = np.full_like(rows.probabilities, np.nan), np.full(rows.probabilities.shape, "unknown")
        return {"calibrated": nothing, "answers": unknown, "conformal": unknown}
    drawn = not np.isnan(rows.low).all()
    interval, share = ((rows.low, rows.high), rows.yes_share) if drawn else (None, None)
    judged = fit.judge(rows.probabilities, interval, yes_share=share)
    return {name: getattr(judged, name) for name in ("calibrated", "answers", "conformal")}


def _ood(images: StudyOutputs, rows: StudyOutputs, calibration: Calibration | None) -> Array:
    """The p-value of each row, [N]: of a study, or an image."""
    if calibration is None:
        return np.full(len(rows.study_ids), np.nan)
    p = np.asarray(calibration.reference.score(signals(images)).p_values[:, -1], np.float64)
    if len(rows.study_ids) == len(p):
        return p
    return study_p_values(p, pd.factorize(images.study_ids)[0])  # in the order of `mean_over_images`
