"""From probabilities to answers by operating thresholds: yes, no, refer.

A threshold is found on the validation split, from the probabilities that it will be applied to: raw or recalibrated. It
is kept to three digits, since it would else be the probability of one study: rounded to the side on which what the rule
promises still holds. But for that, a strictly monotone recalibration fitted on the same split changes no answer except
those of `ByCost`.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.posthoc.known import MIN_PER_CLASS, Array, as_probabilities, check_share, decimal, known_pairs, rounded
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import build, describe

AGREEMENT = 2 / 3
"""Share of the draws that must answer as their mean does; else it is referred. Where z knows much, draws differ widely:
nearly every interval of 95 % then holds the threshold, which says little."""

# ------------------------------------------------------------------------------------------- rules


class Rule(abc.ABC):
    """How the threshold of a finding is found: from it on, a probability is a yes."""

    @abc.abstractmethod
    def undefined(self, probabilities: Array, labels: Array) -> str | None:
        """Why these probabilities and known labels, [M] each, give no threshold; None where they do."""

    @abc.abstractmethod
    def threshold(self, probabilities: Array, labels: Array) -> float:
        """The threshold, from the probabilities [M] of one finding, in [0, 1], and their known labels [M], 1 or 0."""


@dataclass(frozen=True)
class BySensitivity(Rule):
    """The highest threshold of three digits at which at least so large a share of the validation positives is a yes.

    Raises:
        UserError: a share that is not between 0 and 1.
    """

    at_least: float = 0.9

    def __post_init__(self) -> None:
        check_share("BySensitivity.at_least", self.at_least)

    def undefined(self, probabilities: Array, labels: Array) -> str | None:
        """Too few positives (below `MIN_PER_CLASS`), or equal probabilities."""
        return _too_few("positives", int((labels == 1).sum())) or _constant(probabilities)

    def threshold(self, probabilities: Array, labels: Array) -> float:
        """The least of the ceil(at_least P) highest of the P positives' probabilities, rounded down."""
        positives = np.sort(probabilities[labels == 1])
        return rounded(positives[-math.ceil(decimal(self.at_least) * len(positives))], "down")


@dataclass(frozen=True)
class BySpecificity(Rule):
    """The lowest threshold of three digits at which at least so large a share of the validation negatives is a no.

    It is above a negative's probability; above 1, so never a yes, where it must exclude a probability of 1.

    Raises:
        UserError: a share that is not between 0 and 1.
    """

    at_least: float = 0.9

    def __post_init__(self) -> None:
        check_share("BySpecificity.at_least", self.at_least)

    def undefined(self, probabilities: Array, labels: Array) -> str | None:
        """Too few negatives (below `MIN_PER_CLASS`), or equal probabilities."""
        return _too_few("negatives", int((labels == 0).sum())) or _constant(probabilities)

    def threshold(self, probabilities: Array, labels: Array) -> float:
        """Above the ceil(at_least N)-th lowest of the N negatives' probabilities, rounded up."""
        negatives = np.sort(probabilities[labels == 0])
        highest = negatives[math.ceil(decimal(self.at_least) * len(negatives)) - 1]
        above = rounded(highest, "up")
        return above if above > highest else float(np.nextafter(highest, 2))


@dataclass(frozen=True)
class ByCost(Rule):
    """The threshold of least expected cost, c_fp / (c_fp + c_fn) (Elkan 2001, "Cost-sensitive learning", Eq. 2).

    A yes costs (1 - p) c_fp, a no p c_fn. It is for calibrated probabilities, and needs no label: the cost counted on
    validation would choose by a handful of positives, where a finding is rare.

    Args:
        false_negative, false_positive: c_fn and c_fp, in any unit; only their ratio counts.

    Raises:
        UserError: a cost that is not above 0.
    """

    false_negative: float = 1.0
    false_positive: float = 1.0

    def __post_init__(self) -> None:
        for name, cost in asdict(self).items():
            if not 0 < cost < math.inf:
                raise UserError(f"ByCost.{name}: found {cost}, expected a number above 0")

    def undefined(self, probabilities: Array, labels: Array) -> str | None:
        """None: costs need no label."""
        return None

    def threshold(self, probabilities: Array, labels: Array) -> float:
        """c_fp / (c_fp + c_fn), whatever the labels."""
        return self.false_positive / (self.false_positive + self.false_negative)


def _too_few(class_name: str, number: int) -> str | None:
    return None if number >= MIN_PER_CLASS else f"{class_name} known: {number}; at least {MIN_PER_CLASS} are needed"


def _constant(probabilities: Array) -> str | None:
    """A threshold would give every study the same answer."""
    return "all studies have the same probability" if np.ptp(probabilities) == 0 else None


# -------------------------------------------------------------------------------- operating points


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of a finding, and what it reached on validation; None where there is no threshold.

    Attributes:
        finding: its name.
        threshold: from it on, a probability is a yes.
        positives, negatives: known labels of validation.
        true_positives, true_negatives: how many of them it had right.
        undefined: why there is no threshold; None where there is one.
    """

    finding: str
    threshold: float | None
    positives: int
    negatives: int
    true_positives: int | None
    true_negatives: int | None
    undefined: str | None = None

    @classmethod
    def of(cls, finding: str, probabilities: Array, labels: Array, rule: Rule) -> "OperatingPoint":
        """By a rule, from probabilities [M] and known labels [M], 1 or 0."""
        positive = labels == 1
        known = int(positive.sum()), int((~positive).sum())
        if reason := rule.undefined(probabilities, labels):
            return cls(finding, None, *known, None, None, reason)
        threshold = rule.threshold(probabilities, labels)
        yes = probabilities >= threshold
        return cls(finding, threshold, *known, int((yes & positive).sum()), int((~yes & ~positive).sum()))

    @property
    def sensitivity(self) -> float:
        """Share of the positives that are a yes; NaN without a threshold or a positive."""
        return _share(self.true_positives, self.positives)

    @property
    def specificity(self) -> float:
        """Share of the negatives that are a no; NaN without a threshold or a negative."""
        return _share(self.true_negatives, self.negatives)


def _share(part: int | None, whole: int) -> float:
    return math.nan if part is None or not whole else part / whole


@dataclass(frozen=True)
class OperatingPoints:
    """A threshold for each finding, found on validation.

    Attributes:
        rule: how.
        points: K of them.
    """

    rule: Rule
    points: tuple[OperatingPoint, ...]

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, findings: Sequence[str], rule: Rule) -> "OperatingPoints":
        """The threshold of each finding by a rule.

        Args: probabilities [N, K], NaN no prediction; labels [N, K], 1 / 0, NaN unknown; K names; the rule.

        Raises:
            UserError: no rule; shapes that do not fit, probabilities outside [0, 1], other labels.
        """
        if not isinstance(rule, Rule):
            raise UserError(
                f"rule: found {rule!r}, expected a Rule such as BySensitivity(0.9), BySpecificity or ByCost"
            )
        pairs = zip(findings, known_pairs(probabilities, labels, findings), strict=True)
        return cls(rule, tuple(OperatingPoint.of(finding, p, y, rule) for finding, (p, y) in pairs))

    @property
    def findings(self) -> list[str]:
        """Names of the K labels."""
        return [point.finding for point in self.points]

    @property
    def thresholds(self) -> Array:
        """[K]; NaN where undefined."""
        return np.array([np.nan if point.threshold is None else point.threshold for point in self.points])

    @property
    def sensitivity(self) -> Array:
        """Reached on validation, [K]; NaN where undefined."""
        return np.array([point.sensitivity for point in self.points])

    @property
    def specificity(self) -> Array:
        """Reached on validation, [K]; NaN where undefined."""
        return np.array([point.specificity for point in self.points])

    @property
    def undefined(self) -> dict[str, str]:
        """Why there is no threshold, by finding."""
        return {point.finding: point.undefined for point in self.points if point.undefined}

    def yes_share(self, draws: ArrayLike) -> Array:
        """The share of draws, [D, ..., K], that are at or above the threshold, [..., K]; NaN where one is undefined."""
        p = as_probabilities(draws, self.findings)
        return np.where(
            np.isnan(self.thresholds) | np.isnan(p).any(axis=0), np.nan, (p >= self.thresholds).mean(axis=0)
        )

    def answers(self, probabilities: ArrayLike, *, yes_share: ArrayLike | None = None) -> NDArray[np.str_]:
        """What to say of each study and finding, [..., K].

        "yes" where the probability is at or above the threshold, "no" where it is below, "refer" where less than
        `AGREEMENT` of its draws say the same: there, what is not known changes the answer. "unknown" without a
        threshold, a probability, or a share that was given. `Conformal` refers for a
        stated rate of error.

        Args: probabilities [..., K]; `yes_share` of their draws, [..., K]; without, nothing is referred.

        Raises:
            UserError: probabilities outside [0, 1], or of another number of findings.
        """
        p = as_probabilities(probabilities, self.findings)
        yes = p >= self.thresholds
        share = yes.astype(float) if yes_share is None else as_probabilities(yes_share, self.findings)
        unknown = np.isnan(p) | np.isnan(share) | np.isnan(self.thresholds)
        referred = np.where(yes, share, 1 - share) < AGREEMENT
        return np.select([unknown, referred, yes], ["unknown", "refer", "yes"], "no")

    def to_json(self) -> dict[str, Any]:
        """For JSON; what is undefined is null, with the reason."""
        return {"rule": describe(self.rule), "points": [asdict(point) for point in self.points]}

    @classmethod
    def from_json(cls, description: dict[str, Any], allow: Sequence[str] = ()) -> "OperatingPoints":
        """What `to_json` described; its rule is of this package, or of a module that is allowed.

        Raises:
            UserError: there is no such rule.
        """
        points = tuple(OperatingPoint(**point) for point in description["points"])
        return cls(build(description["rule"], Rule, allow), points)
