"""Lines on the logits, to follow a map of probabilities that is there."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from vkd_pyro.posthoc.known import Array

LOWEST, HIGHEST = 1e-12, 1 - 2**-25
"""Where probabilities are clipped before a logit: every float32 below 1 stays below, and 1 itself is no outlier."""


def logits_of(probabilities: Array) -> Array:
    """Logits of probabilities, clipped; of any shape, NaN stays NaN."""
    return logit(np.clip(probabilities, LOWEST, HIGHEST))


@dataclass(frozen=True)
class Lines:
    """p_k -> sigmoid(slope_k logit(p_k) + intercept_k).

    Attributes:
        findings: names of the K labels.
        slopes, intercepts: [K].
        not_fitted: of each finding that could not be fitted, why; its line is the identity.
    """

    findings: list[str]
    slopes: Array
    intercepts: Array
    not_fitted: dict[str, str]

    def __call__(self, probabilities: Array) -> Array:
        """After the lines, [..., K]; NaN stays NaN."""
        return expit(self.slopes * logits_of(probabilities) + self.intercepts)

    def after(
        self, slopes: Array, intercepts: Array, not_fitted: dict[str, str]
    ) -> tuple[list[str], dict[str, str], list[float], list[float]]:
        """Other lines and then these are lines: names, which of them are none, slopes and intercepts.

        Args: the first lines, [K] each, and whose are none, with the reason.
        """
        raw = [finding in not_fitted for finding in self.findings]
        first, shift = np.where(raw, 1.0, slopes), np.where(raw, 0.0, intercepts)
        both = self.slopes * first, self.slopes * shift + self.intercepts
        return self.findings, self.neither(not_fitted), both[0].tolist(), both[1].tolist()

    def neither(self, not_fitted: dict[str, str]) -> dict[str, str]:
        """Of the findings whose first map is none, those whose line is none either."""
        return {finding: why for finding, why in not_fitted.items() if finding in self.not_fitted}

    def curve(self, k: int, outputs: Array) -> list[float]:
        """What becomes of values of finding k, [Q]."""
        return expit(self.slopes[k] * logits_of(outputs) + self.intercepts[k]).tolist()
