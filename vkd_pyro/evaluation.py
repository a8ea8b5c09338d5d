"""Evaluation of a trained network on a split: AUC per finding, named averages, paired comparisons."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.data.dataset import derive_seed
from vkd_pyro.data.loading import StudyData
from vkd_pyro.errors import UserError
from vkd_pyro.files import private_folder, write_json, written
from vkd_pyro.model import VKD, Guide, ImageOnly
from vkd_pyro.predictive import Fusion, StudyOutputs, study_outputs

MIN_POSITIVES = 30
"""Findings with fewer positives in the evaluated set are left out of paired comparisons."""

PREFIXES = {"labels": "label", "probabilities": "image", "report_probabilities": "report"}
"""Attributes of an `Evaluation` and what their columns in predictions.csv begin with."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions for N studies beside their labels.

    Attributes:
        data: what `StudyData.summary` says of the corpus, its splits and its label policies.
        findings: names of the K labels.
        study_ids, patient_ids: N each; a study occurs once, or once an image.
        labels: [N, K]; 1, 0, NaN unknown.
        probabilities: [N, K], from the images alone.
        report_probabilities: [N, K], from the report by q(y | z); NaN where there is none. Not available at inference.
        kl: KL(q(z | x_T) || p(z | x_I)), mean over studies with a report, in nats; NaN without.
        active_units: of the prior and of the posterior; NaN where there is none.
    """

    data: dict[str, Any]
    findings: tuple[str, ...]
    study_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    report_probabilities: NDArray[np.float64]
    kl: float
    active_units: dict[str, float]

    def per_finding(self) -> pd.DataFrame:
        """A row a finding: known labels, positives, AUC of the image, AUC of the report; NaN is undefined."""
        return pd.DataFrame(
            {
                "known": (~np.isnan(self.labels)).sum(axis=0),
                "positive": np.nansum(self.labels, axis=0).astype(int),
                "image AUC": metrics.auroc_per_finding(self.probabilities, self.labels),
                "report AUC": metrics.auroc_per_finding(self.report_probabilities, self.labels),
            },
            index=pd.Index(self.findings, name="finding"),
        )

    def averages(self) -> dict[str, dict[str, float]]:
        """macro, micro and weighted AUC, of the image and of the report; macro30 is over findings with 30 positives."""
        functions: dict[str, Callable[..., float]] = {
            "macro": metrics.macro_auroc,
            f"macro{MIN_POSITIVES}": lambda p, y: metrics.macro_auroc(p, y, MIN_POSITIVES),
            "micro": metrics.micro_auroc,
            "weighted": metrics.weighted_auroc,
        }
        return {
            "image": {name: f(self.probabilities, self.labels) for name, f in functions.items()},
            "report": {name: f(self.report_probabilities, self.labels) for name, f in functions.items()},
        }

    def nll(self) -> float:
        """Mean negative log-likelihood of a known label given the image, in nats."""
        return metrics.negative_log_likelihood(self.probabilities, self.labels)

    def summary(self) -> dict[str, Any]:
        """Everything but the predictions, for JSON; undefined numbers are null."""
        table = self.per_finding()
        return {
            "data": self.data,
            "rows": len(self.study_ids),
            "studies": len(set(self.study_ids)),
            "patients": len(set(self.patient_ids)),
            "findings": {f: _nulls(dict(row)) for f, row in table.iterrows()},
            "auc": {path: _nulls(values) for path, values in self.averages().items()},
            "defined_findings": int(table["image AUC"].notna().sum()),
            "nll": _null(self.nll()),
            "kl": _null(self.kl),
            "active_units": _nulls(self.active_units),
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
        if not np.isnan(self.kl):
            lines.append(f"KL(q(z | report) || p(z | image)): {self.kl:.2f} nats")
        units = ", ".join(f"{name} {value:.0f}" for name, value in self.active_units.items() if not np.isnan(value))
        if units:
            lines.append(f"active units of z: {units}")
        if with_report:
            lines.append("* of the report's own classifier q(y | z): not available at inference")
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
    network: VKD | ImageOnly,
    data: StudyData,
    split: str = "test",
    num_samples: int = 100,
    use_reports: bool = True,
    level: Literal["study", "image"] = "study",
    fusion: Fusion = "mean",
) -> Evaluation:
    """Predicts every study of a split.

    Args:
        network: trained; in eval mode afterwards.
        data: the corpus.
        split: "train", "validation" or "test".
        num_samples: S, draws of z for each image.
        use_reports: also evaluate the report's classifier; False where the guide was not trained.
        level: a row a study, its images averaged in probability; or a row an image.
        fusion: whether z of a study's images is drawn from each one's prior, or from the product of their priors.
    """
    if tuple(data.findings) != network.findings:
        raise UserError(f"{data.corpus.name}: its findings are not those of the model: {', '.join(network.findings)}")
    network.eval()
    encoder = network.guide.report_encoder if use_reports and isinstance(network.guide, Guide) else None
    device = next(network.parameters()).device
    outputs = [
        study_outputs(network, batch.to(device), num_samples, derive_seed("evaluation", number), fusion)
        for number, batch in enumerate(data.evaluation_loader(split, encoder))
    ]
    rows = StudyOutputs.concatenate(outputs)
    if level == "study":
        rows = rows.mean_over_images()
    patient_of = {study.study_id: study.patient_id for study in data.studies(split)}
    return Evaluation(
        data=data.summary(),
        findings=network.findings,
        study_ids=tuple(map(str, rows.study_ids)),
        patient_ids=tuple(patient_of[study] for study in rows.study_ids),
        labels=rows.labels,
        probabilities=rows.probabilities,
        report_probabilities=rows.report_probabilities,
        kl=rows.mean_kl(),
        active_units=rows.active_units(),
    )


def save_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Writes `evaluation.json` (the summary) and `predictions.csv` (a row a study, or an image of it) into a folder."""
    private_folder(folder)
    ids = pd.DataFrame({"study": evaluation.study_ids, "patient": evaluation.patient_ids})
    if ids["study"].duplicated().any():
        ids.insert(1, "image", ids.groupby("study").cumcount())
    frames = [ids]
    for name, prefix in PREFIXES.items():
        frames.append(pd.DataFrame(getattr(evaluation, name), columns=[f"{prefix}:{f}" for f in evaluation.findings]))
    with written(folder / "predictions.csv") as unfinished:
        pd.concat(frames, axis=1).to_csv(unfinished, index=False)
    write_json(folder / "evaluation.json", evaluation.summary())


def load_evaluation(folder: Path) -> Evaluation:
    """What `save_evaluation` wrote."""
    if not (folder / "evaluation.json").is_file():
        raise UserError(f"{folder}: no evaluation.json; expected what vkd evaluate writes")
    summary = json.loads((folder / "evaluation.json").read_text())
    rows = pd.read_csv(folder / "predictions.csv", converters={"study": str, "patient": str})
    findings = tuple(summary["findings"])
    arrays = {k: rows[[f"{prefix}:{f}" for f in findings]].to_numpy(float) for k, prefix in PREFIXES.items()}
    return Evaluation(
        data=summary.get("data", {}),
        findings=findings,
        study_ids=tuple(rows["study"]),
        patient_ids=tuple(rows["patient"]),
        labels=arrays["labels"],
        probabilities=arrays["probabilities"],
        report_probabilities=arrays["report_probabilities"],
        kl=float("nan") if summary["kl"] is None else summary["kl"],
        active_units={k: float("nan") if v is None else v for k, v in summary["active_units"].items()},
    )


# ------------------------------------------------------------------------------ paired comparisons


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.estimate):
            return "undefined"
        return f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_difference(
    ours: Sequence[Evaluation],
    theirs: Sequence[Evaluation],
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Difference of two methods on the same studies: predictions averaged over seeds, patients resampled in pairs.

    Args:
        ours, theirs: one evaluation a seed.
        metric: of (probabilities, labels); by default the macro AUC over findings with at least 30 positives
            in the evaluated set, the same findings in every resample.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: the evaluations are not of the same studies, labels and findings.
    """
    first = ours[0]
    for other in (*ours, *theirs):
        if other.findings != first.findings or other.study_ids != first.study_ids:
            raise UserError("compare: these evaluations are not of the same studies and findings")
        if not np.array_equal(other.labels, first.labels, equal_nan=True):
            raise UserError("compare: these evaluations have other labels for the same studies")
    chosen = np.nansum(first.labels, axis=0) >= MIN_POSITIVES if metric is None else np.ones(len(first.findings), bool)
    if not chosen.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    function = metric or metrics.macro_auroc
    a, b = (np.mean([e.probabilities for e in each], axis=0)[:, chosen] for each in (ours, theirs))
    labels = first.labels[:, chosen]

    generator = np.random.default_rng(seed)
    patients = pd.factorize(np.array(first.patient_ids))[0]
    rows_of = [np.flatnonzero(patients == patient) for patient in range(patients.max() + 1)]
    differences = []
    for _ in range(num_resamples):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[patient] for patient in drawn])
        differences.append(function(a[rows], labels[rows]) - function(b[rows], labels[rows]))
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return Interval(function(a, labels) - function(b, labels), float(low), float(high))


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in values.items()}
