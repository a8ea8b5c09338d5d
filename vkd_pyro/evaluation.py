"""Evaluation of a trained network on a split: AUC per finding, named averages, paired comparisons."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.collapse import LatentUse
from vkd_pyro.data.dataset import derive_seed
from vkd_pyro.data.loading import StudyData
from vkd_pyro.errors import UserError
from vkd_pyro.files import private_folder, write_json, written
from vkd_pyro.model import VKD, ImageOnly
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
        latent_use: how z is used: KL, active units, what it says of the labels, and whether the likelihood reads it.
        models: which model predicted each study, int [N], where folds were put together: an AUC then counts pairs of
            studies of the same model, since the scores of two are not on one scale. None is one model.
    """

    data: dict[str, Any]
    findings: tuple[str, ...]
    study_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    report_probabilities: NDArray[np.float64]
    latent_use: LatentUse
    models: NDArray[np.int64] | None = None

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
    encoder = getattr(network.guide, "report_encoder", None) if use_reports else None
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
        latent_use=LatentUse.of(rows),
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
    """What `save_evaluation` wrote, or wrote in earlier versions: what those did not know is NaN."""
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
        latent_use=LatentUse.from_summary(
            float("nan") if summary["kl"] is None else summary["kl"],
            {k: float("nan") if v is None else v for k, v in summary["active_units"].items()},
            summary.get("latent_use", {}),
        ),
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
    metric: Literal["macro", "micro"] = "macro",
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Difference of two methods on the same studies: predictions averaged over seeds, patients resampled in pairs.

    Args:
        ours, theirs: one evaluation a seed.
        metric: "macro", the mean AUC over findings with at least 30 positives in the evaluated set, the same findings
            in every resample; or "micro", the AUC of all known (study, finding) pairs pooled.
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
    chosen = (
        np.nansum(first.labels, axis=0) >= MIN_POSITIVES if metric == "macro" else np.full(len(first.findings), True)
    )
    if not chosen.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    a, b = (np.mean([e.probabilities for e in each], axis=0)[:, chosen] for each in (ours, theirs))
    labels = first.labels[:, chosen]
    function = _resampled_macro if metric == "macro" else _resampled_micro

    generator = np.random.default_rng(seed)
    patients = pd.factorize(np.array(first.patient_ids))[0]
    number = patients.max() + 1

    def difference(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return function(a, labels, counts, first.models) - function(b, labels, counts, first.models)

    differences = [
        difference(generator.multinomial(number, np.full(number, 1 / number), size=size)[:, patients])
        for size in np.diff([*range(0, num_resamples, 100), num_resamples])  # so many at once as fit in memory
    ]
    low, high = np.nanquantile(np.concatenate(differences), (0.025, 0.975))
    return Interval(float(difference(np.ones((1, len(patients)), np.int64))[0]), float(low), float(high))


def _resampled_macro(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.float64],
    counts: NDArray[np.int64],
    models: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Args: [N, K], [N, K], [R, N], [N]. Returns: [R]."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return pd.DataFrame([metrics.resampled_auroc(p, y, counts, models) for p, y in pairs]).mean().to_numpy()


def _resampled_micro(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.float64],
    counts: NDArray[np.int64],
    models: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """As `_resampled_macro`, all findings pooled."""
    findings = labels.shape[1]
    models = None if models is None else models.repeat(findings)
    return metrics.resampled_auroc(probabilities.ravel(), labels.ravel(), counts.repeat(findings, axis=1), models)


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in values.items()}
