"""Trains and evaluates what is behind a table, and prints it with the paper's figures beside ours.

    python scripts/reproduce.py table1 --openi PATH --mimic_cxr PATH --chestxray14 PATH --json results/table1.json
    python scripts/reproduce.py openi --openi PATH --method.report_encoder.init_args.language_model FOLDER
    python scripts/reproduce.py table2 --openi PATH --smoke   # the whole way in minutes, only to see that it works

table1, table2 and table3 are the paper's (AUC per finding; ablations; the size of z). `openi` compares what learns from
reports with what does not, by cross-fitting, and VKD with other methods and controls. Further options go to every
`vkd train` whose method has them, e.g. --training.precision=bf16-mixed. Runs that are complete are not trained again,
interrupted ones are resumed, so the same command goes on. Standard output is the table alone, in Markdown.
"""

import argparse
import json
import shlex
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from comparing import AVERAGES, MACRO, differences, row_of_table, spread, write_result
from paper import CORPORA, SPLITS, TABLES, Group, Table, about_averages, paper_cell
from trainings import Plan, add_plan, errors_in_one_line, evaluations, flat, launcher_of, waves

from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.utils.errors import UserError

Found = dict[str, list[Evaluation]]
"""Evaluations by row, one a seed."""

Cells = dict[str, dict[str, str]]
"""A table: cells by row and column."""

SMOKE = (
    "--data.selection.image_size=32", "--data.loading.batch_size=4", "--data.loading.num_workers=0",
    "--data.task.max_train_studies=200",
    "--method.image_encoder=ConvEncoder", "--method.report_encoder=WordEncoder",
    "--training.max_epochs=1", "--training.precision=32-true", "--training.num_samples=2",
)  # fmt: skip
"""What makes any of them a matter of seconds, and its numbers worth nothing."""

# --------------------------------------------------------------------- what the paper leaves open, and ours

METHOD, OBJECTIVE = "method.init_args", "method.init_args.objective.init_args"
SETTINGS = {
    "optimiser": ("training.optimizer.class_path",),
    "learning rate": ("training.optimizer.init_args.lr",),
    "its schedule": ("training.learning_rate_schedule",),
    "batch size": ("data.loading.batch_size",),
    "epochs, at most": ("training.max_epochs",),
    "M": (f"{OBJECTIVE}.num_particles", f"{METHOD}.num_particles"),
    "L": (f"{OBJECTIVE}.num_auxiliary_particles",),
    "z of the likelihood from": (f"{OBJECTIVE}.likelihood_samples",),
    "patience": ("training.patience",),
    "image encoder": (f"{METHOD}.image_encoder.class_path",),
    "its network": (f"{METHOD}.image_encoder.init_args.name",),
    "its first weights": (f"{METHOD}.image_encoder.init_args.weights",),
    "language model": (f"{METHOD}.report_encoder.init_args.language_model",),
    "views": ("data.selection.views",),
    "labels": ("data.selection.corpus.init_args.labels",),
}
"""Names of what the paper leaves open, or of what we chose otherwise, and where a run's config says it."""


def conditions(group: Group, plan: Plan, found: Found) -> dict[str, str]:
    """What the paper leaves open, and what was chosen: from the configs that the runs were made with."""
    runs = {entry.name: plan.run(group.row(entry).name, 0) for entry in group.entries}
    configs = {
        name: flat(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))) for name, run in runs.items()
    }
    said = {name: by_value(configs, *keys) for name, keys in SETTINGS.items()}
    first = group.entries[0].name
    data, splits = (
        found[group.row(group.entries[0]).name][0].data,
        json.loads((runs[first] / "data.json").read_text(encoding="utf-8")),
    )
    known = (f"{n['studies'] - n['without any label']:,} in {split}" for split, n in splits["splits"].items())
    monitor = by_value(configs, "training.monitor") or "val/nll"
    samples = by_value(configs, "training.num_samples")
    return {name: text for name, text in said.items() if text} | {
        "monitored quantity": f"{monitor} of the image alone, {samples} draws of z",
        "split": split_of(group, plan, data),
        "studies with a known label": f"{', '.join(known)} (of the first run)",
        "uncertain and blank labels in training": policy(data["train_policy"]),
        "uncertain and blank labels in evaluation": policy(data["eval_policy"]),
    }


def policy(description: dict[str, Any]) -> str:
    """What a label policy does."""
    return ", ".join(f"{label} {description['init_args'][label]}" for label in ("uncertain", "blank"))


def by_value(configs: dict[str, dict[str, Any]], *keys: str) -> str:
    """One value where all entries have the same; else each with those that have it; "" where none has any."""
    having: dict[str, list[str]] = {}
    for entry, config in configs.items():
        for value in [config[key] for key in keys if key in config]:
            having.setdefault("none" if value is None else str(value), []).append(entry)
    if list(having.values()) == [list(configs)]:
        return next(iter(having))
    return "; ".join(f"{text} ({', '.join(entries)})" for text, entries in having.items())


def split_of(group: Group, plan: Plan, data: dict[str, Any]) -> str:
    """How the studies were split."""
    if plan.folds:
        return (
            f"cross-fitting in {plan.folds} folds by patient; AUC of out-of-fold predictions, over pairs of studies of "
            "the same fold"
        )
    sizes = (data["splits"].get(split, {"studies": 0})["studies"] for split in ("train", "validation", "test"))
    return f"{SPLITS[group.corpus]}: {' / '.join(f'{size:,}' for size in sizes)} studies"


# ----------------------------------------------------------------------------------------------- printing


def cells_of(table: Table, group: Group, found: Found, num_resamples: int) -> Cells:
    """The group's part of a table."""
    ours = {entry.name: found[group.row(entry).name] for entry in group.entries}
    baselines = {f" to {name}": ours[name] for name in group.baselines if name in ours}
    if table.by_finding:
        return cells_by_finding(table, group, ours, baselines, num_resamples)
    cells = {}
    for entry in group.entries:
        paper = {"the paper's": entry.paper, 'its "Average"': paper_cell(table, group, entry)} if table.number else {}
        cells[entry.name] = paper | row_of_table(ours[entry.name], baselines, num_resamples)
    return cells


def cells_by_finding(table: Table, group: Group, ours: Found, baselines: Found, num_resamples: int) -> Cells:
    """A row a finding, then one an average, then one a difference; the paper's cell beside ours."""
    first = next(iter(ours.values()))[0]
    counts = first.per_finding()[["known", "positive"]].astype(str).to_dict("index")
    cells: Cells = {finding: dict(counts[finding]) for finding in first.findings} | {name: {} for name in AVERAGES}
    for entry in group.entries:
        found = ours[entry.name]
        seeds = [e.per_finding()["image AUC"].to_dict() | e.averages()["image"] for e in found]
        average = f'"{paper_cell(table, group, entry)}"'
        paper = dict.fromkeys(AVERAGES, average) | {MACRO: "-"}
        for name in (*first.findings, *AVERAGES):
            cells[name][f"{entry.name}, paper"] = paper.get(name) or paper_cell(table, group, entry, name)
            cells[name][entry.name] = spread([values[name] for values in seeds])
        for to, baseline in baselines.items():
            if baseline is not found:
                for difference, text in differences(found, baseline, to, num_resamples).items():
                    cells.setdefault(difference, {})[entry.name] = text
    return cells


def markdown(cells: Cells, corner: str) -> str:
    """Rows and columns in the order that they come in."""
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row.get(column, '') for column in columns)} |" for name, row in cells.items()]
    return "\n".join(lines)


def page(table: Table, groups: list[Group], parts: dict[str, tuple[Cells, dict[str, str]]], absent: list[str]) -> str:
    """The whole table, in Markdown."""
    number = f"Table {table.number} of arXiv 2103.10825: " if table.number else ""
    lines = [f"# {number}{table.caption}", ""]
    for group in groups:
        cells, said = parts[group.title]
        lines += [f"## {group.title}", "", markdown(cells, "finding" if table.by_finding else "row"), ""]
        if table.number:
            lines += [about_averages(group), ""]
        lines += [f"What the paper leaves open, or we chose: {'; '.join(f'{k} **{v}**' for k, v in said.items())}.", ""]
    lines += [f"{text}\n" for text in absent]
    lines.append(
        "Mean ± standard deviation over seeds. macro: mean over the findings whose AUC is defined; "
        f"{MACRO}: over those with {MIN_POSITIVES} positives; micro: all known (study, finding) pairs pooled; "
        "weighted: by positives. Δ: of predictions averaged over seeds, with the 95 % interval of a bootstrap over "
        "patients in pairs, the models (and which studies are labelled) being what they are. -: undefined, or not in "
        "the paper."
    )
    return "\n".join(lines)


def result(group: Group, plan: Plan, cells: Cells, said: dict[str, str], found: Found) -> dict[str, Any]:
    """A group's part of the JSON: what was printed, and the numbers of each seed."""
    keys = ("rows", "patients", "findings", "auc", "nll", "kl", "active_units")
    entries = {}
    for entry in group.entries:
        row = group.row(entry)
        seeds = [{key: summary[key] for key in keys} for summary in (e.summary() for e in found[row.name])]
        entries[entry.name] = {"config_sha256": plan.config_hash(row), "seeds": seeds}
    return {"table": cells, "conditions": said, "entries": entries}


# ----------------------------------------------------------------------------------------- command line


def arguments_given() -> tuple[argparse.Namespace, list[str]]:
    """Our arguments, and those of `vkd train`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("table", choices=TABLES)
    for option, name in CORPORA.items():
        parser.add_argument(f"--{option}", type=Path, metavar="PATH", help=f"folder of {name}, as it was downloaded")
        parser.add_argument(f"--{option}_store", type=Path, metavar="PATH", help="what vkd prepare has written of it")
    add_plan(parser, runs="runs/reproduce")
    parser.add_argument("--rows", nargs="+", default=["*"], help="only these, as FOLDER/NAME; * stands for anything")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--dry_run", action="store_true", help="print the commands that are left to run, and run none")
    parser.add_argument("--smoke", action="store_true", help="a tiny network for one epoch; runs go to runs/smoke")
    return parser.parse_known_args()


def chosen(table: Table, given: argparse.Namespace) -> tuple[list[Group], list[str]]:
    """The groups whose corpus is given, with the entries that are wanted; and what is left out, why."""
    groups, absent = [], []
    for group in table.groups:
        folder = getattr(given, group.corpus)
        if folder is None:
            absent.append(f"{group.title}: left out, since --{group.corpus} is not given.")
            continue
        if not folder.is_dir():
            raise UserError(f"--{group.corpus}: no folder {folder}")
        wanted = [e for e in group.entries if any(fnmatch(group.row(e).name, pattern) for pattern in given.rows)]
        if wanted:
            groups.append(replace(group, entries=tuple(wanted)))
    if not groups:
        rows = [group.row(entry).name for group in table.groups for entry in group.entries]
        needed = " or ".join(f"--{corpus} PATH" for corpus in dict.fromkeys(group.corpus for group in table.groups))
        raise UserError(f"{given.table}: nothing to do; give {needed}, and as --rows some of {', '.join(rows)}")
    return groups, absent


def data_options(group: Group, given: argparse.Namespace) -> list[str]:
    """Where the corpus is."""
    store = getattr(given, f"{group.corpus}_store")
    root = f"--data.selection.corpus.init_args.root={getattr(given, group.corpus)}"
    return [root, *([f"--data.loading.store={store}"] if store else [])]


def main() -> None:
    given, options = arguments_given()
    table = TABLES[given.table]
    groups, absent = chosen(table, given)
    if given.smoke:
        table = replace(table, caption=f"{table.caption} (smoke test: not results)")
        options = [*SMOKE, *options]
    runs = Path("runs/smoke") if given.smoke and given.runs == Path("runs/reproduce") else given.runs
    folds = table.folds if given.folds is None else given.folds
    plan = Plan(runs, given.seeds, folds, options=tuple(options), launcher=launcher_of(given))
    rows = [group.row(entry, data_options(group, given)) for group in groups for entry in group.entries]
    waves(rows)  # raises where one starts from a row that is not there
    if given.dry_run:
        commands = [training.command() for row in rows for training in plan.trainings(row)]
        print("\n".join(f"vkd {shlex.join(command)}" for command in commands if command) or "nothing is left to train")
        return
    found = evaluations(rows, plan)
    print(f"comparing, with {given.resamples} resamples each", file=sys.stderr)
    parts = {g.title: (cells_of(table, g, found, given.resamples), conditions(g, plan, found)) for g in groups}
    print(page(table, groups, parts, absent))
    if given.json:
        prefixes = {title: f"{title}: " if len(groups) > 1 else "" for title in parts}
        content = {
            "rows": "finding" if table.by_finding else "row",
            "table": {f"{prefixes[t]}{name}": row for t, (cells, _) in parts.items() for name, row in cells.items()},
            "groups": {group.title: result(group, plan, *parts[group.title], found) for group in groups},
            "left_out": absent,
        }
        write_result(given.json, content)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
