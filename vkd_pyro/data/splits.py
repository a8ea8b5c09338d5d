"""Splits for corpora that ship none: by patient, the same on every machine."""

import hashlib

TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1


def split_of(corpus: str, patient: str) -> str:
    """The split of a patient: sha256 of "corpus:patient" as a number in [0, 1), cut at 70 / 10 / 20 %."""
    digest = hashlib.sha256(f"{corpus}:{patient}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < TRAIN_SHARE:
        return "train"
    return "validation" if position < TRAIN_SHARE + VALIDATION_SHARE else "test"
