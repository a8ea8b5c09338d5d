"""Which studies of a corpus are used, and what of each: its views, its report's text, its labels."""

import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from vkd_pyro.data.images.image_transform import MAX_SIZE, ImageTransform
from vkd_pyro.data.images.levels import FEWEST_LEVELS
from vkd_pyro.data.labels.outside import read_outside_labels
from vkd_pyro.data.reports import ReportText
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of
from vkd_pyro.utils.serialization import describe

Views = Literal["frontal", "lateral", "all"]


@dataclass(frozen=True)
class BadImages:
    """What to do with images that cannot be read, and with those in which nothing is to be seen.

    Attributes:
        policy: "error" stops at the first that cannot be read; "skip" leaves them out, and lists them.
        max_share: of the images that may be skipped; more is an error all the same.
        max_flat_share: of the images that may have hardly any gray levels, fewer than 32 in 99 % of the pixels: a few
            are warned of, more is an error, since a scale is read wrongly then, as a rule.
    """

    policy: Literal["error", "skip"] = "error"
    max_share: float = 0.01
    max_flat_share: float = 0.05


@dataclass(frozen=True)
class Selected:
    """The studies that are used.

    Attributes:
        studies: with the chosen images and labels only.
        texts: what is read of each study's report; None where there is none.
        left_out: what was left out, why, and how much of it.
    """

    studies: list[Study] = field(repr=False)
    texts: list[str | None] = field(repr=False)
    left_out: Counter[str]


@dataclass(frozen=True)
class Selection:
    """What is chosen of a corpus: everything that decides what is read of it, and so what a prepared store holds.

    Attributes:
        corpus: where the studies come from.
        image_size: side of the images, in pixels, 1 to 2048.
        views: which images of a study: "frontal", "lateral", or "all".
        unknown_views: "keep" or "drop" images whose view is unknown.
        report: which text of a report is read.
        labels: a CSV file of labels to use in place of the corpus's own: `vkd label`'s, the CheXpert labeller's.
        bad_images: what to do with images that cannot be read.
        scaled_jpeg: see `ImageTransform`; what is trained so predicts so.

    Raises:
        UserError: an image size out of range.
    """

    corpus: Corpus
    image_size: int = 224
    views: Views = "frontal"
    unknown_views: Literal["keep", "drop"] = "drop"
    report: ReportText = ReportText()
    labels: Path | None = None
    bad_images: BadImages = BadImages()
    scaled_jpeg: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= MAX_SIZE:
            raise UserError(f"data.selection.image_size: found {self.image_size}, expected pixels, 1 to {MAX_SIZE}")

    @property
    def transform(self) -> ImageTransform:
        """What makes a tensor of an image."""
        return ImageTransform(self.image_size, self.scaled_jpeg)

    def read(self) -> Selected:
        """Reads the corpus; images are not opened.

        Raises:
            UserError: the corpus is not as described, or no study is left.
        """
        found = self.corpus.studies()
        left_out = Counter(self.corpus.left_out)
        studies = [chosen for study in found if (chosen := self._choose_views(study, left_out)) is not None]
        if not studies:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count) or "none found"
            fix = "".join(f"; {doubt}" for doubt in self.corpus.doubts)
            fix += "; see data.selection.views and unknown_views, or run vkd doctor on the folder"
            if left_out["images of unknown view"]:
                fix += ", or keep images of unknown view by data.selection.unknown_views keep"
            raise UserError(f"{self.corpus.name}: no study is left ({reasons}){fix}")
        for doubt in self.corpus.doubts:
            warnings.warn(doubt, stacklevel=2)
        if self.labels is not None:
            labels = read_outside_labels(Path(self.labels), studies, self.corpus.findings)
            studies = [replace(study, labels=row) for study, row in zip(studies, labels, strict=True)]
        return Selected(studies, self.report([study.report for study in studies]), +left_out)

    def identity(self) -> dict[str, Any]:
        """What a store must have been made with: values for JSON. Where the corpus lies is not part of it."""
        described = describe(self.corpus)
        arguments = {
            name: value for name, value in described["init_args"].items() if not isinstance(value, Path | None)
        }
        return {
            "corpus": {"class": described["class_path"], **arguments},
            "corpus content": self.corpus.fingerprint(),
            "findings": list(self.corpus.findings),
            "image transform": {"size": self.image_size} | ({"scaled_jpeg": True} if self.scaled_jpeg else {}),
            "views": self.views,
            "unknown_views": self.unknown_views,
            "report.sections": list(self.report.sections),
            "report.mask_label_words": self.report.mask_label_words,
            "labels": None if self.labels is None else sha256_of(Path(self.labels)),
        }

    def _choose_views(self, study: Study, left_out: Counter[str]) -> Study | None:
        """The study with its chosen images; None where it has none, which is counted."""
        if len(study.views) != len(study.images):
            raise UserError(
                f"{self.corpus.name}: study {study.study_id} has {len(study.images)} images and "
                f"{len(study.views)} views; a reader gives each image its view, 'unknown' if need be"
            )
        wanted: set[str] = {"frontal", "lateral"} if self.views == "all" else {self.views}
        if self.unknown_views == "keep":
            wanted.add("unknown")
        kept = [i for i, view in enumerate(study.views) if view in wanted]
        for view in study.views:
            left_out[f"images of {view} view"] += view not in wanted
        if not kept:
            left_out["studies without a chosen view" if study.images else "studies without an image"] += 1
            return None
        return study.only(kept)


def without_bad_images(
    selected: Selected, transform: ImageTransform, policy: BadImages
) -> tuple[Selected, list[tuple[str, str]]]:
    """The selection without the images that cannot be read, and the list of those: (study, what is wrong).

    Every image is read once. Raises `UserError` where more than the allowed share is bad.
    """
    images = [(i, image) for i, study in enumerate(selected.studies) for image in range(len(study.images))]

    def problem(row: tuple[int, int]) -> str:
        try:
            transform(selected.studies[row[0]].images[row[1]])
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        results = tqdm(pool.map(problem, images), "trying images", len(images), leave=False)
        problems = dict(zip(images, results, strict=True))
    bad = [(selected.studies[i].study_id, text) for (i, _), text in problems.items() if text]
    check_share(len(bad), len(images), policy)
    kept = [[j for j in range(len(study.images)) if not problems[i, j]] for i, study in enumerate(selected.studies)]
    return keep_images(selected, kept), bad


def keep_images(selected: Selected, kept: Sequence[Sequence[int]]) -> Selected:
    """The selection with the images of these numbers of each study; studies without any are left out, and counted."""
    left_out = Counter(selected.left_out)
    pairs = []
    for study, text, numbers in zip(selected.studies, selected.texts, kept, strict=True):
        left_out["images that cannot be read"] += len(study.images) - len(numbers)
        left_out["studies whose images cannot be read"] += not numbers
        if numbers:
            pairs.append((study.only(numbers), text))
    if not pairs:
        raise UserError("data.selection.bad_images: no image can be read; see vkd doctor on the folder")
    studies, texts = (list(column) for column in zip(*pairs, strict=True))
    return Selected(studies, texts, +left_out)


def check_share(bad: int, images: int, policy: BadImages) -> None:
    """Raises `UserError` where the share of bad images is more than the policy allows."""
    if bad > policy.max_share * images:
        raise UserError(
            f"data.selection.bad_images: {bad:,} of {images:,} images cannot be read, more than max_share "
            f"{policy.max_share:g} allows; fetch them again, or raise it"
        )


def check_flat(flat: int, images: int, policy: BadImages) -> None:
    """Warns of images with hardly any gray levels; raises `UserError` where their share is more than allowed."""
    if not flat:
        return
    found = f"{flat:,} of {images:,} images looked at have hardly any gray levels (fewer than {FEWEST_LEVELS})"
    if flat > policy.max_flat_share * images:
        raise UserError(
            f"data.selection.bad_images: {found}, more than max_flat_share {policy.max_flat_share:g} allows; see which "
            "by vkd doctor, and mend them, or raise it"
        )
    warnings.warn(f"{found}; see which by vkd doctor", stacklevel=3)


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 to `count`, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def reindex_labels(studies: Sequence[Study], have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Labels of the wanted findings in their order, float32 [N, len(want)]; NaN for those the corpus does not have."""
    given = np.stack([study.labels for study in studies])
    labels = np.full((len(studies), len(want)), np.nan, dtype=np.float32)
    for k, finding in enumerate(want):
        if finding in have:
            labels[:, k] = given[:, have.index(finding)]
    return labels
