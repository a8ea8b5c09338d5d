"""Compares the labeller with the human coders of Open-I, finding by finding.

    python scripts/labeller_agreement.py --root ../shared/openi --json results/labeller_openi.json

The coders list what is abnormal, so what they do not name is absent; reports that were never coded are left out. The
labeller's unmentioned and absent count as absent. Only counts are written, never a report's text.
"""

import argparse
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
from comparing import write_result
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from vkd_pyro.data.corpora.openi import mesh_labels
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS, PRESENT, UNCERTAIN
from vkd_pyro.data.labels.labeller import Labeller


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=Path("../shared/openi"), help="the folder of ecgen-radiology/*.xml"
    )
    parser.add_argument(
        "--uncertain",
        choices=("positive", "negative"),
        default="positive",
        help="what an uncertain label of the labeller counts as; coders name a finding that is hedged, hence positive",
    )
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    arguments = parser.parse_args()

    reports, coded = read(arguments.root)
    start = time.perf_counter()
    labels = Labeller().label(reports, progress=True)
    speed = len(reports) / (time.perf_counter() - start)
    found = (labels == PRESENT) | ((labels == UNCERTAIN) & (arguments.uncertain == "positive"))
    table = agreement(found, coded == PRESENT)
    table.insert(3, "uncertain", (labels == UNCERTAIN).sum(axis=0))
    print(table.round(3).to_string())
    print(f"{len(reports)} reports, {speed:.0f} a second")
    if arguments.json:
        rounded = table.round(3).astype(object).where(table.notna(), None)  # null where undefined
        write_result(arguments.json, {"uncertain": arguments.uncertain, "table": rounded.to_dict("index")})


def read(root: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Findings and impression of each coded report that has any, and the coders' labels: float32 [N, 14]."""
    reports, labels = [], []
    for path in sorted(root.rglob("ecgen-radiology/*.xml")):
        xml = ET.parse(path).getroot()
        sections = {e.get("Label"): (e.text or "").strip() for e in xml.iter("AbstractText")}
        report = "\n\n".join(sections[s] for s in ("FINDINGS", "IMPRESSION") if sections.get(s))
        label = mesh_labels(major.text or "" for major in xml.findall("MeSH/major"))
        if report and np.isfinite(label).all():
            reports.append(report)
            labels.append(label)
    if not reports:
        raise SystemExit(f"{root}: no coded report found; expected ecgen-radiology/*.xml")
    return reports, np.stack(labels)


def agreement(found: NDArray[np.bool_], coded: NDArray[np.bool_]) -> pd.DataFrame:
    """Labeller and coders, both bool [N, 14] -> a row a finding; sensitivity and specificity hold the coders true."""
    rows = {}
    for finding, ours, theirs in zip(CHEXPERT_FINDINGS, found.T, coded.T, strict=True):
        rows[finding] = {
            "n": len(theirs),
            "coders": int(theirs.sum()),
            "labeller": int(ours.sum()),
            "kappa": cohen_kappa_score(theirs, ours),
            "sensitivity": ours[theirs].mean() if theirs.any() else np.nan,
            "specificity": (~ours[~theirs]).mean(),
        }
    return pd.DataFrame(rows).T.astype({"n": int, "coders": int, "labeller": int})


if __name__ == "__main__":
    main()
