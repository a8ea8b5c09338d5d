"""Trains and evaluates what is behind a table, and prints it with the paper's figures beside ours.

    python scripts/reproduce.py table1 --openi PATH --mimic_cxr PATH --chestxray14 PATH --json results/table1.json
    python scripts/reproduce.py openi --openi PATH --method.report_encoder.init_args.language_model FOLDER
    python scripts/reproduce.py table2 --openi PATH --smoke   # the whole way in minutes, only to see that it works

table1, table2 and table3 are the paper's (AUC per finding; ablations; the size of z). `openi` compares what learns from
reports with what does not, by cross-fitting, and VKD with its rivals and controls. Further options go to every
`vkd train`, e.g. --training.precision=bf16-mixed. Runs that are complete are not trained again, interrupted ones are
resumed, so the same command goes on. Standard output is the table alone, in Markdown.
"""

import argparse
import csv
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from experiment import (
    MACRO,
    Plan,
    Row,
    add_plan,
    config_hash,
    differences,
    errors_in_one_line,
    evaluations,
    flat,
    row_of_table,
    spread,
    waves,
    write_result,
)

from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "results" / "paper_tables.csv"
AVERAGES = ("macro", MACRO, "micro", "weighted")


# ----------------------------------------------------------------------------------- what the tables are


@dataclass(frozen=True)
class Entry:
    """A row of a table, on one corpus.

    Attributes:
        name: ours.
        overlay: under configs/, what differs from the corpus's config.
        options: of `vkd train`, what differs beyond that.
        paper: its name in results/paper_tables.csv; "" for what the paper does not have.
        start_from: the row whose runs it goes on from, as FOLDER/NAME.
    """

    name: str
    overlay: str = ""
    options: tuple[str, ...] = ()
    paper: str = ""
    start_from: str = ""


@dataclass(frozen=True)
class Group:
    """Entries that are compared with each other: on one corpus, from one config.

    Attributes:
        corpus: the option that gives its folder.
        config: under configs/.
        entries: its rows.
        baselines: entries that differences are taken from.
        folder: of its runs; runs of the same name are the same in every table.
        options: of every `vkd train` of the group.
        note: of its title.
    """

    corpus: str
    config: str
    entries: tuple[Entry, ...]
    baselines: tuple[str, ...] = ()
    folder: str = ""
    options: tuple[str, ...] = ()
    note: str = ""

    @property
    def title(self) -> str:
        """The corpus, as the paper names it, and what is special."""
        return CORPORA[self.corpus] + self.note

    def row(self, entry: Entry, options: Sequence[str] = ()) -> Row:
        """What is trained for an entry."""
        overlay = (f"configs/{entry.overlay}.yaml",) if entry.overlay else ()
        return Row(
            name=f"{self.folder or self.corpus}/{entry.name}",
            configs=tuple(os.path.relpath(ROOT / config) for config in (f"configs/{self.config}.yaml", *overlay)),
            options=(*options, *self.options, *entry.options),
            start_from=entry.start_from,
        )


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: its title.
        groups: its parts.
        number: of the paper's; "" for ours.
        by_finding: a row a finding, and a column an entry; else a row an entry.
        folds: of cross-fitting, unless said otherwise; 0 for the corpus's own splits.
    """

    caption: str
    groups: tuple[Group, ...]
    number: str = ""
    by_finding: bool = False
    folds: int = 0


CORPORA = {"openi": "Open-I", "mimic_cxr": "MIMIC-CXR", "chestxray14": "ChestX-ray14"}
"""Options that give a folder, and the paper's names."""

SPLITS = {"openi": "70 / 10 / 20 by patient", "mimic_cxr": "official", "chestxray14": "official; validation by patient"}

PAPER = {"openi": "openi_paper", "mimic_cxr": "mimic_cxr"}
"""The configs of the paper's setting."""

NO_REPORT = Entry("no_report", "ablations/no_report", paper="no report")
VKD = Entry("vkd", paper="VKD")
IMAGE_ONLY = Entry("image_only", "rivals/image_only")
FINE_TUNED = Entry("vkd", paper="VKD", start_from="mimic_cxr/vkd")
ABLATIONS = (
    replace(VKD, paper="full"),
    Entry("without_mi_prior", "ablations/without_mi_prior", paper="without L_MI"),
    Entry("without_mi_posterior", "ablations/without_mi_posterior", paper="without L_MI"),
    replace(NO_REPORT, paper="without VKD (no report)"),
)
SIZES = (
    Entry("latent_dim_64", "ablations/latent_dim_64", paper="D=64"),
    Entry("latent_dim_128", "ablations/latent_dim_128", paper="D=128"),
    replace(VKD, paper="D=512"),
    Entry("latent_dim_1024", "ablations/latent_dim_1024", paper="D=1024"),
)
AS_PRINTED = Entry("vkd_as_printed", "ablations/as_printed")
UNKNOWN_IGNORED = Entry("vkd_unknown_ignored", options=("--method.objective.unknown_labels=ignored",))
WITHOUT_KL = Entry("vkd_without_kl", options=("--method.objective.kl_scale=0",))
# Few labels are learned by heart in 12 epochs, and then no checkpoint is of the schedule's end.
SHORTER = tuple(
    replace(entry, name=f"{entry.name}_4_epochs", options=("--training.max_epochs=4",))
    for entry in (IMAGE_ONLY, NO_REPORT)
)
DISTILLATION = Entry("distillation_report", "rivals/distillation_report")
OTHER_RIVALS = tuple(
    Entry(name, f"rivals/{name}")
    for name in ("distillation_image_report", "regression", "contrastive", "contrastive_pretraining")
)
CONTROLS = tuple(
    Entry(f"vkd_{control}", options=(f"--data.task.control={control}",))
    for control in ("shuffled_reports", "labels_as_report")
)


def on_openi(*entries: Entry, label_share: float = 1.0) -> Group:
    """Entries on Open-I, a CPU being enough, with this share of the training patients' labels."""
    few = label_share < 1
    entries = (IMAGE_ONLY, NO_REPORT, *entries)
    return Group(
        corpus="openi",
        config="openi_cpu",
        entries=entries,
        baselines=tuple(entry.name for entry in (IMAGE_ONLY, SHORTER[0], NO_REPORT, DISTILLATION) if entry in entries),
        folder=f"openi_cpu_labels_{label_share:g}" if few else "openi_cpu",
        options=(f"--data.task.label_share={label_share:g}", "--data.loading.batch_size=64")
        if few
        else (),  # as many labelled
        note=f", labels of {label_share:.0%} of the training patients" if few else "",
    )


TABLES = {
    "table1": Table(
        "AUC per finding",
        (
            Group("openi", PAPER["openi"], (NO_REPORT, VKD), ("no_report",)),
            Group("mimic_cxr", PAPER["mimic_cxr"], (NO_REPORT, VKD), ("no_report",)),
            Group("chestxray14", "chestxray14_finetune", (FINE_TUNED,)),
        ),
        number="1",
        by_finding=True,
    ),
    "table2": Table(
        "Ablations",
        tuple(Group(corpus, config, ABLATIONS, ("no_report",)) for corpus, config in PAPER.items()),
        number="2",
    ),
    "table3": Table(
        "Size of the latent space",
        tuple(Group(corpus, config, SIZES, ("vkd",)) for corpus, config in PAPER.items()),
        number="3",
    ),
    "openi": Table(
        "VKD, its rivals and controls",
        (
            on_openi(VKD, AS_PRINTED, DISTILLATION, *OTHER_RIVALS, *CONTROLS),
            on_openi(SHORTER[0], VKD, DISTILLATION, label_share=0.3),
            on_openi(
                *SHORTER, VKD, UNKNOWN_IGNORED, WITHOUT_KL, DISTILLATION, *OTHER_RIVALS, *CONTROLS, label_share=0.1
            ),
        ),
        folds=5,
    ),
}

SMOKE = (
    "--data.selection.image_size=32", "--data.loading.batch_size=4", "--data.loading.num_workers=0",
    "--data.task.max_train_studies=200",
    "--method.image_encoder=ConvEncoder", "--method.report_encoder=WordEncoder",
    "--training.max_epochs=1", "--training.precision=32-true", "--training.num_samples=2",
)  # fmt: skip
"""What makes any of them a matter of seconds, and its numbers worth nothing."""


# --------------------------------------------------------------------------------- the paper's figures


@cache
def paper_figures() -> dict[tuple[str, str, str, str], float]:
    """AUC by (table, corpus, finding, model)."""
    with FIGURES.open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(r["table"], r["corpus"], r["finding"], r["model"]): float(r["auc"]) for r in rows}


def paper_cell(table: Table, group: Group, entry: Entry, finding: str = "Average") -> str:
    """The paper's figure; "-" where it has none."""
    figure = paper_figures().get((table.number, CORPORA[group.corpus], finding, entry.paper))
    return "-" if figure is None else f"{figure:.3f}"


def about_averages(group: Group) -> str:
    """What the paper's "Average" is, as far as its own rows tell."""
    figures, corpus, said = paper_figures(), CORPORA[group.corpus], []
    for (table, where, finding, model), average in figures.items():
        if (table, where, finding) == ("1", corpus, "Average") and model in ("VKD", "no report"):
            rows = [v for (t, c, f, m), v in figures.items() if (t, c, m) == (table, corpus, model) and f != finding]
            said.append(f"{model} {average:.3f}, its {len(rows)} rows {np.mean(rows):.3f} on average")
    return (
        f'The paper\'s "Average" is not the mean of its rows ({"; ".join(said)}). It does not say how it averaged; '
        "what a micro average gives is nearest to it."
    )


# --------------------------------------------------------------------- what the paper leaves open, and ours

SETTINGS = {
    "optimiser": "training.optimizer.class_path",
    "learning rate": "training.optimizer.init_args.lr",
    "its schedule": "training.learning_rate_schedule",
    "batch size": "data.loading.batch_size",
    "epochs, at most": "training.max_epochs",
    "M": "objective.num_particles",
    "L": "objective.num_auxiliary_particles",
    "z of the likelihood from": "objective.likelihood_samples",
    "patience": "training.patience",
    "image encoder": "model.image_encoder.class_path",
    "its network": "model.image_encoder.init_args.name",
    "its first weights": "model.image_encoder.init_args.weights",
    "language model": "method.report_encoder.init_args.language_model",
    "views": "data.selection.views",
    "labels": "data.selection.corpus.init_args.labels",
}
"""Names of what the paper leaves open, or of what we chose otherwise, and where a run's config says it."""


def conditions(group: Group, plan: Plan, found: dict[str, list[Evaluation]]) -> dict[str, str]:
    """What the paper leaves open, and what was chosen: from the configs that the runs were made with."""
    configs = {}
    for entry in group.entries:
        config = plan.run(group.row(entry).name, 0) / "config.yaml"
        configs[entry.name] = flat(yaml.safe_load(config.read_text()))
    said = {
        name: by_value({entry: config[key] for entry, config in configs.items() if key in config})
        for name, key in SETTINGS.items()
    }
    data = found[group.row(group.entries[0]).name][0].data
    policies = {
        f"uncertain and blank labels in {split}": ", ".join(
            f"{label} {data[policy]['init_args'][label]}" for label in ("uncertain", "blank")
        )
        for split, policy in {"training": "train_policy", "evaluation": "eval_policy"}.items()
    }
    samples = by_value({entry: config["training.num_samples"] for entry, config in configs.items()})
    monitored = f"val/nll: mean negative log-likelihood of a label given the image, by {samples} draws of z"
    return {name: text for name, text in said.items() if text} | {
        "monitored quantity": monitored,
        "split": split_of(group, plan, data),
        "studies with a known label": labelled(plan.run(group.row(group.entries[0]).name, 0)),
        **policies,
    }


def labelled(run: Path) -> str:
    """Of the splits of a run."""
    splits = json.loads((run / "data.json").read_text())["splits"]
    numbers = (f"{n['studies'] - n['without any label']:,} in {split}" for split, n in splits.items())
    return f"{', '.join(numbers)} (of the first run)"


def by_value(values: dict[str, Any]) -> str:
    """One value where all entries have the same; else each with those that have it."""
    texts = {entry: "none" if value is None else str(value) for entry, value in values.items()}
    if len(set(texts.values())) < 2:
        return next(iter(texts.values()), "")
    having = {text: [entry for entry in texts if texts[entry] == text] for text in dict.fromkeys(texts.values())}
    return "; ".join(f"{text} ({', '.join(entries)})" for text, entries in having.items())


def split_of(group: Group, plan: Plan, data: dict[str, Any]) -> str:
    """How the studies were split."""
    if plan.folds:
        return (
            f"cross-fitting in {plan.folds} folds by patient; AUC of out-of-fold predictions, over pairs of studies of "
            "the same fold"
        )
    sizes = " / ".join(
        f"{data['splits'].get(split, {'studies': 0})['studies']:,}" for split in ("train", "validation", "test")
    )
    return f"{SPLITS[group.corpus]}: {sizes} studies"


# ----------------------------------------------------------------------------------------------- printing

Cells = dict[str, dict[str, str]]
"""A table: cells by row and column."""


def cells_of(table: Table, group: Group, found: dict[str, list[Evaluation]], num_resamples: int) -> Cells:
    """The group's part of a table."""
    ours = {entry.name: found[group.row(entry).name] for entry in group.entries}
    baselines = {name: ours[name] for name in group.baselines if name in ours}
    if table.by_finding:
        return cells_by_finding(table, group, ours, baselines, num_resamples)
    cells = {}
    for entry in group.entries:
        paper = {"the paper's": entry.paper, 'its "Average"': paper_cell(table, group, entry)} if table.number else {}
        against = {f" to {name}": baseline for name, baseline in baselines.items()}
        cells[entry.name] = paper | row_of_table(ours[entry.name], against, num_resamples)
    return cells


def cells_by_finding(
    table: Table,
    group: Group,
    ours: dict[str, list[Evaluation]],
    baselines: dict[str, list[Evaluation]],
    num_resamples: int,
) -> Cells:
    """A row a finding, then one an average, then one a difference; the paper's cell beside ours."""
    first = next(iter(ours.values()))[0]
    counts = first.per_finding()[["known", "positive"]].astype(str).to_dict("index")
    cells: Cells = {finding: dict(counts[finding]) for finding in first.findings} | {name: {} for name in AVERAGES}
    for entry in group.entries:
        found = ours[entry.name]
        auc = [e.per_finding()["image AUC"] for e in found]
        averages = [e.averages()["image"] for e in found]
        values = {finding: [a[finding] for a in auc] for finding in first.findings}
        values |= {name: [a[name] for a in averages] for name in AVERAGES}
        for name, seeds in values.items():
            average = f'"{paper_cell(table, group, entry)}"' if name != MACRO else "-"
            cells[name][f"{entry.name}, paper"] = average if name in AVERAGES else paper_cell(table, group, entry, name)
            cells[name][entry.name] = spread(seeds)
        for name, baseline in baselines.items():
            if baseline is not found:
                for difference, text in differences(found, baseline, f" to {name}", num_resamples).items():
                    cells.setdefault(difference, {})[entry.name] = text
    return cells


def markdown(cells: Cells, corner: str) -> str:
    """Rows and columns in the order that they come in."""
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in cells.items():
        lines.append(f"| {name} | {' | '.join(row.get(column, '') for column in columns)} |")
    return "\n".join(lines)


def page(
    table: Table, parts: dict[str, tuple[Cells, dict[str, str]]], groups: dict[str, Group], absent: list[str]
) -> str:
    """The whole table, in Markdown."""
    number = f"Table {table.number} of arXiv 2103.10825" if table.number else ""
    lines = [f"# {': '.join(filter(None, [number, table.caption]))}", ""]
    for title, (cells, said) in parts.items():
        lines += [f"## {title}", "", markdown(cells, "finding" if table.by_finding else "row"), ""]
        if table.number:
            lines += [about_averages(groups[title]), ""]
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
    folders = {corpus: getattr(given, corpus) for corpus in CORPORA}
    for corpus, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{corpus}: no folder {folder}")
    groups, absent = [], []
    for group in table.groups:
        if folders[group.corpus] is None:
            absent.append(f"{group.title}: left out, since --{group.corpus} is not given.")
            continue
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
    return [
        f"--data.selection.corpus.init_args.root={getattr(given, group.corpus)}",
        *([f"--data.loading.store={store}"] if store else []),
    ]


def plan_of(table: Table, given: argparse.Namespace, options: list[str]) -> Plan:
    """How all is trained."""
    folds = table.folds if given.folds is None else given.folds
    runs = Path("runs/smoke") if given.smoke and given.runs == Path("runs/reproduce") else given.runs
    smoke = SMOKE if given.smoke else ()
    return Plan(runs, given.seeds, folds, options=(*smoke, *options), jobs=given.jobs)


def result(group: Group, plan: Plan, cells: Cells, said: dict[str, str], found: dict[str, list[Evaluation]]) -> Any:
    """A group's part of the JSON: what was printed, and the numbers of each seed."""
    entries = {}
    for entry in group.entries:
        row = group.row(entry)
        summaries = [e.summary() for e in found[row.name]]
        keys = ("rows", "patients", "findings", "auc", "nll", "kl", "active_units")
        entries[entry.name] = {
            "config_sha256": config_hash(plan, row.name),
            "seeds": [{key: summary[key] for key in keys} for summary in summaries],
        }
    return {"table": cells, "conditions": said, "entries": entries}


def main() -> None:
    given, options = arguments_given()
    table = TABLES[given.table]
    if given.smoke:
        table = replace(table, caption=f"{table.caption} (smoke test: not results)")
    groups, absent = chosen(table, given)
    plan = plan_of(table, given, options)
    rows = [group.row(entry, data_options(group, given)) for group in groups for entry in group.entries]
    waves(rows)  # refuses what starts from a row that is not there
    if given.dry_run:
        commands = [training.command() for row in rows for training in plan.trainings(row)]
        print("\n".join(f"vkd {shlex.join(command)}" for command in commands if command) or "nothing is left to train")
        return
    found = evaluations(rows, plan)
    print(f"comparing, with {given.resamples} resamples each", file=sys.stderr)
    parts = {
        group.title: (cells_of(table, group, found, given.resamples), conditions(group, plan, found))
        for group in groups
    }
    print(page(table, parts, {group.title: group for group in groups}, absent))
    if given.json:
        several = len(groups) > 1
        joined = {
            f"{title}: {name}" if several else name: row
            for title, (cells, _) in parts.items()
            for name, row in cells.items()
        }
        content = {
            "rows": "finding" if table.by_finding else "row",
            "table": joined,
            "groups": {group.title: result(group, plan, *parts[group.title], found) for group in groups},
            "left_out": absent,
        }
        write_result(given.json, content)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
