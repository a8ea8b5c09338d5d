"""A gauge of posterior collapse: how much z carries, and whether anything reads it."""

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro import metrics
from vkd_pyro.evaluation.advice import FEWEST_EPOCHS, cures
from vkd_pyro.evaluation.outputs import StudyOutputs
from vkd_pyro.schedules import BetaSchedule
from vkd_pyro.utils.epochs import best_epoch

UNIT_KL = 0.01
"""Nats above which a dimension of z counts as used: what `active_units` asks of a variance, asked of the KL."""

NEGLIGIBLE_KL = 0.1
"""Nats a study below which reports count as ignored: a seventh of a yes or no (ln 2 = 0.69), for all of z together."""

NEGLIGIBLE_CHANGE = 0.01
"""Change of a probability below which z counts as ignored: nothing that a probability of two decimals would show."""

NAN = float("nan")


@dataclass(frozen=True)
class LatentUse:
    """How z is used over some studies. NaN is undefined: `undefined` says why.

    Attributes:
        active_units: of the prior and of the posterior: dimensions whose mean varies between studies.
        kl: KL(q(z | x_T) || p(z | x_I)) in nats, mean over the studies with a report.
        kl_per_dimension: its parts, [D].
        mutual_information: at least sum_k I(z; y_k), z ~ q(z | x_T), in nats: `metrics.mutual_information_bound`.
        z_spread: standard deviation of p(y_k = 1 | x_I, z) over draws of z for the same image: the root of the mean
            variance over studies and findings.
        z_change: change of p(y_k = 1 | x_I) when z is drawn for another study: root mean square.
    """

    active_units: dict[str, float] = field(default_factory=lambda: {"prior": NAN, "posterior": NAN})
    kl: float = NAN
    kl_per_dimension: NDArray[np.float64] = field(default_factory=lambda: np.full(1, NAN))
    mutual_information: float = NAN
    z_spread: float = NAN
    z_change: float = NAN

    @classmethod
    def of(cls, rows: StudyOutputs) -> "LatentUse":
        """The gauge of what model and guide said of some studies, or images."""
        return cls(
            active_units=rows.active_units(),
            kl=rows.mean_kl(),
            kl_per_dimension=pd.DataFrame(rows.kl_per_dimension).mean().to_numpy(),
            mutual_information=metrics.mutual_information_bound(rows.report_log_probs, rows.labels),
            z_spread=_root_mean(rows.z_variance),
            z_change=_root_mean(rows.z_change),
        )

    @property
    def kl_units(self) -> float:
        """Dimensions whose KL is above `UNIT_KL`."""
        known = not np.isnan(self.kl_per_dimension).any()
        return float((self.kl_per_dimension > UNIT_KL).sum()) if known else NAN

    def columns(self) -> dict[str, float]:
        """The numbers by name, for a row of metrics.csv."""
        return {
            "kl": self.kl,
            "kl_units": self.kl_units,
            "largest_unit_kl": float(self.kl_per_dimension.max()),
            **{f"active_units_{name}": value for name, value in self.active_units.items()},
            "mutual_information": self.mutual_information,
            "z_spread": self.z_spread,
            "z_change": self.z_change,
        }

    @property
    def warning(self) -> str | None:
        """In plain words, that reports or z are ignored and what that means; None where they are not."""
        return warning_of(self.columns())

    @property
    def undefined(self) -> dict[str, str]:
        """Why a number is NaN, by its name."""
        no_z = math.isnan(self.active_units["prior"])
        no_report = "there is no z" if no_z else "no report was read"
        no_draws = "there is no z" if no_z else "wants two draws of z, and two studies in a batch"
        reasons = {
            "kl": no_report,
            "kl_per_dimension": no_report if math.isnan(self.kl) else "the dimensions of z depend on each other",
            "mutual_information": no_report if math.isnan(self.kl) else "no study with a report has a known label",
            "z_spread": no_draws,
            "z_change": no_draws,
        }
        return {name: why for name, why in reasons.items() if np.isnan(getattr(self, name)).any()}

    def summary(self) -> dict[str, Any]:
        """For JSON, beside `kl` and `active_units`; null where undefined, with the reason."""
        numbers = ("kl_units", "mutual_information", "z_spread", "z_change")
        found: dict[str, Any] = {name: None if math.isnan(v := getattr(self, name)) else v for name in numbers}
        parts = self.kl_per_dimension
        found["kl_per_dimension"] = None if np.isnan(parts).any() else parts.tolist()
        return found | {"warning": self.warning, "undefined": self.undefined}

    @classmethod
    def from_summary(cls, kl: float, active_units: dict[str, float], summary: dict[str, Any]) -> "LatentUse":
        """What `summary` gave, NaN in place of null."""
        numbers = {
            name: NAN if summary[name] is None else summary[name]
            for name in ("mutual_information", "z_spread", "z_change")
        }
        parts = np.array(summary["kl_per_dimension"] or [NAN])
        return cls(active_units=active_units, kl=kl, kl_per_dimension=parts, **numbers)

    def __str__(self) -> str:
        """A line a number, without those that are undefined."""
        lines = []
        if not math.isnan(self.kl):
            lines.append(f"KL(q(z | report) || p(z | image)): {self.kl:.2f} nats")
        if not math.isnan(self.kl_units):
            parts = self.kl_per_dimension
            lines[-1] += f"; {self.kl_units:.0f} of {len(parts)} dimensions above {UNIT_KL}, at most {parts.max():.2f}"
        units = ", ".join(f"{name} {value:.0f}" for name, value in self.active_units.items() if not math.isnan(value))
        if units:
            lines.append(f"active units of z: {units}")
        if not math.isnan(self.mutual_information):
            lines.append(f"I(z; y_k), z of the report, summed over findings: {at_least(self.mutual_information)}")
        if not math.isnan(self.z_change):
            lines.append(
                f"z moves a probability by {self.z_spread:.3f} between draws, "
                f"by {self.z_change:.3f} when it is another study's"
            )
        return "\n".join(lines)


def at_least(bound: float) -> str:
    """A lower bound of mutual information, in words: one that was found below 0 says no more than that it is not."""
    if round(bound, 2) > 0:
        return f"at least {bound:.2f} nats"
    return f"at least 0 nats (the bound, {bound:.2f}, says no more)" if round(bound, 2) else "at least 0 nats"


def warning_of(columns: dict[str, float]) -> str | None:
    """What `LatentUse.warning` says, from its `columns`; what is missing is NaN, and NaN is never negligible.

    z counts as ignored by what happens when it is another study's: z that differs from draw to draw and not from
    study to study is noise, whatever the likelihood makes of it. Reports count as ignored where the KL is negligible
    and z does not tell the labels: with a z that does, the prior has learned to follow the report, which is the aim.
    Where no report was read z has nothing to pass on, so nothing is warned of.
    """
    kl, spread, change = (columns.get(name, NAN) for name in ("kl", "z_spread", "z_change"))
    if math.isnan(kl):
        return None
    found = []
    if change < NEGLIGIBLE_CHANGE:
        noise = f", though its draws move it by {spread:.3f}: z is noise" if spread >= NEGLIGIBLE_CHANGE else ""
        found.append(f"another study's z moves a probability by {change:.4f}, less than {NEGLIGIBLE_CHANGE}{noise}")
    if kl < NEGLIGIBLE_KL and not columns.get("mutual_information", NAN) > NEGLIGIBLE_KL:
        found.append(
            f"KL(q(z | report) || p(z | image)) is {kl:.4f} nats, less than {NEGLIGIBLE_KL}: z knows of the report "
            "no more than the image told it"
        )
        if not math.isnan(beta := columns.get("largest_beta", NAN)):
            found[-1] += f" (beta so far at most {beta:.2f}, on average {columns.get('mean_beta', NAN):.2f})"
    if not found:
        return None
    if change < NEGLIGIBLE_CHANGE:
        means = "answers come from the image alone, and the part of the uncertainty that z carries says nothing"
        return f"z is ignored: {'; '.join(found)}. So {means}"
    return f"reports are ignored: {'; '.join(found)}. So z teaches the image nothing of what they say"


def beta_so_far(schedule: BetaSchedule, steps: int, steps_per_epoch: int) -> dict[str, float]:
    """The largest beta of the optimiser steps done, and their mean; NaN before the first.

    From the schedule, which is a function of the step alone: so a resumed training knows of the steps before it.
    """
    betas = [schedule(step, steps_per_epoch) for step in range(1, steps + 1)]
    return {"largest_beta": max(betas, default=NAN), "mean_beta": sum(betas) / len(betas) if betas else NAN}


def warn_if_ignored(metrics_table: Path, method: Any = None) -> None:
    """Warns where the best epoch of a training ignores reports or z, with what may be tried.

    Args:
        metrics_table: a run's metrics.csv; of columns that it lacks nothing is said.
        method: what was trained; only what it does not have already is advised.
    """
    table = pd.read_csv(metrics_table)
    best = table.iloc[best_epoch(table)]
    if text := warning_of({str(name).removeprefix("val/"): float(value) for name, value in best.items()}):
        few = len(table) < FEWEST_EPOCHS
        tried = [] if few else cures(method)
        advice = f". Try {', or '.join(tried)}" if tried else ""
        early = f". After {len(table)} epochs that says little yet" if few else ""
        warnings.warn(text + advice + early, stacklevel=3)


def _root_mean(squares: NDArray[np.float64]) -> float:
    """The root of the mean of what is not NaN; a mean below 0, which noise can make of a small one, is 0."""
    known = squares[~np.isnan(squares)]
    return math.sqrt(max(0.0, float(known.mean()))) if len(known) else NAN
