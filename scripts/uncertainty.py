"""Does the uncertainty mean anything? Measured on cross-fitted runs, beside calibration, mismatch, OOD images.

    python scripts/uncertainty.py openi_cpu/vkd openi_cpu_labels_0.1/vkd --json results/uncertainty_openi.json

Rows are of `scripts/reproduce.py openi`, whose runs are read (RUNS/ROW-SEED-foldFOLD). Each study is evaluated by a
model that never saw its patient; what was fitted on validation is fitted on the validation split of each fold. Numbers
are means over seeds; of a ratio the interval of each seed is shown.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import write_result
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor
from tqdm import tqdm

from vkd_pyro import metrics
from vkd_pyro.artifacts.run import Run, load_run
from vkd_pyro.evaluation import tables
from vkd_pyro.evaluation.cross_fitting import join_folds
from vkd_pyro.evaluation.evaluate import evaluate_run
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.evaluation.outputs import outputs_of_images, signals
from vkd_pyro.model import ImageModel
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.posthoc.ood import Signals
from vkd_pyro.posthoc.recalibration import Isotonic, Platt, Temperature
from vkd_pyro.reporting.write import mismatch_of
from vkd_pyro.training.posthoc import calibrate

Array = NDArray[np.float64]
REFERRED = 0.2
NUM_PHOTOGRAPHS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", help="folders of runs without -SEED-foldFOLD, e.g. openi_cpu/vkd")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    arguments = parser.parse_args()
    columns = {row: measured(arguments.runs / row, arguments.seeds, arguments.folds) for row in arguments.rows}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    table = {name: {row: column.get(name, "-") for row, column in columns.items()} for name in names}
    for name, cells in table.items():
        print(f"{name:<60}" + "".join(f"{cell:>42}" for cell in cells.values()))
    if arguments.json is not None:
        write_result(arguments.json, {"rows": "measured", "table": table})


def measured(row: Path, seeds: int, folds: int) -> dict[str, str]:
    """A column of the table."""
    by_seed: list[Evaluation] = []
    recalibrated: list[dict[str, Array]] = []
    of_runs: list[dict[str, float]] = []
    for seed in range(seeds):
        runs = [Path(f"{row}-{seed}-fold{fold}") for fold in range(folds)]
        evaluations, versions, numbers = zip(*map(evaluated, tqdm(runs, desc=f"{row}, seed {seed}")), strict=True)
        by_seed.append(join_folds(evaluations))
        recalibrated.append({name: np.concatenate([version[name] for version in versions]) for name in versions[0]})
        of_runs += numbers
    uncertainties: dict[str, Callable[[Evaluation], Array]] = {
        "none, sum of probabilities": lambda e: e.probabilities,
        "total": lambda e: e.uncertainty,
        "that of z": lambda e: e.latent_uncertainty,
    }
    if seeds > 1:  # mutual information of a label and the network that predicts it, the seeds being the networks
        between = metrics.epistemic_uncertainty(np.stack([e.probabilities for e in by_seed])[:, None])
        uncertainties[f"between {seeds} networks"] = lambda _: between
    found: dict[str, str] = {}
    for name, uncertainty in uncertainties.items():
        if not np.isnan(uncertainty(by_seed[0])).all():
            found |= of_uncertainty(name, by_seed, uncertainty)
    found |= of_referral(by_seed) | of_calibration(by_seed, recalibrated) | of_conformal(by_seed)
    for name in of_runs[0]:
        values = np.array([numbers[name] for numbers in of_runs])
        if not np.isnan(values).all():
            found[name] = f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
    return found


# ---------------------------------------------------------------------------------------- one run


def evaluated(path: Path) -> tuple[Evaluation, dict[str, Array], dict[str, float]]:
    """The evaluation of a run on its fold; probabilities by each recalibration; what is measured of the run alone."""
    run = load_run(path)
    calibration = run.bundle.calibration or calibrate(run.method, run.data)
    run = replace(run, bundle=replace(run.bundle, calibration=calibration))
    evaluation, rows = evaluate_run(run)
    validation = outputs_of_images(run.method, run.data, "validation", 100).mean_over_images()
    recalibrated = {"raw": evaluation.probabilities}
    for kind in (Temperature, Platt, Isotonic):
        fitted = kind.fit(validation.probabilities, validation.labels, evaluation.findings)
        recalibrated[kind.__name__] = fitted(evaluation.probabilities)
    numbers = of_answers(evaluation, calibration)
    if (found := mismatch_of(run.method, run.data, "test")) is not None:
        numbers["reports beside another image: AUROC of the KL"] = found.auroc("own")
        numbers["reports beside another image: AUROC of the mismatch score"] = found.auroc()
    usual = calibration.reference.score(signals(rows))
    numbers["out-of-distribution: frontals flagged"] = float(usual.flagged.mean())
    for name, images in others(run):
        other = calibration.reference.score(signals_of(run.method.model, images))
        labels = np.repeat([0.0, 1.0], [len(usual.score), len(other.score)])
        score = np.concatenate([usual.score, other.score])
        numbers[f"out-of-distribution: AUROC, {name}"] = metrics.auroc(score, labels)
        numbers[f"out-of-distribution: {name} flagged"] = float(other.flagged.mean())
    return evaluation, recalibrated, numbers


def others(run: Run) -> Iterator[tuple[str, Tensor]]:
    """Images that the model was not made for, float [N, 1, size, size] by name; patients are those of the test."""
    data = run.data
    frontals = torch.cat([batch.images for batch in data.evaluation_loader("test", None)])
    patients = {study.patient_id for study in data.studies("test")}
    laterals = [
        data.transform(image)
        for study in data.corpus.studies()
        if study.patient_id in patients
        for image, view in zip(study.images, study.views, strict=True)
        if view == "lateral"
    ]
    yield "laterals", torch.stack(laterals).float() / 255
    yield "inverted", 1 - frontals
    yield "photographs", torch.stack([data.transform(image) for image in photographs()]).float() / 255


def photographs() -> Iterator[NDArray[np.uint8]]:
    """Square crops of scikit-learn's two photographs, gray, uint8 [side, side]."""
    generator = np.random.default_rng(0)
    images = [image.mean(axis=2).astype(np.uint8) for image in load_sample_images().images]
    for number in range(NUM_PHOTOGRAPHS):
        image = images[number % len(images)]
        side = int(generator.integers(120, min(image.shape)))
        top, left = (int(generator.integers(0, length - side + 1)) for length in image.shape)
        yield np.ascontiguousarray(image[top : top + side, left : left + side])


@torch.no_grad()
def signals_of(model: ImageModel, images: Tensor) -> Signals:
    """What an `OODDetector` looks at in images, float [N, 1, size, size]."""
    features = model.encode(images)
    said = model.posterior_predictive(features, 100)
    latents = None if said.latent is None else said.latent.mean.double().cpu().numpy()
    uncertainty = metrics.entropy(said.probabilities.double().cpu().numpy()).sum(axis=-1)
    return Signals(features.float().cpu().numpy(), latents, uncertainty)


def of_answers(e: Evaluation, calibration: Calibration) -> dict[str, float]:
    """How many answers by the thresholds are referred, and how many are wrong of those that are not, and are."""
    answers = calibration.study.operating_points.answers(e.calibrated)  # nothing referred
    known = ~np.isnan(e.labels) & np.isin(answers, ("yes", "no"))
    is_wrong, referred = (answers == "yes") != (e.labels == 1), known & (e.answers == "refer")
    return {
        "answers by thresholds: referred": float(referred.sum() / known.sum()),
        "answers by thresholds: wrong, not referred": float(is_wrong[known & ~referred].mean()),
        "answers by thresholds: wrong, referred": float(is_wrong[referred].mean()) if referred.any() else float("nan"),
    }


# ------------------------------------------------------------------------------- all folds together


def of_uncertainty(
    name: str, by_seed: Sequence[Evaluation], uncertainty: Callable[[Evaluation], Array]
) -> dict[str, str]:
    """Wrong answers of the most uncertain fifth of the studies and of the rest; whether it tells wrong from right."""
    found = [tables.selective(e, uncertainty(e).sum(axis=1)) for e in by_seed]
    wrong = [np.where(np.isnan(e.labels), np.nan, (e.calibrated >= 0.5) != (e.labels == 1)) for e in by_seed]
    tells = [metrics.auroc(uncertainty(e).ravel(), each.ravel()) for e, each in zip(by_seed, wrong, strict=True)]
    return {
        "every answer no: wrong answers": mean(f.never for f in found),
        f"uncertainty, {name}: wrong answers, most uncertain fifth": mean(f.uncertain_error for f in found),
        f"uncertainty, {name}: wrong answers, the rest": mean(f.other_error for f in found),
        f"uncertainty, {name}: ratio": "; ".join(f"{f.ratio:.2f}" for f in found),
        f"uncertainty, {name}: AUROC, wrong from right answers": mean(tells),
    }


def of_referral(by_seed: Sequence[Evaluation]) -> dict[str, str]:
    """Wrong answers left when a fifth of the studies is referred."""
    curves = [tables.selective(e) for e in by_seed]
    at = int(np.abs(tables.SHARES - REFERRED).argmin())
    orders = {"at random": "random", "most uncertain": "error", "most errors (oracle)": "oracle"}
    return {f"a fifth referred, {name}: wrong": mean(getattr(c, a)[at] for c in curves) for name, a in orders.items()}


def of_calibration(by_seed: Sequence[Evaluation], recalibrated: Sequence[dict[str, Array]]) -> dict[str, str]:
    """Before and after each recalibration, all pairs pooled."""
    found = [
        {name: tables.calibration_of(probabilities, e.labels) for name, probabilities in versions.items()}
        for e, versions in zip(by_seed, recalibrated, strict=True)
    ]
    measures = ("ECE", "adaptive ECE", "log loss", "slope")
    return {f"{m}, {name.lower()}": mean(seed[name][m] for seed in found) for m in measures for name in found[0]}


def of_conformal(by_seed: Sequence[Evaluation]) -> dict[str, str]:
    """How often sets for a coverage of 0.9 cover the answer, by class, over all findings; each fold has its own."""
    shares = [conformal_shares(e) for e in by_seed]
    return {f"conformal, {name}": mean(each[name] for each in shares) for name in shares[0]}


def conformal_shares(e: Evaluation) -> dict[str, float]:
    """Over the known labels of all findings: coverage where absent, where present, and sets of a single answer."""
    present = np.isin(e.conformal, ("yes", "refer"))
    absent = np.isin(e.conformal, ("no", "refer"))
    known = ~np.isnan(e.labels)
    return {
        "coverage, absent": float(absent[e.labels == 0].mean()),
        "coverage, present": float(present[e.labels == 1].mean()),
        "one answer": float((present ^ absent)[known].mean()),
    }


def mean(values: Any) -> str:
    """Over seeds."""
    return f"{np.mean(list(values)):.3f}"


if __name__ == "__main__":
    main()
