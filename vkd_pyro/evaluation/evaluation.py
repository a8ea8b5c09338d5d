"""Evaluation of a trained network on a split: what it said of each study beside what was true."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import __version__, metrics
from vkd_pyro.artifacts.run import Run
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.subgroups import subgroup_names, subgroups
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.outputs import Fusion, StudyOutputs, outputs_of_images, signals
from vkd_pyro.methods.base import Method
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, write_json, written

Array = NDArray[np.float64]

MIN_POSITIVES = 30
"""Findings with fewer positives in the evaluated set are left out of paired comparisons."""

NUMBERS = {
    "labels": "label",
    "probabilities": "image",
    "calibrated": "calibrated",
    "low": "low",
    "high": "high",
    "expected_entropy": "expected",
    "report_probabilities": "report",
}
ANSWERS = {"answers": "answer", "conformal": "conformal"}
"""Attributes of an `Evaluation` and what their columns in predictions.parquet begin with."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evaluation:
    """Predictions for N studies beside their labels.

    Attributes:
        data: what `StudyData.summary` says of the corpus, its splits and its label policies.
        how: split, level, fusion, num_samples, seed, bundle (its hash), version, rule and alpha: what else it took.
        findings: names of the K labels.
        study_ids, patient_ids: N each; a study occurs once, or once an image.
        labels: [N, K]; 1, 0, NaN unknown.
        probabilities: [N, K], from the images alone.
        calibrated: [N, K], recalibrated as the validation split said; NaN where it was not asked.
        low, high: [N, K], the interval of the probability for 95 % of z; NaN without z.
        expected_entropy: [N, K], in nats, what stays of the uncertainty when z is known.
        report_probabilities: [N, K], from the report by q(y | z); NaN where there is none. Not available at inference.
        answers: [N, K], "yes", "no", "refer" or "unknown", by the operating points.
        conformal: [N, K], "yes", "no", "refer", "neither" or "unknown", by the conformal sets.
        kl_per_study: [N], KL(q(z | x_T) || p(z | x_I)) in nats: how far a report is from its picture.
        ood: [N], p-values of an image like those of training being so far from them; small is out-of-distribution.
        subgroups: of each study, by kind ("sex", "age", "view"), [N] each.
        latent_use: how z is used: KL, active units, what it says of the labels, and whether the likelihood reads it.
        models: which model predicted each study, int [N], where folds were put together: an AUC then counts pairs of
            studies of the same model, since the scores of two are not on one scale. None is one model.
        mismatch_score: [N], by how much `kl_per_study` is above that to others' images; None where it was not asked.
    """

    data: dict[str, Any]
    how: dict[str, Any]
    findings: tuple[str, ...]
    study_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: Array
    probabilities: Array
    calibrated: Array
    low: Array
    high: Array
    expected_entropy: Array
    report_probabilities: Array
    answers: NDArray[np.str_]
    conformal: NDArray[np.str_]
    kl_per_study: Array
    ood: Array
    subgroups: dict[str, NDArray[np.str_]]
    latent_use: LatentUse
    models: NDArray[np.int64] | None = None
    mismatch_score: Array | None = None

    @property
    def uncertainty(self) -> Array:
        """Total uncertainty of each finding, H(p(y_k | x_I)) in nats, [N, K]."""
        return metrics.entropy(self.probabilities)

    @property
    def latent_uncertainty(self) -> Array:
        """Mutual information of y_k and z in nats, [N, K]: what z carries of the uncertainty; NaN without z."""
        return np.where(np.isnan(self.low), np.nan, self.uncertainty - self.expected_entropy)

    @property
    def kl(self) -> float:
        """KL(q(z | x_T) || p(z | x_I)), mean over studies with a report, in nats; NaN without."""
        return self.latent_use.kl

    @property
    def active_units(self) -> dict[str, float]:
        """Of the prior and of the posterior; NaN where there is none."""
        return self.latent_use.active_units

    def per_finding(self) -> pd.DataFrame:
        """A row a finding: known labels, positives, AUC of the image, AUC of the report; NaN is undefined."""
        return pd.DataFrame(
            {
                "known": (~np.isnan(self.labels)).sum(axis=0),
                "positive": np.nansum(self.labels, axis=0).astype(int),
                "image AUC": metrics.auroc_per_finding(self.probabilities, self.labels, self.models),
                "report AUC": metrics.auroc_per_finding(self.report_probabilities, self.labels, self.models),
            },
            index=pd.Index(self.findings, name="finding"),
        )

    def averages(self) -> dict[str, dict[str, float]]:
        """macro, micro and weighted AUC, of the image and of the report; macro30 is over findings with 30 positives."""
        functions: dict[str, Callable[..., float]] = {
            "macro": metrics.macro_auroc,
            f"macro{MIN_POSITIVES}": partial(metrics.macro_auroc, min_positives=MIN_POSITIVES),
            "micro": metrics.micro_auroc,
            "weighted": metrics.weighted_auroc,
        }
        return {
            path: {name: f(scores, self.labels, models=self.models) for name, f in functions.items()}
            for path, scores in (("image", self.probabilities), ("report", self.report_probabilities))
        }

    def nll(self) -> float:
        """Mean negative log-likelihood of a known label given the image, in nats."""
        return metrics.negative_log_likelihood(self.probabilities, self.labels)

    def summary(self) -> dict[str, Any]:
        """Everything but the predictions, for JSON; undefined numbers are null."""
        table = self.per_finding()
        return {
            "data": self.data,
            "how": self.how,
            "rows": len(self.study_ids),
            "studies": len(set(self.study_ids)),
            "patients": len(set(self.patient_ids)),
            "findings": {f: _nulls(dict(row)) for f, row in table.iterrows()},
            "auc": {path: _nulls(values) for path, values in self.averages().items()},
            "defined_findings": int(table["image AUC"].notna().sum()),
            "nll": _null(self.nll()),
            "kl": _null(self.kl),
            "active_units": _nulls(self.active_units),
            "latent_use": self.latent_use.summary(),
        }

    def __str__(self) -> str:
        """The tables, as text; without the report's columns where no report was used."""
        table, averages = self.per_finding(), self.averages()
        with_report = not np.isnan(self.report_probabilities).all()

        def line(name: str, image: str, report: str) -> str:
            return f"{name:<45}{image:>11}" + (f"{report:>13}" if with_report else "")

        rows, studies = len(self.study_ids), len(set(self.study_ids))
        images = f"{rows} images, " if rows > studies else ""
        lines = [f"{images}{studies} studies, {len(set(self.patient_ids))} patients", ""]
        lines.append(line(f"{'finding':<28}{'known':>7}{'positive':>10}", "image AUC", "report AUC*"))
        for finding, row in table.iterrows():
            counts = f"{finding:<28}{row['known']:>7.0f}{row['positive']:>10.0f}"
            lines.append(line(counts, _text(row["image AUC"]), _text(row["report AUC"])))
        lines.append("")
        for name, value in averages["image"].items():
            lines.append(line(self._explain(name, table), _text(value), _text(averages["report"][name])))
        lines += ["", f"negative log-likelihood of a label: {self.nll():.4f} nats"]
        lines += str(self.latent_use).splitlines()
        if with_report:
            lines.append("* of the classifier that reads the report: not available at inference")
        return "\n".join([*lines, "undefined: no label is known, or only one class"])

    def _explain(self, name: str, table: pd.DataFrame) -> str:
        defined = table["image AUC"].notna()
        common = (table["positive"] >= MIN_POSITIVES) & defined
        return {
            "macro": f"macro    (mean of {defined.sum()} findings)",
            f"macro{MIN_POSITIVES}": f"macro{MIN_POSITIVES}  ({common.sum()} with >= {MIN_POSITIVES} positives)",
            "micro": "micro    (all pairs pooled)",
            "weighted": "weighted (by positives)",
        }[name]


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
        calibration: of the bundle; without, nothing is recalibrated, answered or called novel.
    """
    images = outputs_of_split(method, data, split, num_samples, level, fusion, seed)
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
    images = outputs_of_split(run.method, run.data, split, num_samples, level, fusion, seed)
    how = {"split": split, "level": level, "fusion": fusion, "num_samples": num_samples, "seed": seed}
    how["bundle"] = run.bundle.bundle_hash
    rows = images if level == "image" else images.mean_over_images()
    return evaluation_of(images, run.data, how, run.method.findings, run.bundle.calibration), rows


def outputs_of_split(
    method: Method,
    data: StudyData,
    split: str,
    num_samples: int,
    level: Literal["study", "image"] = "study",
    fusion: Literal["mean", "product"] = "mean",
    seed: int = 0,
) -> StudyOutputs:
    """What a method says of a split, a row an image; args as of `evaluate`."""
    if tuple(data.findings) != method.findings:
        raise UserError(f"{data.corpus.name}: its findings are not those of the model: {', '.join(method.findings)}")
    method.eval()
    fused: Fusion = "none" if level == "image" else fusion
    return outputs_of_images(method, data, split, num_samples, method.report_encoder, fused, seed)


def evaluation_of(
    images: StudyOutputs,
    data: StudyData,
    how: dict[str, Any],
    findings: tuple[str, ...],
    calibration: Calibration | None = None,
) -> Evaluation:
    """The evaluation of what a network said of images: a row a study, or, at that level, an image."""
    rows = images if how["level"] == "image" else images.mean_over_images()
    studies = {study.study_id: study for study in data.studies(how["split"])}
    of_rows = [studies[study] for study in rows.study_ids]
    return Evaluation(
        data=data.summary(),
        how=how | {"version": __version__} | ({"calibration": calibration.to_json()} if calibration else {}),
        findings=findings,
        study_ids=tuple(map(str, rows.study_ids)),
        patient_ids=tuple(study.patient_id for study in of_rows),
        labels=rows.labels,
        probabilities=rows.probabilities,
        low=rows.low,
        high=rows.high,
        expected_entropy=rows.expected_entropy,
        report_probabilities=rows.report_probabilities,
        kl_per_study=rows.kl,
        subgroups=subgroups(of_rows),
        latent_use=LatentUse.of(rows),
        ood=_ood(images, rows, calibration),
        **_said(rows, calibration),
    )


def _said(rows: StudyOutputs, calibration: Calibration | None) -> dict[str, Any]:
    """What a calibration makes of probabilities: honest ones, answers and sets."""
    if calibration is None:
        nothing, unknown = np.full_like(rows.probabilities, np.nan), np.full(rows.probabilities.shape, UNKNOWN)
        return {"calibrated": nothing, "answers": unknown, "conformal": unknown}
    judged = calibration.judge(rows.probabilities, None if np.isnan(rows.low).all() else (rows.low, rows.high))
    return {name: getattr(judged, name) for name in ("calibrated", "answers", "conformal")}


def _ood(images: StudyOutputs, rows: StudyOutputs, calibration: Calibration | None) -> Array:
    """The p-value of each row, [N]; of a study with n images n times their smallest, at most 1 (Bonferroni)."""
    if calibration is None:
        return np.full(len(rows.study_ids), np.nan)
    p = np.asarray(calibration.reference.score(signals(images)).p_values[:, -1], np.float64)
    if len(rows.study_ids) == len(p):
        return p
    by_study = pd.Series(p).groupby(images.study_ids).agg(lambda of: min(1.0, len(of) * of.min()))
    return np.asarray(by_study.reindex(rows.study_ids), np.float64)


def save_evaluation(evaluation: Evaluation, folder: Path, summary: dict[str, Any] | None = None) -> None:
    """Writes `evaluation.json` (the summary) and `predictions.parquet` (a row a study, or an image) into a folder."""
    private_folder(folder)
    columns: dict[str, Any] = {"study": evaluation.study_ids, "patient": evaluation.patient_ids}
    for name, prefix in (NUMBERS | ANSWERS).items():
        columns |= {f"{prefix}:{f}": a for f, a in zip(evaluation.findings, getattr(evaluation, name).T, strict=True)}
    columns |= {"kl": evaluation.kl_per_study, "ood_p": evaluation.ood, **evaluation.subgroups}
    if evaluation.models is not None:
        columns["model"] = evaluation.models
    if evaluation.mismatch_score is not None:
        columns["mismatch_score"] = evaluation.mismatch_score
    table = pd.DataFrame(columns)
    if table["study"].duplicated().any():
        table.insert(1, "image", table.groupby("study").cumcount())
    with written(folder / "predictions.parquet") as unfinished:
        table.to_parquet(unfinished, index=False)
    write_json(folder / "evaluation.json", summary or evaluation.summary())


def load_evaluation(folder: Path) -> Evaluation:
    """What `save_evaluation` wrote, or wrote in earlier versions: what those did not know is NaN."""
    if not (folder / "evaluation.json").is_file():
        raise UserError(f"{folder}: no evaluation.json; expected what vkd evaluate writes")
    summary = json.loads((folder / "evaluation.json").read_text())
    rows = _read_rows(folder)
    findings = tuple(summary["findings"])

    def columns(prefix: str, missing: Any) -> Any:
        names = [f"{prefix}:{finding}" for finding in findings]
        return rows.reindex(columns=names, fill_value=missing).to_numpy()

    return Evaluation(
        data=summary.get("data", {}),
        how=summary.get("how", {}),
        findings=findings,
        study_ids=tuple(rows["study"]),
        patient_ids=tuple(rows["patient"]),
        kl_per_study=rows.reindex(columns=["kl"])["kl"].to_numpy(float),
        ood=rows.reindex(columns=["ood_p"])["ood_p"].to_numpy(float),
        subgroups={kind: rows[kind].to_numpy(str) for kind in subgroup_names() if kind in rows},
        latent_use=LatentUse.from_summary(
            float("nan") if summary["kl"] is None else summary["kl"],
            {k: float("nan") if v is None else v for k, v in summary["active_units"].items()},
            summary.get("latent_use", {}),
        ),
        models=rows["model"].to_numpy(int) if "model" in rows else None,
        mismatch_score=rows["mismatch_score"].to_numpy(float) if "mismatch_score" in rows else None,
        **{name: columns(prefix, np.nan).astype(float) for name, prefix in NUMBERS.items()},
        **{name: columns(prefix, UNKNOWN).astype(str) for name, prefix in ANSWERS.items()},
    )


def _read_rows(folder: Path) -> pd.DataFrame:
    if (folder / "predictions.parquet").is_file():
        return pd.read_parquet(folder / "predictions.parquet")
    return pd.read_csv(folder / "predictions.csv", converters={"study": str, "patient": str})


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in values.items()}
