"""Who the data are of: how many were included and left out, and what they are like, split by split."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from vkd_pyro.data.study import Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.subgroups import subgroup_names, subgroups

COUNTS = ("patients", "studies", "images")


@dataclass(frozen=True)
class Cohort:
    """The patients, studies and images of a corpus, for a report's flow diagram and its Table 1.

    Attributes:
        corpus: its name.
        excluded: what was left out, by reason: how many images, studies or reports, as the reason says.
        included: of each split, how many patients, studies and images.
        characteristics: a row a characteristic, a column a split: text such as "12 of 30 (40.0%)".
        shared_patients: of each pair of splits, how many patients are in both.
        labels: where labels come from.
    """

    corpus: str
    excluded: dict[str, int]
    included: dict[str, dict[str, int]]
    characteristics: pd.DataFrame
    shared_patients: dict[str, int]
    labels: str

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"characteristics": self.characteristics.to_dict("index")}


def cohort_of(data: StudyData) -> Cohort:
    """The cohort of a corpus; splits without a study are left out."""
    summary = data.summary()
    splits = {split: data.studies(split) for split in summary["splits"]}
    patients = {split: {study.patient_id for study in studies} for split, studies in splits.items()}
    return Cohort(
        corpus=data.corpus.name,
        excluded={reason: count for reason, count in summary["left_out"].items() if count},
        included={split: {name: summary["splits"][split][name] for name in COUNTS} for split in splits},
        characteristics=_characteristics(data, splits),
        shared_patients={
            f"{one} and {other}": len(patients[one] & patients[other]) for one, other in combinations(splits, 2)
        },
        labels="the corpus's own" if data.selection.labels is None else f"the file {data.selection.labels.name}",
    )


def _characteristics(data: StudyData, splits: dict[str, list[Study]]) -> pd.DataFrame:
    """The columns beside each other; what no study has is left out, and so is what the corpus does not say."""
    columns = {split: _column(data, split, studies) for split, studies in splits.items()}
    table = pd.DataFrame(columns).fillna("unknown")
    rows = table.iterrows()
    said = [name for name, row in rows if name in data.findings or any(not t.startswith("0 of ") for t in row)]
    return table.loc[said]


def _column(data: StudyData, split: str, studies: Sequence[Study]) -> dict[str, str]:
    """Table 1 of a split: counts of studies and their share, ages, positives of the known labels of each finding."""
    found: dict[str, str] = {
        "patients": f"{len({study.patient_id for study in studies}):,}",
        "studies": f"{len(studies):,}",
        "images": f"{sum(len(study.images) for study in studies):,}",
    }
    groups = subgroups(studies)
    ages = np.array([study.age for study in studies], float)[groups["age"] != "unknown"]
    for kind in ("sex", "view"):
        for name in subgroup_names()[kind]:
            found[f"{kind}: {name}"] = _share(int((groups[kind] == name).sum()), len(studies))
    if len(ages):
        low, middle, high = np.percentile(ages, (25, 50, 75))
        found["age in years, median (quartiles)"] = f"{middle:.0f} ({low:.0f} to {high:.0f})"
    found["age: unknown"] = _share(len(studies) - len(ages), len(studies))
    targets = data.targets(split)
    for finding, column in zip(data.findings, targets.T, strict=True):
        known = ~np.isnan(column)
        missing = f", {(~known).sum():,} not known" if not known.all() else ""
        found[finding] = _share(int((column[known] > 0).sum()), int(known.sum())) + missing
    return found


def _share(count: int, of: int) -> str:
    return f"{count:,} of {of:,} ({count / of:.1%})" if of else "none known"
