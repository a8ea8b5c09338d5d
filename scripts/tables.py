"""Tables of the manual and of README.md, from results/*.json and the heads of configs/.

    python scripts/tables.py                  write the README's table
    python scripts/tables.py --check          write nothing; exit 1 if it would change
    python scripts/tables.py --output FOLDER  write every table of the manual, a Markdown file each

`docs/conf.py` does the last before each build.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TO_IMAGE_ONLY = re.compile("macro30(, mean of seeds)? to image_only")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
RESULTS = (
    *("synthetic", "synthetic_tenth", "openi_pretrained", "openi_pretrained_tenth", "openi"),
    *("uncertainty_openi", "referral", "labeller_openi"),
    *("openi_cpu_tenth", "openi_pretrained_3percent", "openi_pretrained_30percent", "openi_pretrained_controls"),
    "openi_pretrained_left_out",
    *("labeller_sentences", "coverage", "recalibration", "serving"),
    *("openi_pretrained_tuned", "tuning", "openi_finetuned_tenth", "openi_finetuned", "openi_finetuned_tenth_by_auc"),
    "openi_finetuned_multitask",
    *("speed_openi", "benchmark", "scale", "scaling"),
)

Cells = Mapping[str, object]

SPEED_COLUMNS = ("macro", "macro30", "micro", "nll", "KL", "Δ macro30", "Δ micro", "Δ macro30 by seed")
OPENI_COLUMNS = (
    *("macro", "macro30", "micro", "report macro", "KL"),
    *(f"Δ macro30 to {name}" for name in ("image_only", "image_only_4_epochs", "no_report", "logit_distillation")),
)
PRETRAINED_COLUMNS = (
    *("macro", "macro30", "micro", "joint nll", "product of marginals", "I(z; y)", "report macro", "KL"),
    *(f"Δ macro30 to {name}" for name in ("image_only", "multitask", "logit_distillation")),
)
SEEDS_COLUMNS = (
    *PRETRAINED_COLUMNS[:8],
    *(f"Δ macro30, mean of seeds to {name}" for name in ("image_only", "multitask", "logit_distillation")),
)
SYNTHETIC_COLUMNS = (*SEEDS_COLUMNS[:-1], "Δ macro30, mean of seeds to no_report")
COLUMNS = {
    "synthetic": SYNTHETIC_COLUMNS,
    "synthetic_tenth": SYNTHETIC_COLUMNS,
    "speed_openi": SPEED_COLUMNS,
    "openi": OPENI_COLUMNS,
    "openi_pretrained": SEEDS_COLUMNS,
    "openi_pretrained_tenth": SEEDS_COLUMNS,
    "openi_cpu_tenth": PRETRAINED_COLUMNS,
    "openi_pretrained_tuned": SEEDS_COLUMNS,
    "openi_finetuned_tenth": PRETRAINED_COLUMNS,
    "openi_finetuned": PRETRAINED_COLUMNS,
    "openi_finetuned_multitask": PRETRAINED_COLUMNS[:8],
    "openi_finetuned_tenth_by_auc": (*PRETRAINED_COLUMNS[:8], "Δ macro30"),
    "openi_pretrained_3percent": PRETRAINED_COLUMNS,
    "openi_pretrained_30percent": PRETRAINED_COLUMNS,
    "openi_pretrained_controls": (*PRETRAINED_COLUMNS[:8], "Δ macro30"),
    "openi_pretrained_left_out": (*PRETRAINED_COLUMNS[:8], "Δ macro30"),
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
        *(f"reports beside another image: AUROC of {score}" for score in ("the KL", "the mismatch score")),
        *(f"out-of-distribution: AUROC, {kind}" for kind in ("laterals", "inverted", "photographs")),
        *("out-of-distribution: laterals flagged", "out-of-distribution: frontals flagged"),
    )
}
"""What is shown of a long table; of others everything."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md would change")
    parser.add_argument("--output", type=Path, help="folder for the tables of the manual")
    arguments = parser.parse_args()
    if arguments.output:
        write(arguments.output)
        return
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda match: match[1] + MADE[match[2]]() + "\n" + match[3], before)
    if arguments.check:
        sys.exit(before != after)
    readme.write_text(after, encoding="utf-8")


def write(folder: Path) -> None:
    """Every table of the manual, as NAME.md in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        (folder / f"{name}.md").write_text(result(name), encoding="utf-8")
    for name, made in MADE.items():
        (folder / f"{name}.md").write_text(made(), encoding="utf-8")


def result(name: str) -> str:
    """The table of results/NAME.json, a row an entry that was measured, with the command that made it."""
    content = read(name)
    rows = content["table"]
    rows = {row: rows[row] for row in ROWS.get(name, rows) if any({**rows[row], "aim": ""}.values())}
    rows = {short(row): {short(column): cell for column, cell in cells.items()} for row, cells in rows.items()}
    columns = COLUMNS.get(name) or list(dict.fromkeys(column for cells in rows.values() for column in cells))
    unbroken = {row: {name: numbers_unbroken(cell) for name, cell in cells.items()} for row, cells in rows.items()}
    return table(content.get("rows", "method"), columns, unbroken) + f"\nMade by `{content['command']}`\n"


def short(name: str) -> str:
    """The name of a row or column of `experiment.py` without what all its rows have in common."""
    share = r"data\.task\.label_share=[\d.]+(-data\.task\.label_draw=\{seed\})?"
    name = re.sub(r"-data\.loading\.store=[\w-]+(?=-method)", "", name)
    named = re.sub(f"-{share}", "", re.sub(f"/{share}-", "/vkd, ", re.sub(f"/{share}$", "/vkd", name)))
    named = re.sub(r"\b(\w+)-\1$", r"\1", named)  # methods/NAME with tuned/NAME on top
    return re.sub(r"^(openi_(pretrained|finetuned|cpu)|synthetic)/", "", named)


def numbers_unbroken(cell: object) -> str:
    """A cell such as "0.755 ± 0.008" or "-0.012 [-0.019, -0.005]" on one line; text as it is."""
    text = "" if cell is None else str(cell)
    return text if re.search("[a-zA-Z]{2}", text) else text.replace(" ", "\N{NO-BREAK SPACE}")


def openi_in_short() -> str:
    """What the README shows of results/openi_pretrained*.json: four methods, a tenth of the labels, tuned, and all."""
    shown: dict[str, dict[str, str]] = {}
    for title, name in {"a tenth of the labels": "openi_pretrained_tuned", "all labels": "openi_pretrained"}.items():
        for row, cells in read(name)["table"].items():
            method = short(row)
            to_image_only = next((found for column, found in cells.items() if TO_IMAGE_ONLY.search(column)), "")
            shown.setdefault(method, {})[f"macro30 AUC, {title}"] = cells["macro30"]
            shown[method][f"to image_only, {title}"] = to_image_only
            shown[method][f"joint NLL, {title}"] = cells["joint nll"]
    return table("method", list(shown["vkd"]), shown)


def configs() -> str:
    """The configs that ship: each name with the first sentence of its head."""
    folder = ROOT / "configs"
    rows = {}
    for path in sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows[f"`{name}`"] = {"what it is": first_sentence(path.read_text(encoding="utf-8"))}
    return table("config", ["what it is"], rows)


def first_sentence(config: str) -> str:
    """Of the comment that a config begins with."""
    head = []
    for line in config.splitlines():
        if not line.startswith("# "):
            break
        head.append(line[2:])
    return re.split(r"\.(?= [A-Z])|\.$", " ".join(head))[0] + "."  # not at "Eq. 8"


def table(title: str, columns: Sequence[str], rows: Mapping[str, Cells]) -> str:
    """A Markdown table; what a row does not have is blank."""
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in rows.items():
        shown = (cells.get(column) for column in columns)
        lines.append(f"| {name} | " + " | ".join("" if cell is None else str(cell) for cell in shown) + " |")
    return "\n".join(lines) + "\n"


def read(name: str) -> dict:
    """results/NAME.json."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


MADE = {"openi_in_short": openi_in_short, "configs": configs}
"""Tables that are not a whole result, by name."""

if __name__ == "__main__":
    main()
