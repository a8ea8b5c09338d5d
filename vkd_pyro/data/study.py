"""A study, and a corpus of them: what every reader returns."""

import abc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Study:
    """One examination of one patient: its X-rays, its report, its labels.

    Attributes:
        study_id: unique within the corpus.
        patient_id: the unit of splitting and of the bootstrap.
        images: one or more X-rays, each a file or an array, uint8 [height, width].
        report: the radiologist's text, or None where there is none.
        labels: float32 [num_findings]; 1 present, 0 absent, NaN unknown.
        split: "train", "validation" or "test".
    """

    study_id: str
    patient_id: str = field(repr=False)
    images: tuple[Path | NDArray[np.uint8], ...] = field(repr=False)
    report: str | None = field(repr=False)
    labels: NDArray[np.float32]
    split: str


class Corpus(abc.ABC):
    """A source of studies. A reader of one's own is a subclass with these three things."""

    name: str
    findings: tuple[str, ...]

    @abc.abstractmethod
    def studies(self) -> list[Study]:
        """All studies, in a fixed order; raises `UserError` where the files are not as described."""
