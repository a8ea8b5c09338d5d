"""The record of an evaluation: what a trained network said of each study beside what was true."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.collapse import LatentUse, at_least
from vkd_pyro.utils.notebook import notebook_html

Array = NDArray[np.float64]

MIN_POSITIVES = 30
"""Findings with fewer positives in the evaluated set are left out of paired comparisons."""


@dataclass(frozen=True, repr=False)  # a repr of its own, which names nobody
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
        latent_uncertainty: [N, K], mutual information of y_k and z in nats, what z carries of the uncertainty; NaN
            without z.
        report_probabilities: [N, K], from the report by q(y | z); NaN where there is none. Not available at inference.
        answers: [N, K], "yes", "no", "refer" or "unknown", by the operating points.
        conformal: [N, K], "yes", "no", "refer", "neither" or "unknown", by the conformal sets.
        kl_per_study: [N], KL(q(z | x_T) || p(z | x_I)) in nats: how far a report is from its image.
        ood: [N], p-values of an image like those of training being so far from them; small is out-of-distribution.
        subgroups: of each study, by kind ("sex", "age", "view"), [N] each.
        latent_use: how z is used: KL, active units, what it says of the labels, and whether the likelihood reads it.
        models: which model predicted each study, int [N], where folds were put together: an AUC then counts pairs of
            studies of the same model, since the scores of two are not on one scale. None is one model.
        joint_log_prob, marginal_log_prob: [N], log p(y | x_I) of the known labels of a study, jointly over draws of z,
            and as the product of the marginals; NaN where none is known.
        answer_information: [N], at least I(z; y | x_I) in nats; NaN without z.
        any_joint, any_marginal: [N], p(at least one abnormality | x_I), jointly over draws of z, and as the product of
            the marginals says; None where it was not asked.
        replicas: [N, ...], label vectors drawn for each study, packed (`vkd_pyro.evaluation.replicas`); not saved. NaN
            where labels depend on each other given z; None where they were not asked.
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
    latent_uncertainty: Array
    report_probabilities: Array
    answers: NDArray[np.str_]
    conformal: NDArray[np.str_]
    kl_per_study: Array
    ood: Array
    subgroups: dict[str, NDArray[np.str_]]
    latent_use: LatentUse
    joint_log_prob: Array
    marginal_log_prob: Array
    answer_information: Array
    models: NDArray[np.int64] | None = None
    any_joint: Array | None = None
    any_marginal: Array | None = None
    replicas: Array | None = None
    mismatch_score: Array | None = None

    def __repr__(self) -> str:
        return (
            f"Evaluation({len(self.study_ids):,} rows, {len(self.findings)} findings, split={self.how.get('split')!r})"
        )

    @property
    def uncertainty(self) -> Array:
        """Total uncertainty of each finding, H(p(y_k | x_I)) in nats, [N, K]."""
        return metrics.entropy(self.probabilities)

    @property
    def kl(self) -> float:
        """KL(q(z | x_T) || p(z | x_I)), mean over studies with a report, in nats; NaN without."""
        return self.latent_use.kl

    @property
    def active_units(self) -> dict[str, float]:
        """Active units of the prior and of the posterior; NaN where there is none."""
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

    def joint(self) -> dict[str, float]:
        """Means over studies with a known label: the NLL of a study's labels jointly, that of the product of their
        marginals, and I(z; y | x_I), in nats; NaN is undefined."""
        return {
            "joint_nll": _mean(-self.joint_log_prob),
            "marginal_nll": _mean(-self.marginal_log_prob),
            "answer_information": _mean(self.answer_information),
        }

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
            "joint": _nulls(self.joint()),
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
        joint = self.joint()
        if not np.isnan(joint["joint_nll"]):
            lines.append(
                f"of all labels of a study: jointly {joint['joint_nll']:.3f} nats, as the product of the marginals "
                f"{joint['marginal_nll']:.3f}"
            )
        if not np.isnan(joint["answer_information"]):
            lines.append(f"I(z; y | x_I): {at_least(joint['answer_information'])}")
        lines += str(self.latent_use).splitlines()
        if with_report:
            lines.append("* of the classifier that reads the report: not available at inference")
        lines.append("undefined: no label is known, or only one class")
        return "\n".join([*lines, *(f"warning: {text}" for text in [self.latent_use.warning] if text)])

    def _repr_html_(self) -> str:
        """The tables, for a notebook; nobody is named."""
        averages = pd.DataFrame(self.averages()).rename_axis("average AUC")
        found = [t.dropna(axis="columns", how="all").reset_index() for t in (self.per_finding(), averages)]
        tables = [[{str(name): value for name, value in row.items()} for row in t.to_dict("records")] for t in found]
        use = [*str(self.latent_use).splitlines(), *([self.latent_use.warning] if self.latent_use.warning else [])]
        return notebook_html(repr(self), *tables, [self.joint()], *use)

    def _explain(self, name: str, table: pd.DataFrame) -> str:
        defined = table["image AUC"].notna()
        common = (table["positive"] >= MIN_POSITIVES) & defined
        return {
            "macro": f"macro    (mean of {defined.sum()} findings)",
            f"macro{MIN_POSITIVES}": f"macro{MIN_POSITIVES}  ({common.sum()} with >= {MIN_POSITIVES} positives)",
            "micro": "micro    (all pairs pooled)",
            "weighted": "weighted (by positives)",
        }[name]


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in values.items()}
