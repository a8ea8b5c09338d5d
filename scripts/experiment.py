"""Trains arms of configs over seeds, evaluates them, and prints the table that compares them.

    python scripts/experiment.py configs/synthetic.yaml:no_report configs/synthetic.yaml:vkd --seeds 5

An arm of a config is CONFIG:ARM. Further options go to every `vkd train`, e.g. --training.max_epochs=2. Runs that are
complete are not trained again, interrupted ones are resumed. Differences are against the first arm named.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from vkd_pyro.cli import main as vkd
from vkd_pyro.cli.evaluate import evaluate_run
from vkd_pyro.cli.train import train_parser
from vkd_pyro.evaluation import MIN_POSITIVES, Evaluation, load_evaluation, paired_difference, save_evaluation
from vkd_pyro.metrics import micro_auroc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="CONFIG:ARM")
    parser.add_argument("--seeds", type=int, default=2, help="0, 1, ... so many")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--split", default="test", help="what is evaluated: test, or validation to choose by")
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")
    arguments, options = parser.parse_known_args()

    evaluations = {
        arm: [evaluation(arm, seed, arguments.runs, arguments.split, options) for seed in range(arguments.seeds)]
        for arm in arguments.arms
    }
    rows = {name(arm): row(found, evaluations[arguments.arms[0]]) for arm, found in evaluations.items()}
    table = pd.DataFrame(rows).T.fillna("")  # the first has no difference from itself
    print(table.to_string())
    if arguments.json:
        hashes = {
            name(arm): hashlib.sha256((arguments.runs / f"{name(arm)}-0" / "config.yaml").read_bytes()).hexdigest()
            for arm in arguments.arms
        }
        write_json(arguments.json, table, evaluations, hashes)


def name(arm: str) -> str:
    """The run's name: the config's stem and the arm."""
    config, _, kind = arm.rpartition(":")
    return f"{Path(config).stem}/{kind}"


def evaluation(arm: str, seed: int, runs: Path, split: str, options: list[str]) -> Evaluation:
    """Trains what is not trained yet, evaluates what is not evaluated yet."""
    run = runs / f"{name(arm)}-{seed}"
    config, _, kind = arm.rpartition(":")
    new = ["--config", config, "--run", str(run), "--arm", kind, "--seed", str(seed), *options]
    if (run / "config.yaml").exists() and resolved("--config", str(run / "config.yaml")) != resolved(*new):
        sys.exit(f"{run}: was made with other settings than these; remove it, or choose another --runs")
    if not (run / "bundle").exists():
        print(f"training {run}", file=sys.stderr)
        resumable = (run / "checkpoints" / "last.ckpt").exists()
        if vkd(["train", *(["--resume", str(run)] if resumable else new)]):
            sys.exit(2)
    folder = run / "evaluation" / split
    if not (folder / "evaluation.json").exists():
        save_evaluation(evaluate_run(run, split), folder)
    return load_evaluation(folder)


def resolved(*arguments: str) -> str:
    """The settings that arguments of `vkd train` come to, as YAML, without the run's name."""
    settings = train_parser().parse_args(list(arguments))
    settings.run = None
    return train_parser().dump(settings, skip_unset=False)


def row(ours: list[Evaluation], baseline: list[Evaluation]) -> dict[str, str]:
    """Means over seeds with their standard deviation, and paired differences from the baseline."""
    averages = [e.averages() for e in ours]

    def spread(values: list[float]) -> str:
        if np.isnan(values).all():
            return "-"
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"

    macro30 = f"macro{MIN_POSITIVES}"
    cells = {
        "macro": spread([a["image"]["macro"] for a in averages]),
        macro30: spread([a["image"][macro30] for a in averages]),
        "micro": spread([a["image"]["micro"] for a in averages]),
        "nll": spread([e.nll() for e in ours]),
        "report macro": spread([a["report"]["macro"] for a in averages]),
        "report micro": spread([a["report"]["micro"] for a in averages]),
        "KL": spread([e.kl for e in ours]),
        "active prior": spread([e.active_units["prior"] for e in ours]),
        "active posterior": spread([e.active_units["posterior"] for e in ours]),
    }
    if ours is not baseline:
        cells[f"Δ {macro30}"] = str(paired_difference(ours, baseline))
        cells["Δ micro"] = str(paired_difference(ours, baseline, micro_auroc))
        differences = [
            paired_difference([a], [b], num_resamples=1).estimate for a, b in zip(ours, baseline, strict=True)
        ]
        cells[f"Δ {macro30} by seed"] = " ".join(f"{difference:+.3f}" for difference in differences)
    return cells


def write_json(
    path: Path, table: pd.DataFrame, evaluations: dict[str, list[Evaluation]], hashes: dict[str, str]
) -> None:
    """The table, the command that made it, the sha256 of each arm's resolved config (seed 0), every seed's summary."""
    content = {
        "command": "python scripts/experiment.py " + " ".join(sys.argv[1:]),
        "config_sha256": hashes,
        "table": table.to_dict("index"),
        "seeds": {name(arm): [e.summary() for e in found] for arm, found in evaluations.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
