"""The page of an evaluation: which tables and figures it has, and what is said of them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.evaluation.tables import Selective
from vkd_pyro.explanations.mismatch import Mismatch
from vkd_pyro.metrics import Interval
from vkd_pyro.posthoc.ood import FLAGGED_SHARE
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import Cell, Evaluated, Page, Picture, Section, Table, Undefined


@dataclass(frozen=True)
class Assessment:
    """All tables of an evaluation, made once for the page and for evaluation.json."""

    averages: dict[str, Interval]
    ranking: pd.DataFrame
    calibration: pd.DataFrame
    decisions: pd.DataFrame | None
    conformal: pd.DataFrame | None
    selective: Selective
    selective_by_probability: Selective
    subgroups: pd.DataFrame

    @classmethod
    def of(cls, evaluation: Evaluation, num_resamples: int = 1000) -> "Assessment":
        """Intervals are of so many resamples of the patients."""
        return cls(
            tables.averages(evaluation, num_resamples),
            tables.ranking(evaluation, num_resamples),
            tables.calibration(evaluation),
            tables.decisions(evaluation),
            tables.conformal(evaluation),
            tables.selective(evaluation, num_resamples=num_resamples),
            tables.selective(evaluation, evaluation.probabilities.sum(axis=1), num_resamples),
            tables.subgroups(evaluation, num_resamples),
        )

    def summary(self) -> dict[str, Any]:
        """For JSON; undefined numbers are null, intervals are {estimate, low, high}."""
        return {name: plain(value) for name, value in vars(self).items()}


def plain(value: Any) -> Any:
    """Tables, intervals and numbers as JSON has them."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(dict(row)) for name, row in value.iterrows()}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Interval | Selective):
        return plain(vars(value))
    if isinstance(value, np.ndarray):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and np.isnan(value) else value


@dataclass(frozen=True)
class Extras:
    """What a page shows beyond the evaluation, as far as there is any.

    Attributes:
        name: of the model.
        training: a run's metrics.csv.
        maps: of z in the plane: points [N, 2] and labels [N], by title.
        of_maps: what they show.
        mismatch: how far reports are from their own pictures, and from others'.
        cases: images [n, H, W], overlays [n, H, W, 3] and captions.
        card: text of the model card.
        command: that made the evaluation.
    """

    name: str = "model"
    training: pd.DataFrame | None = None
    maps: Mapping[str, tuple[NDArray[Any], NDArray[Any]]] | None = None
    of_maps: str = ""
    mismatch: Mismatch | None = None
    cases: tuple[NDArray[Any], NDArray[Any], list[str]] | None = None
    card: str = ""
    command: str = ""


def page_of(evaluation: Evaluation, assessed: Assessment, extras: Extras) -> Page:
    """The whole page; a part of which nothing is known is left out."""
    parts: list[Section | None] = [
        _summary(evaluation, assessed),
        _findings(evaluation, assessed),
        _curves(evaluation, assessed),
        _calibration(evaluation, assessed),
        _uncertainty(evaluation, assessed),
        _decisions(evaluation, assessed),
        _subgroups(assessed),
        _ood(evaluation),
        _latent(evaluation, extras),
        _reports(evaluation, extras),
        _training(extras),
        _cases(extras),
        _card(extras),
    ]
    warning = evaluation.latent_use.warning
    return Page(
        title=f"Evaluation of {extras.name}",
        evaluated=_evaluated(evaluation, extras),
        sections=[part for part in parts if part is not None],
        warnings=[warning] if warning else [],
    )


def _evaluated(e: Evaluation, extras: Extras) -> Evaluated:
    known = ~np.isnan(e.labels)
    split = e.how.get("split", "test")
    counts = e.data.get("splits", {}).get(split, {})
    policies = {
        name.removesuffix("_policy").replace("eval", "evaluation"): _policy(e.data[name])
        for name in ("train_policy", "eval_policy")
        if name in e.data
    }
    more: dict[str, Cell] = {
        "row": e.how.get("level", "study"),
        "several images of a study": e.how.get("fusion", "mean"),
    } | ({"command": extras.command} if extras.command else {})
    return Evaluated(
        model=extras.name,
        data=e.data.get("corpus", "unknown"),
        split=split,
        patients=len(set(e.patient_ids)),
        studies=len(set(e.study_ids)),
        images=counts.get("images", len(e.study_ids)),
        labels=int(known.sum()),
        positives=int(np.nansum(e.labels)),
        policies=policies,
        seed=e.how.get("seed", 0),
        num_samples=0 if np.isnan(e.active_units["prior"]) else e.how.get("num_samples", 0),
        bundle_hash=e.how.get("bundle", "unknown") if e.models is None else f"{len(set(e.models))} models",
        version=e.how.get("version", "unknown"),
        more=more,
    )


def _policy(description: dict[str, Any]) -> str:
    given = description["init_args"]
    soft = given.get("uncertain") == "soft" or "soft" in (given.get("uncertain_by_finding") or {}).values()
    arguments = {name: value for name, value in given.items() if value and (soft or name != "soft_range")}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in arguments.items())


def _summary(e: Evaluation, assessed: Assessment) -> Section:
    with_report = not np.isnan(e.report_probabilities).all()
    report = e.averages()["report"] if with_report else {}
    explained = {
        "macro": f"mean of the {int(assessed.ranking['undefined'].eq('').sum())} findings whose AUC is defined",
        f"macro{MIN_POSITIVES}": f"mean of the findings with at least {MIN_POSITIVES} positives here",
        "micro": "all known (study, finding) pairs pooled",
        "weighted": "mean of the findings by their positives",
    }
    columns = ["average", "AUC from the image", *(["AUC from the report"] if with_report else []), "what it is"]
    rows: list[list[Cell]] = [
        [name, value, *([report[name]] if with_report else []), explained[name]]
        for name, value in assessed.averages.items()
    ]
    note = (
        "Intervals of 95 %: patients resampled, the trained model being what it is."
        + " The report's classifier q(y | z) reads the report, which is not there at inference." * with_report
    )
    return Section(
        "summary",
        highlights={
            f"macro{MIN_POSITIVES} AUC": assessed.averages[f"macro{MIN_POSITIVES}"],
            "micro AUC": assessed.averages["micro"],
            "log loss of a label (nats)": e.nll(),
        },
        tables=[Table("Area under the ROC curve", columns, rows, note)],
    )


def _findings(e: Evaluation, assessed: Assessment) -> Section:
    with_report = not np.isnan(e.report_probabilities).all()
    columns = ["finding", "known", "positive", "AUC", "average precision", *(["AUC, report"] if with_report else [])]
    rows: list[list[Cell]] = []
    for finding, row in assessed.ranking.iterrows():
        why = row["undefined"]
        cells: list[Cell] = [Undefined(why) if why else row[name] for name in ("AUC", "average precision")]
        report: list[Cell] = [Undefined(why) if why else row["report AUC"]] if with_report else []
        rows.append([str(finding), int(row["known"]), int(row["positive"]), *cells, *report])
    note = (
        f"Of a finding with fewer than {MIN_POSITIVES} positives, or negatives, resamples are stratified: its interval "
        "is given how many patients have it."
    )
    return Section("findings", tables=[Table("Ranking", columns, rows, note)])


def _curves(e: Evaluation, assessed: Assessment) -> Section | None:
    if e.models is not None:
        return None  # scores of several models are not on one scale
    defined = [k for k, why in enumerate(assessed.ranking["undefined"]) if not why]
    if not defined:
        return None
    roc, pr, prevalence = {}, {}, {}
    for k in defined:
        p, y, name = e.probabilities[:, k], e.labels[:, k], e.findings[k]
        one, other = metrics.roc_curve(p, y), metrics.precision_recall_curve(p, y)
        roc[name] = (one.false_positive_rate, one.sensitivity)
        pr[name] = (other.recall, other.precision)
        prevalence[name] = float(np.nanmean(y))
    table = assessed.ranking.iloc[defined]
    return Section(
        "curves",
        pictures=[
            Picture("ROC curves", figures.roc(roc, dict(zip(roc, table["AUC"], strict=True)))),
            Picture(
                "Precision-recall curves",
                figures.precision_recall(pr, dict(zip(pr, table["average precision"], strict=True)), prevalence),
                "The dotted line is the share of positives, which chance would reach.",
            ),
        ],
    )


def _calibration(e: Evaluation, assessed: Assessment) -> Section:
    table, recalibrated = assessed.calibration, not np.isnan(e.calibrated).all()
    versions = ("raw", "recalibrated") if recalibrated else ("raw",)

    def of(title: str, *measures: str, why: str = "no label is known") -> Table:
        columns = [f"{measure}, {version}" for measure in measures for version in versions]
        rows: list[list[Cell]] = [[str(name), *map(float, row[columns])] for name, row in table.iterrows()]
        return Table(title, ["finding", *columns], rows, undefined=why)

    separated = "one class, one probability, or classes that the probability separates"
    raw, honest = _bins(e.probabilities, e.labels), _bins(e.calibrated, e.labels) if recalibrated else None
    notes = [
        "ECE: mean gap between probability and frequency over 15 bins of equal width; adaptive: of equal count. Of few "
        "labels both are above 0 by chance alone."
    ]
    picture = Picture("Reliability", figures.reliability(raw, honest, "all findings"), "Known pairs of all findings.")
    return Section(
        "calibration",
        tables=[
            of("Scores of probabilities", "Brier", "log loss"),
            of("Calibration errors", "ECE", "adaptive ECE"),
            of("Calibration line, and in the large", "slope", "in the large", why=separated),
        ],
        pictures=[picture],
        notes=[*notes, *_recalibration(e), *_worse(table)],
    )


def _recalibration(e: Evaluation) -> Iterator[str]:
    """By what, if at all, and what that was fitted to."""
    if np.isnan(e.calibrated).all():
        return
    if e.models is not None:
        yield "Recalibrated for each model apart, fitted on its own validation split."
        return
    fitted = e.how["calibration"]["recalibration"]
    yield f"Recalibrated by {fitted['class_path'].rpartition('.')[2]}, fitted on the validation split."
    if e.how.get("level") == "image" or e.how.get("fusion") == "product":
        yield "It was fitted to the mean over the images of a study, which is not what is evaluated here."
    yield from (f"{finding}: not recalibrated ({why})" for finding, why in fitted["init_args"]["not_fitted"].items())


def _worse(table: pd.DataFrame) -> Iterator[str]:
    """Where recalibration made the log loss of all pairs larger, that."""
    before, after = (float(table.iloc[0][f"log loss, {version}"]) for version in ("raw", "recalibrated"))
    if after > before:
        yield f"Recalibration did not help here: the log loss of all findings went from {before:.4f} to {after:.4f}."


def _bins(probabilities: NDArray[Any], labels: NDArray[Any]) -> figures.Bins:
    found = metrics.reliability(probabilities, labels)
    return found.predicted, found.observed, found.count


def _uncertainty(e: Evaluation, assessed: Assessment) -> Section:
    selective = assessed.selective
    recalibrated = not np.isnan(e.calibrated).all()
    p, probability = (e.calibrated, "recalibrated probability") if recalibrated else (e.probabilities, "probability")
    known = ~np.isnan(e.labels) & ~np.isnan(p)
    right = ((p >= 0.5) == (e.labels == 1))[known]
    parts: dict[str, Cell] = {"total uncertainty, mean (nats a finding)": float(e.uncertainty.mean())}
    latent = e.latent_uncertainty
    if not np.isnan(latent).all():
        parts["of it carried by z"] = float(np.nanmean(latent))
    return Section(
        "uncertainty",
        lead="Total uncertainty is H(E p) of a finding, in nats (at most 0.693); what z carries of it is its mutual "
        "information with z. It is given this trained model: networks that could have been learned are not in it.",
        facts={
            **parts,
            "wrong answers, most uncertain fifth": _percent(selective.uncertain_error),
            "wrong answers, the rest": _percent(selective.other_error),
            "ratio": selective.ratio,
            "the same ratio, by the sum of probabilities": assessed.selective_by_probability.ratio,
            "wrong answers, were every answer no": _percent(selective.never),
        },
        notes=[
            "Where findings are rare nearly all wrong answers are missed positives, and whatever grows with the "
            "probabilities finds them: uncertainty says more than probabilities only where its ratio is above theirs."
        ],
        pictures=[
            Picture(
                "Uncertainty of right and of wrong answers",
                figures.uncertainty_histograms(e.uncertainty[known], right),
                f"Pairs of study and finding; an answer is yes from a {probability} of 1/2 on.",
            ),
            Picture(
                "Referral",
                figures.referral(
                    selective.shares, selective.error, selective.random, selective.oracle, "share of wrong answers"
                ),
                "Studies by the total uncertainty of all their findings.",
            ),
        ],
    )


def _percent(share: float) -> Cell:
    return Undefined("no label is known, or all uncertainties are equal") if np.isnan(share) else f"{share:.1%}"


def _decisions(e: Evaluation, assessed: Assessment) -> Section | None:
    if assessed.decisions is None or assessed.conformal is None:
        return None
    columns = ["threshold", "sensitivity", "specificity", "referred", "wrong, if answered", "wrong, of the referred"]
    rows: list[list[Cell]] = []
    for finding, row in assessed.decisions.iterrows():
        why = row["undefined"] or "no such study here"
        cells: list[Cell] = [Undefined(why) if np.isnan(row[name]) else float(row[name]) for name in columns]
        rows.append([str(finding), *cells])
    fitted = e.how["calibration"]
    rule = fitted["operating_points"]["rule"]
    arguments = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule["init_args"].items())
    chosen = f"{rule['class_path'].rpartition('.')[2]} ({arguments})"
    alpha = fitted["conformal"]["alpha"]
    sets: list[list[Cell]] = [[str(finding), *map(float, row)] for finding, row in assessed.conformal.iterrows()]
    return Section(
        "decisions",
        lead="Yes from the threshold on, no below, refer where the interval of the probability over z straddles it.",
        tables=[
            Table(
                "Operating points",
                ["finding", *columns],
                rows,
                f"Thresholds of recalibrated probabilities, found on the validation split by {chosen}; what they reach "
                "is measured here, on the studies whose label is known. Sensitivity and specificity are of yes and no "
                "by the threshold alone, nothing referred; wrong is a share of the answers that were not referred, "
                "and of those that the threshold would have given instead of referring.",
            ),
            Table(
                "Conformal sets",
                ["finding", *assessed.conformal.columns],
                sets,
                f"Each class is to be held in at least {1 - alpha:.0%} of its studies, on average over validation "
                "splits, where patients are like those of validation, which chose the epoch, so approximately. One "
                "answer: the share of sets that are yes or no alone; refer is a set of both.",
                undefined="no study of that class here",
            ),
        ],
    )


def _subgroups(assessed: Assessment) -> Section | None:
    if assessed.subgroups.empty:
        return None
    rows: list[list[Cell]] = [
        [str(name), *(int(cell) if isinstance(cell, np.integer) else cell for cell in row)]
        for name, row in zip(
            assessed.subgroups.index, assessed.subgroups.itertuples(index=False, name=None), strict=True
        )
    ]
    note = (
        "Macro is over the findings whose AUC is defined in the group, so groups may have other findings. Calibration "
        "errors of small groups are larger by chance alone."
    )
    return Section(
        "subgroups",
        tables=[Table("By patient and view", ["group", *map(str, assessed.subgroups.columns)], rows, note)],
    )


def _ood(e: Evaluation) -> Section | None:
    if np.isnan(e.ood).all():
        return None
    flagged = float((e.ood[~np.isnan(e.ood)] <= FLAGGED_SHARE).mean())
    notes = ["An image that is not flagged need not be read rightly, nor one that is flagged wrongly."]
    images = e.data.get("splits", {}).get(e.how.get("split"), {}).get("images", 0)
    if images > len(e.ood):
        notes.append(
            "A study with several images is flagged by the one furthest from the training images, with allowance for "
            "their number."
        )
    return Section(
        "ood",
        lead="How far an image's features, its z and its uncertainty are from those of training images.",
        facts={
            "flagged as unlike the training images": f"{flagged:.1%}",
            "expected, were they alike": f"{FLAGGED_SHARE:.0%}",
        },
        notes=notes,
    )


def _latent(e: Evaluation, extras: Extras) -> Section | None:
    lines = str(e.latent_use).splitlines()
    facts = {key: value for key, _, value in (line.partition(": ") for line in lines) if value and key != "warning"}
    other = [line for line in lines if ": " not in line]
    if not lines and not extras.maps:
        return None
    pictures = []
    if extras.maps:
        pictures = [Picture("Map of z (t-SNE)", figures.latent_maps(extras.maps), extras.of_maps)]
    return Section("latent", facts=facts, pictures=pictures, notes=other)


def _reports(e: Evaluation, extras: Extras) -> Section | None:
    if np.isnan(e.kl_per_study).all():
        return None
    quantiles = np.quantile(e.kl_per_study[~np.isnan(e.kl_per_study)], [0.5, 0.9, 1])
    facts: dict[str, Cell] = {
        "KL(q(z | report) || p(z | image)): median, 90 %, largest (nats)": ", ".join(f"{q:.2f}" for q in quantiles)
    }
    if (found := extras.mismatch) is not None:
        facts["AUROC of that KL, reports beside other pictures"] = found.auroc("own")
        facts["AUROC of its excess"] = found.auroc()
    if found is None:
        return Section("reports", lead="How far z of a report is from z of its picture.", facts=facts)
    return Section(
        "reports",
        lead="Which report disagrees with its picture: how much further its z is from its own picture's than from "
        "other pictures' on average, in nats: the column mismatch_score of predictions.parquet.",
        facts=facts,
        notes=[
            "AUROC: how well it tells reports beside another study's picture from those beside their own; 0.5 is "
            "chance."
        ],
    )


def _training(extras: Extras) -> Section | None:
    if extras.training is None:
        return None
    return Section("training", pictures=[Picture("Training curves", figures.training_curves(extras.training))])


def _cases(extras: Extras) -> Section | None:
    if extras.cases is None:
        return None
    lead = (
        "Pictures of patients: handle this page as you handle those. The surest and the most uncertain of one finding, "
        "in turn. Colour is where the picture speaks for it; where all is gray, nothing does."
    )
    return Section("cases", lead=lead, pictures=[Picture("Examples", figures.cases(*extras.cases))])


def _card(extras: Extras) -> Section:
    text = [line for line in extras.card.splitlines() if line and not line.startswith("#")]
    limits = (
        "Intended use: research. Not a medical device: not for diagnosis, triage or treatment.",
        "Limits: figures hold for patients, scanners and labelling like those evaluated; labels are what was said, "
        "not what was there; intervals are over patients, of one trained model.",
    )
    return Section("card", notes=[*text, *limits])


def pictures_of(page: Page) -> Iterator[tuple[str, Any]]:
    """Names for files, and figures; no example cases, which are of patients."""
    for section in page.sections:
        if section.name != "cases":
            for picture in section.pictures:
                yield re.sub(r"[^a-z0-9]+", "_", picture.title.lower()).strip("_"), picture.figure
