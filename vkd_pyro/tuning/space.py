"""The space of a search: which options of `vkd train` are tried, and where."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from vkd_pyro.artifacts.config import read_yaml
from vkd_pyro.utils.errors import UserError, one_line

SEARCHED = ("data", "method", "beta_schedule", "training", "seed")
"""What an option that is searched begins with."""
JUDGING = (
    "data.selection.corpus",
    "data.selection.labels",
    "data.selection.unknown_views",
    "data.selection.views",
    "data.task.eval_policy",
    "data.task.findings",
    "data.task.folds",
)
"""Options that change which answers are judged: values of the metric would not be of one kind."""
LARGEST = 2**53
"""A number of a range is smaller: beyond it whole numbers are not told apart."""
KINDS = {"float": {"low", "high", "log", "step"}, "int": {"low", "high", "log", "step"}, "categorical": {"choices"}}
"""What a distribution takes, by its type."""


@dataclass(frozen=True)
class Number:
    """A range of numbers, both ends included.

    Attributes:
        whole: whether they are whole numbers.
        low, high: its ends.
        log: whether it is searched in equal ratios.
        step: between two values; None for any.
    """

    whole: bool
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def suggest(self, trial: optuna.trial.Trial, name: str) -> Any:
        """The value that a trial has."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """The option's value, of what a study stores."""
        return stored

    def stored(self, value: Any) -> Any:
        """What a study stores for a value of the option; raises `ValueError` where the range does not have it."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise ValueError(f"not in {self.low:g} to {self.high:g}")
        steps = (value - self.low) / (self.step or 1)
        if self.step and abs(steps - round(steps)) > 1e-9:
            raise ValueError(f"not a step of {self.step:g} from {self.low:g}")
        return value

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that an option must take if it takes them all."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """Any of several values, numbers, words or whole parts of a config, each by what a study calls it."""

    choices: Mapping[str | int | float | bool | None, Any]

    def suggest(self, trial: optuna.trial.Trial, name: str) -> Any:
        """The value that a trial has."""
        return self.value(trial.suggest_categorical(name, list(self.choices)))

    def value(self, stored: Any) -> Any:
        """The option's value, of what a study stores."""
        return self.choices[stored]

    def stored(self, value: Any) -> Any:
        """What a study stores for a value of the option; raises `ValueError` where it is not among the choices."""
        for name, choice in self.choices.items():
            if _is(value, choice):
                return name
        raise ValueError("not among the choices")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that an option must take if it takes them all."""
        return tuple(self.choices.values())


@dataclass(frozen=True)
class Space:
    """Options and their distributions, by dotted name."""

    parts: Mapping[str, Number | Choice]

    def suggest(self, trial: optuna.trial.Trial) -> list[str]:
        """What a trial tries, as options of `vkd train`."""
        return [option(name, part.suggest(trial, name)) for name, part in self.parts.items()]

    def options(self, params: Mapping[str, Any]) -> list[str]:
        """The same of what a study has stored of a trial."""
        return [option(name, part.value(params[name])) for name, part in self.parts.items()]

    def params(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a study would store of a trial of these settings, a config as nested mappings.

        Raises:
            ValueError: the space does not have the value of an option; it names the option and says why.
        """
        found = {}
        for name, part in self.parts.items():
            value: Any = settings
            for key in name.split("."):
                value = value or {}
                value = value[key] if key in value else (value.get("init_args") or {}).get(key)
            try:
                found[name] = part.stored(value)
            except ValueError as error:
                raise ValueError(f"{name}: {_short(value)} is {error}") from error
        return found

    def examples(self) -> list[list[str]]:
        """Options with every end of every range and every choice, in as few lists as there are values of one option."""
        most = max(len(part.ends) for part in self.parts.values())
        return [
            [option(name, part.ends[number % len(part.ends)]) for name, part in self.parts.items()]
            for number in range(most)
        ]

    def description(self) -> dict[str, Any]:
        """For JSON."""
        return {name: repr(part) for name, part in sorted(self.parts.items())}


def _is(value: Any, choice: Any) -> bool:
    """Whether a setting is a choice; a part of a config has its class and, of its arguments, those that it names."""
    if isinstance(choice, Mapping) and isinstance(value, Mapping):
        return all(key in value and _is(value[key], one) for key, one in choice.items())
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)


def option(name: str, value: Any) -> str:
    """An option of `vkd train`; a part of a config as JSON, which YAML includes."""
    return f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def read_space(paths: Sequence[Path]) -> Space:
    """The space that YAML files describe, a later one in place of an earlier where both name an option.

    A file names options by their dotted names, as on the command line, and gives each a distribution: `{type: float,
    low: 1.0e-4, high: 1.0e-2, log: true}`, the same of `int`, both with a `step` if wanted, or `{type: categorical,
    choices: [...]}` of numbers, words or parts of a config.

    Raises:
        UserError: a file is not readable, or says something else; it names the file and the option.
    """
    parts: dict[str, Number | Choice] = {}
    spelled: dict[str, str] = {}
    for path in paths:
        here: dict[str, str] = {}
        for name, content in read_yaml(path).items():
            plain = _plain(str(name))
            if plain in here:
                raise UserError(f"{path}: {name} and {here[plain]} are one option; name it once")
            if spelled.get(plain, name) != name:
                del parts[spelled[plain]]
            here[plain] = spelled[plain] = str(name)
            parts[str(name)] = _part(f"{path}: {name}", plain, content)
    if not parts:
        raise UserError(f"{', '.join(map(str, paths))}: found no option to search")
    return Space(parts)


def _plain(name: str) -> str:
    """An option's name without what the command line leaves out."""
    return ".".join(key for key in name.split(".") if key not in ("init_args", "class_path"))


def _part(where: str, name: str, content: Any) -> Number | Choice:
    if name.split(".")[0] not in SEARCHED:
        raise UserError(f"{where}: expected an option of {', '.join(SEARCHED[:-1])}, by its dotted name, or seed")
    if judging := [each for each in JUDGING if f"{name}.".startswith(f"{each}.") or each.startswith(f"{name}.")]:
        raise UserError(f"{where}: {judging[0]} changes what is judged, so trials could not be compared; leave it out")
    if not isinstance(content, dict) or content.get("type") not in KINDS:
        raise UserError(f"{where}: found {_short(content)}, expected a distribution with type: {', '.join(KINDS)}")
    kind = content["type"]
    if unknown := [key for key in content if key not in {"type", *KINDS[kind]}]:
        raise UserError(f"{where}: found {unknown[0]}, and {kind} takes {', '.join(sorted(KINDS[kind]))}")
    if kind == "categorical":
        return _choice(where, content.get("choices"))
    return _number(where, kind == "int", content)


def _number(where: str, whole: bool, content: dict[str, Any]) -> Number:
    log = content.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: log: found {log!r}, expected true or false")
    low, high = (_finite(f"{where}: {key}", whole, content.get(key)) for key in ("low", "high"))
    step = None if content.get("step") is None else _finite(f"{where}: step", whole, content["step"])
    if low >= high:
        raise UserError(f"{where}: low is {low:g} and high is {high:g}; expected low below high")
    if log and low <= 0:
        raise UserError(f"{where}: low: found {low:g}, and with log it must be above 0")
    if step is not None and (log or step <= 0 or step > high - low):
        raise UserError(f"{where}: step: found {step:g}, expected above 0, at most high - low, and log: false")
    return Number(whole, low, high, log, step)


def _finite(where: str, whole: bool, value: Any) -> float:
    if isinstance(value, str):  # YAML takes 1e-4 for a word, and 1.0e-4 for a number
        try:
            value = float(value)
        except ValueError as error:
            raise UserError(f"{where}: found {value!r}, expected a number") from error
    if whole and isinstance(value, float) and value.is_integer():  # 1e1
        value = int(value)
    fits = isinstance(value, int) or (isinstance(value, float) and not whole and math.isfinite(value))
    if isinstance(value, bool) or not fits or abs(value) > LARGEST:
        raise UserError(f"{where}: found {value!r}, expected a {'whole ' if whole else ''}number")
    return value


def _choice(where: str, choices: Any) -> Choice:
    if not isinstance(choices, list) or len(choices) < 2:
        raise UserError(f"{where}: choices: found {_short(choices)}, expected a list of at least 2")
    try:
        named = {_name(value): value for value in choices}
    except (TypeError, AttributeError) as error:  # a date, arguments that are no mapping
        raise UserError(
            f"{where}: choices: expected numbers, words or parts of a config ({one_line(error)})"
        ) from error
    if len(named) < len(choices):
        raise UserError(f"{where}: choices: the same twice (1 and true are the same); give each once")
    return Choice(named)


def _name(value: Any) -> Any:
    """What a study calls a choice: itself; of a part of a config its class and arguments; of anything else its JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict) and isinstance(class_path := value.get("class_path"), str):
        arguments = ", ".join(f"{key}={_name(one)}" for key, one in (value.get("init_args") or {}).items())
        return f"{class_path.rpartition('.')[2]}({arguments})"
    return json.dumps(value)


def _short(value: Any) -> str:
    return repr(value)[:60]
