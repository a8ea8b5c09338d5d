"""Splits by patient, the same on every machine: for corpora that ship none or no validation, and for cross-fitting."""

import hashlib
from dataclasses import dataclass

from vkd_pyro.utils.errors import UserError

TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1


def split_of(corpus: str, patient: str) -> str:
    """The split of a patient: sha256 of "corpus:patient" as a number in [0, 1), cut at 70 / 10 / 20 %."""
    position = _position(corpus, patient)
    if position < TRAIN_SHARE:
        return "train"
    return "validation" if position < TRAIN_SHARE + VALIDATION_SHARE else "test"


def train_or_validation(corpus: str, patient: str) -> str:
    """The split of a patient who is not in the corpus's own test split: cut at 7 : 1, as `split_of` would."""
    return "train" if _position(corpus, patient) < TRAIN_SHARE / (TRAIN_SHARE + VALIDATION_SHARE) else "validation"


@dataclass(frozen=True)
class Folds:
    """Cross-fitting: one of several splits by patient, whose test sets together are all patients.

    Attributes:
        fold: which of the parts is the test split, from 0.
        num_folds: equal parts that the patients are cut in.
        validation_share: of the other patients; a patient is of these or not whichever fold is the test split.
    """

    fold: int = 0
    num_folds: int = 5
    validation_share: float = 0.125

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise UserError(f"data.task.folds.num_folds: found {self.num_folds}, expected at least 2")
        if not 0 <= self.fold < self.num_folds:
            raise UserError(f"data.task.folds.fold: found {self.fold}, expected 0 to {self.num_folds - 1}")
        if not 0 < self.validation_share < 1:
            raise UserError(
                f"data.task.folds.validation_share: found {self.validation_share:g}, expected between 0 and 1"
            )

    def split_of(self, corpus: str, patient: str) -> str:
        """The split of a patient: sha256 of "fold:corpus:patient" says the part, that of "validation:..." the rest."""
        if int(_position("fold", corpus, patient) * self.num_folds) == self.fold:
            return "test"
        return "validation" if _position("validation", corpus, patient) < self.validation_share else "train"


def inner_part(corpus: str, patient: str, num_parts: int) -> int:
    """Which of so many equal parts a patient is in, whatever its split: for choosing within training and validation."""
    return int(_position("inner", corpus, patient) * num_parts)


def keeps_labels(corpus: str, patient: str, share: float, draw: int = 0) -> bool:
    """Whether a patient is among the share whose labels are kept; those of a smaller share are among a larger one's.

    Another `draw` keeps those of other patients.
    """
    return _position("label" if not draw else f"label {draw}", corpus, patient) < share


def _position(*names: str) -> float:
    """sha256 of the names, joined by colons, as a number in [0, 1)."""
    digest = hashlib.sha256(":".join(names).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
