"""What a study leaves: a table of its trials, a picture, the best config; and which runs are kept."""

import json
import shutil
from pathlib import Path
from typing import Literal

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from vkd_pyro.reporting.figures import save, search_history
from vkd_pyro.tuning.study import FAILED, SURPLUS, Goal, is_given_up
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written

TRIALS, TABLE, PICTURE, BEST = "trials", "trials.csv", "search", "best.yaml"

Keep = Literal["best", "all", "none"]


def state_of(trial: FrozenTrial) -> str:
    """What became of a trial: complete, pruned, failed (by its settings), killed, running or waiting."""
    if FAILED in trial.user_attrs:
        return "failed"
    return "killed" if trial.state == TrialState.FAIL else trial.state.name.lower()


def table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial: number, state, value (of a pruned one the last), epochs, seconds, reason, and what was tried."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if SURPLUS in trial.user_attrs:
            continue
        steps = trial.intermediate_values
        last = steps[max(steps)] if steps else None
        rows.append(
            {
                "trial": trial.number,
                "state": state_of(trial),
                "value": trial.value if trial.state == TrialState.COMPLETE else last,
                "epochs": len(steps),
                "seconds": trial.duration and round(trial.duration.total_seconds(), 1),
                "reason": trial.user_attrs.get(FAILED, "given up" if is_given_up(trial) else ""),
                **{name: "null" if value is None else value for name, value in trial.params.items()},
            }
        )
    return pd.DataFrame(rows)


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that was complete; None where there is none yet."""
    complete = any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False))
    return study.best_trial if complete else None


def write_table(study: optuna.Study, folder: Path) -> None:
    """Writes trials.csv."""
    with written(folder / TABLE) as unfinished:
        table(study).to_csv(unfinished, index=False)


def write_picture(study: optuna.Study, folder: Path, goal: Goal) -> None:
    """Writes search.png and search.svg: values by trial, and by each option, with its importance (fANOVA).

    Importances are undefined, and left out, where fewer than 2 trials were complete, or all have one value.
    """
    try:
        evaluator = FanovaImportanceEvaluator(seed=0)
        importances = get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):
        importances = {}
    trials = table(study)
    figure = search_history(trials, goal.metric, goal.direction == "maximize", importances)
    save(figure, folder, PICTURE)


def write_best(study: optuna.Study, folder: Path, goal: Goal, config: str) -> None:
    """Writes best.yaml, a whole config, whose head says where it is from."""
    best = best_of(study)
    if best is None:
        raise UserError(f"{folder}: no trial was complete, so there is no best one; see {TABLE}")
    head = (
        f"# The best of a search: trial {best.number} of {folder.resolve().name}, {goal.metric} {best.value:.6g} on "
        f"the validation split.\n#\n#   vkd train --config {BEST} --run runs/best\n#\n"
        f"# What was searched: {json.dumps(best.params)}\n"
    )
    with written(folder / BEST) as unfinished:
        unfinished.write_text(head + config, encoding="utf-8")


def tidy(study: optuna.Study, folder: Path, keep: Keep) -> None:
    """Removes the runs of trials that are over, but for those that are kept."""
    best = best_of(study)
    for trial in study.get_trials(deepcopy=False):
        kept = keep == "all" or (keep == "best" and best is not None and best.number == trial.number)
        if trial.state.is_finished() and not kept:
            shutil.rmtree(run_of(folder, trial.number), ignore_errors=True)


def run_of(folder: Path, number: int) -> Path:
    """The run of a trial."""
    return folder / TRIALS / f"{number:04d}"
