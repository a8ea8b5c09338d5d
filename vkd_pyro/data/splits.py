"""Splits for corpora that ship none, or ship no validation: by patient, the same on every machine."""

import hashlib

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


def _position(corpus: str, patient: str) -> float:
    digest = hashlib.sha256(f"{corpus}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
