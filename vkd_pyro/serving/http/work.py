"""What the service computes, a batch at a time: predictions, heat maps, and the image as the model reads it."""

import io
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vkd_pyro.artifacts.export import Export
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.data.images.image_transform import read_gray
from vkd_pyro.prediction.files import Predicted, predict_files
from vkd_pyro.prediction.images import Unread
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.prediction.studies import studies_of
from vkd_pyro.serving.http.limits import Limits
from vkd_pyro.serving.http.sizes import pixels_of
from vkd_pyro.utils.errors import UserError

PREVIEW_SIDE = 1536
"""Longest side of the image for the page, in pixels."""


class TooLarge(UserError):
    """More pixels than a request may have."""


@dataclass(frozen=True)
class Predict:
    """Images to be predicted.

    Attributes:
        images: their paths.
        study: whether they are one study; else DICOM files of one StudyInstanceUID are.
        on_mismatch, queries: of `predict_files`.
    """

    images: tuple[Path, ...]
    study: bool = False
    on_mismatch: Literal["error", "warn"] = "error"
    queries: tuple[str, ...] = ()

    @property
    def key(self) -> Hashable:
        """What must be alike for two to be computed together."""
        return self.on_mismatch, self.queries

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.images)


@dataclass(frozen=True)
class Said:
    """What is said of the images of a `Predict`: of each study or image, of what could not be read, and notes."""

    predictions: list[Predicted] = field(default_factory=list)
    problems: list[Unread] = field(default_factory=list)
    notes: list[Unread] = field(default_factory=list)


@dataclass(frozen=True)
class Draw:
    """An image to be shown: as it is, where no findings are named; else where in it these are seen."""

    images: tuple[Path, ...]
    findings: tuple[str, ...] = ()
    size: int = 1

    @property
    def key(self) -> Hashable:
        """Each is computed alone."""
        return self.images


@dataclass(frozen=True)
class Drawn:
    """PNG files, gray: of the image, or a map for each finding, as large as what the model reads."""

    files: tuple[bytes, ...]


class Engine:
    """Computes jobs with a model; not from several threads at once.

    Args:
        bundle: the model, or an export of it.
        uncertainty, level: of `predict_files`.
        limits: of a request's pixels, and of a batch.
        network: for heat maps, which need gradients; None is `bundle`, where it is no export.

    Attributes:
        no_heat_maps: why there are none; "" where there are.
        resolution: of heat maps, rows and columns; None where there are none.
    """

    def __init__(
        self,
        bundle: Predictor,
        uncertainty: UncertaintySources,
        level: float,
        limits: Limits,
        network: Predictor | None = None,
    ) -> None:
        self.bundle, self.uncertainty, self.level, self.limits = bundle, uncertainty, level, limits
        self.network = network or (None if isinstance(bundle, Export) else bundle)
        self.no_heat_maps, self.resolution = self._heat_maps()

    def __call__(self, jobs: Sequence[Predict | Draw]) -> list[Said | Drawn | Exception]:
        """An answer to each; jobs of one key."""
        answers: list[Said | Drawn | Exception] = [self._judged(job) for job in jobs]
        allowed = [n for n, answer in enumerate(answers) if not isinstance(answer, Exception)]
        predicts = {n: job for n, job in enumerate(jobs) if isinstance(job, Predict) and n in allowed}
        if predicts:
            for n, said in zip(predicts, self._predict(list(predicts.values())), strict=True):
                answers[n] = said
        for n, job in enumerate(jobs):
            if isinstance(job, Draw) and n in allowed:
                answers[n] = self._draw(job)
        return answers

    def _judged(self, job: Predict | Draw) -> Said | Exception:
        """Nothing said yet, or what is wrong with it."""
        if (found := sum(map(pixels_of, job.images))) > self.limits.max_pixels:
            most = self.limits.max_pixels
            return TooLarge(f"{found:,} pixels, more than the limit of {most:,} a request; send fewer, or smaller ones")
        return Said()

    def _predict(self, jobs: Sequence[Predict]) -> list[Said]:
        answers = [Said() for _ in jobs]
        said_of = {path: answer for job, answer in zip(jobs, answers, strict=True) for path in job.images}
        items = [item for job in jobs for item in ([job.images] if job.study else studies_of(job.images))]
        first = jobs[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for each in predict_files(
                self.bundle,
                items,
                self.uncertainty,
                self.limits.batch_size,
                first.on_mismatch,
                self.level,
                first.queries,
            ):
                answer = said_of[each.image]
                (answer.problems if isinstance(each, Unread) else answer.predictions).append(each)  # type: ignore[arg-type]
        for warning in caught:
            for path in said_of:
                if str(warning.message).startswith(f"{path}: "):
                    said_of[path].notes.append(Unread(path, str(warning.message)))
        return answers

    # ----------------------------------------------------------------------------------- what is shown

    def _draw(self, job: Draw) -> Drawn | Exception:
        try:
            gray = read_gray(job.images[0])
            return Drawn(self._maps(gray, job.findings) if job.findings else (self._shown(gray),))
        except UserError as error:
            return error

    @staticmethod
    def _shown(gray: Image.Image) -> bytes:
        gray.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        return _png(gray)

    def _maps(self, gray: Image.Image, findings: Sequence[str]) -> tuple[bytes, ...]:
        from vkd_pyro.explanations.images import grad_cam

        bundle = self._with_network()
        pixels = bundle.transform(np.asarray(gray)).float()[None] / 255
        numbers = [bundle.findings.index(finding) for finding in findings]
        device = next(bundle.model.parameters()).device
        maps = grad_cam(bundle.model, pixels.to(device), numbers, seed=self.uncertainty.seed)[0].float().cpu().numpy()
        return tuple(_png(Image.fromarray(np.rint(255 * cam.clip(0, 1)).astype(np.uint8))) for cam in maps)

    def _with_network(self) -> Predictor:
        if self.no_heat_maps or self.network is None:
            raise UserError(self.no_heat_maps)
        return self.network

    def _heat_maps(self) -> tuple[str, tuple[int, int] | None]:
        """Why there are none, and how fine they are; found out before anybody asks."""
        if self.network is None:
            return "no heat maps: they need a network's gradients, which an export has not; serve the bundle", None
        import torch  # which an export does without

        from vkd_pyro.explanations import library
        from vkd_pyro.explanations.images import cells

        size, model = self.network.transform.size, self.network.model
        device = next(model.parameters()).device
        try:
            library("captum.attr", "heat maps")
            return "", cells(model.image_encoder, torch.zeros(1, 1, size, size, device=device))
        except UserError as error:
            return f"no heat maps: {error}", None


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
