"""What an evaluation leaves in its folder: page, figures, numbers; and what is computed for the page alone."""

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vkd_pyro.data.loading import StudyData
from vkd_pyro.evaluation import Evaluation, outputs_of_studies, save_evaluation
from vkd_pyro.evaluation_page import Assessment, Extras, page_of, pictures_of
from vkd_pyro.explanations.images import grad_cam, overlay
from vkd_pyro.explanations.latent import embed, mismatch_auroc
from vkd_pyro.figures import save
from vkd_pyro.files import private_folder
from vkd_pyro.model import VKD, ImageBranch, ImageOnly
from vkd_pyro.outputs import StudyOutputs
from vkd_pyro.page import write_page

MAX_POINTS = 1000
"""Studies on a map of z: t-SNE of more takes minutes and shows no more."""

Network = VKD | ImageOnly | ImageBranch


def save_all(evaluation: Evaluation, folder: Path, extras: Extras, num_resamples: int = 1000) -> Assessment:
    """Writes evaluation.json, predictions.parquet, figures/ and index.html into a folder."""
    assessed = Assessment.of(evaluation, num_resamples)
    page = page_of(evaluation, assessed, extras)
    private_folder(folder)
    save_evaluation(evaluation, folder, evaluation.summary() | assessed.summary())
    private_folder(folder / "figures")
    write_page(page, folder / "index.html")
    for name, figure in pictures_of(page):
        save(figure, folder / "figures", name)
    return assessed


def maps_of(
    evaluation: Evaluation, z: dict[str, NDArray[np.float64]]
) -> tuple[dict[str, tuple[NDArray[Any], NDArray[Any]]], str]:
    """Maps of z by t-SNE (the paper's Figs. 2 and 3), coloured by the finding with most positives, and what they show.

    Args:
        z: by title, the means of z of each study, [N, D]; NaN where there is none.
    """
    most = shown_finding(evaluation)
    rows = np.linspace(0, len(evaluation.labels) - 1, min(MAX_POINTS, len(evaluation.labels))).astype(int)
    maps = {}
    for title, locs in z.items():
        chosen = locs[rows]
        number = int(np.isfinite(chosen).all(axis=1).sum())
        if number >= 4:
            maps[title] = (embed(chosen, perplexity=min(30, (number - 1) / 3)), evaluation.labels[rows, most])
    return maps, f"Means of z of {len(rows):,} studies, coloured by {evaluation.findings[most]}."


def shown_finding(evaluation: Evaluation) -> int:
    """The number of the finding with most positives; "No Finding" only where there is no other."""
    positives = np.nansum(evaluation.labels, axis=0) + 1.0
    return int(np.where(np.array(evaluation.findings) == "No Finding", 0.5, positives).argmax())


def mismatch_of(network: Network, data: StudyData, rows: StudyOutputs, split: str, num_samples: int = 16) -> float:
    """AUROC of the KL in telling reports that were exchanged between studies from the true ones."""
    exchanged = copy(data)
    exchanged.control = "shuffled_reports"
    theirs = outputs_of_studies(network, exchanged, split, num_samples, use_reports=True)
    return mismatch_auroc(rows.kl, theirs.kl)


def cases_of(
    network: Network, data: StudyData, evaluation: Evaluation, number: int
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """The studies with the highest probability of the finding with most positives, and the most doubtful, in turn.

    Returns: images [n, H, W], the same with the class activation of that finding, captions without any name.
    """
    k = shown_finding(evaluation)
    p, finding = evaluation.probabilities[:, k], evaluation.findings[k]
    orders = np.argsort(-p), np.argsort(-evaluation.doubt[:, k])
    chosen = list(dict.fromkeys(row for pair in zip(*orders, strict=True) for row in pair))[:number]
    wanted = {evaluation.study_ids[row]: row for row in chosen}
    images: dict[int, torch.Tensor] = {}
    for batch in data.evaluation_loader(evaluation.how["split"], None):
        for image, study in zip(batch.images, batch.study_ids, strict=True):
            if study in wanted:
                images.setdefault(wanted[study], image)
    pixels = torch.stack([images[row] for row in chosen])
    maps = grad_cam(network.model, pixels.to(next(network.parameters()).device), k).cpu().numpy()
    gray = pixels[:, 0].numpy()
    overlays = np.stack([overlay(image, cam) for image, cam in zip(gray, maps, strict=True)])
    said = {1.0: "present", 0.0: "absent"}
    captions = [f"{finding}: {p[row]:.2f}, label {said.get(evaluation.labels[row, k], 'unknown')}" for row in chosen]
    return gray, overlays, captions


def training_table(run: Path) -> pd.DataFrame | None:
    """A run's metrics.csv; None where there is none."""
    path = run / "metrics.csv"
    return pd.read_csv(path) if path.is_file() else None
