"""An evaluation on disk: evaluation.json, the numbers, and predictions.parquet, a row a study or an image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vkd_pyro.artifacts.guard import guarded
from vkd_pyro.data.subgroups import subgroup_names
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, write_json, written

NUMBERS = {
    "labels": "label",
    "probabilities": "image",
    "calibrated": "calibrated",
    "low": "low",
    "high": "high",
    "latent_uncertainty": "latent",
    "report_probabilities": "report",
}
BY_STUDY = {
    "kl_per_study": "kl",
    "ood": "ood_p",
    "joint_log_prob": "joint_log_prob",
    "marginal_log_prob": "marginal_log_prob",
    "answer_information": "answer_information",
}
WHERE_ASKED = ("any_joint", "any_marginal", "mismatch_score")
ANSWERS = {"answers": "answer", "conformal": "conformal"}
"""Attributes of an `Evaluation`, and what their columns in predictions.parquet begin with."""


def save_evaluation(evaluation: Evaluation, folder: Path, summary: dict[str, Any] | None = None) -> None:
    """Writes `evaluation.json` (the summary) and `predictions.parquet` (a row a study, or an image) into a folder."""
    private_folder(folder)
    columns: dict[str, Any] = {"study": evaluation.study_ids, "patient": evaluation.patient_ids}
    for name, prefix in (NUMBERS | ANSWERS).items():
        columns |= {f"{prefix}:{f}": a for f, a in zip(evaluation.findings, getattr(evaluation, name).T, strict=True)}
    columns |= {column: getattr(evaluation, name) for name, column in BY_STUDY.items()} | evaluation.subgroups
    if evaluation.models is not None:
        columns["model"] = evaluation.models
    columns |= {name: getattr(evaluation, name) for name in WHERE_ASKED if getattr(evaluation, name) is not None}
    table = pd.DataFrame(columns)
    if table["study"].duplicated().any():
        table.insert(1, "image", table.groupby("study").cumcount())
    with written(folder / "predictions.parquet") as unfinished:
        table.to_parquet(unfinished, index=False)
    write_json(folder / "evaluation.json", summary or evaluation.summary())


def load_evaluation(folder: Path) -> Evaluation:
    """The evaluation that `save_evaluation` wrote into a folder.

    Raises:
        UserError: there is none, or one that another version wrote.
    """
    if not (folder / "evaluation.json").is_file():
        raise UserError(f"{folder}: no evaluation.json; expected what vkd evaluate writes")
    with guarded(folder, "run vkd evaluate again", "not in this version's format"):
        return _read(folder)


def _read(folder: Path) -> Evaluation:
    summary = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(folder / "predictions.parquet")
    findings = tuple(summary["findings"])
    kl, units = (_with_nan(summary[name]) for name in ("kl", "active_units"))

    def columns(prefix: str, kind: type) -> Any:
        return rows[[f"{prefix}:{finding}" for finding in findings]].to_numpy(kind)

    return Evaluation(
        data=summary["data"],
        how=summary["how"],
        findings=findings,
        study_ids=tuple(rows["study"]),
        patient_ids=tuple(rows["patient"]),
        **{name: rows[column].to_numpy(float) for name, column in BY_STUDY.items()},
        subgroups={kind: rows[kind].to_numpy(str) for kind in subgroup_names() if kind in rows},
        latent_use=LatentUse.from_summary(kl, units, summary["latent_use"]),
        models=rows["model"].to_numpy(int) if "model" in rows else None,
        **{name: rows[name].to_numpy(float) for name in WHERE_ASKED if name in rows},
        **{name: columns(prefix, float) for name, prefix in NUMBERS.items()},
        **{name: columns(prefix, str) for name, prefix in ANSWERS.items()},
    )


def _with_nan(value: Any) -> Any:
    """A number, or numbers by name, NaN in place of null."""
    if isinstance(value, dict):
        return {name: _with_nan(each) for name, each in value.items()}
    return np.nan if value is None else value
