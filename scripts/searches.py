"""What searches of `vkd tune` found: a row a study, with its trials, the config's own value, the best, its settings.

    python scripts/searches.py tuning/image_only tuning/vkd --json results/tuning.json

A row is named by the folder of the study. Time is of all trainings of its trials together.
"""

import argparse
import re
from pathlib import Path

import pandas as pd
from comparing import write_result


def row_of(study: Path) -> dict[str, str]:
    """What trials.csv and best.yaml of a study say."""
    trials = pd.read_csv(study / "trials.csv")
    number, metric = re.search(
        r"trial (\d+) of .*, (val/\S+) ", (study / "best.yaml").read_text(encoding="utf-8")
    ).groups()
    own, best = (trials[trials["trial"] == each].iloc[0] for each in (0, int(number)))
    settings = {name: best[name] for name in trials.columns[trials.columns.get_loc("reason") + 1 :]}
    return {
        "trials": f"{len(trials)}",
        "of which pruned": f"{(trials['state'] == 'pruned').sum()}",
        "minutes": f"{trials['seconds'].sum() / 60:.0f}",
        f"{metric}, the config": f"{own['value']:.3f}",
        f"{metric}, the best": f"{best['value']:.3f}",
        **{name.split(".")[-1]: f"{value:.3g}" for name, value in settings.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY")
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    given = parser.parse_args()
    table = {study.name: row_of(study) for study in given.studies}
    print(pd.DataFrame(table).T.to_string())
    if given.json:
        write_result(given.json, {"table": table})


if __name__ == "__main__":
    main()
