"""The tables of `scripts/reproduce.py`: which rows on which corpus, and the paper's figures beside them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from trainings import Row

FIGURES = Path(__file__).resolve().parent.parent / "results" / "paper_tables.csv"

CORPORA = {"openi": "Open-I", "mimic_cxr": "MIMIC-CXR", "chestxray14": "ChestX-ray14"}
"""Options that give a folder, and the paper's names."""

SPLITS = {"openi": "70 / 10 / 20 by patient", "mimic_cxr": "official", "chestxray14": "official; validation by patient"}

PAPER = {"openi": "openi_paper", "mimic_cxr": "mimic_cxr_paper"}
"""The configs of the paper's setting."""


@dataclass(frozen=True)
class Entry:
    """A row of a table, on one corpus.

    Attributes:
        name: ours.
        overlay: what differs from the corpus's config, by its name.
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
        config: by its name.
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
        return Row(
            name=f"{self.folder or self.corpus}/{entry.name}",
            configs=tuple(filter(None, (self.config, entry.overlay))),
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


NO_REPORT = Entry("no_report", "methods/no_report", paper="no report")
VKD = Entry("vkd", paper="VKD")
IMAGE_ONLY = Entry("image_only", "methods/image_only")
FINE_TUNED = Entry("vkd", paper="VKD", start_from="mimic_cxr/vkd")
ABLATIONS = (
    replace(VKD, paper="full"),
    Entry("without_mi_prior", "ablations/without_mi_prior", paper="without L_MI"),
    Entry("without_mi_posterior", "ablations/without_mi_posterior", paper="without L_MI"),
    replace(NO_REPORT, paper="without VKD (no report)"),
)
SIZES = (
    Entry("latent_dim_64", options=("--method.latent_dim=64",), paper="D=64"),
    Entry("latent_dim_128", options=("--method.latent_dim=128",), paper="D=128"),
    replace(VKD, paper="D=512"),
    Entry("latent_dim_1024", options=("--method.latent_dim=1024",), paper="D=1024"),
)
AS_PRINTED = Entry("vkd_as_printed", "ablations/as_printed")
UNKNOWN_IGNORED = Entry("vkd_unknown_ignored", options=("--method.objective.unknown_labels=ignored",))
WITHOUT_KL = Entry("vkd_without_kl", options=("--method.objective.kl_scale=0",))
# Few labels are learned by heart in 12 epochs, and then no checkpoint is of the schedule's end.
SHORTER = tuple(
    replace(entry, name=f"{entry.name}_4_epochs", options=("--training.max_epochs=4",))
    for entry in (IMAGE_ONLY, NO_REPORT)
)
DISTILLATION = Entry("logit_distillation", "methods/logit_distillation")
OTHER_METHODS = tuple(
    Entry(name, f"methods/{name}")
    for name in ("logit_distillation_image_report", "feature_regression", "contrastive", "contrastive_pretraining")
)
CONTROLS = tuple(
    Entry(f"vkd_{control}", options=(f"--data.task.control={control}",))
    for control in ("shuffled_reports", "labels_as_report")
)


def on_openi(*entries: Entry, label_share: float = 1.0) -> Group:
    """Entries on Open-I, a CPU being enough, with this share of the training patients' labels."""
    entries = (IMAGE_ONLY, NO_REPORT, *entries)
    group = Group("openi", "openi_cpu", entries, folder="openi_cpu")
    baselines = tuple(e.name for e in (IMAGE_ONLY, SHORTER[0], NO_REPORT, DISTILLATION) if e in entries)
    if label_share == 1:
        return replace(group, baselines=baselines)
    return replace(
        group,
        baselines=baselines,
        folder=f"openi_cpu_labels_{label_share:g}",
        options=(f"--data.task.label_share={label_share:g}", "--data.loading.batch_size=64"),  # as many labelled
        note=f", labels of {label_share:.0%} of the training patients",
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
        "Ablations", tuple(Group(corpus, config, ABLATIONS, ("no_report",)) for corpus, config in PAPER.items()), "2"
    ),
    "table3": Table(
        "Size of the latent space",
        tuple(Group(corpus, config, SIZES, ("vkd",)) for corpus, config in PAPER.items()),
        "3",
    ),
    "openi": Table(
        "VKD, other methods and controls",
        (
            on_openi(VKD, AS_PRINTED, DISTILLATION, *OTHER_METHODS, *CONTROLS),
            on_openi(SHORTER[0], VKD, DISTILLATION, label_share=0.3),
            on_openi(
                *SHORTER, VKD, UNKNOWN_IGNORED, WITHOUT_KL, DISTILLATION, *OTHER_METHODS, *CONTROLS, label_share=0.1
            ),
        ),
        folds=5,
    ),
}


# --------------------------------------------------------------------------------- the paper's figures


@cache
def paper_figures() -> dict[tuple[str, str, str, str], float]:
    """AUC by (table, corpus, finding, model)."""
    with FIGURES.open(encoding="utf-8") as file:
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
