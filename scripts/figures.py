"""Makes the figures of the README and the manual from the synthetic corpus: trains with and without reports, evaluates.

    python scripts/figures.py [--runs runs/figures]

No patient is in them. Runs that are complete are not trained again.
"""

import argparse
import shutil
import sys
from pathlib import Path

from vkd_pyro.artifacts.run import load_run
from vkd_pyro.cli import main as vkd
from vkd_pyro.evaluation.saved import load_evaluation
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.write import cases_of

FIGURES = Path(__file__).resolve().parent.parent / "results" / "figures"
KEPT = ("reliability", "referral", "map_of_z_t_sne")
"""Figures of `vkd evaluate` that are shown."""

OVERLAYS = {"no_report": ["--config", "methods/no_report"], "vkd": []}
"""What is put on top of the config `synthetic`, by run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/figures"), help="folder of the two runs")
    folder = parser.parse_args().runs
    for name, overlay in OVERLAYS.items():
        if not (folder / name / "bundle").is_dir():
            carry_out("train", "--config", "synthetic", *overlay, "--run", str(folder / name))
    with_reports = folder / "vkd"
    carry_out("evaluate", str(with_reports), "--beside", str(folder / "no_report"), "--cases", "6")
    evaluation = with_reports / "evaluation" / "test"
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(evaluation / "figures" / f"{name}.png", FIGURES / f"{name}.png")
    run = load_run(with_reports)
    cases = cases_of(run.method, run.data, load_evaluation(evaluation), 4)
    figures.cases(*cases).savefig(FIGURES / "cases.png", dpi=110)
    print(f"written: {FIGURES}; the whole page: {evaluation}/index.html")


def carry_out(*arguments: str) -> None:
    """A `vkd` command; exits where it fails, having said why."""
    if code := vkd(list(arguments)):
        sys.exit(code)


if __name__ == "__main__":
    main()
