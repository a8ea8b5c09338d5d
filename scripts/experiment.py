"""Trains rows of a table over seeds and folds, evaluates them, and prints the table that compares them.

    python scripts/experiment.py synthetic+methods/no_report synthetic --seeds 5
    python scripts/experiment.py openi_cpu openi_cpu+methods/feature_regression --folds 5 --jobs 2

A row is CONFIG[+OVERLAY...], an overlay being what differs: a config, which is a file or a name that `vkd configs`
lists, or one option, such as +--training.compile=true; {seed} in it is the seed, as in
+--data.task.label_draw={seed}. Further options go to every `vkd train` whose method has them,
e.g. --training.max_epochs=2. Runs that are complete are not trained again, interrupted ones are resumed. What a run
prints is in RUN.log beside it. Differences are against the first row named, or the first `--baselines` of them.
"""

import argparse
from pathlib import Path

import pandas as pd
from comparing import row_of_table, write_result
from jsonargparse.typing import PositiveInt
from trainings import Plan, Row, add_plan, errors_in_one_line, evaluations, launcher_of


def row_named(text: str) -> Row:
    """CONFIG[+OVERLAY...] as a row, named by what is put over its config; without anything, by its method."""
    parts = text.split("+")
    configs = tuple(part for part in parts if not part.startswith("--"))
    options = tuple(part for part in parts if part.startswith("--"))
    first, *others = (Path(config).stem for config in configs)
    names = [*others, *(option.removeprefix("--").replace("/", "-") for option in options)]  # a name is one folder
    return Row(f"{first}/{'-'.join(names) or Row('', configs).method.split('.')[-1].lower()}", configs, options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("rows", nargs="+", metavar="CONFIG[+OVERLAY...]")
    add_plan(parser, runs="runs")
    parser.add_argument("--split", default="test", help="what is evaluated: test, or validation to choose by")
    parser.add_argument(
        "--baselines", type=PositiveInt, default=1, help="rows that others are compared with, from the first"
    )
    given, options = parser.parse_known_args()
    if given.folds and given.split != "test":
        parser.error("--folds joins the folds' test splits; leave out --split")
    plan = Plan(given.runs, given.seeds, given.folds or 0, given.split, tuple(options), launcher_of(given))
    rows = [row_named(text) for text in given.rows]
    found = evaluations(rows, plan)
    first = [row.name for row in rows][: given.baselines]
    baselines = {f" to {name.split('/')[-1]}" if len(first) > 1 else "": found[name] for name in first}
    cells = {name: row_of_table(ours, baselines) for name, ours in found.items()}
    table = pd.DataFrame(cells).T.fillna("")  # the first has no difference from itself
    print(table.to_string())
    if given.json:
        hashes = {row.name: plan.config_hash(row) for row in rows}
        seeds = {name: [e.summary() for e in ours] for name, ours in found.items()}
        write_result(given.json, {"config_sha256": hashes, "table": table.to_dict("index"), "seeds": seeds})


if __name__ == "__main__":
    with errors_in_one_line():
        main()
