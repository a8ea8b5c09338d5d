"""From bundle and files to what is said of each study, or file."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.artifacts.export import Export
from vkd_pyro.artifacts.predictor import Predictor, Sampled
from vkd_pyro.posthoc.calibration import UNITS, Calibration, Fit, Unit
from vkd_pyro.posthoc.ood import FLAGGED_SHARE, Signals, study_p_values
from vkd_pyro.prediction.images import ImageFile, Unread, read_images
from vkd_pyro.prediction.prediction import Prediction, Summary, UncertaintySources, joined
from vkd_pyro.prediction.queries import Answer, Query, parse
from vkd_pyro.utils.errors import UserError

Floats = NDArray[np.floating]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Predicted:
    """What is said of one study, or of one image file; arrays are [K]. Without a calibration all after `epistemic` is
    unknown.

    Attributes:
        image: the path of the first image, as given.
        image_sha256: of the file; of several, joined by "+".
        images: paths of all images that were read.
        unit: "study", images judged together by what was fitted to studies; or "image", where no study is known.
        findings: names of the K labels.
        probabilities: p(y_k = 1 | x_I), as the model gives it.
        low, high: the interval that holds p(y_k = 1 | x_I, z, network) with the probability asked for.
        total, aleatoric, latent, epistemic: uncertainty in nats, see `Prediction.uncertainty`; NaN without its source.
        calibrated: p(y_k = 1 | x_I), recalibrated on the validation split; NaN where it could not be fitted.
        calibrated_low, calibrated_high: the interval, recalibrated.
        thresholds: of recalibrated probabilities, from which on the answer is yes; NaN where there is none.
        answers: "yes", "no", "refer" (less than two thirds of the draws say the same), "unknown".
        conformal: "yes", "no", "refer" (either may be), "neither" (none may), "unknown".
        undefined: why there is no threshold or conformal set, so that an answer is unknown; "" where there are both.
        ood: how unlike the images that the model learned from: 0 is usual, 1 is rare; NaN unknown. Of a study that of
            the image that is most so.
        ood_p: the share of usual images that are as unlike, of n images the smallest times n; NaN unknown.
        flagged: whether that is rare; None unknown.
        queries: what is said of each question that was asked.
    """

    image: Path
    image_sha256: str
    images: tuple[Path, ...]
    unit: Unit
    findings: tuple[str, ...]
    probabilities: Floats
    low: Floats
    high: Floats
    total: Floats
    aleatoric: Floats
    latent: Floats
    epistemic: Floats
    calibrated: Floats
    calibrated_low: Floats
    calibrated_high: Floats
    thresholds: Floats
    answers: NDArray[np.str_]
    conformal: NDArray[np.str_]
    undefined: NDArray[np.str_]
    ood: float
    ood_p: float
    flagged: bool | None
    queries: tuple[Answer, ...] = ()


def predict_files(
    bundles: Predictor | Sequence[Predictor],
    images: Iterable[str | Path | tuple[Path, ...]],
    uncertainty: UncertaintySources | None = None,
    batch_size: int = 32,
    on_mismatch: Literal["error", "warn"] = "error",
    level: float = 0.95,
    queries: Sequence[str] = (),
) -> Iterator[Predicted | Unread]:
    """What is said of each study or image, in their order; of a file that cannot be read, why, and the rest goes on.

    Of a study it depends on its images, the bundles and the seed; not on others, nor, but for rounding, on the batch
    size. A study of which some images cannot be read is judged by the others.

    Args:
        bundles: one, or several, which are an ensemble; models compute where they are. Exports are as good.
        images: PNG, JPEG or DICOM files, each an image of which no study is known; or tuples of those of one study
            (`studies_of`). Of folders and patterns, `find_images`.
        uncertainty: the sources of uncertainty; `UncertaintySources()`, 100 draws of z, by default.
        batch_size: images predicted at once, about.
        on_mismatch: where a DICOM header says that it is no chest X-ray of a view that the model knows, or there are
            hardly any gray levels: that is a problem of the file, or only a warning.
        level: of the intervals.
        queries: questions about several findings at once (`queries`).

    Raises:
        UserError: a question that cannot be read; bundles that do not go together; masks of dropout where there is
            none; masks, or augmented images, of an export.
    """
    members = [bundles] if isinstance(bundles, Predictor) else list(bundles)
    uncertainty = uncertainty or UncertaintySources()
    check_together(members)
    if isinstance(images, str | Path):
        raise UserError(f"images: found one name, {str(images)[:60]!r}, expected several, as find_images gives them")
    if not 0 < level < 1:
        raise UserError(f"level: found {level:g}, expected between 0 and 1, e.g. 0.95")
    if batch_size < 1:
        raise UserError(f"batch_size: found {batch_size}, expected at least 1")
    if not _is_usual(uncertainty) and any(isinstance(member, Export) for member in members):
        raise UserError("num_masks, num_augmentations: OpenVINO has one network and no masks; use PyTorch, by a bundle")
    views = tuple(view for view in members[0].views if all(view in bundle.views for bundle in members))
    sizes: deque[int] = deque()
    files = read_images(_each(images, sizes), members[0].transform, views, on_mismatch, 2 * batch_size)
    asked = [parse(query, members[0].findings) for query in queries]
    return _predicted(members, files, sizes, uncertainty, batch_size, level, asked)


def _each(images: Iterable[str | Path | tuple[Path, ...]], sizes: deque[int]) -> Iterator[str | Path]:
    """File by file; notes how many a study has, 0 where none is known, before its first."""
    for item in images:
        if isinstance(item, tuple) and not item:
            raise UserError("images: found a study without an image, (); leave it out")
        sizes.append(len(item) if isinstance(item, tuple) else 0)
        yield from (item if isinstance(item, tuple) else (item,))


def check_together(bundles: Sequence[Predictor]) -> None:
    """Raises `UserError` where there is no bundle, or several are no ensemble."""
    if not bundles:
        raise UserError("bundles: found none, expected at least one")
    first, *others = bundles
    for number, other in enumerate(others, 2):
        for name in ("findings", "transform"):
            here, there = getattr(first, name), getattr(other, name)
            if here != there:
                raise UserError(f"ensemble: {name} of bundle {number} are {there}, of the first {here}; leave one out")
    known = [bundle.weights_hash for bundle in bundles if bundle.weights_hash]
    if len(set(known)) < len(known):
        raise UserError("ensemble: the same network is in it twice; expected networks that were trained apart")


def calibration_of(bundles: Sequence[Predictor]) -> Calibration | None:
    """Calibration of the one bundle; None of several: each was fitted to its own network, none to their mean."""
    return bundles[0].calibration if len(bundles) == 1 else None


@dataclass(frozen=True)
class _Study:
    """Files that are judged together: all of a study, or one of which no study is known."""

    unit: Unit
    files: list[ImageFile]
    unread: list[Unread]


def _studies(files: Iterator[ImageFile | Unread], sizes: deque[int]) -> Iterator[_Study]:
    for first in files:
        size = sizes.popleft()
        every = [first, *islice(files, max(size - 1, 0))]
        read = [file for file in every if isinstance(file, ImageFile)]
        yield _Study("study" if size else "image", read, [file for file in every if isinstance(file, Unread)])


def _predicted(
    members: Sequence[Predictor],
    files: Iterator[ImageFile | Unread],
    sizes: deque[int],
    uncertainty: UncertaintySources,
    batch_size: int,
    level: float,
    queries: Sequence[Query],
) -> Iterator[Predicted | Unread]:
    for some in in_batches(_studies(files, sizes), lambda study: len(study.files) + len(study.unread), batch_size):
        for file in (file for study in some for file in study.files if file.mismatch):
            warnings.warn(f"{file.image}: {file.mismatch}", stacklevel=2)
        readable = [study for study in some if study.files]
        said = iter(_said_of(members, readable, uncertainty, level, queries) if readable else [])
        for study in some:
            yield from study.unread
            if study.files:
                yield next(said)


def in_batches(studies: Iterable[Item], size: Callable[[Item], int], batch_size: int) -> Iterator[list[Item]]:
    """As many as have that many images, by their size, or some more."""
    some: list[Item] = []
    for study in studies:
        some.append(study)
        if sum(map(size, some)) >= batch_size:
            yield some
            some = []
    if some:
        yield some


def _said_of(
    members: Sequence[Predictor],
    studies: Sequence[_Study],
    uncertainty: UncertaintySources,
    level: float,
    queries: Sequence[Query],
) -> list[Predicted]:
    """What is said of the studies of one batch."""
    findings, calibration = members[0].findings, calibration_of(members)
    images = np.stack([file.pixels for study in studies for file in study.files]).astype(np.float32) / np.float32(255)
    study_of = np.repeat(np.arange(len(studies)), [len(study.files) for study in studies])
    if calibration or _is_usual(uncertainty):
        said = [member.sample(images, uncertainty.num_samples, uncertainty.seed) for member in members]
        by_image = joined(said, findings, ensemble=len(members) > 1)
        prediction = usual = by_image.mean_over(study_of)
    if not _is_usual(uncertainty):
        prediction = _by_other_networks(members, images, uncertainty).mean_over(study_of)
    summary = prediction.summary(level)
    if calibration:
        units = np.array([study.unit for study in studies])
        judged = _judged(calibration, units, usual.probabilities, summary, prediction)
        judged |= _novelty(calibration, study_of, _signals(said[0], by_image))
    else:
        judged = _unjudged(summary)
    arrays = vars(summary) | judged
    answers = [prediction.answer(query) for query in queries]
    return [
        Predicted(
            image=study.files[0].image,
            image_sha256="+".join(file.sha256 for file in study.files),
            images=tuple(file.image for file in study.files),
            unit=study.unit,
            findings=findings,
            queries=tuple(answer.of(row) for answer in answers),
            **{name: array[row] for name, array in arrays.items()},
        )
        for row, study in enumerate(studies)
    ]


def _is_usual(uncertainty: UncertaintySources) -> bool:
    """Whether it predicts as the bundle was calibrated: by the image itself, and the whole network."""
    return not (uncertainty.num_masks or uncertainty.num_augmentations)


def _by_other_networks(
    members: Sequence[Predictor], images: NDArray[np.float32], uncertainty: UncertaintySources
) -> Prediction:
    """What masks of dropout, or augmented images, say: only PyTorch has the networks for it."""
    import torch

    from vkd_pyro.prediction.predictive import predict_with

    models = [member.model for member in members]
    device = next(models[0].parameters()).device
    return predict_with(uncertainty, models, torch.from_numpy(images).to(device), members[0].findings)


# ------------------------------------------------------------------------------ what calibration says


def _signals(said: Sampled, usual: Prediction) -> Signals:
    """What an `OODDetector` looks at, as `evaluation.outputs.signals` has it."""
    return Signals(said.features, said.latents, metrics.entropy(usual.probabilities).sum(axis=-1))


def _judged(
    calibration: Calibration, units: NDArray[np.str_], probabilities: Floats, summary: Summary, prediction: Prediction
) -> dict[str, NDArray[Any]]:
    """What `Predicted` owes to the fits of a calibration, a row each study.

    Args:
        calibration: of the model.
        units: of each row, which fit is its own, [N].
        probabilities: [N, K], of the prediction that was calibrated.
        summary, prediction: of what was asked, which may have more sources of uncertainty, or none.
    """
    found = {unit: _by_fit(calibration.of(unit), probabilities, summary, prediction) for unit in UNITS}
    is_study = (units == "study")[:, None]
    return {name: np.where(is_study, found["study"][name], found["image"][name]) for name in found["study"]}


def _by_fit(fit: Fit, probabilities: Floats, summary: Summary, prediction: Prediction) -> dict[str, NDArray[Any]]:
    if prediction.sources:
        draws = prediction.samples.reshape(-1, *prediction.samples.shape[2:])
        judged = fit.judge(probabilities, (summary.low, summary.high), yes_share=fit.yes_share(draws))
    else:
        judged = fit.judge(probabilities)
    as_given = np.array([name in fit.recalibration.not_fitted for name in fit.recalibration.findings])
    fitted = {"calibrated": judged.calibrated, "calibrated_low": judged.low, "calibrated_high": judged.high}
    return {name: np.where(as_given, np.nan, array) for name, array in fitted.items()} | {
        "thresholds": np.broadcast_to(fit.operating_points.thresholds, probabilities.shape),
        "answers": judged.answers,
        "conformal": judged.conformal,
        "undefined": np.broadcast_to(np.array(fit.undefined), probabilities.shape),
    }


def _novelty(calibration: Calibration, study_of: NDArray[np.integer], signals: Signals) -> dict[str, NDArray[Any]]:
    """How unlike the images known each study is: by the image that is most so, with allowance for their number."""
    ood = calibration.reference.score(signals)
    p = study_p_values(ood.p_values[:, -1], study_of)
    largest = np.full(len(p), np.nan)
    np.fmax.at(largest, study_of, ood.score)
    flagged = (p <= FLAGGED_SHARE).astype(object)
    flagged[np.isnan(p)] = None
    return {"ood": largest, "ood_p": p, "flagged": flagged}


def _unjudged(summary: Summary) -> dict[str, NDArray[Any]]:
    """As `_judged`, without a calibration: all unknown."""
    nothing = np.full(summary.probabilities.shape, np.nan)
    unknown = np.full(summary.probabilities.shape, "unknown")
    images = nothing[:, 0]
    return {
        **dict.fromkeys(("calibrated", "calibrated_low", "calibrated_high", "thresholds"), nothing),
        **dict.fromkeys(("answers", "conformal"), unknown),
        "undefined": np.full(summary.probabilities.shape, "no calibration"),
        **dict.fromkeys(("ood", "ood_p"), images),
        "flagged": np.full(images.shape, None),
    }
