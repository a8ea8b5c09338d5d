"""Who was studied: the flow of patients, studies and images, and what they are like."""

from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table
from vkd_pyro.reporting.sections.extras import Extras


def cohort(extras: Extras) -> Section | None:
    if extras.cohort is None:
        return None
    found = extras.cohort
    table = found.characteristics
    rows: list[list[Cell]] = [
        [str(name), *row] for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)
    ]
    shared = sum(found.shared_patients.values())
    facts: dict[str, Cell] = {
        "patients in two splits": shared,
        "labels": found.labels,
        "split by": "patient: no patient's studies are in two splits",
    }
    drawn = figures.flow(found.corpus, found.excluded, found.included)
    return Section(
        "cohort",
        lead=f"{found.corpus}: what was read, what was left out and why, and what is in each split.",
        facts=facts,
        figures=[CaptionedFigure("Flow of patients, studies and images", drawn, "Splits share no patient.")],
        tables=[Table("Characteristics of each split", ["", *map(str, table.columns)], rows)],
    )
