"""Checks of what training does before its first step: reports, labels, views, splits, and a sample of the images."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vkd_pyro.data.doctor.diagnosis import SHOWN, Check, failure, some
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.levels import FEWEST_LEVELS, is_flat
from vkd_pyro.data.selection import BadImages, Selection, spread
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.utils.errors import UserError

SIZE = 224
"""Side of the images that training reads by default, in pixels."""

VIEWS_FIX = "see data.selection.views and unknown_views; of Open-I, indiana_projections.csv alone tells the views"


def content_checks(has_reports: bool, corpus: Corpus, studies: Sequence[Study]) -> Iterator[Check]:
    """Checks how many studies have a report, how many have labels, and which findings are never positive."""
    texts = sum(bool(study.report) for study in studies)
    if has_reports:
        fix = "" if texts else "without reports nothing is distilled; fetch them, or train from labels alone"
        yield Check("reports", "ok" if texts else "warning", f"{texts:,} of {len(studies):,} studies have one", fix)
    else:
        yield Check("reports", "ok", "this corpus ships none")
    if not studies:
        return
    labels = np.stack([study.labels for study in studies])
    unlabelled = int(np.isnan(labels).all(axis=1).sum())
    never = [name for name, column in zip(corpus.findings, labels.T, strict=True) if not (column == 1).any()]
    found = f"{len(studies) - unlabelled:,} of {len(studies):,} studies have them"
    found += f"; never positive: {', '.join(never)}" if never else ""
    if unlabelled == len(studies) or len(never) == len(corpus.findings):
        fix = "there is nothing to learn from; see data.selection.labels and vkd label"
        yield Check("labels", "warning", found, fix)
    else:
        yield Check("labels", "ok", found)


def training_checks(
    corpus: Corpus, num_images: int, progress: bool, views: Literal["frontal", "all"] = "frontal", trains: bool = True
) -> Iterator[Check]:
    """Checks the views, the splits and a sample of the images, as `vkd train` reads them before its first step; of a
    corpus to test on alone, as `vkd evaluate` does."""
    unknown: Literal["keep", "drop"] = "keep" if views == "all" else "drop"
    try:
        selected = Selection(corpus, SIZE, views, unknown).read()
        kinds = "frontal images" if views == "frontal" else "images"
        left = "".join(f"; left out: {n:,} {reason}" for reason, n in selected.left_out.items() if "view" in reason)
        left += " (unknown_views keep keeps them)" * (selected.left_out["images of unknown view"] > 0)
        yield Check("views", "ok", f"{len(selected.studies):,} studies have {kinds}{left}")
    except UserError as error:
        unknown = "keep"
        try:
            selected = Selection(corpus, SIZE, views, unknown).read()
        except UserError:
            yield Check("views", "failure", str(error).split("; see ")[0], VIEWS_FIX)
            return
        found = f"no frontal image is known; the view of those of {len(selected.studies):,} studies is not"
        yield Check("views", "warning", found, "train with --data.selection.unknown_views keep, or tell the views")
    yield _split_check(StudyData(Selection(corpus, SIZE, views=views, unknown_views=unknown)), trains)
    yield _image_check([image for study in selected.studies for image in study.images], num_images, progress)


def _split_check(data: StudyData, trains: bool) -> Check:
    wanted = ("train", "validation", "test") if trains else ("validation", "test")
    try:
        sizes = {split: len(data.studies(split)) for split in wanted}
    except UserError as error:
        return failure("splits", error)
    return Check("splits", "ok", ", ".join(f"{split} {size:,}" for split, size in sizes.items()) + " studies")


def _image_check(images: Sequence[Path | NDArray[np.uint8]], num_images: int, progress: bool) -> Check:
    """Whether so many images, evenly spaced, can be read, and something is to be seen in them."""
    chosen = spread(len(images), num_images)
    problems, flat = [], []
    for number in tqdm(chosen, desc="images", unit="image", disable=not progress):
        image = images[number]
        try:
            if is_flat(ImageTransform(SIZE)(image).numpy()):
                flat.append(str(image) if isinstance(image, Path) else f"number {number}")
        except UserError as error:
            problems.append(str(error))
    if problems:
        found = f"{len(problems)} of {len(chosen)} opened are unreadable: {'; '.join(problems[:SHOWN])}"
        fix = "fetch them again, or train with --data.selection.bad_images.policy skip"
        return Check("image files", "failure", found, fix)
    if not flat:
        return Check("image files", "ok", f"{len(chosen)} opened, all readable")
    found = f"{len(flat)} of {len(chosen)} opened have hardly any gray levels, fewer than {FEWEST_LEVELS}: {some(flat)}"
    fix = "look at them: they are empty, or say more bits, or another window, than they have"
    many = len(flat) > BadImages().max_flat_share * len(chosen)
    return Check("image files", "failure" if many else "warning", found, fix)


def disk_check(folder: Path, studies: Sequence[Study]) -> Check:
    """Checks the room for a prepared store beside the folder: a byte a pixel, and little else."""
    needed = sum(len(study.images) for study in studies) * SIZE**2
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free; a prepared store of {SIZE} pixels takes {needed / 1e9:,.1f} GB"
    fix = "vkd prepare to another disk, or train without a store"
    return Check("disk", "ok" if free > needed else "warning", found, "" if free > needed else fix)
