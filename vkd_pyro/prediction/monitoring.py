"""Months of predictions beside what was usual when the model was calibrated: has the stream of images changed?

Nothing here needs a label. Drift says that images, or what the model says of them, are no longer as they were: another
scanner, other patients, another season. Whether the model has become worse only labels can tell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.metrics import Interval
from vkd_pyro.metrics.drift import drift, holm
from vkd_pyro.posthoc.calibration import UNITS, Calibration, Fit, Unit
from vkd_pyro.posthoc.ood import FLAGGED_SHARE
from vkd_pyro.prediction.tables import FORMATS
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import check_plain, read_json

COLUMNS = ("image", "unit", "finding", "calibrated", "answer", "flagged", "bundle_sha256")
"""Of a table of predictions, what is read."""

LARGEST = 1 << 30
"""Bytes of a table, at most (1 GiB)."""

FEWEST = 50
"""Studies, or images, of a month, below which nothing is said."""

SIGNIFICANT, LARGE = 0.01, 0.1
"""A change is called drift where its p-value, of all tests together (Holm), is below the first, and the population
stability index more than the second above chance; of images, where more than twice the usual share is flagged."""

Verdict = Literal["as usual", "drift", "too few", "unknown"]


@dataclass(frozen=True)
class FindingDrift:
    """A finding in a month.

    Attributes:
        finding: its name.
        number: predictions with a calibrated probability.
        mean: of calibrated probabilities.
        yes, usual_yes: share at or above the threshold, with its interval, and what was usual; NaN without a threshold.
        referred: share whose answer is "refer"; NaN without a threshold.
        psi, by_chance: population stability index of the probabilities, and what chance makes it (`metrics.drift`).
        p: of the test beside it, of all tests of all months together.
        verdict: in a word.
    """

    finding: str
    number: int
    mean: float
    yes: Interval
    usual_yes: float
    referred: float
    psi: float
    by_chance: float
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class Month:
    """A table of predictions beside the reference.

    Attributes:
        name: of the file, without its suffix; of studies and images in one file, with the unit.
        unit: what was judged.
        number: studies, or images.
        flagged: share that is unlike the images the model learned from, with its interval; usual is 0.05.
        flagged_p: of a binomial test of that share, of all tests together.
        verdict: of the images.
        findings: K of them.
    """

    name: str
    unit: Unit
    number: int
    flagged: Interval
    flagged_p: float
    verdict: Verdict
    findings: tuple[FindingDrift, ...]

    @property
    def drifted(self) -> list[str]:
        """What has changed, by name."""
        images = ["images"] if self.verdict == "drift" else []
        return images + [one.finding for one in self.findings if one.verdict == "drift"]


def monitor(calibration: Calibration, bundle_hash: str, tables: Sequence[Path]) -> list[Month]:
    """Each table of `vkd predict --output` beside the reference, in their order.

    Args: of the bundle that predicted, its hash, the files.

    Raises:
        UserError: a file that is no such table, is of another bundle, or says no calibrated probability.
    """
    months = [each for path in tables for each in _months(path, calibration, bundle_hash)]
    raw = [p for month in months for p in (month.flagged_p, *(one.p for one in month.findings))]
    adjusted = iter(holm(raw))
    return [_judged(month, adjusted) for month in months]


# --------------------------------------------------------------------------------------------- reading


def read_table(path: Path) -> pd.DataFrame:
    """The columns that are needed, a row an image and finding.

    Raises:
        UserError: not a table that `vkd predict --output` has written.
    """
    check_plain(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: found the suffix {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    if (size := path.stat().st_size) > LARGEST:
        raise UserError(f"{path}: {size:,} bytes, more than the limit of {LARGEST:,}; give a table a month")
    wrong = f"{path}: not a table of vkd predict --output"
    try:
        table = _read(path)
    except UserError:
        raise
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{wrong}; write it again") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise UserError(f"{wrong}: no column {missing[0]}; write it again")
    if not len(table):
        raise UserError(f"{path}: no prediction in it; leave it out")
    table = table[list(COLUMNS)].copy()
    table["calibrated"] = pd.to_numeric(table["calibrated"], errors="coerce")
    table["flagged"] = table["flagged"].map({True: 1.0, False: 0.0, "True": 1.0, "False": 0.0})
    if strange := set(table["unit"]) - set(UNITS):
        raise UserError(f"{wrong}: unit: found {str(strange.pop())[:40]!r}, expected one of {', '.join(UNITS)}")
    if ((table["calibrated"] < 0) | (table["calibrated"] > 1)).any():
        raise UserError(f"{wrong}: calibrated: found a number outside [0, 1]; write it again")
    return table


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".csv":
        texts = {name: str for name in COLUMNS if name != "calibrated"}
        return pd.read_csv(path, dtype=texts, usecols=lambda name: name in COLUMNS)
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path, columns=list(COLUMNS))
    rows = []
    for one in read_json(path, "write it again"):
        shared = {name: one[name] for name in ("image", "unit", "flagged", "bundle_sha256")}
        for finding, of in one["findings"].items():
            rows.append(shared | {"finding": finding, "calibrated": of["calibrated"], "answer": of["answer"]})
    return pd.DataFrame(rows, columns=list(COLUMNS))


# ------------------------------------------------------------------------------------------- comparing


def _months(path: Path, calibration: Calibration, bundle_hash: str) -> list[Month]:
    """Of a file: studies and images apart, where it has both."""
    table = read_table(path)
    if other := set(table["bundle_sha256"].astype(str)) - {bundle_hash}:
        raise UserError(
            f"{path}: predicted by bundle {sorted(other)[0][:12]}, expected {bundle_hash[:12]}; give the bundle that "
            "made it, or predict again"
        )
    units = [unit for unit in UNITS if (table["unit"] == unit).any()]
    found = []
    for unit in units:
        rows, fit = table[table["unit"] == unit], calibration.of(unit)
        if strange := set(rows["finding"]) - set(fit.usual.findings):
            first = str(sorted(map(str, strange))[0])[:40]
            raise UserError(f"{path}: finding: found {first!r}, which is not one of the bundle's; write it again")
        name = path.stem if len(units) == 1 else f"{path.stem}, {unit}s"
        found.append(_month(name, unit, rows, fit))
    return found


def _month(name: str, unit: Unit, rows: pd.DataFrame, fit: Fit) -> Month:
    from scipy.stats import binomtest

    of_images = rows.groupby("image", sort=False)["flagged"].first().dropna()
    flagged, number = int(of_images.sum()), rows["image"].nunique()
    p = binomtest(flagged, len(of_images), FLAGGED_SHARE).pvalue if len(of_images) >= FEWEST else np.nan
    findings = tuple(_finding(k, finding, rows, fit) for k, finding in enumerate(fit.usual.findings))
    return Month(name, unit, number, metrics.wilson(flagged, len(of_images)), float(p), "unknown", findings)


def _finding(k: int, finding: str, rows: pd.DataFrame, fit: Fit) -> FindingDrift:
    own = rows[rows["finding"] == finding]
    p = own["calibrated"].dropna().to_numpy(float)
    usual, threshold = fit.usual.quantiles[k], fit.operating_points.thresholds[k]
    defined = not np.isnan(threshold) and len(p) > 0
    found = drift(*_binned(usual.values, usual.at_least, p)) if len(p) >= FEWEST and usual.size else None
    return FindingDrift(
        finding=finding,
        number=len(p),
        mean=float(p.mean()) if len(p) else float("nan"),
        yes=metrics.wilson(float((p >= threshold).sum()), len(p)) if defined else metrics.UNDEFINED,
        usual_yes=float(usual.count(threshold) / usual.size) if defined and usual.size else float("nan"),
        referred=float((own["answer"] == "refer").mean()) if defined else float("nan"),
        psi=float("nan") if found is None else found.psi,
        by_chance=float("nan") if found is None else found.by_chance,
        p=float("nan") if found is None else found.p,
        verdict="unknown",
    )


def _binned(
    edges: NDArray[np.floating], at_least: NDArray[np.floating], now: NDArray[np.float64]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Counts between the quantiles, before and now; what lies beyond the ends is in the outermost bins."""
    place = np.clip(np.searchsorted(edges, now, side="right") - 1, 0, len(edges) - 2)
    return -np.diff(at_least), np.bincount(place, minlength=len(edges) - 1).astype(np.int64)


def _judged(month: Month, p_values: Iterator[float]) -> Month:
    """The month with p-values of all tests together, which come in order, and verdicts."""
    flagged_p = float(next(p_values))
    verdict = _verdict(month.number, flagged_p, month.flagged.estimate - FLAGGED_SHARE, FLAGGED_SHARE)
    findings = []
    for one in month.findings:
        p = float(next(p_values))
        findings.append(replace(one, p=p, verdict=_verdict(one.number, p, one.psi - one.by_chance, LARGE)))
    return replace(month, flagged_p=flagged_p, verdict=verdict, findings=tuple(findings))


def _verdict(number: int, p: float, size: float, large: float) -> Verdict:
    if number < FEWEST:
        return "too few"
    if np.isnan(p) or np.isnan(size):
        return "unknown"
    return "drift" if p < SIGNIFICANT and size > large else "as usual"
