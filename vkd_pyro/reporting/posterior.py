"""A check of a posterior by simulation, in a folder: numbers and figures."""

from pathlib import Path

from vkd_pyro.evaluation.simulation import COVERAGE, PosteriorCheck
from vkd_pyro.reporting import figures
from vkd_pyro.utils.files import private_folder, write_json


def save_check(check: PosteriorCheck, folder: Path) -> None:
    """Writes sbc.json, and ranks and expected_coverage as PNG and SVG, into a folder."""
    private_folder(folder)
    write_json(folder / "sbc.json", check.summary())
    differences, band = check.ecdf_differences()
    own = check.table.drop(index=COVERAGE)
    outside = own[own["draws"] != ""].sort_values("p").index
    figures.save(figures.ecdf_differences(differences, band, [str(name) for name in outside]), folder, "ranks")
    figures.save(figures.expected_coverage(*check.coverage()), folder, "expected_coverage")
