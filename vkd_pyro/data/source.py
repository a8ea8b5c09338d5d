"""Where the studies that are trained on come from: the files of a corpus, or a prepared store."""

import abc
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vkd_pyro.data.preparation import Preparation
from vkd_pyro.data.selection import Selected, Selection, without_bad_images
from vkd_pyro.data.study import Study

Kind = Literal["reports", "observed"]
"""What reports are prepared for: to be read by an encoder, or observed by a likelihood."""


class Source(abc.ABC):
    """Selected studies.

    Attributes:
        studies: with at least one image each.
        has_report: of each study.
        left_out: what was left out, why, and how much of it.
        bad: (study, what is wrong) of each image that was skipped.
    """

    studies: list[Study]
    has_report: list[bool]
    left_out: Counter[str]
    bad: list[tuple[str, str]]

    def some(self, studies: Sequence[int]) -> Sequence[Study]:
        """The studies with these numbers."""
        return [self.studies[i] for i in studies]

    def features(self, studies: Sequence[int]) -> Sequence[Sequence[NDArray[np.float16]]]:
        """What was made of the images of the studies with these numbers, [V, F] an image; a store has it alone."""
        raise NotImplementedError("features are read from a store")  # as the settings of loading make sure

    def check_features(self, preparation: dict[str, Any]) -> None:
        """Raises `UserError` where the features are not those of this encoder."""
        raise NotImplementedError("features are read from a store")

    @abc.abstractmethod
    def reports(self, preparation: Preparation, studies: Sequence[int], kind: Kind = "reports") -> Sequence[Tensor]:
        """What is prepared of the reports of the studies with these numbers."""


class RawSource(Source):
    """The files of a corpus as downloaded."""

    def __init__(self, selected: Selected, bad: list[tuple[str, str]]) -> None:
        self.studies, self.texts, self.left_out, self.bad = selected.studies, selected.texts, selected.left_out, bad
        self.has_report = [text is not None for text in selected.texts]

    @classmethod
    def read(cls, selection: Selection) -> "RawSource":
        """Reads the corpus; its images only where bad ones are to be skipped."""
        if selection.bad_images.policy == "skip":
            return cls(*without_bad_images(selection.read(), selection.transform, selection.bad_images))
        return cls(selection.read(), [])

    def reports(self, preparation: Preparation, studies: Sequence[int], kind: Kind = "reports") -> Sequence[Tensor]:
        """What is prepared of the reports of the studies with these numbers, now."""
        return preparation.prepare([self.texts[i] or "" for i in studies])
