"""Makes the README's pictures from the synthetic corpus: trains with and without reports, and evaluates.

    python scripts/pictures.py [--runs runs/pictures]

No patient is in them. Runs that are complete are not trained again.
"""

import argparse
import shutil
import sys
from pathlib import Path

from vkd_pyro.artifacts.run import load_run
from vkd_pyro.cli import main as vkd
from vkd_pyro.evaluation.evaluation import load_evaluation
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.write import cases_of

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "results" / "pictures"
KEPT = ("reliability", "referral", "map_of_z_t_sne")
"""Figures of `vkd evaluate` that are shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/pictures"), help="folder of the two runs")
    runs = {arm: parser.parse_args().runs / arm for arm in ("no_report", "vkd")}
    for arm, run in runs.items():
        if not (run / "bundle").is_dir():
            carry_out("train", "--config", str(ROOT / "configs/synthetic.yaml"), "--arm", arm, "--run", str(run))
    carry_out("evaluate", str(runs["vkd"]), "--beside", str(runs["no_report"]), "--cases", "6")
    evaluation = runs["vkd"] / "evaluation" / "test"
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(evaluation / "figures" / f"{name}.png", PICTURES / f"{name}.png")
    trained = load_run(runs["vkd"])
    cases = cases_of(trained.method, trained.data, load_evaluation(evaluation), 4)
    figures.cases(*cases).savefig(PICTURES / "cases.png", dpi=110)
    print(f"written: {PICTURES}; the whole page: {evaluation}/index.html")


def carry_out(*arguments: str) -> None:
    """A `vkd` command; exits where it fails, having said why."""
    if code := vkd(list(arguments)):
        sys.exit(code)


if __name__ == "__main__":
    main()
