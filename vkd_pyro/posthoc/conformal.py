"""Conformal sets: answers that hold the right one as often as stated, fitted on the validation split."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.posthoc.known import Array, as_probabilities, check_share, checked, decimal, known_pairs, rounded


@dataclass(frozen=True)
class ConformalBound:
    """Up to which probability a class of a finding is in the set (absent), or from which on (present).

    Attributes:
        known: n, labels of that class on validation.
        bound: a probability; None where the class can never be ruled out.
        always: why it cannot; None where there is a bound.
    """

    known: int
    bound: float | None
    always: str | None = None

    @classmethod
    def of(cls, ordered: Array, alpha: float, outward: Literal["up", "down"]) -> "ConformalBound":
        """The bound, from the probabilities of that class, [n], from the most like it to the least; rounded outward."""
        rank = math.ceil((1 - decimal(alpha)) * (len(ordered) + 1))
        if rank <= len(ordered):
            return cls(len(ordered), rounded(ordered[rank - 1], outward))
        needed = math.ceil(1 / decimal(alpha)) - 1
        return cls(len(ordered), None, f"labels known: {len(ordered)}; alpha {alpha} needs at least {needed}")


@dataclass(frozen=True)
class Coverage:
    """What conformal sets did on some studies; [K] each, NaN where there is no such label.

    Attributes:
        absent: share of the negatives whose set has absent.
        present: share of the positives whose set has present.
        size: mean number of classes in a set, in [0, 2], over the known labels.
        single: share of the known labels whose set is one class: an answer.
    """

    absent: Array
    present: Array
    size: Array
    single: Array


@dataclass(frozen=True)
class Conformal:
    """Split conformal sets, class by class: which of absent and present cannot be excluded, finding by finding.

        absent in the set:  p <= the ceil((n0 + 1)(1 - alpha))-th smallest p of the n0 validation negatives
        present in the set: p >= the ceil((n1 + 1)(1 - alpha))-th largest p of the n1 validation positives

    (Vovk 2012, "Conditional validity of inductive conformal predictors"; Sadinle et al. 2019, "Least ambiguous
    set-valued classifiers with bounded error levels"; Angelopoulos & Bates 2021, arXiv 2107.07511, Sec. 4.) For each
    class c on its own, so also where positives are rare,

        1 - alpha <= P(c in the set | y = c) <= 1 - alpha + 1 / (n_c + 1)

    the right side without ties, and before the bounds are rounded: they are kept to three digits, outward, since each
    is the probability of one study. The sets are then a little larger, and the left side holds. With n_c < 1 / alpha
    - 1 labels no bound does, and class c can never be ruled out. A set of c alone would then be decided by the other
    class, so both are in every set of such a finding, and its answer is unknown. It holds on average over validation
    splits and new studies, for one finding at a time, if a new study of class c is exchangeable with those of
    validation: the same population, labels and selection. Several studies of a patient are not exchangeable with those
    of new patients, and early stopping has seen the validation split: there, it holds approximately.

    Attributes:
        alpha: error rate allowed within each class.
        findings: names of the K labels.
        absent, present: K bounds each.
    """

    alpha: float
    findings: tuple[str, ...]
    absent: tuple[ConformalBound, ...]
    present: tuple[ConformalBound, ...]

    @classmethod
    def fit(
        cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str], alpha: float = 0.1
    ) -> "Conformal":
        """The bounds of both classes of each finding.

        Args: probabilities [N, K], NaN no prediction; labels [N, K], 1 / 0, NaN unknown; K names; alpha in (0, 1).

        Raises:
            UserError: another alpha; shapes that do not fit, probabilities outside [0, 1], other labels.
        """
        check_share("alpha", alpha)
        pairs = known_pairs(probabilities, labels, findings)
        absent = tuple(ConformalBound.of(np.sort(p[y == 0]), alpha, "up") for p, y in pairs)
        present = tuple(ConformalBound.of(np.sort(p[y == 1])[::-1], alpha, "down") for p, y in pairs)
        return cls(float(alpha), tuple(findings), absent, present)

    @property
    def undefined(self) -> dict[str, str]:
        """Why a class can never be ruled out, so that there is no answer, by finding."""
        bounds = zip(self.findings, self.absent, self.present, strict=True)
        reasons = {f: (("negative", absent.always), ("positive", present.always)) for f, absent, present in bounds}
        known = {f: "; ".join(f"{name} {why}" for name, why in both if why) for f, both in reasons.items()}
        return {finding: why for finding, why in known.items() if why}

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Whether absent, and whether present, is in the set: [..., K] to [..., K, 2]; both without p, or a bound.

        Raises:
            UserError: probabilities outside [0, 1], or of another number of findings.
        """
        p = as_probabilities(probabilities, self.findings)
        up_to = [1.0 if each.bound is None else each.bound for each in self.absent]
        from_on = [0.0 if each.bound is None else each.bound for each in self.present]
        return np.stack([p <= up_to, p >= from_on], axis=-1) | (np.isnan(p) | self._without_bound)[..., None]

    def answers(self, probabilities: ArrayLike) -> NDArray[np.str_]:
        """The sets in words, [..., K]: "yes", "no", "refer" where it is both, "neither" where it is empty.

        "unknown" where a class has too few labels to be ever ruled out: see `undefined`.
        """
        absent, present = np.moveaxis(self.sets(probabilities), -1, 0)
        words = np.select([absent & present, present, absent], ["refer", "yes", "no"], "neither")
        return np.where(self._without_bound, "unknown", words)

    @property
    def _without_bound(self) -> NDArray[np.bool_]:
        """Whether either class has none, [K]."""
        return np.array([None in (a.bound, p.bound) for a, p in zip(self.absent, self.present, strict=True)])

    def coverage(self, probabilities: ArrayLike, labels: ArrayLike) -> Coverage:
        """How often the label was in its set; args as of `fit`."""
        (p, y), sets = checked(probabilities, labels, self.findings), self.sets(probabilities)
        known = ~(np.isnan(p) | np.isnan(y))
        size, right = sets.sum(axis=-1), np.where(y == 1, sets[..., 1], sets[..., 0])
        return Coverage(
            absent=_mean(right, known & (y == 0)),
            present=_mean(right, known & (y == 1)),
            size=_mean(size, known),
            single=_mean(size == 1, known),
        )

    def to_json(self) -> dict[str, Any]:
        """For JSON; the bound of a class that can never be ruled out is null, with the reason."""
        bounds = {name: [asdict(bound) for bound in getattr(self, name)] for name in ("absent", "present")}
        return {"alpha": self.alpha, "findings": list(self.findings), **bounds}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "Conformal":
        """What `to_json` described."""
        absent, present = (
            tuple(ConformalBound(**bound) for bound in description[name]) for name in ("absent", "present")
        )
        return cls(description["alpha"], tuple(description["findings"]), absent, present)


def _mean(values: NDArray[Any], where: NDArray[np.bool_]) -> Array:
    """Over the rows of each finding, [N, K] to [K]; NaN where there is none."""
    number = where.sum(axis=0)
    return np.divide((values * where).sum(axis=0), number, out=np.full(len(number), np.nan), where=number > 0)
