"""Maps of where a model sees findings, against where radiologists saw them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vkd_pyro.data.regions import Region
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.explanations.images import cells, grad_cam, last_convolution
from vkd_pyro.methods.base import Method
from vkd_pyro.metrics import centre_map, intersection_over_union, pointing_game
from vkd_pyro.metrics.localization import Array
from vkd_pyro.utils.errors import UserError

DRAWS = 8
"""Draws of z that a map is averaged over."""


@dataclass(frozen=True, repr=False)  # it names patients
class MapScores:
    """How M maps did, each of a finding in an image in which a radiologist drew a region of it.

    Attributes:
        findings: names of the K findings of the model.
        finding: number of each map's, [M].
        patients: whose image it is, [M].
        hits: `pointing_game`, [M]; `centre_hits` of a map that knows only the centre of the image.
        overlaps: `intersection_over_union` by threshold, [M, T]; `centre_overlaps` likewise.
        areas: share of the image that the region covers, [M]: how often a random place hits.
        empty: whether the map is 0 everywhere, [M].
        size: side of the maps and regions, in pixels, those of the model's images.
        cells: rows and columns of a map before it is enlarged.
    """

    findings: tuple[str, ...]
    finding: NDArray[np.int64]
    patients: NDArray[np.str_]
    hits: Array
    centre_hits: Array
    overlaps: Array
    centre_overlaps: Array
    areas: Array
    empty: NDArray[np.bool_]
    size: int
    cells: tuple[int, int]


def has_regions(data: StudyData, split: str, findings: tuple[str, ...]) -> bool:
    """Whether anything of a split was drawn of these findings."""
    return split in data.summary()["splits"] and any(True for _ in _drawn(data, split, findings))


def score_maps(method: Method, data: StudyData, split: str, num_samples: int = DRAWS, seed: int = 0) -> MapScores:
    """Grad-CAM of each finding, averaged over draws of z, of each image of a split in which its region was drawn.

    Regions go through the geometry of the model's images, so both are compared at their size. The method is in eval
    mode afterwards.

    Raises:
        UserError: nothing was drawn of the split, images are read from a store, or the encoder has no convolution.
    """
    method.eval()
    device = next(method.parameters()).device
    size, model = data.transform.size, method.model
    blank = torch.zeros(1, 1, size, size, device=device)
    layer = last_convolution(model.image_encoder, blank)
    centre = centre_map(size, size)[None]
    rows: list[tuple[int, str, float, float, Array, Array, float, bool]] = []
    drawn = list(_drawn(data, split, method.findings))
    for path, patient, regions in tqdm(drawn, "heat maps", unit="image", leave=False, disable=None):
        image = data.transform(path).float()[None].to(device) / 255
        numbers = [method.findings.index(name) for name in regions]
        maps = grad_cam(model, image, numbers, num_samples, seed, layer)[0].double().cpu().numpy()
        for number, cam, region in zip(numbers, maps[:, None], regions.values(), strict=True):
            mask = region.resized(size)[None]
            if mask.any():  # not where too few readers agree
                scores = [(pointing_game(one, mask)[0], intersection_over_union(one, mask)[0]) for one in (cam, centre)]
                (hit, overlap), (centre_hit, centre_overlap) = scores
                row = (number, patient, hit, centre_hit, overlap, centre_overlap, float(mask.mean()), not cam.any())
                rows.append(row)
    if not rows:
        raise UserError(
            f"--heatmaps: {data.corpus.name} has no boxes or masks of the findings of this model in its {split} split; "
            "expected VinDrCXR, CheXlocalize, or ChestXray14 with BBox_List_2017.csv"
        )
    names = ("finding", "patients", "hits", "centre_hits", "overlaps", "centre_overlaps", "areas", "empty")
    columns: dict[str, Any] = {name: np.array(of) for name, of in zip(names, zip(*rows, strict=True), strict=True)}
    return MapScores(method.findings, **columns, size=size, cells=cells(model.image_encoder, blank))


def _drawn(data: StudyData, split: str, findings: tuple[str, ...]) -> Iterator[tuple[Path, str, dict[str, Region]]]:
    """Image, patient, and region by finding, of the images of a split that have any."""
    paths: list[Path] = []
    patients: list[str] = []
    for study in data.studies(split):
        for image in study.images:
            if not isinstance(image, Path):
                raise UserError("--heatmaps: these images are no files, as in a store; leave out data.loading.store")
            paths.append(image)
            patients.append(study.patient_id)
    for path, patient, regions in zip(paths, patients, data.corpus.regions(paths), strict=True):
        if wanted := {name: region for name, region in regions.items() if name in findings}:
            yield path, patient, wanted
