"""Writes the tables of README.md from results/*.json, between `<!-- table: NAME -->` and `<!-- end -->`.

python scripts/readme_tables.py [--check]
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COLUMNS = {
    "speed_openi": ("macro", "macro30", "micro", "nll", "KL", "Δ macro30", "Δ micro", "Δ macro30 by seed"),
    "openi": (
        *("macro", "macro30", "micro", "report macro", "KL"),
        *(
            f"Δ macro30 to {baseline}"
            for baseline in ("image_only", "image_only_4_epochs", "no_report", "distillation_report")
        ),
    ),
}
"""What is shown of a wide table; of others everything."""

ROWS = {
    "uncertainty_openi": (
        *(f"uncertainty, total: wrong answers, {who}" for who in ("most uncertain fifth", "the rest")),
        "every answer no: wrong answers",
        *(
            f"uncertainty, {kind}: ratio"
            for kind in ("total", "none, sum of probabilities", "that of z", "between 2 networks")
        ),
        *(f"answers by thresholds: {what}" for what in ("referred", "wrong, not referred", "wrong, referred")),
        *(f"a fifth referred, {order}: wrong" for order in ("at random", "most uncertain", "most errors (oracle)")),
        *(f"{of}, {by}" for of in ("ECE", "log loss") for by in ("raw", "temperature", "platt", "isotonic")),
        *(f"conformal, {what}" for what in ("coverage, absent", "coverage, present", "one answer")),
        *(f"reports beside another picture: AUROC of {score}" for score in ("the KL", "its excess")),
        *(f"out-of-distribution: AUROC, {kind}" for kind in ("laterals", "inverted", "photographs")),
        *("out-of-distribution: laterals flagged", "out-of-distribution: frontals flagged"),
    )
}
"""What is shown of a long table; of others everything."""

BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md would change")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], before)
    if arguments.check:
        sys.exit(before != after)
    readme.write_text(after)


def table(name: str) -> str:
    """The Markdown table of results/NAME.json, a row an entry, with the command that made it."""
    content = json.loads((ROOT / "results" / f"{name}.json").read_text())
    rows = content["table"]
    rows = {row: rows[row] for row in ROWS.get(name, rows)}
    columns = COLUMNS.get(name) or list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [f"| {content.get('rows', 'arm')} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for arm, cells in rows.items():
        shown = (cells.get(column) for column in columns)
        lines.append(f"| {arm} | " + " | ".join("" if cell is None else str(cell) for cell in shown) + " |")
    return "\n".join(lines) + f"\n\n`{content['command']}`\n"


if __name__ == "__main__":
    main()
