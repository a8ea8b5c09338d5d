"""Counts the labeller's errors by kind on sentences with right labels.

    python scripts/labeller_sentences.py --json results/labeller_sentences.json

The errors of another version, counted by the same script, stand beside these by `--before FILE`.

`tests/sentences/*.csv` hold a kind, a sentence ("\\n" ends a line) and what is right: + present, - absent, ? uncertain,
0 not mentioned; of several signs any is right; what is not listed is not mentioned. A sentence is wrong where the label
of any finding but No Finding is.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

from comparing import write_result

from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.data.labels.labeller import Labeller

SENTENCES = Path(__file__).resolve().parent.parent / "tests" / "sentences"
SIGNS = {PRESENT: "+", ABSENT: "-", UNCERTAIN: "?", UNMENTIONED: "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    parser.add_argument("--before", type=Path, help="a table of another version, whose errors are shown too")
    arguments = parser.parse_args()
    before = json.loads(arguments.before.read_text(encoding="utf-8"))["table"] if arguments.before else {}
    table: dict[str, dict[str, int]] = {}
    for path in sorted(SENTENCES.glob("*.csv")):
        rows = read(path)
        wrong = Counter(kind for kind, _, _ in errors(rows))
        for kind, number in Counter(row["kind"] for row in rows).items():
            table[f"{path.stem}: {kind}"] = {"sentences": number, "wrong": wrong[kind]}
        table[f"{path.stem}: all"] = {"sentences": len(rows), "wrong": wrong.total()}
    for name, cells in table.items():
        print(f"{name:<60}{cells['wrong']:>6} of {cells['sentences']:>4}  {cells['wrong'] / cells['sentences']:.1%}")
    for name, cells in before.items():
        table[name] = {"sentences": cells["sentences"], "before": cells["wrong"], "wrong": table[name]["wrong"]}
    if arguments.json:
        write_result(arguments.json, {"rows": "kind", "table": table})


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a file of sentences: kind, sentence, right."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row | {"sentence": row["sentence"].replace("\\n", "\n")} for row in csv.DictReader(file)]


def errors(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Kind, sentence and what is wrong, of each sentence that is labelled wrongly."""
    found = []
    labels = Labeller().label(row["sentence"] for row in rows)
    for row, values in zip(rows, labels.tolist(), strict=True):
        right = dict(item.strip().split("=") for item in row["right"].split(";") if item.strip())
        said = {finding: SIGNS[value] for finding, value in zip(CHEXPERT_FINDINGS, values, strict=True)}
        wrong = [
            f"{finding} {sign} for {right.get(finding, '0')}"
            for finding, sign in said.items()
            if finding != "No Finding" and sign not in right.get(finding, "0")
        ]
        if wrong:
            found.append((row["kind"], row["sentence"], "; ".join(wrong)))
    return found


if __name__ == "__main__":
    main()
