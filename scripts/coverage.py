"""How often intervals hold the truth: simulated patients with several images each, by kind of interval.

    python scripts/coverage.py --json results/coverage.json

A score is normal; a patient's images share half of its variance, and a patient with the finding has it in all of them,
so the true AUC is known. Cells of a finding are for a true AUC of 0.65 / 0.8 / 0.95; 0.95 is asked for.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtrit
from tqdm import tqdm

from vkd_pyro.evaluation.tables.areas import resampled_areas, resampled_micro_auroc, weighted_mean
from vkd_pyro.metrics import (
    auroc_interval,
    clustered_area,
    interval_of,
    resample_counts,
)

AREAS = (0.65, 0.8, 0.95)
NEGATIVES = 300
"""Images without the finding."""
RESAMPLES = 300
NORMAL = 1.959964

Array = NDArray[np.float64]
Bounds = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_sets", type=int, default=1000, help="of each row and true AUC")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    table = {}
    for images in (1, 3):
        for positives in (5, 10, 20, 30, 100):
            row = f"{positives} patients with it, {images} image{'s' * (images > 1)} each"
            table[row] = one_finding(positives, images, 1.0, arguments.data_sets)
    for spread in (0.6, 1.6):
        row = f"20 patients with it, 1 image each, their scores {spread} times as spread"
        table[row] = one_finding(20, 1, spread, arguments.data_sets)
    table |= several_findings(arguments.data_sets)
    command = f"python scripts/coverage.py --json {arguments.json}"
    if arguments.data_sets != parser.get_default("data_sets"):
        command += f" --data_sets {arguments.data_sets}"
    content = {"command": command, "rows": "simulated", "table": table}
    arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------ one finding


def one_finding(positives: int, images: int, spread: float, data_sets: int) -> dict[str, str]:
    """Coverage of each kind of interval, a number for each of `AREAS`."""
    held: dict[str, list[str]] = {}
    for area in tqdm(AREAS, f"{positives} x {images}, {spread}", leave=False):
        found: dict[str, list[bool]] = {}
        for scores, labels, patients in simulated(positives, images, spread, area, data_sets):
            for name, (low, high) in intervals(scores, labels, patients).items():
                found.setdefault(name, []).append(low <= area <= high)
        for name, inside in found.items():
            held.setdefault(name, []).append(f"{np.mean(inside):.3f}")
    return {name: " / ".join(each) for name, each in held.items()}


def simulated(
    positives: int, images: int, spread: float, area: float, data_sets: int
) -> Iterator[tuple[Array, Array, NDArray[np.int64]]]:
    """Scores, labels and patients of data sets with that true AUC."""
    generator = np.random.default_rng([positives, images, int(100 * area)])
    patients = np.repeat(np.arange(positives + NEGATIVES // images), images)
    labels = (patients < positives).astype(float)
    shift = ndtri(area) * np.sqrt(1 + spread**2)
    for _ in range(data_sets):
        noise = (generator.normal(size=patients[-1] + 1)[patients] + generator.normal(size=len(patients))) / 2**0.5
        yield np.where(labels == 1, shift + spread * noise, noise), labels, patients


def intervals(scores: Array, labels: Array, patients: NDArray[np.int64]) -> dict[str, Bounds]:
    """Each kind of interval of the AUC."""
    found, ours = clustered_area(scores, labels, patients), auroc_interval(scores, labels, patients)
    error = np.sqrt(found.variance)
    t = stdtrit(found.freedom, 0.975)
    percentile, quantiles = bootstraps(scores, labels, patients, found.area)
    return {
        "percentile bootstrap": percentile,
        "DeLong, logit": on_logit_scale(found.area, error, -NORMAL, NORMAL),
        "DeLong, logit, t": on_logit_scale(found.area, error, -t, t),
        "studentised bootstrap, logit": on_logit_scale(found.area, error, *quantiles),
        "`auroc_interval`": (ours.low, ours.high),
    }


def on_logit_scale(area: float, error: float, low: float, high: float) -> Bounds:
    """From both quantiles of (logit of the area - that of the truth) / its standard error; NaN of an area of 1."""
    if not 0 < area < 1 or not error:
        return np.nan, np.nan
    unit = error / (area * (1 - area))
    return float(expit(logit(area) + low * unit)), float(expit(logit(area) + high * unit))


def bootstraps(scores: Array, labels: Array, patients: NDArray[np.int64], area: float) -> tuple[Bounds, Bounds]:
    """Quantiles of the area, and of the negated studentised logit, in resamples of patients, as many of each class as
    there are."""
    positive, every = labels == 1, []
    right = (scores[positive][:, None] > scores[~positive]).astype(float)
    sides = [patients[rows] for rows in (positive, ~positive)]
    values = []
    for counts in resample_counts(patients, RESAMPLES, strata=labels):
        of_positives, of_negatives = counts[:, positive].astype(float), counts[:, ~positive].astype(float)
        below, above = of_negatives @ right.T / right.shape[1], of_positives @ right / right.shape[0]
        areas = (of_positives * below).sum(1) / right.shape[0]
        variance = np.zeros(len(counts))
        for rows, moved, codes in ((of_positives, below, sides[0]), (of_negatives, above, sides[1])):
            first = np.flatnonzero(np.diff(codes, prepend=-1))  # of each patient's rows
            sums = np.add.reduceat(moved - areas[:, None], first, axis=1)
            variance += len(first) / (len(first) - 1) * (rows[:, first] * sums**2).sum(1) / len(codes) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = np.sqrt(variance) / (areas * (1 - areas))
            values.append((logit(areas) - logit(area)) / unit)
        every.append(areas)
    percentile = np.quantile(np.concatenate(every), [0.025, 0.975])
    joined = np.concatenate(values)
    known = joined[np.isfinite(joined)]
    low, high = np.quantile(known, [0.025, 0.975]) if known.size else (np.nan, np.nan)
    return (float(percentile[0]), float(percentile[1])), (-float(high), -float(low))


# ------------------------------------------------------------------------------ several findings


POSITIVES = (8, 15, 30, 45)
"""Patients with each of four findings, of 150 with two images each."""
SHIFTS = 1.0, 0.7
"""Of two models, whose scores share a patient's part."""


def several_findings(data_sets: int) -> dict[str, dict[str, str]]:
    """Coverage of the bootstrap over patients, of averages and of the difference of two models."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(150), 2)
    weights = {"macro": np.ones(4), "macro30": (2 * np.array(POSITIVES) >= 60).astype(float)}
    held: dict[str, list[bool]] = {}
    truth = truths([two_models(generator, patients) for _ in range(2000)], weights)
    for _ in tqdm(range(data_sets), "averages", leave=False):
        labels, ours, theirs = two_models(generator, patients)
        found = averages_of(labels, ours, theirs, weights, np.concatenate(list(resample_counts(patients, RESAMPLES))))
        here = averages_of(labels, ours, theirs, weights, np.ones((1, len(patients)), np.int64))
        for name, values in found.items():
            interval = interval_of(here[name][0], values)
            held.setdefault(name, []).append(interval.low <= truth[name] <= interval.high)
    counts = ", ".join(map(str, POSITIVES))
    return {
        f"{name}, findings of {counts} patients": {"percentile bootstrap": f"{np.mean(inside):.3f}"}
        for name, inside in held.items()
    }


def two_models(generator: np.random.Generator, patients: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Labels, and the scores of both models, [N, 4] each."""
    number = patients[-1] + 1
    of_patients = np.column_stack([generator.permutation(number) < count for count in POSITIVES])
    labels = of_patients[patients].astype(float)
    shared = generator.normal(size=(number, 4))[patients]
    ours, theirs = (shift * labels + (shared + generator.normal(size=labels.shape)) / 2**0.5 for shift in SHIFTS)
    return labels, ours, theirs


def truths(drawn: list[tuple[Array, Array, Array]], weights: dict[str, Array]) -> dict[str, float]:
    """Means over many data sets, of what the bootstrap is asked for."""
    each = [averages_of(*one, weights, np.ones((1, len(one[0])), np.int64)) for one in drawn]
    return {name: float(np.mean([found[name][0] for found in each])) for name in each[0]}


def averages_of(
    labels: Array, ours: Array, theirs: Array, weights: dict[str, Array], counts: NDArray[np.int64]
) -> dict[str, Array]:
    """Averages of the first model, and the differences of both, in resamples."""
    areas = [resampled_areas(scores, labels, None, counts) for scores in (ours, theirs)]
    found = {name: weighted_mean(areas[0], weight) for name, weight in weights.items()}
    found |= {f"{name}, difference": found[name] - weighted_mean(areas[1], weight) for name, weight in weights.items()}
    found["micro"] = resampled_micro_auroc(ours, labels, None, counts)
    return found


if __name__ == "__main__":
    main()
