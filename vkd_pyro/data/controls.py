"""Controls of a distillation experiment: reports that should teach nothing, and reports that say just the labels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vkd_pyro.data.loading.dataset import derive_seed
from vkd_pyro.data.preparation import Preparation

Control = Literal["none", "shuffled_reports", "labels_as_report"]

NONE_PRESENT = "No labelled finding is present."


def shuffled_reports(studies: Sequence[int], has_report: Sequence[bool], *names: str) -> list[int]:
    """Whose report each study is given: those of a split that have one pass it on along a circle, drawn once for all.

    Args:
        studies: N numbers.
        has_report: of each.
        names: what the drawing depends on.

    Returns: N numbers; a study without a report keeps its own number, and so does an only one with a report.
    """
    generator = torch.Generator().manual_seed(derive_seed("shuffled reports", *names))
    reported = [study for study, has in zip(studies, has_report, strict=True) if has]
    circle = [reported[place] for place in torch.randperm(len(reported), generator=generator).tolist()]
    given = dict(zip(circle, circle[1:] + circle[:1], strict=True))
    return [given.get(study, study) for study in studies]


def labels_as_report(targets: NDArray[np.float32], findings: Sequence[str]) -> list[str | None]:
    """What the known labels of each study say, in words; None where none is known.

    Args:
        targets: float32 [N, K]; NaN unknown.
        findings: K names.
    """

    def text_of(row: NDArray[np.float32]) -> str | None:
        if np.isnan(row).all():
            return None
        return " ".join(f"{name}." for name, target in zip(findings, row, strict=True) if target > 0.5) or NONE_PRESENT

    return [text_of(row) for row in targets]


def prepare_once(preparation: Preparation, texts: Sequence[str | None]) -> list[Tensor]:
    """What is prepared of each text, [T] or [T, E]; the same texts are prepared once."""
    different = sorted({text or "" for text in texts})
    prepared = dict(zip(different, preparation.prepare(different), strict=True))
    return [prepared[text or ""] for text in texts]
