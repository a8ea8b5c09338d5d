"""How probabilities usually are: what later months of predictions are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vkd_pyro.posthoc.known import as_probabilities
from vkd_pyro.posthoc.quantiles import Quantiles
from vkd_pyro.utils.errors import UserError

SHARES = np.linspace(0.05, 0.95, 19)
"""Between these quantiles lie the bins of a comparison: twenty, fewer where probabilities are equal or few."""


@dataclass(frozen=True)
class UsualProbabilities:
    """Quantiles of the calibrated probabilities of what was fitted to, with a label or without; rounded (`Quantiles`).

    Attributes:
        findings: names of the K labels.
        quantiles: K of them.
    """

    findings: tuple[str, ...]
    quantiles: tuple[Quantiles, ...]

    @classmethod
    def fit(cls, probabilities: ArrayLike, findings: Sequence[str]) -> "UsualProbabilities":
        """Of probabilities [N, K], NaN no prediction; raises `UserError` outside [0, 1], or of other findings."""
        columns = as_probabilities(probabilities, findings).T
        return cls(tuple(findings), tuple(Quantiles.of(column, SHARES) for column in columns))

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "findings": list(self.findings),
            "quantiles": [{name: array.tolist() for name, array in vars(one).items()} for one in self.quantiles],
        }

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "UsualProbabilities":
        """What `to_json` described; raises `UserError` where it is no quantiles."""
        quantiles = []
        for finding, one in zip(description["findings"], description["quantiles"], strict=True):
            if len(one["values"]) != len(one["at_least"]):
                raise UserError(f"usual: {finding}: values and counts differ in number; copy the bundle again")
            quantiles.append(Quantiles.from_array(np.array([one["values"], one["at_least"]], float), finding))
        return cls(tuple(description["findings"]), tuple(quantiles))
