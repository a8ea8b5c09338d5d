"""Maps of z: where studies lie, coloured by a finding, and by what their reports say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.facts import ATTRIBUTES, facts_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.explanations.latent import embed

MAX_POINTS = 1000
"""Studies on a map of z: t-SNE of more takes minutes and shows no more."""

NO_FINDING = "No Finding"

MIN_SAID = 10
"""Reports that say a side (a severity) of a finding; with fewer there is nothing to see."""


@dataclass(frozen=True)
class LatentMaps:
    """Maps of z side by side, one colouring for all.

    Attributes:
        title: of the figure.
        maps: by title, points [n, 2] and a word for each, [n]: see `figures.latent_maps`.
        caption: what is shown.
    """

    title: str
    maps: Mapping[str, tuple[NDArray[np.float64], NDArray[Any]]]
    caption: str


def maps_of(
    evaluation: Evaluation, z: Mapping[str, NDArray[np.float64]], reports: Sequence[str | None] | None = None
) -> tuple[LatentMaps, ...]:
    """Maps of z by t-SNE (the paper's Figs. 2 and 3): by the finding with most positives; and, where there are reports,
    by the side and the severity that they say, each of the finding that most say it of.

    Args:
        z: by title, the means of z of each study, [N, D]; NaN where there is none.
        reports: of each study, as text; a store has none.
    """
    rows = np.linspace(0, len(evaluation.labels) - 1, min(MAX_POINTS, len(evaluation.labels))).astype(int)
    points = {}
    for title, locs in z.items():
        number = int(np.isfinite(locs[rows]).all(axis=1).sum())
        if number >= 4:
            points[title] = embed(locs[rows], perplexity=min(30, (number - 1) / 3))
    if not points:
        return ()
    most = shown_finding(evaluation)
    labels = evaluation.labels[rows, most]
    words = np.select([labels == 1, labels == 0], ["present", "absent"], "unknown")
    caption = f"Means of z of {len(rows):,} studies, coloured by {evaluation.findings[most]}."
    own = {title: (places, words) for title, places in points.items()}
    texts = [reports[row] or "" for row in rows] if reports is not None else []
    others = _by_facts(points, facts_of(texts)) if any(texts) else []
    return LatentMaps("Map of z (t-SNE)", own, caption), *others


def _by_facts(points: Mapping[str, NDArray[np.float64]], facts: NDArray[np.int64]) -> list[LatentMaps]:
    """By side and by severity, where enough reports say one. Args: places [n, 2] by title; codes [n, K, 3]."""
    found = []
    for number, attribute in enumerate(("side", "severity"), 1):
        said = (facts[:, :, number] > 0) * (np.array(CHEXPERT_FINDINGS) != NO_FINDING)
        finding = int(said.sum(0).argmax())
        if said[:, finding].sum() < MIN_SAID:
            continue
        mentioned = facts[:, finding, 0] >= ATTRIBUTES["presence"].index("uncertain")
        words = np.where(mentioned, np.array(ATTRIBUTES[attribute])[facts[:, finding, number]], "absent")
        maps = {title: (places, words) for title, places in points.items()}
        caption = (
            f"The same points, coloured by the {attribute} of {CHEXPERT_FINDINGS[finding]} that their reports say."
        )
        found.append(LatentMaps(f"Map of z (t-SNE) by {attribute}", maps, caption))
    return found


def shown_finding(evaluation: Evaluation) -> int:
    """The number of the finding with most positives; "No Finding" only where there is no other."""
    positives = np.nansum(evaluation.labels, axis=0) + 1.0
    return int(np.where(np.array(evaluation.findings) == NO_FINDING, 0.5, positives).argmax())
