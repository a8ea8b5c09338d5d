"""What an evaluation leaves in its folder: page, figures, numbers; and what is computed for the page alone."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vkd_pyro.data.study_data import StudyData
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.evaluation.saved import save_evaluation
from vkd_pyro.explanations.images import grad_cam, overlay
from vkd_pyro.explanations.mismatch import Mismatch, mismatch
from vkd_pyro.methods.base import Method
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.reporting.checklist import checklists
from vkd_pyro.reporting.figures import save
from vkd_pyro.reporting.html import write_checklists, write_page, write_text
from vkd_pyro.reporting.maps import shown_finding
from vkd_pyro.reporting.sections import Assessment, Extras, figures_of, page_of, plain
from vkd_pyro.reporting.tables import as_csv, as_latex, tables_of
from vkd_pyro.utils.files import private_folder, write_json


def save_all(
    evaluation: Evaluation,
    folder: Path,
    extras: Extras,
    num_resamples: int = 1000,
    prevalence: Mapping[str, float] | None = None,
) -> Assessment:
    """Writes an evaluation into a folder: its numbers, its page, figures/, tables/ for a paper, reporting checklists.

    Arguments as of `Assessment.of`.
    """
    if extras.mismatch is not None:
        evaluation = with_mismatch(evaluation, extras.mismatch)
    assessed = Assessment.of(evaluation, num_resamples, prevalence)
    page = page_of(evaluation, assessed, extras)
    private_folder(folder)
    remove_page(folder)
    more = {name: part.summary() for name, part in (("cohort", extras.cohort), ("method", extras.method)) if part}
    if extras.against is not None:
        more["against"] = {"name": extras.against[0], f"macro{MIN_POSITIVES}": plain(extras.against[1])}
    if extras.localization is not None:
        more["heatmaps"] = plain(extras.localization.parts())
    save_evaluation(evaluation, folder, evaluation.summary() | assessed.summary() | more)
    for name in ("figures", "tables"):
        private_folder(folder / name)
    write_page(page, folder / "index.html")
    for name, figure in figures_of(page):
        save(figure, folder / "figures", name)
    for name, table in tables_of(page):
        write_text(folder / "tables" / f"{name}.csv", as_csv(table))
        write_text(folder / "tables" / f"{name}.tex", as_latex(table))
    write_text(folder / "failures.csv", assessed.failures.to_csv(index=False))
    lists = checklists([section.name for section in page.sections])
    write_checklists(lists, page, folder / "checklist.html")
    write_json(folder / "checklist.json", [each.summary() for each in lists])
    return assessed


def remove_page(folder: Path) -> None:
    """Removes what an earlier `save_all` wrote beside the numbers: it would contradict others."""
    for name in ("index.html", "failures.csv", "checklist.html", "checklist.json"):
        (folder / name).unlink(missing_ok=True)
    for name in ("figures", "tables"):
        shutil.rmtree(folder / name, ignore_errors=True)


def mismatch_of(method: Method, data: StudyData, split: str) -> Mismatch | None:
    """`mismatch` of a split; None where no posterior of z reads reports that are true."""
    if data.task.control != "none" or not hasattr(method.guide, "posterior"):
        return None
    device = next(method.parameters()).device
    return mismatch(method, (batch.to(device) for batch in data.evaluation_loader(split, method.report_encoder)))


def with_mismatch(evaluation: Evaluation, found: Mismatch) -> Evaluation:
    """The evaluation with the mismatch score of each study; NaN without a report."""
    excess = pd.Series(found.score, index=found.study_ids).reindex(list(evaluation.study_ids))
    return replace(evaluation, mismatch_score=np.asarray(excess, np.float64))


def cases_of(
    method: Method, data: StudyData, evaluation: Evaluation, number: int
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """The studies with the highest probability of the finding with most positives, and the most uncertain, in turn.

    Returns: images [n, H, W], the same with the class activation of that finding, captions without any name.
    """
    k = shown_finding(evaluation)
    p, finding = evaluation.probabilities[:, k], evaluation.findings[k]
    orders = np.argsort(-p), np.argsort(-evaluation.uncertainty[:, k])
    chosen = list(dict.fromkeys(row for pair in zip(*orders, strict=True) for row in pair))[:number]
    pixels = _images_of(data, evaluation, chosen)
    maps = grad_cam(method.model, pixels.to(next(method.parameters()).device), k).cpu().numpy()
    gray = pixels[:, 0].numpy()
    overlays = np.stack([overlay(image, cam) for image, cam in zip(gray, maps, strict=True)])
    said = {1.0: "present", 0.0: "absent"}
    captions = [f"{finding}: {p[row]:.2f}, label {said.get(evaluation.labels[row, k], 'unknown')}" for row in chosen]
    return gray, overlays, captions


def _images_of(data: StudyData, evaluation: Evaluation, chosen: list[int]) -> torch.Tensor:
    """Those of the rows chosen, float [n, 1, H, W]; of a study with several images the first."""
    rows: dict[Any, int] = {}  # numbered as the evaluation has them
    images: dict[int, torch.Tensor] = {}
    for batch in data.with_images().evaluation_loader(evaluation.how["split"], None):
        for image, study in zip(batch.images, batch.study_ids, strict=True):
            row = rows.setdefault(len(rows) if evaluation.how["level"] == "image" else study, len(rows))
            if row in chosen:
                images.setdefault(row, image)
    return torch.stack([images[row] for row in chosen])


def save_samples(method: Method, data: StudyData, split: str, path: Path, num_samples: int = 100, seed: int = 0) -> int:
    """Writes every draw of z and p(y | x_I, z), image by image, to netCDF for ArviZ, beside the labels.

    In a stream: memory does not grow with the split. A study with several images has a row each, numbered from 0 after
    a slash. Returns: rows written.
    """
    from vkd_pyro.evaluation.arviz_export import SampleWriter

    device = next(method.parameters()).device
    several = any(len(study.images) > 1 for study in data.studies(split))
    with SampleWriter(path, method.findings, 1, num_samples, seed) as writer:
        for batch in data.evaluation_loader(split, None):
            names, seen = [], Counter[str]()
            for study in batch.study_ids:  # a batch holds whole studies
                names.append(f"{study}/{seen[study]}" if several else study)
                seen[study] += 1
            said = predict(method.model, batch.images.to(device), method.findings, num_samples, seed)
            writer.append(said.samples, names, batch.labels.masked_fill(~batch.known, torch.nan).numpy(), said.z)
        return writer.num_studies


def training_table(run: Path) -> pd.DataFrame | None:
    """A run's metrics.csv; None where there is none."""
    path = run / "metrics.csv"
    return pd.read_csv(path) if path.is_file() else None
