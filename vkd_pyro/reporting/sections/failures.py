"""Where the model was wrong."""

from vkd_pyro.reporting.page import Cell, Section, Table
from vkd_pyro.reporting.sections.assessment import Assessment


def failures(assessed: Assessment) -> Section | None:
    table = assessed.failures
    if table.empty:
        return None
    rows: list[list[Cell]] = []
    for finding, group in table.groupby("finding", sort=False):
        cells: list[Cell] = []
        for error in ("false alarm", "miss"):
            worst = group.loc[group["error"] == error, "probability"]
            cells.append(", ".join(f"{p:.2f}" for p in worst) or "none")
        rows.append([str(finding), *cells])
    columns = ["finding", "probability where it is absent, highest first", "where it is present, lowest first"]
    note = "Which studies they are is in failures.csv, beside this page, for those who may look at their images."
    return Section(
        "failures",
        lead="The worst answers of each finding: what was sure and wrong, of the image or of its label.",
        tables=[Table("Worst studies", columns, rows, note)],
    )
