"""What is asked of the studies: which labels count as what, who is trained on and who is tested, which control."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vkd_pyro.data.controls import Control
from vkd_pyro.data.ids import spelling
from vkd_pyro.data.labels.findings import check_findings
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.selection import reindex_labels
from vkd_pyro.data.splits import Folds, keeps_labels
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.utils.errors import UserError, check_count
from vkd_pyro.utils.serialization import describe


@dataclass(frozen=True)
class Task:
    """What is learned from a corpus, and what it is judged by.

    Attributes:
        findings: the labels to learn, in this order; None for those of the corpus. One that the corpus does not have
            is unknown throughout.
        train_policy: what uncertain and blank labels become in training; None is `LabelPolicy()`.
        eval_policy: the same in validation and evaluation.
        folds: cross-fitting by patient, in place of the corpus's own splits.
        label_share: the labels of this share of the training patients are kept. Every training batch has them in its
            first half: `batch_size // 2` labelled images, then as many unlabelled ones whose report is read, unless
            `Loading.labelled_half` is false. Where no report is read it has the same first half, and no other.
        label_draw: which patients they are, of several random choices: 0, 1, ...
        control: "shuffled_reports" exchanges the reports within each split; "labels_as_report" reads the known labels,
            in words, in place of reports.
        max_train_studies: train on the first so many studies only; None for all.

    Raises:
        UserError: a value out of range.
    """

    findings: tuple[str, ...] | None = None
    train_policy: LabelPolicy | None = None
    eval_policy: LabelPolicy | None = None
    folds: Folds | None = None
    label_share: float = 1.0
    label_draw: int = 0
    control: Control = "none"
    max_train_studies: int | None = None

    def __post_init__(self) -> None:
        if self.findings is not None:
            check_findings("data.task.findings", self.findings)
        check_count("data.task.label_draw", self.label_draw, least=0)
        if self.max_train_studies is not None:
            check_count("data.task.max_train_studies", self.max_train_studies)
        if not 0 < self.label_share <= 1:
            raise UserError(f"data.task.label_share: found {self.label_share:g}, expected more than 0, at most 1")
        if self.control not in get_args(Control):
            raise UserError(
                f"data.task.control: found {self.control!r}, expected one of {', '.join(get_args(Control))}"
            )
        policy = self.policy("test")
        if policy.takes("keep") or policy.takes("soft"):
            raise UserError("data.task.eval_policy.uncertain: 'keep' and 'soft' give nothing to measure; use ignore")

    def policy(self, split: str) -> LabelPolicy:
        """What decides on uncertain and blank labels of a split."""
        return (self.train_policy if split == "train" else self.eval_policy) or LabelPolicy()

    def findings_of(self, corpus: Corpus) -> tuple[str, ...]:
        """K names; raises `UserError` where the corpus has none of them."""
        findings = tuple(self.findings or corpus.findings)
        if not set(findings) & set(corpus.findings):
            raise UserError(f"data.task.findings: {corpus.name} has none of them; it has {', '.join(corpus.findings)}")
        return findings

    def splits(self, corpus: Corpus, studies: Sequence[Study]) -> dict[str, list[int]]:
        """Numbers of the studies of each split; no patient is in two of them.

        Raises:
            UserError: an unknown split, a study_id that occurs twice, a patient in two splits, by one name or two
                spellings of it.
        """
        splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for number, study in enumerate(studies):
            split = self.folds.split_of(corpus.name, study.patient_id) if self.folds else study.split
            if split not in splits:
                raise UserError(f"{corpus.name}: {split!r} is no split; expected train, validation or test")
            splits[split].append(number)
        if len({study.study_id for study in studies}) < len(studies):
            raise UserError(f"{corpus.name}: two studies have the same study_id; give each its own")
        patients = {split: {studies[i].patient_id for i in rows} for split, rows in splits.items()}
        spelled = {split: {spelling(name) for name in names} for split, names in patients.items()}
        for one, other in combinations(splits, 2):
            if shared := len(patients[one] & patients[other]):
                raise UserError(f"{corpus.name}: {shared} patients are in both {one} and {other}; split by patient")
            if shared := len(spelled[one] & spelled[other]):
                raise UserError(
                    f"{corpus.name}: {shared} patients are in both {one} and {other}, spelled in two ways, as 3 and "
                    "003, 3 and 3.0, or p3 and P3; write each in one way"
                )
        splits["train"] = splits["train"][: self.max_train_studies]
        return splits

    def targets(self, corpus: Corpus, studies: Sequence[Study], split: str) -> NDArray[np.float32]:
        """What the split's policy makes of the labels of its studies, float32 [N, K].

        NaN is unknown, or not in `label_share`; -1 is an uncertain label that is kept.
        """
        findings = self.findings_of(corpus)
        labels = reindex_labels(studies, corpus.findings, findings)
        targets = self.policy(split)(labels, findings, [study.study_id for study in studies])
        if len(strange := targets[((targets < 0) | (targets > 1)) & (targets != -1)]):
            raise UserError(f"{corpus.name}: found a label {strange[0]:g}; expected 0, 1, -1, a share, or unknown")
        if split == "train" and self.label_share < 1:
            kept = [keeps_labels(corpus.name, study.patient_id, self.label_share, self.label_draw) for study in studies]
            targets[~np.array(kept)] = np.nan
        return targets

    def description(self) -> dict[str, Any]:
        """Policies, and folds, label share and control as far as they are set; for JSON."""
        unset = {"folds": None, "label_share": 1.0, "label_draw": 0, "control": "none"}
        found = {name: getattr(self, name) for name in unset} | {"folds": self.folds and asdict(self.folds)}
        return {
            "train_policy": describe(self.policy("train")),
            "eval_policy": describe(self.policy("test")),
            **{name: value for name, value in found.items() if value != unset[name]},
        }
