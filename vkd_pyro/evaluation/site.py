"""A model that is made to fit the place where it is used: recalibrated by labelled studies of that place.

Its weights stay. What is fitted anew: probabilities, thresholds, conformal sets, and which images are usual. What that
is worth is measured on patients of the site that a fit has not seen, fold by fold; the fit that is kept is to all.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.artifacts.bundle import Bundle
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.evaluation.evaluate import outputs_of_split
from vkd_pyro.evaluation.outputs import StudyOutputs, signals
from vkd_pyro.metrics import Interval
from vkd_pyro.posthoc.calibration import Calibration, Fit
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.known import rounded
from vkd_pyro.posthoc.lines import Lines
from vkd_pyro.posthoc.site import Adaptation, choose, folds_of
from vkd_pyro.posthoc.thresholds import OperatingPoint, OperatingPoints
from vkd_pyro.posthoc.usual import UsualProbabilities
from vkd_pyro.utils.errors import UserError

Array = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Array]
"""From how often each study counts, [R, N], to a number of each, [R]."""

BINS = 15
"""Of the calibration error."""

FEWEST_STUDIES, FEWEST_PATIENTS = 100, 50
"""Labelled studies of a site, and patients, below which nothing is fitted: it would be worse than what was there."""


@dataclass(frozen=True)
class Change:
    """A measure on patients that no fit had seen: as the bundle was, recalibrated, and the difference."""

    measure: str
    before: Interval
    after: Interval
    difference: Interval


MOVED = "moved with the probabilities, not fitted"
"""Said of a threshold that is the bundle's own."""


@dataclass(frozen=True)
class Recalibrated:
    """What `recalibrate` made.

    Attributes:
        calibration: to be used at the site.
        chosen: the adaptation, of studies and of single images.
        counts: studies, patients and images with labels, that it was fitted to.
        changes: what it is worth.
        fitted: findings whose threshold is of this site.
        kept: of each other finding, what its threshold is in place of one of this site, and why.
    """

    calibration: Calibration
    chosen: dict[str, str]
    counts: dict[str, int]
    changes: tuple[Change, ...]
    fitted: tuple[str, ...]
    kept: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """All but the calibration; NaN is null."""
        changes = [
            {"measure": c.measure} | {name: _bounds(getattr(c, name)) for name in ("before", "after", "difference")}
            for c in self.changes
        ]
        own = {name: getattr(self, name) for name in ("chosen", "counts", "kept")}
        return own | {"fitted": list(self.fitted), "changes": changes}


def site_data(data: StudyData) -> StudyData:
    """The data of a site, whose labels are all understood as those of an evaluation, whatever their split."""
    policy = data.task.policy("test")
    task = replace(data.task, train_policy=policy, label_share=1.0, control="none", max_train_studies=None)
    return StudyData(data.selection, task, data.loading)


def recalibrate(
    bundle: Bundle, data: StudyData, splits: Sequence[str], num_samples: int = 100, resamples: int = 1000, seed: int = 0
) -> Recalibrated:
    """Fits a bundle to a site.

    Args:
        bundle: with a calibration.
        data: of the site, see `site_data`.
        splits: whose studies are used.
        num_samples, seed: draws of z.
        resamples: of the patients, for intervals.

    Raises:
        UserError: no calibration to start from; or too few labelled studies, patients, or findings.
    """
    if bundle.calibration is None:
        raise UserError("recalibrate: the bundle has no calibration to start from; write one by vkd train")
    images = _outputs(bundle, data, splits, num_samples, seed)
    rows, patients = images.mean_over_images(), _patients(data, splits)
    whose = np.array([patients[study] for study in rows.study_ids])
    labelled = ~np.isnan(rows.labels).all(axis=1)
    _check_enough(rows.labels[labelled], whose[labelled], bundle.findings)
    known_images = ~np.isnan(images.labels).all(axis=1)
    of_images = np.array([patients[study] for study in images.study_ids])
    old = bundle.calibration
    study, chosen, undefined = _fitted(old.study, rows.probabilities[labelled], rows.labels[labelled], whose[labelled])
    image, of_image, _ = _fitted(
        old.image, images.probabilities[known_images], images.labels[known_images], of_images[known_images]
    )
    reference = old.reference.refitted(signals(images))
    counts = {
        "studies": int(labelled.sum()),
        "patients": len(set(whose[labelled])),
        "images": int(known_images.sum()),
    }
    said = f"{counts['studies']} studies of the site"
    new = Calibration(study, image, reference, said)
    changes = _changes(old, rows, images, whose, of_images, resamples)
    fitted = tuple(finding for finding in bundle.findings if finding not in undefined)
    points = zip(bundle.findings, new.study.operating_points.points, strict=True)
    instead = {f: "none, as before" if point.threshold is None else MOVED for f, point in points}
    kept = {finding: f"{instead[finding]} ({why})" for finding, why in undefined.items()}
    return Recalibrated(new, {"study": str(chosen), "image": str(of_image)}, counts, changes, fitted, kept)


def _outputs(bundle: Bundle, data: StudyData, splits: Sequence[str], num_samples: int, seed: int) -> StudyOutputs:
    """A row an image."""
    parts = [outputs_of_split(bundle.method, data, split, num_samples, "image", seed=seed) for split in splits]
    return StudyOutputs.concatenate(parts)


def _patients(data: StudyData, splits: Sequence[str]) -> dict[str, str]:
    return {study.study_id: study.patient_id for split in splits for study in data.studies(split)}


def _check_enough(labels: Array, patients: NDArray[np.str_], findings: Sequence[str]) -> None:
    found = {"labelled studies": (len(labels), FEWEST_STUDIES), "patients": (len(set(patients)), FEWEST_PATIENTS)}
    for what, (number, least) in found.items():
        if number < least:
            raise UserError(
                f"recalibrate: found {number} {what} of the site, expected at least {least}: of fewer, what is fitted "
                "is worse than what is there; label more, or use the bundle as it is"
            )
    both = [min((labels[:, k] == 1).sum(), (labels[:, k] == 0).sum()) for k in range(len(findings))]
    if max(both) < metrics.FEWEST:
        raise UserError(
            f"recalibrate: no finding has {metrics.FEWEST} studies with it and as many without it, among "
            f"{len(labels)} labelled studies; label more"
        )


# ---------------------------------------------------------------------------------------------- fits


def _fitted(
    old: Fit, probabilities: Array, labels: Array, patients: NDArray[np.str_]
) -> tuple[Fit, Adaptation, dict[str, str]]:
    """The fit to rows of a site, the adaptation chosen for it, and why a finding has no threshold of the site."""
    findings = old.recalibration.findings
    honest = old.recalibration(probabilities)
    chosen = choose(honest, labels, patients, findings)
    fit, undefined = _fit(old, chosen, probabilities, labels)
    return fit, chosen, undefined


def _fit(old: Fit, adaptation: Adaptation, probabilities: Array, labels: Array) -> tuple[Fit, dict[str, str]]:
    findings = old.recalibration.findings
    lines = adaptation.fit(old.recalibration(probabilities), labels, findings)
    recalibration = old.recalibration.then(lines)
    honest = recalibration(probabilities)
    points = OperatingPoints.fit(honest, labels, findings, old.operating_points.rule)
    moved = OperatingPoints(points.rule, tuple(_point(*each) for each in _each(old, points, lines, honest, labels)))
    conformal = Conformal.fit(honest, labels, findings, old.conformal.alpha)
    return Fit(recalibration, moved, conformal, UsualProbabilities.fit(honest, findings)), points.undefined


def _each(
    old: Fit, points: OperatingPoints, lines: Lines, honest: Array, labels: Array
) -> list[tuple[OperatingPoint, float, Array, Array]]:
    """Of each finding: its point, the old threshold moved with the probabilities, and what it is judged by."""
    thresholds = old.operating_points.thresholds
    moved = np.where(thresholds > 1, thresholds, lines(thresholds))
    return [(point, float(moved[k]), honest[:, k], labels[:, k]) for k, point in enumerate(points.points)]


def _point(point: OperatingPoint, moved: float, honest: Array, labels: Array) -> OperatingPoint:
    """The threshold of the site; where its labels give none, the old one, so far as there is one."""
    if point.threshold is not None or np.isnan(moved):
        return point
    threshold = moved if moved > 1 else rounded(moved, "down")
    known = ~np.isnan(labels) & ~np.isnan(honest)
    yes, positive = honest[known] >= threshold, labels[known] == 1
    right = int((yes & positive).sum()), int((~yes & ~positive).sum())
    return OperatingPoint(point.finding, threshold, int(positive.sum()), int((~positive).sum()), *right)


# ------------------------------------------------------------------------------------- what it is worth


def _changes(
    old: Calibration,
    rows: StudyOutputs,
    images: StudyOutputs,
    patients: NDArray[np.str_],
    of_images: NDArray[np.str_],
    resamples: int,
) -> tuple[Change, ...]:
    """Each measure before and after, on patients whom the fit of their fold had not seen: of the same studies and
    findings, those of which both say something."""
    before, after = _Said.nothing(rows.labels), _Said.nothing(rows.labels)
    before.put(np.ones(len(patients), bool), old.study, rows.probabilities)
    flagged = np.zeros((2, len(images.study_ids)))
    flagged[0] = old.reference.score(signals(images)).flagged
    for held_out in folds_of(patients):
        p, y = rows.probabilities[~held_out], rows.labels[~held_out]
        new, *_ = _fitted(old.study, p, y, patients[~held_out])
        after.put(held_out, new, rows.probabilities)
        out = np.isin(of_images, np.unique(patients[held_out]))
        reference = old.reference.refitted(signals(images.some(~out)))
        flagged[1, out] = reference.score(signals(images.some(out))).flagged
    before, after = before.beside(after), after.beside(before)
    measures: dict[str, Callable[[_Said], Statistic]] = {
        "log loss": _Said.log_loss,
        "ECE": _Said.calibration_error,
        "sensitivity at the thresholds": _Said.sensitivity,
        "specificity at the thresholds": _Said.specificity,
        "conformal coverage, present": _Said.coverage_present,
        "conformal coverage, absent": _Said.coverage_absent,
    }
    found = [_change(name, of(before), of(after), patients, resamples) for name, of in measures.items()]
    share = [lambda counts, f=f: counts @ f / counts.sum(axis=1) for f in flagged]
    return (*found, _change("share of images out-of-distribution", share[0], share[1], of_images, resamples))


def _change(name: str, before: Statistic, after: Statistic, patients: NDArray[np.str_], resamples: int) -> Change:
    first, second = (metrics.bootstrap_interval(of, patients, resamples) for of in (before, after))
    both = metrics.bootstrap_interval(lambda counts: after(counts) - before(counts), patients, resamples)
    return Change(name, first, second, both)


@dataclass
class _Said:
    """What a calibration said of N studies: probabilities, answers by threshold (NaN none), sets; [N, K]."""

    labels: Array
    honest: Array
    yes: Array
    absent: Array
    present: Array

    @classmethod
    def nothing(cls, labels: Array) -> "_Said":
        return cls(labels, *(np.full_like(labels, np.nan) for _ in range(4)))

    def put(self, chosen: NDArray[np.bool_], fit: Fit, probabilities: Array) -> None:
        honest = fit.recalibration(probabilities[chosen])
        thresholds = fit.operating_points.thresholds
        sets = fit.conformal.sets(honest)
        defined = [finding not in fit.conformal.undefined for finding in fit.conformal.findings]
        self.honest[chosen] = honest
        self.yes[chosen] = np.where(np.isnan(thresholds), np.nan, honest >= thresholds)
        self.absent[chosen], self.present[chosen] = (np.where(defined, sets[..., c], np.nan) for c in (0, 1))

    def beside(self, other: "_Said") -> "_Said":
        """The same where both have something to say: a finding without a threshold before is in no difference."""
        parts = ("honest", "yes", "absent", "present")
        found = {name: (getattr(self, name), getattr(other, name)) for name in parts}
        return replace(self, **{name: np.where(np.isnan(its), np.nan, own) for name, (own, its) in found.items()})

    def log_loss(self) -> Statistic:
        p = np.clip(self.honest, 1e-7, 1 - 1e-7)
        return _mean(np.where(self.labels == 1, -np.log(p), -np.log1p(-p)), ~np.isnan(self.labels))

    def sensitivity(self) -> Statistic:
        return _mean(self.yes, self.labels == 1)

    def specificity(self) -> Statistic:
        return _mean(1 - self.yes, self.labels == 0)

    def coverage_present(self) -> Statistic:
        return _mean(self.present, self.labels == 1)

    def coverage_absent(self) -> Statistic:
        return _mean(self.absent, self.labels == 0)

    def calibration_error(self) -> Statistic:
        """Over 15 bins of equal width, all pairs together: sums of a study in each bin, then of a resample."""
        known = ~np.isnan(self.labels) & ~np.isnan(self.honest)
        study, finding = np.nonzero(known)
        bins = np.minimum(self.honest[known] * BINS, BINS - 1).astype(int)
        gaps = np.zeros((len(self.labels), BINS))
        np.add.at(gaps, (study, bins), self.labels[study, finding] - self.honest[study, finding])
        number = known.sum(axis=1)
        return lambda counts: np.abs(counts @ gaps).sum(axis=1) / (counts @ number)


def _mean(values: Array, where: NDArray[np.bool_]) -> Statistic:
    """Of the pairs that are asked for and defined."""
    where = where & ~np.isnan(values)
    sums, number = np.where(where, values, 0.0).sum(axis=1), where.sum(axis=1)

    def statistic(counts: NDArray[np.int64]) -> Array:
        with np.errstate(invalid="ignore"):
            return (counts @ sums) / (counts @ number)

    return statistic


def _bounds(interval: Interval) -> dict[str, float | None]:
    numbers = {name: value for name, value in asdict(interval).items() if name != "note"}
    return {name: None if np.isnan(value) else float(value) for name, value in numbers.items()}


def card_of(card: str, corpus: str, made: Recalibrated) -> str:
    """The card of a bundle, and below it what was fitted to a site, and what that is worth."""
    counts = ", ".join(f"{number} {name}" for name, number in made.counts.items())
    rows = [f"| {c.measure} | {c.before:.3f} | {c.after:.3f} | {c.difference} |" for c in made.changes]
    kept = [f"- {finding}: threshold {what}." for finding, what in made.kept.items()]
    lines = [
        f"## Recalibrated for a site: {corpus}",
        "",
        f"Fitted to {counts}, the weights as before: probabilities ({made.chosen['study']}; of single images "
        f"{made.chosen['image']}), thresholds, conformal sets, and which images are usual. Measured on patients of the "
        "site that a fit had not seen, fold by fold, with 95 % intervals over patients:",
        "",
        "| | before | after | difference |",
        "|---|---|---|---|",
        *rows,
        "",
        *kept,
    ]
    return card.rstrip() + "\n\n" + "\n".join(lines).rstrip() + "\n"
