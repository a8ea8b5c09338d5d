"""A study, and a corpus of them: what every reader returns."""

import abc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.regions import Region

View = Literal["frontal", "lateral", "unknown"]
Sex = Literal["female", "male", "unknown"]


@dataclass(frozen=True)
class Study:
    """One examination of one patient: its X-rays, its report, its labels.

    Attributes:
        study_id: unique within the corpus.
        patient_id: the unit of splitting and of the bootstrap.
        images: one or more X-rays, each a file or an array, uint8 [height, width].
        views: of each image.
        report: the radiologist's text by section ("findings", "impression", ...); a text without sections is one,
            "report"; empty where there is no text.
        labels: float32 [num_findings], each one of the codes in `findings.py`; NaN where never labelled.
        split: "train", "validation" or "test".
        sex: of the patient.
        age: of the patient at the examination, in years; NaN where it is unknown.
    """

    study_id: str
    patient_id: str = field(repr=False)
    images: Sequence[Path | NDArray[np.uint8]] = field(repr=False)
    views: tuple[View, ...]
    report: Mapping[str, str] = field(repr=False)
    labels: NDArray[np.float32]
    split: str
    sex: Sex = field(default="unknown", repr=False)
    age: float = field(default=nan, repr=False)

    def only(self, images: Sequence[int]) -> "Study":
        """The study with the images of these numbers."""
        return replace(self, images=tuple(self.images[i] for i in images), views=tuple(self.views[i] for i in images))


class Corpus(abc.ABC):
    """A source of studies. A reader of one's own is a subclass with these three things.

    A reader says what there is; views, sections and label policies are chosen by `StudyData`, for all readers alike.
    It keeps its constructor's arguments as attributes of the same name, so that a prepared store knows its corpus.
    """

    name: str
    findings: tuple[str, ...]

    @abc.abstractmethod
    def studies(self) -> list[Study]:
        """All studies, in a fixed order; raises `UserError` where the files are not as described."""

    def regions(self, images: Sequence[Path]) -> list[dict[str, Region]]:
        """Where in each of these files of its studies radiologists saw findings: by the finding's name, those only that
        they drew. A corpus without boxes and masks has nothing to say."""
        return [{} for _ in images]

    def fingerprint(self) -> str:
        """What tells the content of this corpus from that of another with the same arguments; "" where those say all.

        A prepared store is refused where it differs.
        """
        return ""

    @cached_property
    def left_out(self) -> Counter[str]:
        """Why the reader left studies or images out, and how many; filled by `studies`."""
        return Counter()

    @cached_property
    def doubts(self) -> list[str]:
        """What may be wrong in the tables, a line each, with what to do after the last semicolon; filled by `studies`.

        Training warns of them.
        """
        return []
