"""Groups of patients and views."""

import numpy as np

from vkd_pyro.reporting.page import Cell, Section, Table
from vkd_pyro.reporting.sections.assessment import Assessment


def subgroups(assessed: Assessment) -> Section | None:
    if assessed.subgroups.empty:
        return None
    rows: list[list[Cell]] = [
        [str(name), *(int(cell) if isinstance(cell, np.integer) else cell for cell in row)]
        for name, row in zip(
            assessed.subgroups.index, assessed.subgroups.itertuples(index=False, name=None), strict=True
        )
    ]
    note = (
        "Macro is over the findings whose AUC is defined in the group, so groups may have other findings. Calibration "
        "errors of small groups are larger by chance alone."
    )
    return Section(
        "subgroups",
        tables=[Table("By patient and view", ["group", *map(str, assessed.subgroups.columns)], rows, note)],
    )
