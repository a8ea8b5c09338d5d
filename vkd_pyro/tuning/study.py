"""A study: trials of settings, in a database that several processes share."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import filelock
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from vkd_pyro.tuning.space import Space
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import private_folder
from vkd_pyro.utils.serialization import difference

DATABASE, LOCK = "study.db", ".study.lock"
FAILED, SURPLUS = "failed", "surplus"
"""Attributes of trials: why one failed by its settings; that one was begun when there were enough."""
RETRIES = 2
"""How often a trial whose process was killed is tried again; it may be the trial that kills its process."""

Pruning = Literal["median", "hyperband", "none"]


@dataclass(frozen=True)
class Goal:
    """What is sought.

    Attributes:
        metric: a column of a run's metrics.csv that is measured on the validation split.
        mode: whether the least is the best, or the most; None for what its name says.
    """

    metric: str = "val/nll"
    mode: Literal["min", "max"] | None = None

    def __post_init__(self) -> None:
        if not self.metric.startswith("val/"):
            raise UserError(f"--metric: found {self.metric}, expected one of the validation split, such as val/nll")

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """As optuna says it. Of what training logs, the more the better goes for AUC, and for what z tells."""
        more = any(word in self.metric for word in ("auc", "mutual_information"))
        return "maximize" if (self.mode or ("max" if more else "min")) == "max" else "minimize"

    def better(self, one: float, other: float) -> bool:
        """Whether the one value is better than the other."""
        return one > other if self.direction == "maximize" else one < other


@dataclass(frozen=True)
class Beats:
    """By what it is known that a process lives: seconds between its signs, and after how many it counts as dead."""

    every: int = 10
    grace: int = 60


class Surplus(Exception):
    """There are as many trials as were asked for."""


class SeededTPE(BaseSampler):
    """Optuna's TPE, whose draws depend on seed, number of the trial and the trials before it, and on nothing else.

    So a study that was interrupted goes on as it would have gone, and processes with one seed draw apart.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sampler = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begins the draws of a trial."""
        digest = hashlib.sha256(f"{self.seed}:{trial.number}".encode()).digest()
        self.sampler = TPESampler(seed=int.from_bytes(digest[:4]))
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE's."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE's."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE's."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)


STARTUP = 5
"""So many trials are complete before any is ended early."""


class MedianOfFolds(BasePruner):
    """Ends a trial whose mean over its folds so far is worse than the median of the complete ones over the same folds.

    Optuna's median pruner takes the best step of a trial, which is right for epochs; of folds it is the easiest one.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to end it; never after its first fold."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        step = trial.last_step
        if not step or len(complete) < STARTUP:
            return False
        ours, others = trial.intermediate_values[step], median(one.intermediate_values[step] for one in complete)
        return ours > others if study.direction == StudyDirection.MINIMIZE else ours < others


def pruner_of(kind: Pruning, max_epochs: int, num_folds: int = 1) -> BasePruner:
    """What ends trials early: those below the median of the others at an epoch, after 5 trials and a fifth of the
    epochs, the first at least, or at a fold; or by successive halving (Hyperband)."""
    if kind == "median" and num_folds > 1:
        return MedianOfFolds()
    if kind == "median":
        return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=max(1, max_epochs // 5))
    if kind == "hyperband":
        return HyperbandPruner(max_resource=num_folds if num_folds > 1 else max_epochs)
    return NopPruner()


def open_study(
    folder: Path,
    goal: Goal,
    pruner: BasePruner,
    seed: int,
    identity: dict[str, Any],
    storage: str | None = None,
    beats: Beats = Beats(),
    first: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """The study of a folder, begun or gone on with.

    Args:
        folder: of its outputs, and by default of its database; its name is that of the study.
        goal: what is sought.
        pruner: what ends trials early.
        seed: of what is tried.
        identity: for JSON, what its trials have in common, by what a user calls it; another process must have the same.
        storage: address of a database, for processes on several machines; None for a file of SQLite in the folder.
        beats: how processes that were killed are found.
        first: what the first trial tries; None leaves it to the sampler.

    Raises:
        UserError: the database cannot be reached, or has a study of this name with another identity.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    private_folder(folder)
    url = storage or f"sqlite:///{(folder / DATABASE).resolve()}"
    identity = json.loads(json.dumps(identity | {"metric": goal.metric, "mode": goal.direction}))
    with filelock.FileLock(folder / LOCK, mode=0o600), _quiet():  # two that begin at once make the tables once
        try:
            database = RDBStorage(
                url,
                engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else None,
                heartbeat_interval=beats.every,
                grace_period=beats.grace,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
            )
            study = optuna.create_study(
                storage=database,
                sampler=SeededTPE(seed),
                pruner=pruner,
                study_name=folder.resolve().name,
                direction=goal.direction,
                load_if_exists=True,
            )
        except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
            place = folder / DATABASE if storage is None else f"--storage: {without_password(storage)}"
            raise UserError(f"{place}: cannot be used ({_reason(error, storage)})") from error
        _check_same(study, identity, folder)
        if first is not None and not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(first))
        if storage is None:
            (folder / DATABASE).chmod(0o600)
    return study


def _check_same(study: optuna.Study, ours: dict[str, Any], folder: Path) -> None:
    theirs = study.user_attrs
    for name, value in ours.items():
        if name not in theirs:
            study.set_user_attr(name, value)
        elif theirs[name] != value:
            where, found, expected = difference(value, theirs[name])
            what = ".".join(where) or name
            raise UserError(
                f"--study: {folder} was begun with another {name} than this: {what} is {found!r:.80} now, and was "
                f"{expected!r:.80}; give the same, or another folder"
            )


def without_password(url: str) -> str:
    """An address without who asks, and by what word."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _reason(error: BaseException, url: str | None) -> str:
    if isinstance(error.__cause__ or error, ModuleNotFoundError):
        return f"it needs {getattr(error.__cause__ or error, 'name', 'a driver')}, which is not installed"
    hidden = (url or "").partition("://")[2].rpartition("@")[0]
    return one_line(error).replace(hidden, "...")[:200] if hidden else one_line(error)[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's words on what of it may still change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


# --------------------------------------------------------------------------------------------- trials


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it ended, was pruned, failed by its settings, or killed its process each time."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or is_given_up(trial)


def is_given_up(trial: FrozenTrial) -> bool:
    """Whether it was killed, as it was each time before."""
    return trial.state == TrialState.FAIL and SURPLUS not in trial.user_attrs and len(_killed(trial)) >= RETRIES


def _killed(trial: FrozenTrial) -> list[int]:
    """Numbers of the trials with the same settings before it that were killed, as optuna's callback keeps them."""
    return trial.system_attrs.get("retry_history", [])


def search(
    study: optuna.Study,
    space: Space,
    run_trial: Callable[[Trial, list[str]], float],
    failure: Callable[[Exception], str | None],
    num_trials: int,
    after: Callable[[FrozenTrial], None] = lambda trial: None,
    poll: float = 2.0,
) -> None:
    """Runs trials until so many are finished, in this process and all others of the study together.

    A trial whose process is gone is tried again with what it had. What another process runs is waited for at the end,
    since it may have to be tried again.

    Args:
        study: of `open_study`.
        space: what is tried.
        run_trial: value of a trial with these options of `vkd train`; it may raise `optuna.TrialPruned`.
        failure: why an error is of the trial's settings; None for an error that ends the search.
        num_trials: finished ones in all.
        after: is told of each that this process has finished.
        poll: seconds between two looks at what other processes do.
    """
    with _quiet():
        while True:
            fail_stale_trials(study)
            trials = study.get_trials(deepcopy=False)
            states = [trial.state for trial in trials]
            finished = sum(map(is_finished, trials))
            if finished >= num_trials:
                return
            if TrialState.WAITING in states or finished + states.count(TrialState.RUNNING) < num_trials:
                _run_one(study, space, run_trial, failure, num_trials, after)
            else:
                time.sleep(poll)


def _run_one(
    study: optuna.Study,
    space: Space,
    run_trial: Callable[[Trial, list[str]], float],
    failure: Callable[[Exception], str | None],
    num_trials: int,
    after: Callable[[FrozenTrial], None],
) -> None:
    begun: list[Trial] = []

    def objective(trial: Trial) -> float:
        begun.append(trial)
        before = [one for one in study.get_trials(deepcopy=False) if one.number < trial.number]
        if sum(is_finished(one) or not one.state.is_finished() for one in before) >= num_trials:
            trial.set_user_attr(SURPLUS, True)  # another process was faster
            raise Surplus
        options = space.suggest(trial)
        try:
            return run_trial(trial, options)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            if (reason := failure(error)) is None:
                raise
            trial.set_user_attr(FAILED, reason)
            raise optuna.TrialPruned from error  # for the sampler: worse than those that ended

    try:
        study.optimize(objective, n_trials=1, catch=(Surplus,))
    except KeyboardInterrupt:
        _again(study, begun)
        raise
    except Exception:
        if _taken_over(study, begun):  # it gave no sign for long, as of a machine that slept
            return
        _again(study, begun)
        raise
    trial = study.get_trials(deepcopy=False)[begun[0].number]
    if SURPLUS not in trial.user_attrs:
        after(trial)


def _taken_over(study: optuna.Study, begun: list[Trial]) -> bool:
    """Whether another process has put one of the trials to be tried again."""
    retried = {number for one in study.get_trials() for number in _killed(one)}
    return any(one.number in retried for one in begun)


def _again(study: optuna.Study, begun: list[Trial]) -> None:
    """Puts a trial that was ended from outside at the head of those to come, with what it had."""
    for trial in (study.get_trials()[one.number] for one in begun):
        if trial.state == TrialState.FAIL and trial.params:
            waiting = optuna.trial.create_trial(
                state=TrialState.WAITING, params=trial.params, distributions=trial.distributions
            )
            study.add_trial(waiting)
