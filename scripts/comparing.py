"""Cells of a table: means over seeds with their spread, differences with their intervals; and the file it goes to."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vkd_pyro.evaluation.comparison import mean_difference, paired_difference
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation

MACRO = f"macro{MIN_POSITIVES}"
AVERAGES = ("macro", MACRO, "micro", "weighted")
MEAN = ", mean of seeds"
JOINT = {"joint nll": "joint_nll", "product of marginals": "marginal_nll", "I(z; y)": "answer_information"}


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds."""
    if np.isnan(values).any():
        return "-"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def row_of_table(
    ours: list[Evaluation], baselines: Mapping[str, list[Evaluation]], num_resamples: int = 2000
) -> dict[str, str]:
    """Means over seeds with their standard deviation; differences from baselines, by what their names shall end in."""
    averages = [e.averages() for e in ours]
    cells = {name: spread([a["image"][name] for a in averages]) for name in AVERAGES}
    cells |= {
        "nll": spread([e.nll() for e in ours]),
        **{name: spread([e.joint()[key] for e in ours]) for name, key in JOINT.items()},
        "report macro": spread([a["report"]["macro"] for a in averages]),
        "report micro": spread([a["report"]["micro"] for a in averages]),
        "KL": spread([e.kl for e in ours]),
        "active prior": spread([e.active_units["prior"] for e in ours]),
        "active posterior": spread([e.active_units["posterior"] for e in ours]),
    }
    for name, baseline in baselines.items():
        if ours is not baseline:
            cells |= differences(ours, baseline, name, num_resamples)
    return cells


def differences(
    ours: list[Evaluation], baseline: list[Evaluation], to: str = "", num_resamples: int = 2000
) -> dict[str, str]:
    """Paired differences from a baseline with their intervals, and those of each seed; `to` ends their names."""
    by_seed = [paired_difference([a], [b], num_resamples=1).estimate for a, b in zip(ours, baseline, strict=True)]
    mean = {f"Δ {MACRO}{MEAN}{to}": str(mean_difference(ours, baseline, num_resamples=num_resamples))}
    return (mean if len(ours) > 1 else {}) | {
        f"Δ {MACRO}{to}": str(paired_difference(ours, baseline, num_resamples=num_resamples)),
        f"Δ micro{to}": str(paired_difference(ours, baseline, "micro", num_resamples)),
        f"Δ {MACRO}{to} by seed": " ".join("undefined" if np.isnan(found) else f"{found:+.3f}" for found in by_seed),
    }


def write_result(path: Path, content: dict[str, Any]) -> None:
    """JSON, with the command that made it in front."""
    command = f"python scripts/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
    text = json.dumps({"command": command} | content, indent=1, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
