"""A run's loggers: opened while it trains, or when it is evaluated, and what they are told.

They get numbers, settings, figures and the table of findings: no report, no image, no name of a patient or study.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.loggers import Logger

from vkd_pyro.artifacts.config import judge, new_parser, parse, read_yaml
from vkd_pyro.artifacts.run import TRACKING, config_of, leads
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.training.loggers import RunLogger
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import private_folder, write_json
from vkd_pyro.utils.reading import read_json, read_text

KEYS = "keys.json"
"""Below tracking/: by which name each logger knows the run, so that a training goes on in the same one."""
NOT_LOGGED = ("run", "resume", "finish", "store", "allow_module", "training.loggers")
SECRET = re.compile(r"(^|[._])(token|password|secret|api_?key|credentials?)$", re.IGNORECASE)


@contextmanager
def opened(loggers: Sequence[RunLogger], run: Path, settings: Mapping[str, Any]) -> Iterator[list[Logger]]:
    """Loggers of Lightning while the block lasts, in the process that writes the run; in the others none.

    Args:
        loggers: of different kinds.
        run: folder of the run.
        settings: told to a logger that does not know the run yet.

    One that fails later is warned of and told no more, for a training outlives its tracker: metrics.csv has it all.

    Raises:
        UserError: a logger cannot be opened, such as one whose server does not answer.
    """
    with opened_each(loggers, run, settings) as pairs:
        for maker, logger in pairs:
            _forgive(logger, type(maker).__name__)
        yield [logger for _, logger in pairs]


def _forgive(logger: Any, kind: str) -> None:
    """Lets a logger of Lightning fail once, with a warning, and be silent from then on."""
    failed = False

    def forgiving(tell: Callable[..., None]) -> Callable[..., None]:
        def told(*arguments: Any, **named: Any) -> None:
            nonlocal failed
            try:
                if not failed:
                    tell(*arguments, **named)
            except Exception as error:  # each library has its own
                failed = True
                warnings.warn(
                    f"training.loggers: {kind} has failed ({one_line(error)[:200]}); training goes on without it, and "
                    "metrics.csv has what it was not told",
                    stacklevel=1,  # of the line that called, in Lightning, nothing is shown
                )

        return told

    for name in ("log_metrics", "finalize"):
        setattr(logger, name, forgiving(getattr(logger, name)))


@contextmanager
def opened_each(
    loggers: Sequence[RunLogger], run: Path, settings: Mapping[str, Any]
) -> Iterator[list[tuple[RunLogger, Any]]]:
    """As `opened`, each with what made it."""
    found: list[tuple[RunLogger, Any]] = []
    if loggers and leads():
        private_folder(run / TRACKING)
        path = run / TRACKING / KEYS
        keys: dict[str, str] = read_json(path, "delete it") if path.is_file() else {}
    try:
        for maker in loggers if leads() else ():
            kind = type(maker).__name__
            try:
                logger, key = maker.begin(run, keys.get(kind))
            except Exception as error:  # each library has its own
                raise UserError(f"training.loggers: {kind} cannot be opened: {one_line(error)[:300]}") from error
            found.append((maker, logger))
            if kind not in keys:
                logger.log_hyperparams(dict(settings))
                keys[kind] = key
                write_json(path, keys)
        yield found
    finally:
        for maker, logger in found:
            maker.close(logger)


def hyperparameters(config: str) -> dict[str, Any]:
    """The settings of a config's text, flat, without those that say where a run is, and without what may be secret."""
    return {
        name: value
        for name, value in _flat("", yaml.safe_load(config) or {})
        if not any(f"{name}.".startswith(f"{hidden}.") for hidden in NOT_LOGGED) and not SECRET.search(name)
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, value if isinstance(value, str | int | float | bool) else str(value)


def loggers_of(run: Path, allow: Sequence[str] = ()) -> list[RunLogger]:
    """The loggers that the config of a run names; raises `UserError` where it names none, as `load_run` else."""
    named = (read_yaml(config_of(run)).get("training") or {}).get("loggers")
    if not named:
        raise UserError(f"{run}: its config names no training.loggers, so there is none to send an evaluation to")
    config = {"loggers": named}
    judge(config, _parser, allow, config_of(run))
    found: list[RunLogger] = _parser().instantiate(parse(_parser(), ["--config", yaml.safe_dump(config)])).loggers
    return found


def _parser() -> ArgumentParser:
    parser = new_parser("evaluate", "")
    parser.add_argument("--config", action="config")
    parser.add_argument("--loggers", type=list[RunLogger])
    return parser


def log_evaluation(loggers: Sequence[RunLogger], run: Path, evaluation: Evaluation, folder: Path) -> None:
    """Sends an evaluation to the loggers of a run: averages, the table of findings, and the figures of its folder.

    Args: the loggers; the run; what was evaluated; where figures/*.png are, none of which shows a patient, and by whose
        name the loggers know it.
    """
    averages = evaluation.averages().items()
    numbers = {f"{path} {name}": value for path, found in averages for name, value in found.items()}
    numbers = {name: value for name, value in (numbers | {"nll": evaluation.nll()}).items() if not math.isnan(value)}
    findings = evaluation.per_finding().rename_axis("finding").reset_index()
    figures = {path.stem: path for path in sorted((folder / "figures").glob("*.png"))}
    with opened_each(loggers, run, hyperparameters(read_text(config_of(run)))) as pairs:
        for maker, logger in pairs:
            try:
                logger.log_metrics({f"{folder.name}/{key}": value for key, value in numbers.items()}, step=0)
                maker.add(logger, folder.name, figures, findings)
            except Exception as error:  # each library has its own
                raise UserError(
                    f"training.loggers: {type(maker).__name__} did not take the evaluation: {one_line(error)[:300]}; "
                    f"it is whole in {folder}, and the same command sends it again"
                ) from error
