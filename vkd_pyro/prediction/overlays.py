"""Overlays for files: where in an X-ray a finding is seen."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.data.images.image_transform import read_gray
from vkd_pyro.explanations import library
from vkd_pyro.explanations.images import cells, grad_cam, labelled_overlay
from vkd_pyro.prediction.files import Predicted
from vkd_pyro.prediction.images import SUFFIXES
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 3
"""Findings of an image that are shown, where none are named."""

LONGEST_SIDE = 1024
"""Longest side of an overlay, in pixels."""


class Drawing:
    """Draws an overlay for each image and finding wanted: the X-ray as it is, with Grad-CAM averaged over draws of z.

    In the picture stand the finding, its probability and answer, a colour bar, and how fine the map is; no name.

    Args:
        bundles: one, or an ensemble, of which maps are averaged; no exports, which have no gradients.
        findings: wanted; None takes of each image those answered yes, the most probable first, at most `MOST`.
            Without an answer (no calibration, or no threshold) the most probable finding stands for them.
        seed: of the draws.

    Raises:
        UserError: captum or matplotlib is not installed, no such finding, or an encoder without a convolution.
    """

    def __init__(self, bundles: Sequence[Predictor], findings: Sequence[str] | None, seed: int = 0) -> None:
        self.bundles, self.findings, self.seed = bundles, findings, seed
        known = bundles[0].findings
        for finding in findings or ():
            if finding not in known:
                near = difflib.get_close_matches(finding, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UserError(f"overlay: no finding {finding!r}{hint}; expected of {', '.join(known)}")
        library("captum.attr", "--overlay")
        library("matplotlib", "--overlay")
        sizes = {cells(bundle.model.image_encoder, self._blank(bundle)): None for bundle in bundles}
        self.resolution = " and ".join(f"{rows} x {columns} cells" for rows, columns in sizes)

    def figures(self, one: Predicted) -> Iterator[tuple[Predicted, int, "Figure"]]:
        """The overlays of one image, or of each of a study: of which image and finding (its number), and the figure."""
        if not (numbers := self._wanted(one)):
            return
        for image, sha256 in zip(one.images, one.image_sha256.split("+"), strict=True):
            of_image, gray = replace(one, image=image, image_sha256=sha256), read_gray(image)
            maps = self._maps(gray, numbers)
            gray.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            for k, cam in zip(numbers, maps, strict=True):
                as_large = Image.fromarray(cam).resize(gray.size, Image.Resampling.BILINEAR)
                pixels, large = np.asarray(gray), np.asarray(as_large).clip(0, 1)
                said = said_of(of_image, k)
                yield of_image, k, labelled_overlay(pixels, large, one.findings[k], said, self.resolution)

    def _wanted(self, one: Predicted) -> list[int]:
        if self.findings is not None:
            return [one.findings.index(finding) for finding in self.findings]
        order = np.argsort(-np.where(np.isnan(one.calibrated), one.probabilities, one.calibrated), kind="stable")
        if (one.answers == "unknown").all():
            return [int(order[0])]
        return [int(k) for k in order if one.answers[k] == "yes"][:MOST]

    def _maps(self, gray: Image.Image, numbers: list[int]) -> NDArray[np.float32]:
        """Float32 [K', size, size] in [0, 1], the mean over the bundles."""
        pixels = self.bundles[0].transform(np.asarray(gray)).float()[None] / 255
        maps = []
        for bundle in self.bundles:
            device = next(bundle.model.parameters()).device
            maps.append(grad_cam(bundle.model, pixels.to(device), numbers, seed=self.seed)[0].float().cpu().numpy())
        return np.mean(maps, axis=0, dtype=np.float32)

    @staticmethod
    def _blank(bundle: Predictor) -> torch.Tensor:
        size = bundle.transform.size
        return torch.zeros(1, 1, size, size, device=next(bundle.model.parameters()).device)


class Overlays:
    """Writes the overlays of images as PNG files.

    Args:
        folder: to write to; only its owner may enter.
        bundles, findings, seed: as of `Drawing`.

    Attributes:
        number: of overlays written.

    Raises:
        UserError: as `Drawing`.
    """

    def __init__(
        self, folder: Path, bundles: Sequence[Predictor], findings: Sequence[str] | None, seed: int = 0
    ) -> None:
        self.folder, self.number = folder, 0
        self._drawing = Drawing(bundles, findings, seed)
        private_folder(folder)

    def write(self, one: Predicted) -> None:
        """Writes the overlays of one image, or of each of a study."""
        for of_image, k, figure in self._drawing.figures(one):
            with written(self.folder / name_of(of_image, k)) as unfinished:
                figure.savefig(unfinished, format="png", metadata={"Software": None})
            self.number += 1


def said_of(one: Predicted, k: int) -> str:
    """The probability of a finding and its answer, in a line."""
    raw, of_study = bool(np.isnan(one.calibrated[k])), " of the study" if len(one.images) > 1 else ""
    p = f"p = {one.probabilities[k] if raw else one.calibrated[k]:.3f}{of_study}{', not recalibrated' if raw else ''}"
    threshold = f" (threshold {one.thresholds[k]:.6g})" if not np.isnan(one.thresholds[k]) else ""
    return f"{p}: {one.answers[k]}{threshold}"


def name_of(one: Predicted, k: int) -> str:
    """The name of an overlay: the image's, eight digits of its hash (names recur in other folders), and the finding."""
    name = one.image.stem if one.image.suffix.lower() in SUFFIXES else one.image.name
    finding = re.sub(r"[^\w.-]+", "_", one.findings[k])
    return f"{name[:100]}-{one.image_sha256[:8]}-{finding}.png"
