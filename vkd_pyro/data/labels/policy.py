"""What uncertain and blank labels are taken for: part of a run's identity, since it decides results."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import ABSENT, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.utils.errors import UserError

Uncertain = Literal["ignore", "zeros", "ones", "soft", "keep"]
Blank = Literal["ignore", "zeros"]


class LabelPolicy:
    """Labels as a corpus gives them -> targets to learn from or to be measured against.

    Args:
        uncertain: what a label that says "perhaps" becomes: unknown ("ignore"), 0 ("zeros"), 1 ("ones"), a target drawn
            uniformly from `soft_range` ("soft": Pham et al. 2021), or itself ("keep", for likelihoods that model it).
        blank: what a finding that the report does not mention becomes: 0 ("zeros": the CheXpert authors' choice),
            or unknown ("ignore").
        soft_range: [a, b] in [0, 1]; the draw of a label depends on its study and finding alone.
        uncertain_by_finding: exceptions, by the name of the finding.
        blank_by_finding: exceptions, by the name of the finding.
    """

    def __init__(
        self,
        uncertain: Uncertain = "ignore",
        blank: Blank = "zeros",
        soft_range: tuple[float, float] = (0.55, 0.85),
        uncertain_by_finding: dict[str, Uncertain] | None = None,
        blank_by_finding: dict[str, Blank] | None = None,
    ) -> None:
        low, high = soft_range
        if not 0 <= low <= high <= 1:
            raise UserError(f"soft_range: found [{low}, {high}], expected 0 <= a <= b <= 1")
        for name, choices, one, others in (
            ("uncertain", get_args(Uncertain), uncertain, uncertain_by_finding),
            ("blank", get_args(Blank), blank, blank_by_finding),
        ):
            if strange := sorted({one, *(others or {}).values()} - set(choices)):
                raise UserError(f"{name}: found {strange[0]!r}, expected one of {', '.join(choices)}")
        self.uncertain, self.blank, self.soft_range = uncertain, blank, (low, high)
        self.uncertain_by_finding, self.blank_by_finding = uncertain_by_finding, blank_by_finding

    def __call__(
        self, labels: NDArray[np.float32], findings: Sequence[str], study_ids: Sequence[str]
    ) -> NDArray[np.float32]:
        """Targets of N studies.

        Args:
            labels: float32 [N, K], of the codes in `findings.py`; NaN is never labelled, and stays so.
            findings: names of the K labels.
            study_ids: N names.

        Returns: float32 [N, K] in [0, 1]; NaN unknown; -1 where an uncertain label is kept.

        Raises:
            UserError: an exception is made for a finding that there is not.
        """
        targets = labels.copy()
        uncertain = _by_finding("uncertain", self.uncertain, self.uncertain_by_finding, findings)
        blank = _by_finding("blank", self.blank, self.blank_by_finding, findings)
        for k, finding in enumerate(findings):
            perhaps, unmentioned = labels[:, k] == UNCERTAIN, labels[:, k] == UNMENTIONED
            targets[unmentioned, k] = ABSENT if blank[k] == "zeros" else np.nan
            if uncertain[k] == "soft":
                low, high = self.soft_range
                rows = np.flatnonzero(perhaps).tolist()
                targets[rows, k] = [low + (high - low) * _uniform(study_ids[row], finding) for row in rows]
            elif uncertain[k] != "keep":
                targets[perhaps, k] = {"ignore": np.nan, "zeros": ABSENT, "ones": PRESENT}[uncertain[k]]
        return targets

    def takes(self, uncertain: Uncertain) -> bool:
        """Whether uncertain labels of any finding become this."""
        return uncertain in (self.uncertain, *(self.uncertain_by_finding or {}).values())


def _by_finding(name: str, usual: str, exceptions: Mapping[str, str] | None, findings: Sequence[str]) -> list[str]:
    """The choice for each finding."""
    if strange := sorted(set(exceptions or ()) - set(findings)):
        raise UserError(f"{name}_by_finding: no finding {strange[0]!r}; expected among {', '.join(findings)}")
    return [(exceptions or {}).get(finding, usual) for finding in findings]


def _uniform(study_id: str, finding: str) -> float:
    """A number in [0, 1), the same on every machine and in every epoch."""
    digest = hashlib.sha256(f"soft:{study_id}:{finding}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
