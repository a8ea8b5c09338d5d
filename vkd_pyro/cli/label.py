"""`vkd label`: labels from reports."""

from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_data, new_parser, parse, with_parts_of_config
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError


def label_parser() -> ArgumentParser:
    """Arguments of `vkd label`."""
    parser = new_parser(
        "label",
        "Labels the reports of a corpus with the 14 CheXpert findings: 1, 0, -1 uncertain, blank not mentioned. "
        "Train with them by --data.selection.labels.",
        usage="--config CONFIG --output OUTPUT [options]",
    )
    parser.add_argument("--config", action="config", help="a config; its data part counts")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    add_data(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Writes a table of labels."""
    import pandas as pd

    from vkd_pyro.data.labels.findings import UNMENTIONED
    from vkd_pyro.data.labels.labeller import Labeller
    from vkd_pyro.utils.files import folders_above, written

    parser = label_parser()
    parts = parser.instantiate(parse(parser, with_parts_of_config(arguments, "data")))
    if parts.output.exists():
        raise UserError(f"--output: {parts.output} exists already; choose another file, or delete it")
    folders_above(parts.output)
    studies = parts.data.corpus.studies()
    whole = replace(parts.data.selection.report, mask_label_words=False)
    composed = whole([study.report for study in studies])
    texts = {study.study_id: text for study, text in zip(studies, composed, strict=True) if text}
    if not texts:
        raise UserError(f"{parts.data.corpus.name}: no study has a report, so there is nothing to label")
    labeller = Labeller()
    table = pd.DataFrame(labeller.label(texts.values(), progress=True), columns=labeller.findings)
    cells = table.astype(int).astype(str).mask(table == UNMENTIONED, "")
    cells.insert(0, "study_id", list(texts))
    with written(parts.output) as unfinished:
        cells.to_csv(unfinished, index=False)
    say(f"labelled: {parts.output}: {len(texts):,} reports")
    for finding in labeller.findings:
        counts = (int((table[finding] == value).sum()) for value in (1, 0, -1))
        say("  {:<28}{:>8,} positive{:>8,} negative{:>8,} uncertain".format(finding, *counts))
